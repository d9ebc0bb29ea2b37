//! What one principal may fill of the log without being let in, and what of its records waits for the disk.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::share::Bucket;

/// So many calls of one principal that were not let in, or only asked about the caller, are recorded at once:
/// more than a program makes before somebody looks at it, and a tenth of what memory keeps; a third where the caller
/// makes them as long as they can be.
const BURST: u32 = 1000;
/// So many more a second: of some 300 bytes each it takes a caller more than a day to push 64 MiB out of the file, and
/// more than an hour to push 4 MiB out of memory. Of the 1.5 KB that one can have it is a fifth of that.
const PER_SECOND: u32 = 2;
/// One that is not recorded may be tried again after so long.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// The tally of a principal, over all its connections.
#[derive(Debug)]
pub struct Tally {
    unentitled: Bucket,
    /// Calls without a record, since the last that has one.
    omitted: AtomicU64,
    /// Records that wait for the disk.
    waiting: AtomicUsize,
}

impl Default for Tally {
    fn default() -> Self {
        let unentitled = Bucket::with_burst(PER_SECOND, BURST);
        Self { unentitled, omitted: AtomicU64::new(0), waiting: AtomicUsize::new(0) }
    }
}

impl Tally {
    /// Takes the room of a call that was not let in, or that anybody may make. If there is none, the call is
    /// counted instead. Whether there was.
    pub(super) fn take(&self, now: Instant) -> bool {
        let has_room = self.unentitled.take(now).is_ok();
        if !has_room {
            self.omitted.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }

    /// How many calls have no record since it was asked last.
    pub(super) fn omitted(&self) -> u64 {
        match self.omitted.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.omitted.swap(0, Ordering::Relaxed),
        }
    }

    /// How many records wait for the disk.
    pub(super) fn waiting(&self) -> &AtomicUsize {
        &self.waiting
    }

    /// Whether forgetting it changes nothing but what it would tell of calls without a record, which are
    /// counted for all as well.
    #[must_use]
    pub fn is_idle(&self, now: Instant) -> bool {
        self.unentitled.is_full(now) && self.waiting.load(Ordering::Relaxed) == 0
    }
}
