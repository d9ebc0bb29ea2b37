//! The audit log: one record of every call and of every denial, never a payload.
//!
//! ```text
//! gate ─ open ─▶ Record ─ close, or drop ─▶ ring ──▶ readers, each at its own pace
//!          └ reserve: room for it             └────▶ writer ──▶ file, FILE.1, …
//! connection refused ─────────────────────▶ ring
//! ```
//!
//! Nobody who makes a record waits: not for a reader, not for the disk. A reader that is behind is told
//! how many it missed; what the file does not have is counted. Where `required` is set, a call for whose
//! record there is no room, or that the disk would not take, is refused before it is done.
//!
//! Only the node's daemon keeps records: a zone would pay for its own with the cell's memory.

mod entry;
mod file;
mod handle;
mod record;
mod ring;
mod writer;

pub use entry::{Decision, Entry};
pub use file::{DEFAULT_SIZE, FileError, MAX_SIZE, MIN_SIZE};
pub use handle::{Audit, AuditError, Reader, Standing, TooManyReaders};
pub use record::{Record, Verdict};
pub use ring::{Seen, Start};

use std::path::PathBuf;

/// What is kept, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The file; `None`: memory only.
    pub file: Option<PathBuf>,
    /// What the file and those before it have together, in bytes.
    pub size: u64,
    /// Refuse calls that cannot be recorded in the file.
    pub required: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { file: None, size: DEFAULT_SIZE, required: false }
    }
}

/// A call cannot be recorded, and records are required.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrecordable {
    /// The disk does not take it.
    #[error("the call was not done: it could not be recorded: {0}")]
    Disk(String),
    /// Too many are open, or wait.
    #[error(
        "the call was not done: it could not be recorded: {0} records are open or wait for the disk"
    )]
    Full(usize),
}

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
pub(crate) use tests::all;
