//! Low numbers for what a new process is given.
//!
//! A child with a table of descriptors of its own has it copied from its parent, and closes all of it but a few:
//! a daemon with a thousand cells would do that with ten thousand descriptors for each program. So the child
//! shares the table at first, and takes a copy of the lowest part of it alone (`CLOSE_RANGE_UNSHARE`,
//! close_range(2)). What it is given stands there meanwhile, in places that were taken early:
//!
//! ```text
//! 0 1 2 … │ MAX_DESCRIPTORS … places of a row … top │ … all others
//! └──────────────── the child's copy ───────────────┘
//! ```
//!
//! A row is used for one child at a time. There are as many as children were started at once, the lowest is used
//! first, and [`KEPT`] are kept.

use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{DupFlags, Errno, dup3, fcntl_dupfd_cloexec};

/// So many rows are kept for others to use.
const KEPT: usize = 8;

/// The rows that nobody uses.
static FREE: Mutex<Vec<Places>> = Mutex::new(Vec::new());

/// Places for descriptors, which hold their numbers while they have nothing to hold.
#[derive(Debug, Default)]
struct Places {
    /// What stands in a place that is empty.
    blank: Option<OwnedFd>,
    places: Vec<OwnedFd>,
}

impl Places {
    fn make() -> Result<Self, Errno> {
        Ok(Self { blank: Some(eventfd(0, EventfdFlags::CLOEXEC)?), places: Vec::new() })
    }

    /// One above the highest.
    fn top(&self) -> RawFd {
        self.places.iter().map(|place| place.as_raw_fd() + 1).max().unwrap_or_default()
    }
}

/// Places that are in use. Dropped, they are empty, and free.
#[derive(Debug)]
pub(super) struct Row {
    row: Places,
    used: usize,
    lowest: RawFd,
}

impl Row {
    /// Places from `lowest` on.
    pub(super) fn take(lowest: RawFd) -> Result<Self, Errno> {
        let free = {
            let mut free = free();
            let first = (0..free.len()).min_by_key(|row| free[*row].top());
            first.map(|first| free.swap_remove(first))
        };
        let row = free.map_or_else(Places::make, Ok)?;
        Ok(Self { row, used: 0, lowest })
    }

    /// Puts a copy of a descriptor into the next place, and answers its number there.
    pub(super) fn put(&mut self, source: BorrowedFd<'_>) -> Result<RawFd, Errno> {
        let places = &mut self.row.places;
        let number = match places.get_mut(self.used) {
            Some(place) => {
                dup3(source, place, DupFlags::CLOEXEC)?;
                place.as_raw_fd()
            }
            None => {
                let place = fcntl_dupfd_cloexec(source, self.lowest)?;
                let number = place.as_raw_fd();
                places.push(place);
                number
            }
        };
        self.used += 1;
        Ok(number)
    }

    /// One above the highest place.
    pub(super) fn top(&self) -> RawFd {
        self.row.top().max(self.lowest)
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        let Places { blank, places } = &mut self.row;
        let blank = blank.as_ref();
        // What is in a place would be open for as long.
        let empty = |place: &mut OwnedFd| {
            blank.is_some_and(|blank| dup3(blank, place, DupFlags::CLOEXEC).is_ok())
        };
        if places.iter_mut().take(self.used).all(empty) {
            let row = mem::take(&mut self.row);
            let mut free = free();
            if free.len() < KEPT {
                free.push(row);
            }
        }
    }
}

/// The list is whole whenever the lock is free.
fn free() -> MutexGuard<'static, Vec<Places>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}
