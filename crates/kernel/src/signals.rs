//! Signals that are waited for (signal(7)).
//!
//! ```text
//! signal ─▶ handler ─ count ─ write ─▶ eventfd ─ epoll ─▶ every Listener: has the count changed?
//! ```
//!
//! What an async runtime brings for this keeps a channel for each of the 64 signals there could be, 25 KiB
//! that every zone's daemon would have for the two that it hears.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::Context;
use crate::spawn::last_errno;
use crate::{Error, Result, readiness};

/// Signals are numbered from 1 to 64.
const NUMBERS: usize = 65;

/// What cannot be caught, or would come again at once when a handler returns.
const NOT_HEARD: [Signal; 6] =
    [Signal::KILL, Signal::STOP, Signal::SEGV, Signal::BUS, Signal::ILL, Signal::FPE];

/// A signal that somebody listens for, or did.
struct Heard {
    /// How often it came.
    count: AtomicU64,
    /// Written to each time, which wakes who polls it; never read, and never closed: the handler may be
    /// using it.
    told: OnceLock<OwnedFd>,
}

static HEARD: [Heard; NUMBERS] =
    [const { Heard { count: AtomicU64::new(0), told: OnceLock::new() } }; NUMBERS];

/// Hears one signal, which does nothing else from then on, also when this is dropped.
#[derive(Debug)]
pub struct Listener {
    told: AsyncFd<OwnedFd>,
    count: &'static AtomicU64,
    /// The count at the last time.
    seen: u64,
}

/// Listens for the signal of that number from now on. Must be called on a runtime.
///
/// # Errors
/// `EINVAL` for a signal that cannot be waited for; or there are too many descriptors.
pub fn listen(number: i32) -> Result<Listener> {
    let operation = || format!("listen for signal {number}");
    let heard = usize::try_from(number).ok().and_then(|number| HEARD.get(number));
    let heard = heard.filter(|_| NOT_HEARD.iter().all(|signal| signal.as_raw() != number));
    let heard = heard.ok_or_else(|| Error::new(operation(), Errno::INVAL))?;
    let told = match heard.told.get() {
        Some(told) => told,
        None => {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            let told = eventfd(0, flags).context(operation)?;
            heard.told.get_or_init(|| told)
        }
    };
    let io = |error: std::io::Error| Error::from_io(operation(), &error);
    let told = told.as_fd().try_clone_to_owned().map_err(io)?;
    let told = readiness::register(told, Interest::READABLE).map_err(io)?;
    let seen = heard.count.load(Ordering::Acquire);
    catch(number).context(operation)?;
    Ok(Listener { told, count: &heard.count, seen })
}

impl Listener {
    /// Waits for the signal. Several that came since the last time are one. Can be dropped and called again.
    pub async fn recv(&mut self) {
        loop {
            let count = self.count.load(Ordering::Acquire);
            if count != self.seen {
                self.seen = count;
                return;
            }
            // Each write is news to whoever polls. It fails when the runtime ends: then nobody waits any more.
            match self.told.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => std::future::pending().await,
            }
        }
    }
}

/// Makes the handler that of a signal.
fn catch(number: c_int) -> std::result::Result<(), Errno> {
    // SAFETY: all zero is a valid `sigaction`: no flags, nothing blocked, the default handler.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(c_int) = tell;
    action.sa_sigaction = handler as *const () as usize;
    // Of children that stop and go on nobody wants to hear.
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK | libc::SA_NOCLDSTOP;
    // SAFETY: `action` lives here, and its handler does only what a handler may (signal-safety(7)).
    match unsafe { libc::sigaction(number, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(Errno::from_raw_os_error(last_errno())),
    }
}

/// The handler: atomic operations, and a system call that leaves `errno` as it was.
extern "C" fn tell(number: c_int) {
    let heard = usize::try_from(number).ok().and_then(|number| HEARD.get(number));
    let Some((heard, told)) = heard.and_then(|heard| Some((heard, heard.told.get()?))) else {
        return;
    };
    heard.count.fetch_add(1, Ordering::Release);
    let one = 1_u64.to_ne_bytes();
    // SAFETY: answers the address of this thread's `errno`, which is valid as long as the thread is.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the address is valid, and nobody else uses this thread's.
    let before = unsafe { *errno };
    // SAFETY: reads eight bytes that live here; the descriptor is never closed. It cannot fail but by a counter
    // that is full after 2⁶⁴ signals.
    unsafe { libc::write(told.as_raw_fd(), one.as_ptr().cast::<c_void>(), one.len()) };
    // SAFETY: as above.
    unsafe { *errno = before };
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{getpid, kill_process};
    use tokio::time::timeout;

    use super::*;

    async fn hears(listener: &mut Listener) -> bool {
        timeout(Duration::from_secs(30), listener.recv()).await.is_ok()
    }

    async fn hears_nothing(listener: &mut Listener) -> bool {
        timeout(Duration::from_millis(20), listener.recv()).await.is_err()
    }

    #[tokio::test]
    async fn everybody_hears_a_signal_and_nobody_one_that_came_before() {
        let number = Signal::USR2.as_raw();
        let (mut first, mut second) = (listen(number).unwrap(), listen(number).unwrap());
        for _ in 0..3 {
            kill_process(getpid(), Signal::USR2).unwrap();
            assert!(hears(&mut first).await && hears(&mut second).await);
            assert!(hears_nothing(&mut first).await);
        }
        drop(first);
        kill_process(getpid(), Signal::USR2).unwrap();
        // It may be another thread that is interrupted, and later.
        assert!(hears(&mut second).await);
        let mut third = listen(number).unwrap();
        assert!(hears_nothing(&mut third).await && hears_nothing(&mut second).await);
        kill_process(getpid(), Signal::USR2).unwrap();
        assert!(hears(&mut third).await && hears(&mut second).await);
    }

    #[tokio::test]
    async fn what_cannot_be_waited_for_is_refused() {
        for signal in NOT_HEARD {
            assert_eq!(listen(signal.as_raw()).unwrap_err().errno, Errno::INVAL);
        }
        for number in [-1, 0, 65] {
            assert_eq!(listen(number).unwrap_err().errno, Errno::INVAL);
        }
    }
}
