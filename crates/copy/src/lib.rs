//! Trees of files as entries, and entries as trees of files: what `CopyIn` and `CopyOut` move. The
//! daemon and the command line use the same code on either side.
//!
//! ```text
//! files ── Reader ──▶ entries, bytes ── gRPC ──▶ entries, bytes ── Writer ──▶ files
//! ```
//!
//! Entries come as a walk meets them: a directory, then all that is in it. So the writer holds the open
//! directories of one path, and looks up every name in one of those, alone: no name that it is given can
//! lead through a link, whatever the other side sends and whoever changes the tree meanwhile.
//!
//! **Invariants**
//! - Below the source no link is followed; below the target none is.
//! - A file has its name when it is whole: until then it has a temporary one in the same directory, which
//!   goes away with the [`Writer`].
//! - Memory does not grow with the tree: a walk has [`MAX_DEPTH`] directories open, [`CHUNK_BYTES`] of a
//!   file, and remembers [`MAX_LINKS`] files that have several names.

#![forbid(unsafe_code)]

mod entry;
mod error;
mod pipe;
mod read;
mod temporary;
mod wire;
mod write;

pub use aurae_model::Invalid;
pub use entry::{Entry, EntryPath, Kind, MAX_DEPTH, MAX_PATH_BYTES};
pub use error::CopyError;
pub use pipe::{Reading, Step, Writing};
pub use read::{CHUNK_BYTES, Item, MAX_LINKS, Reader};
pub use wire::parse_entry;
pub use write::{Copied, Ownership, Writer};
