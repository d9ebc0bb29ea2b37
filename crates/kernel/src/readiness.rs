//! Waiting for a descriptor without blocking: the one module, beside `signals`, that knows of an async runtime.
//!
//! Tokio cannot see that a type keeps its descriptor for life, so registering one is unsafe; the types
//! of this crate that are waited for promise it here.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::cgroup::Events;
use crate::kernel_log::KernelLog;
use crate::seqpacket::Line;

/// A type that owns its descriptor, never replaces or closes it before it is dropped, and always
/// gives out the same number. Sealed: the promise is made in this module only.
pub trait Steady: AsRawFd + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! steady {
    ($($type:ty),*) => {$(
        impl sealed::Sealed for $type {}
        impl Steady for $type {}
    )*};
}

steady!(Events, KernelLog, Line, OwnedFd);

/// Registers a descriptor with the current runtime.
///
/// # Errors
/// There are too many, or it cannot be polled.
pub fn register<T: Steady>(inner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: `Steady` types own their descriptor and keep it, with its number, until they are
    // dropped; `AsyncFd` gives out shared references, through which none of them can change it.
    unsafe { AsyncFd::register_with_interest(inner, interest) }.map_err(io::Error::from)
}
