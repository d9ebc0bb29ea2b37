//! Commands that run in this zone for as long as somebody waits for them.
//!
//! ```text
//!            start            first process ended, caller gone, or zone ending
//! (nothing) ───────▶ Running ──────────────────────────────────────────────────▶ Killed
//!                                                         no process is left        │
//!                        Ended ◀── the rest of the output was taken ── Draining ◀───┘
//! ```
//!
//! A [`runner`] task owns each command: its leaf cgroup, its outputs and its end. It hands output on
//! through a queue of a few pieces, and reads no more while that is full: a command that writes faster
//! than its caller reads waits for it.

mod handle;
mod runner;

pub use handle::{CommandError, Commands, Running};
pub use runner::Output;

/// The leaf cgroup of a command is this and a number.
pub const LEAF_PREFIX: &str = "_run.";
