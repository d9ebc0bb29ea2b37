//! What changed in a daemon's own zone: its cells and its executables.
//!
//! ```text
//! cells, executables ── push ──▶ ring ──▶ readers, each at its own pace
//! ```
//!
//! Nobody who pushes waits. The [`ring`] keeps the last changes; a reader that is further behind is told
//! how many it missed. What changes in the zones inside is in the rings of their daemons.
//!
//! Numbers are nanoseconds since the epoch where the clock allows it, so that those of several daemons
//! can be compared, and those of a daemon that was started anew go on.

mod handle;
mod ring;

pub use handle::{Changes, Reader, TooManyWatches, Watcher};
pub use ring::{Change, Seen};

use std::sync::Arc;

use aurae_model::CellName;

use super::executables::Outcome;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// What came before is not known any more.
    Resync,
    /// Something of a cell of this daemon.
    Cell(CellName, CellNews),
    /// Something of an executable of this daemon, whose process has this number.
    Executable(Arc<str>, i32, ExecutableNews),
}

/// What happened to a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CellNews {
    /// It was made.
    Allocated,
    /// It was there when this daemon was started, and can be asked now. Clients are not told.
    Found,
    /// Its daemon ended, for this reason, and what was left in it was killed.
    Failed(Reason),
    /// It is gone.
    Freed,
    /// It stands still.
    Frozen,
    /// It goes on.
    Thawed,
    /// Its limits were changed.
    Updated,
}

/// What happened to an executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecutableNews {
    /// It was started.
    Started,
    /// It was started again.
    Restarted,
    /// The OOM killer ended a process of it.
    OomKilled,
    /// A run of it ended.
    Ended {
        /// How.
        outcome: Outcome,
        /// Why it was not executed; `None`: it was.
        reason: Option<Reason>,
    },
}

/// Of a reason so many bytes are kept.
const MAX_REASON: usize = 256;

/// Why something happened, for people. Bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(Box<str>);

impl Reason {
    /// The beginning of `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.get(..text.floor_char_boundary(MAX_REASON)).unwrap_or_default().into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
