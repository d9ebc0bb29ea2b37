//! What a workload wrote, kept for readers that come late.
//!
//! ```text
//! pipe ─bytes─▶ LineSplitter ─lines─▶ LogRing ─batches─▶ Reader (any number)
//! ```
//!
//! The ring owns a bounded amount of memory and drops the oldest first. The writer never waits: a
//! [`Reader`] that falls behind is told how much it missed. A ring ends with [`LogRing::close`]: readers
//! get what was kept, then the end. The same ring keeps the daemon's own log.

mod ring;
mod split;
mod store;

pub use ring::{LogRing, Reader, ReaderOptions};
pub use split::{LineSplitter, MAX_LINE_BYTES};
pub use store::{Batch, Channel, Entry};

/// What is kept of an executable's output, and of the daemon's log, unless configured: bytes.
pub const DEFAULT_CAPACITY: usize = 1 << 20;
/// The least that can be configured, in bytes: a few lines.
pub const MIN_CAPACITY: usize = 4 << 10;
/// The most that can be configured, in bytes.
pub const MAX_CAPACITY: usize = 64 << 20;
