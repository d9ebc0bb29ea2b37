//! Listeners, TLS, connections and their limits. **Read this first.**
//!
//! ```text
//! listener ─accept─▶ handshake ─verified─▶ HTTP/2 connection ─request─▶ gate
//!    │                   └─refused: logged and recorded with the reason
//!    └─ shutdown asked for: no more connections, and open ones take no more requests
//! ```
//!
//! What one peer can take is bounded at each step, and one cannot keep others waiting: strangers share one
//! [lane](crate::share), and each principal has one.
//!
//! **Invariant**: what is read from a peer before its certificate was verified is read by rustls alone.

mod limits;
mod listen;
mod preface;
mod sources;
mod tls;

pub use limits::*;
pub use listen::{Address, BadAddress, ListenError, Listener, SocketFile};
pub(crate) use tls::{MAX_FILE_BYTES, MAX_LIST_BYTES, bundles_in};
pub use tls::{Svid, Tls, TlsError, TlsFiles};

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aurae_authz::Principal;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::error::Elapsed;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::audit::Audit;
use crate::gate::{Admitted, Gate, Identity, identity_of_certificate};
use crate::policy::PolicyStore;
use crate::route::Route;
use crate::share::{InLane, Lane, Shares, Started, WithCalls};
use crate::shutdown::Shutdown;
use preface::{Begun, begun};
use sources::{Counted, Source, Sources};
use tls::{HandshakeFailure, Watched, hear};

/// What all listeners of a daemon share. Clones are the same server.
#[derive(Clone, Debug)]
pub struct Server {
    gate: Gate,
    shutdown: Shutdown,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    sources: Sources,
    /// Where the handshakes of all strangers are done.
    strangers: Lane,
    shares: Shares,
    audit: Audit,
    /// Set when open connections are to be cut.
    cut: watch::Sender<bool>,
}

