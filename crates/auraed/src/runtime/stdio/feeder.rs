//! The task that writes a process's input.

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::Shared;

/// What a person types to end the input (`VEOF`, termios(3)): at the start of a line it is the end.
/// Inside one the first only gives out what there is of it, and a shell takes the second for its end.
const END_OF_INPUT: u8 = 4;

/// For a process's input.
#[derive(Debug)]
pub(super) enum Message {
    Bytes(Bytes),
    End,
}

/// Writes until the input is ended, or nobody can read it any more; then the pipe is closed.
pub(super) async fn feed_pipe(pipe: Shared, mut queue: mpsc::Receiver<Message>) {
    while let Some(Message::Bytes(bytes)) = queue.recv().await {
        if write_all(&pipe, &bytes).await.is_err() {
            return;
        }
    }
}

/// Writes until nobody can read any more. A terminal has no end but the one that is typed.
pub(super) async fn feed_terminal(terminal: Shared, mut queue: mpsc::Receiver<Message>) {
    let mut in_line = false;
    while let Some(message) = queue.recv().await {
        let bytes = match message {
            Message::Bytes(bytes) => bytes,
            Message::End if in_line => Bytes::from_static(&[END_OF_INPUT; 3]),
            Message::End => Bytes::from_static(&[END_OF_INPUT]),
        };
        in_line = bytes.last().is_some_and(|last| !matches!(last, b'\n' | b'\r' | &END_OF_INPUT));
        if write_all(&terminal, &bytes).await.is_err() {
            return;
        }
    }
}

async fn write_all(sink: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut guard = sink.ready(Interest::WRITABLE).await?;
        let closed = guard.ready().is_write_closed();
        match guard.try_io(|sink| Ok(rustix::io::write(sink, bytes)?)) {
            Ok(written) => bytes = bytes.get(written?..).unwrap_or_default(),
            // Such readiness does not go away, and waiting for it would spin.
            Err(_would_block) if closed => return Err(io::ErrorKind::BrokenPipe.into()),
            Err(_would_block) => {}
        }
    }
    Ok(())
}
