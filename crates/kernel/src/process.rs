//! Processes: their end, their signals, and what a process says of itself.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getrlimit, setrlimit,
};

use crate::error::Context;
use crate::{Error, Result};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// Reaps one child that has ended, any of them; `None` when there is none at the moment.
///
/// # Errors
/// What the kernel says.
pub fn reap_any() -> Result<Option<(Pid, Exit)>> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if let Some(exit) = ended(status) {
                    return Ok(Some((pid, exit)));
                }
            }
            Ok(None) | Err(Errno::CHILD) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new("wait for any child", errno)),
        }
    }
}

/// Reaps children that have ended and whose end is told by no signal (`__WCLONE`, wait(2)): an image of this
/// process before `execve` may have left one ([`crate::cgroup_namespace`]). To be called before there are
/// others.
pub fn reap_untold() {
    let untold =
        WaitOptions::NOHANG | WaitOptions::from_bits_retain(libc::__WCLONE.cast_unsigned());
    while let Ok(Some(_)) = rustix::process::wait(untold) {}
}

/// Waits for one child to end, and reaps it, also one whose end is told by no signal (`__WALL`, wait(2)).
///
/// # Errors
/// `ECHILD` when it was reaped already, or what else the kernel says.
pub(crate) fn reap(pid: Pid) -> Result<()> {
    loop {
        match rustix::process::waitpid(Some(pid), ANY_CHILD) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(Error::new(
                    format!("wait for process {}", pid.as_raw_nonzero()),
                    errno,
                ));
            }
        }
    }
}

const ANY_CHILD: WaitOptions = WaitOptions::from_bits_retain(libc::__WALL.cast_unsigned());

fn ended(status: WaitStatus) -> Option<Exit> {
    let code = status.exit_status().map(Exit::Code);
    code.or_else(|| status.terminating_signal().map(Exit::Signal))
}

/// Opens a process by its number. The caller makes sure that the number is still that process's.
///
/// # Errors
/// `ESRCH` when there is none, or what else the kernel says.
pub fn open_pidfd(pid: Pid) -> Result<OwnedFd> {
    rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)
        .context(|| format!("open process {}", pid.as_raw_nonzero()))
}

/// The process that connected a unix socket, as this pid namespace numbers it, and its pidfd
/// (`SO_PEERPIDFD`, Linux 6.5). Before, the pidfd is that of whoever has the number now.
///
/// # Errors
/// `ESRCH` when it has ended or is not of this pid namespace, or what else the kernel says.
pub fn peer(socket: BorrowedFd<'_>) -> Result<(Pid, OwnedFd)> {
    let operation = "ask who connected a socket";
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    socket_option(socket, libc::SO_PEERCRED, &mut credentials)
        .map_err(|error| Error::from_io(operation, &error))?;
    // A peer outside of the pid namespace has the number 0.
    let pid = Pid::from_raw(credentials.pid).ok_or_else(|| Error::new(operation, Errno::SRCH))?;
    let mut number: libc::c_int = -1;
    match socket_option(socket, SO_PEERPIDFD, &mut number) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(()) => Ok((pid, unsafe { OwnedFd::from_raw_fd(number) })),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOPROTOOPT) => {
            Ok((pid, open_pidfd(pid)?))
        }
        Err(error) => Err(Error::from_io(operation, &error)),
    }
}

/// Reads an option of a socket into `value`, whose type is the option's.
fn socket_option<T: Copy>(
    socket: BorrowedFd<'_>,
    option: libc::c_int,
    value: &mut T,
) -> std::io::Result<()> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which `value` has, and any bytes are valid in
    // the integers that it is made of.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_mut(value).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// `asm-generic/socket.h`.
const SO_PEERPIDFD: libc::c_int = 77;

/// Sends a signal to the process behind a pidfd: never to another one that got its number.
///
/// # Errors
/// `ESRCH` when it has ended, or what else the kernel says.
pub fn signal_pidfd(pidfd: BorrowedFd<'_>, signal: Signal) -> Result<()> {
    rustix::process::pidfd_send_signal(pidfd, signal)
        .context(|| format!("send signal {}", signal.as_raw()))
}

/// Sends a signal to a process by its number; one that has ended is no error.
///
/// # Errors
/// What the kernel says.
pub fn signal(pid: Pid, signal: Signal) -> Result<()> {
    match rustix::process::kill_process(pid, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(Error::new(
            format!("send signal {} to process {}", signal.as_raw(), pid.as_raw_nonzero()),
            errno,
        )),
    }
}

/// Sends a signal to every process of a process group.
///
/// # Errors
/// `ESRCH` when there is none, or what else the kernel says.
pub fn signal_group(group: Pid, signal: Signal) -> Result<()> {
    rustix::process::kill_process_group(group, signal).context(|| {
        let group = group.as_raw_nonzero();
        format!("send signal {} to process group {group}", signal.as_raw())
    })
}

/// A signal by its number, 1 to 64; `None` for what is no signal, or is kept by the C library.
#[must_use]
pub fn parse_signal(number: i32) -> Option<Signal> {
    Signal::from_named_raw(number).or_else(|| {
        (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number).then(|| {
            // SAFETY: a real-time signal between the C library's SIGRTMIN and SIGRTMAX is one that
            // programs may use, which is what `from_raw_unchecked` asks for.
            unsafe { Signal::from_raw_unchecked(number) }
        })
    })
}

/// Makes this process the one that orphaned descendants are given to (`PR_SET_CHILD_SUBREAPER`).
///
/// # Errors
/// What the kernel says.
pub fn become_subreaper() -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context(|| "become the subreaper")
}

/// Sets the name that `ps` shows for this process (`PR_SET_NAME`), at most 15 bytes.
///
/// # Errors
/// What the kernel says.
pub fn set_name(name: &std::ffi::CStr) -> Result<()> {
    rustix::thread::set_name(name).context(|| "set the process's name")
}

/// What keeps the OOM killer away from a daemon: workloads go first (proc_pid_oom_score_adj(5)).
pub const OOM_SCORE_PROTECTED: &str = "-1000";

/// Sets this process's `oom_score_adj`.
///
/// # Errors
/// What the kernel says: lowering it needs `CAP_SYS_RESOURCE`.
pub fn set_oom_score(score: &str) -> Result<()> {
    std::fs::write("/proc/self/oom_score_adj", score)
        .map_err(|error| Error::from_io("set the OOM score", &error))
}

/// Lets this process have as many descriptors open as its hard limit allows. Every cell and every
/// executable takes a few; the soft limit is made for programs that use select(2).
///
/// # Errors
/// What the kernel says.
pub fn raise_open_files() -> Result<()> {
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits })
        .context(|| "raise the number of open files")
}

/// Whether the process behind a pidfd has ended: the pidfd polls as readable then (pidfd_open(2)).
#[must_use]
pub fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut polled = [rustix::event::PollFd::from_borrowed_fd(pidfd, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut polled, Some(&now)), Ok(1..))
}
