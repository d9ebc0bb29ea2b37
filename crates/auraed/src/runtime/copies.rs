//! Copies of files in and out: how many there may be at once.

use tokio::sync::{Semaphore, SemaphorePermit};

/// So many copies run at once in a daemon: each has a thread, and some MiB on their way.
pub const MAX_COPIES: usize = 16;

/// The threads are the process's, and so is their bound.
static FREE: Semaphore = Semaphore::const_new(MAX_COPIES);

/// As many copies run as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_COPIES} copies run in this zone already; try again when one has ended")]
pub struct TooManyCopies;

/// Room for one copy, for as long as it is kept.
///
/// # Errors
/// There is none.
pub fn room() -> Result<SemaphorePermit<'static>, TooManyCopies> {
    FREE.try_acquire().map_err(|_| TooManyCopies)
}
