//! What the fuzzer does with an input: a function for each place where bytes of strangers are read. Each panics
//! where a promise is broken, and does nothing else that could be seen.
//!
//! ```text
//! fuzz/fuzz_targets/NAME.rs   libFuzzer ─────────────────────┐
//! tests/replay.rs             fuzz/corpus/NAME, and mutations ┴▶ TARGETS
//! ```
//!
//! **Invariant**: a target is a function of its input. It keeps nothing between two, has no clock and makes no
//! I/O, so that an input which fails once fails always.

#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    reason = "a broken promise ends the run, and that is what a target is for"
)]

mod certificate;
mod frames;
mod names;
mod policies;
pub mod wire;

pub use certificate::certificate;
pub use frames::frames;
pub use names::names;
pub use policies::policies;
pub use wire::wire;

use std::sync::{Arc, LazyLock};

use aurae_authz::Contract;

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its program below `fuzz/fuzz_targets`, and of its directory below `fuzz/corpus`.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 5] = [
    Target { name: "certificate", run: certificate },
    Target { name: "frames", run: frames },
    Target { name: "names", run: names },
    Target { name: "policies", run: policies },
    Target { name: "wire", run: wire },
];

static CONTRACT: LazyLock<Arc<Contract>> = LazyLock::new(|| {
    let contract = Contract::parse(aurae_proto::BARE_FILE_DESCRIPTOR_SET);
    Arc::new(contract.expect("the contract can be read"))
});