/// Serves the connection of a zone's daemon to the daemon above, until it ends. Once the shutdown is
/// asked for, open requests have until `drain` to end.
pub async fn serve_parent(stream: UnixStream, route: Route, shutdown: Shutdown, drain: Duration) {
    let service = Gate::new(route, shutdown.clone(), Audit::none()).admit_parent();
    let started = Started::default();
    let mut http = http(started.clone());
    http.max_concurrent_streams(MAX_ZONE_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        // Bounds against a hostile peer; this one is ours, and all callers share the connection.
        .max_pending_accept_reset_streams(MAX_ZONE_STREAMS as usize)
        .max_local_error_reset_streams(None)
        // The peer is this machine's own kernel: a lost connection is told at once.
        .keep_alive_interval(None);
    let connection = started.with(http.serve_connection(TokioIo::new(stream), service));
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        _ = shutdown.wait() => {
            connection.as_mut().connection().graceful_shutdown();
            tokio::time::timeout(drain, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(error = crate::reply::text(&error), "the connection to the parent is lost");
    }
}

/// Serves a connection of an executable to the daemon of its own zone, until it ends.
pub async fn serve_inside(
    stream: UnixStream,
    route: Route,
    principal: Principal,
    shutdown: Shutdown,
) {
    let peer = principal.name().to_owned();
    let service = Gate::new(route, shutdown, Audit::none()).admit(principal, peer, None, None);
    let started = Started::default();
    let mut http = http(started.clone());
    http.max_concurrent_streams(MAX_STREAMS_INSIDE)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = started.with(connection).await {
        tracing::debug!(error = crate::reply::text(&error), "an executable's connection is lost");
    }
}

impl Server {
    /// A server for `route` that records in `audit`, where `policies` decide, and that lets a principal make
    /// so many requests a second. It begins to end when `shutdown` is asked for.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(
        route: Route,
        shutdown: Shutdown,
        audit: Audit,
        policies: PolicyStore,
        per_second: u32,
    ) -> Self {
        let workers = tokio::runtime::Handle::current().metrics().num_workers();
        let gate = Gate::new(route, shutdown.clone(), audit.clone()).with_policies(policies);
        Self {
            gate,
            shutdown,
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
            sources: Sources::default(),
            // A handshake takes longer than most calls: half of the threads are there for everybody else.
            strangers: Lane::new(workers / 2),
            // Alone, a principal has all threads; another waits for what they have at hand.
            shares: Shares::new(workers, per_second),
            audit,
            cut: watch::Sender::new(false),
        }
    }

    /// Accepts connections until the shutdown is asked for, and gives the listener back: what has
    /// connected since waits for whoever accepts next.
    pub async fn serve(&self, listener: Listener, tls: Tls) -> Listener {
        loop {
            let accepted = tokio::select! {
                _ = self.shutdown.wait() => return listener,
                accepted = self.accept(&listener) => accepted,
            };
            match accepted {
                Ok((stream, peer, source, slots)) => match self.sources.admit(source) {
                    Some(source) => {
                        let (server, tls) = (self.clone(), tls.subscribe());
                        let connection = Connection { server, peer, slots, source, tls };
                        tokio::spawn(connection.run(stream));
                    }
                    None => self.refused(None, &peer, TOO_MANY_HANDSHAKES),
                },
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits for free slots first, so that what cannot be served stays in the kernel's backlog.
    async fn accept(
        &self,
        listener: &Listener,
    ) -> io::Result<(Box<dyn listen::Stream>, String, Source, Slots)> {
        let connection = acquire(&self.connections).await?;
        let handshake = acquire(&self.handshakes).await?;
        let (stream, peer, source) = listener.accept().await?;
        Ok((stream, peer, source, Slots { connection, handshake }))
    }

    /// Says that a connection was refused, in the log and the audit log; who comes too often is counted
    /// there alone.
    fn refused(&self, principal: Option<Principal>, peer: &str, reason: &str) {
        if self.audit.refused(principal, peer, reason) {
            tracing::warn!(peer, reason, "refused a TLS handshake");
        }
    }

    /// Waits until all connections have ended, at most `timeout`; then cuts those that are left. For
    /// after [`Self::serve`] has returned.
    pub async fn drain(&self, timeout: Duration) {
        let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
        if tokio::time::timeout(timeout, self.connections.acquire_many(all)).await.is_err() {
            let left = MAX_CONNECTIONS - self.connections.available_permits();
            tracing::info!(connections = left, "cutting connections that are still open");
            self.cut.send_replace(true);
        }
    }
}

async fn acquire(semaphore: &Arc<Semaphore>) -> io::Result<OwnedSemaphorePermit> {
    // The semaphores are never closed.
    Arc::clone(semaphore).acquire_owned().await.map_err(io::Error::other)
}

/// What a connection takes up.
struct Slots {
    connection: OwnedSemaphorePermit,
    handshake: OwnedSemaphorePermit,
}

struct Connection {
    server: Server,
    peer: String,
    slots: Slots,
    source: Counted,
    tls: Watched,
}

/// Why a connection is closed before its handshake.
const TOO_MANY_HANDSHAKES: &str = "too many handshakes of this address are under way";

impl Connection {
    async fn run(self, stream: Box<dyn listen::Stream>) {
        let Self { server, peer, slots, source, mut tls } = self;
        let acceptor = TlsAcceptor::from(tls.config());
        let handshake = async { begun(acceptor.accept(stream).await?).await };
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, server.strangers.wrap(handshake));
        let handshake = hear(handshake);
        let (outcome, refused) = tokio::select! {
            _ = server.shutdown.wait_for_end() => return,
            outcome = handshake => outcome,
        };
        drop((slots.handshake, source));
        if hung_up(&outcome) {
            // Somebody looked whether the port is open.
            return tracing::debug!(peer, "hung up before the handshake was done");
        }
        match admitted(outcome) {
            Ok((stream, identity)) => server.serve_stream(stream, identity, peer, tls).await,
            Err(reason) => server.refused(None, &peer, &refused.unwrap_or(reason)),
        }
        drop(slots.connection);
    }
}

type Handshaken = Begun<TlsStream<Box<dyn listen::Stream>>>;

fn hung_up(outcome: &Result<io::Result<Handshaken>, Elapsed>) -> bool {
    matches!(outcome, Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof)
}

/// Whose connection it is, or why it is none.
fn admitted(
    outcome: Result<io::Result<Handshaken>, Elapsed>,
) -> Result<(Handshaken, Identity), String> {
    let stream = outcome
        .map_err(|_| format!("it took more than {} s", HANDSHAKE_TIMEOUT.as_secs()))?
        .map_err(|error| HandshakeFailure(&error).to_string())?;
    // The verifier admits no session without a certificate.
    let certificates = stream.get_ref().get_ref().1.peer_certificates().unwrap_or_default();
    let certificate = certificates.first().ok_or("the client showed no certificate")?;
    let identity = identity_of_certificate(certificate).map_err(|error| error.to_string())?;
    Ok((stream, identity))
}

impl Server {
    /// Serves a connection until its peer ends it, the daemon does, or the peer's certificate expires or
    /// is not believed any more.
    async fn serve_stream(
        &self,
        stream: Handshaken,
        identity: Identity,
        peer: String,
        mut tls: Watched,
    ) {
        let Identity { principal, validity, expiry } = identity;
        let principal = tls.seen(principal);
        let guest = match self.shares.admit(&principal) {
            Ok(guest) => guest,
            Err(refused) => return self.refused(Some(principal), &peer, &refused.to_string()),
        };
        tracing::debug!(peer, %principal, "connected");
        let chain = stream.get_ref().get_ref().1.peer_certificates().unwrap_or_default();
        let chain: Vec<_> = chain.iter().cloned().map(CertificateDer::into_owned).collect();
        let lane = guest.lane().clone();
        let service = self.gate.admit(principal, peer.clone(), Some(guest), Some(expiry));
        let connection = connection(stream, service, &lane);
        let mut connection = std::pin::pin!(connection);
        let mut cut = self.cut.subscribe();
        let outcome = tokio::select! {
            // The connection last: one that is always busy must not keep what ends it from being seen.
            biased;
            _ = self.shutdown.wait() => {
                connection.as_mut().inner().connection().graceful_shutdown();
                tokio::select! {
                    outcome = connection => outcome,
                    _ = cut.wait_for(|cut| *cut) => Ok(()),
                }
            }
            () = tokio::time::sleep(validity) => {
                tracing::warn!(peer, "ending a connection: the client's certificate has expired");
                connection.as_mut().inner().connection().graceful_shutdown();
                tokio::time::timeout(DRAIN_TIMEOUT, connection).await.unwrap_or(Ok(()))
            }
            reason = tls.refused(&chain) => {
                // At once: who was revoked gets no time to go on.
                tracing::warn!(peer, reason, "ending a connection: its client is not trusted any more");
                Ok(())
            }
            outcome = connection.as_mut() => outcome,
        };
        if let Err(error) = outcome {
            tracing::debug!(peer, error = crate::reply::text(&error), "connection lost");
        }
    }
}

/// The connection with its calls, which runs in its principal's lane.
fn connection(
    stream: Handshaken,
    service: Admitted,
    lane: &Lane,
) -> InLane<WithCalls<http2::Connection<TokioIo<Handshaken>, Admitted, Started>>> {
    let started = Started::default();
    let mut http = http(started.clone());
    http.initial_stream_window_size(CLIENT_STREAM_WINDOW)
        .initial_connection_window_size(CLIENT_CONNECTION_WINDOW);
    lane.wrap(started.with(http.serve_connection(TokioIo::new(stream), service)))
}

fn http<E: Clone>(executor: E) -> http2::Builder<E> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_send_buf_size(MAX_SEND_BYTES)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

#[cfg(test)]
pub(crate) mod tests;
