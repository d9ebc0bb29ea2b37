//! The users of a new user namespace (user_namespaces(7)). A process cannot map them for itself: its
//! parent does, while the process waits.
//!
//! ```text
//! parent: clone3 ─ map, open the gate ─ (waits) ──────────────────── read the outcome
//! child:      └─ (waits at the gate) ─ become user 0 ─ … ─ execve ─┘
//! ```
//!
//! So the parent cannot sleep as with `CLONE_VFORK`, and the two share their memory and the address of
//! `errno`. Until the child is gone, the parent makes only calls that leave `errno` alone, which those of
//! rustix do.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};
use rustix::thread::futex::{self, Flags};
use rustix::time::Timespec;

use crate::process::has_ended;
use crate::spawn::Child;

/// How long a child waits for its users: its parent, if it lives, needs less than a millisecond.
const GATE_TIMEOUT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// What a gate is.
const CLOSED: u32 = 0;
const OPEN: u32 = 1;
const BARRED: u32 = 2;

/// The users and groups of a user namespace: its 0 is `first` outside of it, and so on, `count` of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// The first one outside.
    pub first: u32,
    /// How many there are, 1 or more.
    pub count: u32,
}

impl IdMap {
    /// Gives the users to a child that waits for them.
    pub(crate) fn give(self, child: &Files) -> Result<(), Errno> {
        let line = format!("0 {} {}", self.first, self.count);
        child.write("gid_map", &line)?;
        child.write("uid_map", &line)
    }
}

/// The files of a child in `/proc`.
pub(crate) struct Files {
    directory: OwnedFd,
}

impl Files {
    /// Those of this child and no other, also when its number is given anew.
    pub(crate) fn of(child: &Child) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = format!("/proc/{}", child.pid.as_raw_nonzero());
        let directory = openat(CWD, path, flags, Mode::empty())?;
        // The directory is of who had the number then, which was the child if it still has it.
        if has_ended(child.pidfd.as_fd()) { Err(Errno::SRCH) } else { Ok(Self { directory }) }
    }

    /// Writes to one of them, in one go.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&self.directory, name, flags, Mode::empty())?;
        rustix::io::write(&file, text.as_bytes()).map(drop)
    }
}

/// What a child waits at for its users, and its parent for the child.
#[derive(Debug)]
pub(crate) struct Gate {
    state: AtomicU32,
    /// The kernel makes it 0, and wakes who waits, when the child will not look at the memory again that it
    /// shares with its parent: it executes, or has ended (`CLONE_CHILD_CLEARTID`). It may have that memory
    /// for an instant still.
    running: AtomicU32,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { state: AtomicU32::new(CLOSED), running: AtomicU32::new(1) }
    }

    /// Where the kernel tells that the child is gone.
    pub(crate) fn running(&self) -> *const AtomicU32 {
        &raw const self.running
    }

    /// For the child: waits until it may go on. System calls only.
    pub(crate) fn pass(&self) -> Result<(), Errno> {
        loop {
            match self.state.load(Ordering::Acquire) {
                OPEN => return Ok(()),
                CLOSED => {}
                _ => return Err(Errno::CANCELED),
            }
            let waited = futex::wait(&self.state, Flags::empty(), CLOSED, Some(&GATE_TIMEOUT));
            // Whatever else ends the wait, the state is looked at again.
            if waited == Err(Errno::TIMEDOUT) {
                return Err(Errno::TIMEDOUT);
            }
        }
    }

    /// For the parent: lets the child go on, or not.
    pub(crate) fn decide(&self, open: bool) {
        self.state.store(if open { OPEN } else { BARRED }, Ordering::Release);
        // It may not wait yet; then it sees the state.
        let _ = futex::wake(&self.state, Flags::empty(), 1);
    }

    /// For the parent: waits until the child executes, or has ended.
    pub(crate) fn wait_until_gone(&self) {
        loop {
            match self.running.load(Ordering::Acquire) {
                0 => return,
                // As above.
                state => drop(futex::wait(&self.running, Flags::empty(), state, None)),
            }
        }
    }
}

/// Kills a child that must not go on; it is reaped by whoever reaps.
pub(crate) fn kill(child: &Child) {
    // One that has ended needs none.
    let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_gate_lets_through_who_comes_before_and_after_it_is_opened() {
        let gate = Arc::new(Gate::new());
        let early = Arc::clone(&gate);
        let early = std::thread::spawn(move || early.pass());
        gate.decide(true);
        assert_eq!(early.join().unwrap(), Ok(()));
        assert_eq!(gate.pass(), Ok(()));
    }

    #[test]
    fn a_barred_gate_lets_nobody_through() {
        let gate = Gate::new();
        gate.decide(false);
        assert_eq!(gate.pass(), Err(Errno::CANCELED));
    }
}
