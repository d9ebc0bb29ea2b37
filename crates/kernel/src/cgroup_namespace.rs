//! Cgroup namespaces (cgroup_namespaces(7)) whose root is where no process has to be.
//!
//! The root of a cgroup namespace is the cgroup of the process that unshares it. A process that then moved
//! on into a leaf would make the kernel wait for an RCU grace period (ten milliseconds and more), since a
//! move is a write to the lock that every fork and exit reads. So a child stands in for it: born in the
//! cgroup, it unshares the namespace, opens it into the descriptors that it shares with its parent, and
//! ends. Whoever is born in the leaf enters the namespace by its descriptor, which moves nobody.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::process::reap;
use crate::spawn::{CLONE_INTO_CGROUP, child, last_errno};
use crate::{Error, Result};

/// What the child leaves behind.
struct Outcome {
    descriptor: c_int,
    errno: c_int,
}

/// Makes a cgroup namespace whose root is `cgroup`. The cgroup must take processes for that instant: none
/// of its controllers may be enabled for its children yet.
///
/// # Errors
/// What the kernel says.
pub fn rooted_at(cgroup: BorrowedFd<'_>) -> Result<OwnedFd> {
    let failed = |errno| Error::new("make a cgroup namespace", errno);
    // SAFETY: all zero is a valid `clone_args`: every feature off (clone(2)).
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    let flags = libc::CLONE_FILES | libc::CLONE_VFORK;
    arguments.flags = u64::from(flags.unsigned_abs()) | CLONE_INTO_CGROUP;
    arguments.cgroup = cgroup.as_raw_fd() as u64;
    let mut outcome = Outcome { descriptor: -1, errno: 0 };
    let data = (&raw mut outcome).cast::<c_void>();
    // SAFETY: `make` only makes system calls and does not return; `outcome` outlives the child, which has
    // ended when this returns.
    let (child, ()) = unsafe { child(arguments, make, data, |_| ()) }.map_err(failed)?;
    // No signal tells of its end, which would wake whoever reaps all others, and they do not see it. One that an
    // earlier image of this process left was reaped at the start, maybe this one.
    let _ = reap(child.pid);
    if outcome.errno != 0 {
        return Err(failed(Errno::from_raw_os_error(outcome.errno)));
    }
    if outcome.descriptor < 0 {
        // Somebody killed it.
        return Err(failed(Errno::INTR));
    }
    // SAFETY: the child opened it in the table of descriptors that it shared, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(outcome.descriptor) })
}

/// The child's life.
extern "C" fn make(data: *mut c_void) -> ! {
    // SAFETY: `data` is the parent's `outcome`, which lives while the parent sleeps, and which nobody else
    // looks at meanwhile.
    let outcome = unsafe { &mut *data.cast::<Outcome>() };
    // SAFETY: changes only this process's own namespaces, and touches no memory.
    let unshared = unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_NEWCGROUP) };
    if unshared < 0 {
        outcome.errno = last_errno();
    } else {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        // SAFETY: reads a string that is a constant, and writes no memory.
        let opened = unsafe {
            libc::syscall(
                libc::SYS_openat,
                libc::AT_FDCWD,
                c"/proc/self/ns/cgroup".as_ptr(),
                flags,
                0,
            )
        };
        match c_int::try_from(opened) {
            Ok(descriptor) if descriptor >= 0 => outcome.descriptor = descriptor,
            _ => outcome.errno = last_errno(),
        }
    }
    loop {
        // SAFETY: `_exit` ends this process and touches no memory.
        unsafe { libc::syscall(libc::SYS_exit_group, 0) };
    }
}
