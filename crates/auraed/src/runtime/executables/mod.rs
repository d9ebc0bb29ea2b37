//! The executables that a daemon runs in its own zone.
//!
//! ```text
//!            start                stop                    last process gone
//! (no name) ──────▶ Running ─────────────▶ Stopping ───────────────────────▶ Ended
//!     ▲                └──── first process ends: what is left is killed ───────▲ │
//!     └──── forgotten: another start under the name, or 64 more ended ───────────┘
//! ```
//!
//! A [`runner`] task owns each executable that has not ended: its leaf cgroup, its pipes and its
//! pidfd. It alone moves the [`state`]; the [`handle`] reads it and sends commands.

mod handle;
mod program;
mod runner;
mod state;

pub use handle::{Executables, NoSuchExecutable, SignalError, StartError, Started};
pub use state::{Outcome, Phase, Snapshot};

/// The leaf cgroup of an executable is this and its name.
pub const LEAF_PREFIX: &str = "_exe.";
