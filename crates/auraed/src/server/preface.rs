//! The first bytes of a client (RFC 9113, section 3.4). They are read before there is anything that would
//! wait for them without a bound.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose client has begun: what was read is read again.
#[derive(Debug)]
pub(super) struct Begun<S> {
    stream: S,
    /// What of the preface is to be read again.
    again: &'static [u8],
}

/// Waits until the client begins.
///
/// # Errors
/// It goes away, or speaks something else.
pub(super) async fn begun<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<Begun<S>> {
    let mut begin = [0; PREFACE.len()];
    stream.read_exact(&mut begin).await?;
    match begin == PREFACE {
        true => Ok(Begun { stream, again: PREFACE }),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "the client speaks no HTTP/2")),
    }
}

impl<S> Begun<S> {
    pub(super) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.again.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let (now, later) = self.again.split_at(self.again.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.again = later;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_looked_at_is_read_again_however_little_at_a_time() {
        let sent = [PREFACE, b"and more"].concat();
        let mut begun = begun(sent.as_slice()).await.unwrap();
        let mut first = [0; 3];
        begun.read_exact(&mut first).await.unwrap();
        let mut rest = Vec::new();
        begun.read_to_end(&mut rest).await.unwrap();
        assert_eq!([first.as_slice(), &rest].concat(), sent);
    }

    #[tokio::test]
    async fn another_protocol_is_refused_and_one_that_goes_away_is_told_apart() {
        let http1 = begun(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".as_slice()).await.unwrap_err();
        assert_eq!(http1.kind(), io::ErrorKind::InvalidData);
        let gone = begun(b"PRI".as_slice()).await.unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::UnexpectedEof);
    }
}
