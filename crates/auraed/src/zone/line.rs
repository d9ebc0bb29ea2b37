//! Waiting for the next message of a line.

use aurae_kernel::seqpacket::{Line, Message};
use aurae_kernel::{Errno, Error, Result};
use tokio::io::unix::AsyncFd;

/// The next message; `None` once the line has ended.
///
/// # Errors
/// What the kernel says.
pub async fn receive(line: &AsyncFd<Line>) -> Result<Option<Message>> {
    loop {
        let ready = line.readable().await;
        let mut guard = ready.map_err(|error| Error::from_io("poll a zone's line", &error))?;
        match line.get_ref().receive() {
            Err(error) if error.errno == Errno::AGAIN => guard.clear_ready(),
            received => return received,
        }
    }
}
