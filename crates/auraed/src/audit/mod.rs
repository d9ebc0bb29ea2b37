//! The audit log: one record of every call and of every denial, never a payload.
//!
//! ```text
//! gate ─ open ─▶ Record ─ close, or drop ─▶ ring ──▶ readers, each at its own pace
//!          │ │                                └────▶ writer ──▶ file, FILE.1, …
//!          │ └ let_in: where required, and it changes something: "begun" ─▶ file, and only then it is done
//!          └ reserve: where required, the disk takes records
//! connection refused ─────────────────────▶ ring
//! ```
//!
//! Nobody who makes a record waits for a reader. A reader that is behind is told how many it missed; what the
//! file does not have is counted. Where `required` is set, a call is refused before it is done if the disk would
//! not take its record, and one that changes something waits until the file says that it was begun; nobody else
//! waits for the disk.
//!
//! Who is not let in, or asks only about itself, needs no right to make records. So each principal has a bound on
//! those ([`Tally`]), and cannot push out what others did.
//!
//! Only the node's daemon keeps records: a zone would pay for its own with the cell's memory.

mod entry;
mod file;
mod handle;
mod record;
mod ring;
mod tally;
mod writer;

pub use entry::{Decision, Entry};
pub use file::{DEFAULT_SIZE, FileError, MAX_SIZE, MIN_SIZE};
pub use handle::{Audit, AuditError, Reader, Standing, TooManyReaders};
pub use record::{Record, Verdict};
pub use ring::{Seen, Start};
pub use tally::Tally;

use std::path::PathBuf;
use std::time::Duration;

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

/// A call cannot be recorded, so it is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrecordable {
    /// The disk does not take it.
    #[error("the call was not done: it could not be recorded: {0}")]
    Disk(String),
    /// Too many wait.
    #[error("the call was not done: it could not be recorded: {0} records wait for the disk")]
    Full(usize),
    /// Too many of the principal wait.
    #[error(
        "the call was not done: it could not be recorded: {0} records of yours wait for the disk"
    )]
    FullForYou(usize),
    /// Its principal made too many calls of those that take no right to make.
    #[error(
        "too many of your calls were refused, or only asked about yourself; this one is not recorded, and not answered; try again later"
    )]
    TooMany {
        /// When to try again.
        pause: Duration,
    },
}

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
pub(crate) use tests::all;
