//! The HTTP/2 connection to a zone's daemon.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::body::Body;
use tower::Service;

use crate::server::{CONNECTION_WINDOW, MAX_SEND_BYTES, MAX_ZONE_STREAMS, STREAM_WINDOW};
use crate::share::{Lane, Started};

/// A connection; clones share it. It is over a pair of sockets, with no path that anybody else could
/// open. Once it is lost, the daemon at its other end is.
#[derive(Clone, Debug)]
pub struct Connection {
    requests: SendRequest<Body>,
}

/// A zone's daemon that answers.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) connection: Connection,
    /// The version of the zone protocol that it speaks.
    pub(super) version: u32,
}

impl Connection {
    /// Both ends: the connection, and what the zone's daemon gets.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub(super) async fn pair() -> std::io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let stream = TokioIo::new(UnixStream::from_std(ours)?);
        let started = Started::default();
        // The connection's window is all there is, so that streams whose readers are slow cannot use
        // it up for the others; each is bounded by its own.
        let handshake = Builder::new(started.clone())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(MAX_SEND_BYTES)
            // Bounds against a hostile peer; this one is ours, and all callers share the connection.
            .max_concurrent_reset_streams(MAX_ZONE_STREAMS as usize)
            .max_local_error_reset_streams(None)
            .handshake(stream);
        let (requests, driver) = handshake.await.map_err(std::io::Error::other)?;
        // It ends with the connection, and whoever has a request open is told then; or with the last clone of
        // this, which is kept for as long as an answer is read.
        // In a lane of its own: what a poll wakes is polled at once, and no other thread is woken for it.
        tokio::spawn(Lane::new(1).wrap(started.with(driver)));
        Ok((Self { requests }, theirs.into()))
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.requests.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.requests.send_request(request))
    }
}
