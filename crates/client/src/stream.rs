//! A TLS connection that remembers why it broke.
//!
//! In TLS 1.3 a node judges our certificate after our side of the handshake is over: its alert
//! arrives when the first request is under way, and HTTP/2 would report it as a closed connection.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::error::ConnectError;

/// How much of what the node still said is read at once after a write failed: one TLS record.
const LAST_WORDS_BYTES: usize = 16 * 1024;

/// A socket of any kind.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// Why the last attempt at a connection failed, shared between a client and its connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastError(Arc<Mutex<Option<ConnectError>>>);

impl LastError {
    pub(crate) fn set(&self, error: Option<ConnectError>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    pub(crate) fn get(&self) -> Option<ConnectError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Tells what an I/O error of a connection means.
pub(crate) type Explain = Arc<dyn Fn(&io::Error) -> Option<ConnectError> + Send + Sync>;

/// A TLS connection that remembers why it broke.
pub(crate) struct WatchedStream {
    pub(crate) tls: TlsStream<Box<dyn Socket>>,
    pub(crate) explain: Explain,
    pub(crate) last_error: LastError,
    /// The failure of a write that is reported once the node's last words were read.
    pub(crate) broken: Option<io::Error>,
}

impl WatchedStream {
    fn note(&self, error: &io::Error) {
        if let Some(explained) = (self.explain)(error) {
            self.last_error.set(Some(explained));
        }
    }

    /// Writes, and where the node closed the connection first reads why: what it said before is
    /// still there to be read, though perhaps not at once.
    fn poll_watched<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(
            Pin<&mut TlsStream<Box<dyn Socket>>>,
            &mut Context<'_>,
        ) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.broken.is_none() {
            match write(Pin::new(&mut self.tls), context) {
                Poll::Ready(Err(error)) if is_closed(&error) => self.broken = Some(error),
                Poll::Ready(Err(error)) => {
                    self.note(&error);
                    return Poll::Ready(Err(error));
                }
                written_or_pending => return written_or_pending,
            }
        }
        std::task::ready!(self.poll_last_words(context));
        let error = self.broken.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
        Poll::Ready(Err(error))
    }

    /// Reads to the end, or to the alert.
    fn poll_last_words(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; LAST_WORDS_BYTES];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match std::task::ready!(Pin::new(&mut self.tls).poll_read(context, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => return Poll::Ready(()),
                Ok(()) => {}
                Err(error) => {
                    self.note(&error);
                    return Poll::Ready(());
                }
            }
        }
    }
}

/// Whether the other side closed the connection: then reading ends, too, and is not waited for in
/// vain.
fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
    )
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.tls).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &result {
            this.note(error);
        }
        result
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_watched(context, |tls, context| tls.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_watched(context, |tls, context| tls.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = |tls: Pin<&mut TlsStream<_>>, context: &mut Context<'_>| {
            tls.poll_write_vectored(context, slices)
        };
        self.get_mut().poll_watched(context, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}
