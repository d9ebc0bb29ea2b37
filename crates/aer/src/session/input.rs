//! What is typed, or comes through a pipe.

use std::io;
use std::os::fd::AsFd;

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::mpsc;

/// Read at once.
const READ_CHUNK: usize = 16 * 1024;

/// Pieces that wait to be sent; beyond, nothing is read.
const QUEUE: usize = 2;

/// Reads standard input until its end, which is the end of the queue.
///
/// The thread is never waited for: a read from a terminal ends when somebody types, and the program
/// shall end before.
pub(super) fn read() -> io::Result<mpsc::Receiver<Bytes>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        while let Some(bytes) = read_once() {
            if sender.blocking_send(bytes).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// An input that cannot be read has ended.
fn read_once() -> Option<Bytes> {
    let stdin = io::stdin();
    let mut chunk = [0; READ_CHUNK];
    loop {
        match rustix::io::read(&stdin, &mut chunk) {
            Ok(0) => return None,
            Ok(count) => return chunk.get(..count).map(Bytes::copy_from_slice),
            Err(Errno::INTR) => {}
            // Whoever shares it made it non-blocking.
            Err(Errno::AGAIN) => {
                let mut polled = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
                poll(&mut polled, None).ok()?;
            }
            Err(_) => return None,
        }
    }
}
