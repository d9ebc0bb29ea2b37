//! Low numbers for what a new process is given.
//!
//! A child with a table of descriptors of its own has it copied from its parent, and closes all of it but a few:
//! a daemon with a thousand cells would do that with ten thousand descriptors for each cell. So once [`reserve`]
//! was called, a child shares the table at first, and takes a copy of the lowest part of it alone
//! (`CLOSE_RANGE_UNSHARE`, close_range(2)). What it is given stands there meanwhile, in places that were taken
//! before there was much else:
//!
//! ```text
//! 0 1 2 … │ MAX_DESCRIPTORS … places … top │ … all others
//! └─────────── the child's copy ───────────┘
//! ```
//!
//! A set of places is lent to one child at a time, the lowest first. When more children are started at once, sets are
//! made for them, which are higher, and [`KEPT`] are kept: the lowest.

use std::ffi::{c_int, c_long, c_void};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{DupFlags, Errno, dup3, fcntl_dupfd_cloexec};

use super::{CLOSE_RANGE_UNSHARE, MAX_DESCRIPTORS, child};
use crate::process::reap;

/// So many sets are kept for others to use.
const KEPT: usize = 8;

/// What a child can be given at most: its descriptors, its image, and its Landlock rules.
const PLACES: usize = MAX_DESCRIPTORS + 2;

/// The sets that nobody uses.
static FREE: Mutex<Vec<Places>> = Mutex::new(Vec::new());

/// Whether a child shares the table at first.
static SHARED: AtomicBool = AtomicBool::new(false);

/// Takes the places for as many children as are usually started at once, as low as there are free numbers. To be
/// called by a daemon that will have many descriptors, before it has them. Answers whether children share its table
/// from now on: with a kernel that makes a mistake there (see [`is_sound`]) they do not.
///
/// # Errors
/// There are too few descriptors; all is as it was then.
pub fn reserve() -> Result<bool, Errno> {
    let mut sets = Vec::new();
    for _ in 0..KEPT {
        let mut set = Places::make()?;
        for _ in 0..PLACES {
            set.grow()?;
        }
        sets.push(set);
    }
    let sound = is_sound()?;
    sets.into_iter().for_each(give_back);
    SHARED.store(sound, Ordering::Relaxed);
    Ok(sound)
}

pub(super) fn is_shared() -> bool {
    SHARED.load(Ordering::Relaxed)
}

/// Places for descriptors, which hold their numbers while they have nothing to hold.
#[derive(Debug)]
struct Places {
    /// What stands in a place that is empty.
    blank: OwnedFd,
    places: Vec<OwnedFd>,
}

impl Places {
    fn make() -> Result<Self, Errno> {
        Ok(Self { blank: eventfd(0, EventfdFlags::CLOEXEC)?, places: Vec::new() })
    }

    /// Takes one place more.
    fn grow(&mut self) -> Result<(), Errno> {
        self.places.push(fcntl_dupfd_cloexec(&self.blank, MAX_DESCRIPTORS as RawFd)?);
        Ok(())
    }

    /// Empties so many of them. What is in a place would be open for as long.
    fn empty(&mut self, used: usize) -> Result<(), Errno> {
        let Self { blank, places } = self;
        places.iter_mut().take(used).try_for_each(|place| dup3(&*blank, place, DupFlags::CLOEXEC))
    }

    /// One above the highest of so many.
    fn top(&self, used: usize) -> RawFd {
        self.places.iter().take(used).map(|place| place.as_raw_fd() + 1).max().unwrap_or_default()
    }
}

/// Places that are lent. They are empty again once it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    /// `None` once it was dropped.
    places: Option<Places>,
    used: usize,
}

impl Lease {
    pub(super) fn take() -> Result<Self, Errno> {
        let free = {
            let mut free = free();
            let lowest = (0..free.len()).min_by_key(|set| free[*set].top(PLACES));
            lowest.map(|lowest| free.swap_remove(lowest))
        };
        let places = free.map_or_else(Places::make, Ok)?;
        Ok(Self { places: Some(places), used: 0 })
    }

    /// Puts a copy of a descriptor into the next place, and answers its number there.
    pub(super) fn put(&mut self, source: BorrowedFd<'_>) -> Result<RawFd, Errno> {
        let places = self.places.as_mut().ok_or(Errno::BADF)?;
        if self.used == places.places.len() {
            places.grow()?;
        }
        let place = places.places.get_mut(self.used).ok_or(Errno::BADF)?;
        dup3(source, place, DupFlags::CLOEXEC)?;
        self.used += 1;
        Ok(place.as_raw_fd())
    }

