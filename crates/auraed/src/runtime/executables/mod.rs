//! The executables that a daemon runs in its own zone.
//!
//! ```text
//!            start              stop                  last process gone
//! (no name) ──────▶ Running ──────────▶ Stopping ─────────────────────────▶ Ended ──┐
//!     ▲             │ │ ▲                                                    ▲ ▲    │
//!     │             │ └─┼── first process ends, no other run is due ─────────┘ │    │
//!     │   it ends,  │   └── back-off over: a new leaf, process and pid         │    │
//!     │   one is due▼                                                          │    │
//!     │          Restarting ◀─┐                                                │    │
//!     │             │ └───────┘ the start fails: a run that failed at once     │    │
//!     │             └────────── stop, or no other run is due ──────────────────┘    │
//!     └──── forgotten: another start under the name, or 64 more ended ──────────────┘
//! ```
//!
//! When a first process ends, what is left of its tree is killed.
//!
//! A [`runner`] task owns each executable that has not ended, through all its runs: their leaf
//! cgroup, pipes and pidfd, which [`launch`] makes for each. It alone moves the [`state`], and asks
//! [`restarts`] whether there is a next run; the [`handle`] reads the state and sends commands. The
//! output of all runs goes to one ring. While the zone is frozen, no run starts.

mod attach;
mod handle;
mod launch;
mod leaf;
mod privileges;
mod program;
mod restarts;
mod runner;
mod state;

pub use attach::{AttachError, Attachment, Shown};
pub use handle::{Executables, NoSuchExecutable, SignalError, StartError, Started, StopError};
pub(super) use launch::{WORKLOAD_OOM_SCORE, WORKLOAD_OPEN_FILES};
pub(super) use leaf::Leaf;
pub use privileges::Privileges;
pub(super) use program::Program;
pub use state::{Outcome, Phase, Snapshot, Status};

/// The leaf cgroup of an executable is this and its name.
pub const LEAF_PREFIX: &str = "_exe.";
