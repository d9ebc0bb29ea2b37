//! Where a process's output comes out.

use std::io;

use aurae_kernel::Errno;
use tokio::io::Interest;

use super::Shared;

/// Read at once.
pub(in crate::runtime) const READ_CHUNK: usize = 16 * 1024;

/// Our end of an output.
#[derive(Debug)]
pub(in crate::runtime) struct Source {
    /// `None` where there is nothing to read.
    end: Option<Shared>,
}

impl Source {
    pub(super) fn new(end: Shared) -> Self {
        Self { end: Some(end) }
    }

    /// An output that has ended.
    pub(super) fn closed() -> Self {
        Self { end: None }
    }

    /// Waits until there may be something to read, or the end.
    ///
    /// # Errors
    /// It cannot be polled.
    pub(in crate::runtime) async fn readable(&self) -> io::Result<()> {
        match &self.end {
            Some(end) => end.readable().await.map(drop),
            None => Ok(()),
        }
    }

    /// Reads what is there; 0 at the end.
    ///
    /// # Errors
    /// `WouldBlock`, or what the kernel says.
    pub(in crate::runtime) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(end) = &self.end else { return Ok(0) };
        let read = end.try_io(Interest::READABLE, |end| Ok(rustix::io::read(end, &mut *buffer)?));
        match read {
            Err(error) if is_hangup(&error) => Ok(0),
            read => read,
        }
    }

    /// As [`Self::try_read`], but asks the kernel, not the runtime, which may not have heard yet that
    /// there is something.
    ///
    /// # Errors
    /// `WouldBlock`, or what the kernel says.
    pub(in crate::runtime) fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(end) = &self.end else { return Ok(0) };
        match rustix::io::read(end.get_ref(), buffer) {
            Err(Errno::IO) => Ok(0),
            read => Ok(read?),
        }
    }
}

/// What a terminal says when nobody has the other side open any more.
fn is_hangup(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::IO)
}