    /// One above the highest place in use.
    pub(super) fn top(&self) -> RawFd {
        let top = self.places.as_ref().map(|places| places.top(self.used));
        top.unwrap_or_default().max(MAX_DESCRIPTORS as RawFd)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(mut places) = self.places.take()
            && places.empty(self.used).is_ok()
        {
            give_back(places);
        }
    }
}

/// Keeps the lowest sets.
fn give_back(mut places: Places) {
    let mut free = free();
    if free.len() < KEPT {
        return free.push(places);
    }
    let highest = free.iter_mut().max_by_key(|set| set.top(PLACES));
    if let Some(highest) = highest
        && places.top(PLACES) < highest.top(PLACES)
    {
        mem::swap(highest, &mut places);
    }
    drop(free);
    drop(places);
}

/// The list is whole whenever the lock is free.
fn free() -> MutexGuard<'static, Vec<Places>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The numbers that the kernel keeps in one word: 64, and as many more.
const WORD: RawFd = c_long::BITS as RawFd;

/// Whether a copy of a table's lowest part is sound on this kernel. Before 6.11, and what was mended of earlier ones in
/// August 2024, the copy takes numbers for used that are not (CVE-2024-45025), and passes that on to all children.
///
/// The numbers of one word are all used here for a moment; a child without them is to find the first one free.
fn is_sound() -> Result<bool, Errno> {
    let blank = eventfd(0, EventfdFlags::CLOEXEC)?;
    let mut word: Vec<OwnedFd> = Vec::new();
    while word.last().is_none_or(|last| last.as_raw_fd() < 2 * WORD) {
        word.push(fcntl_dupfd_cloexec(&blank, WORD)?);
    }
    // SAFETY: all zero is a valid `clone_args`: every feature off (clone(2)).
    let mut arguments: libc::clone_args = unsafe { mem::zeroed() };
    let flags = libc::CLONE_FILES | libc::CLONE_VFORK;
    arguments.flags = u64::from(flags.unsigned_abs());
    let mut found: c_int = -1;
    let data = (&raw mut found).cast::<c_void>();
    // SAFETY: `find` only makes system calls and does not return; `found` outlives the child, which has
    // ended when this returns. What the child changes of the table is its own copy.
    let (child, ()) = unsafe { child(arguments, find, data, |_| ()) }?;
    // No signal tells of its end, so nobody else reaps it.
    let _ = reap(child.pid);
    Ok(found == WORD)
}

/// The life of a child that looks for a free number.
extern "C" fn find(data: *mut c_void) -> ! {
    // SAFETY: `data` is the parent's `found`, which lives while the parent sleeps, and which nobody else
    // looks at meanwhile.
    let found = unsafe { &mut *data.cast::<c_int>() };
    let (from, to) = (c_long::from(WORD), c_long::from(libc::c_uint::MAX));
    // SAFETY: changes only this process's own descriptors, and touches no memory.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, from, to, CLOSE_RANGE_UNSHARE) };
    if closed == 0 {
        // SAFETY: as above. Standard error, or whatever is 2, is copied to the first free number; where there is
        // none to copy, nothing is found.
        let copied = unsafe { libc::syscall(libc::SYS_fcntl, 2 as c_long, libc::F_DUPFD, from) };
        *found = c_int::try_from(copied).unwrap_or(-1);
    }
    loop {
        // SAFETY: `_exit` ends this process and touches no memory.
        unsafe { libc::syscall(libc::SYS_exit_group, 0) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn places_are_emptied_and_lent_again() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut lease = Lease::take().unwrap();
        let numbers = [(); 3].map(|()| lease.put(writer.as_fd()).unwrap());
        assert!(numbers.iter().all(|number| *number >= MAX_DESCRIPTORS as RawFd));
        assert!(numbers.iter().all(|number| *number < lease.top()));
        drop((lease, writer));
        assert_eq!(rustix::io::read(&reader, &mut [0]), Ok(0), "nobody has the other end");
    }

    #[test]
    fn those_that_are_lent_at_once_are_others() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let mut leases: Vec<_> = (0..2 * KEPT).map(|_| Lease::take().unwrap()).collect();
        let mut numbers: Vec<_> =
            leases.iter_mut().map(|lease| lease.put(reader.as_fd()).unwrap()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 2 * KEPT);
        drop(leases);
        assert!(free().len() <= KEPT);
    }
}
