//! A connection to a node, and calls on it.

use std::future::Future;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aurae_model::ZonePath;
use bytes::Bytes;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio_stream::Stream;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::transport::{self, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::codec::RawCodec;
use crate::config::{Node, NodeName};
use crate::connect::Dialer;
use crate::error::{ConnectError, report};
use crate::resume::{Place, Resuming};
use crate::tls;
use crate::zone::{Channel, Zone};

/// The largest message, sent or received: gRPC's usual bound, and the daemon's.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// How long a connection with calls on it may be silent before the node is asked whether it is
/// still there, and how long it has to answer. A call on a dead link ends after the sum.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// What requests say as their origin. The transport below is TLS of our own making.
const ORIGIN: &str = "http://server.unsafe.aurae.io";

/// A connection to a node; clones share it. Once it was lost, the next call connects again.
#[derive(Clone)]
pub struct Client {
    node: NodeName,
    transport: transport::Channel,
    zone: Zone,
    dialer: Dialer,
}

impl Client {
    /// Connects. It answers when the node has shown its certificate; whether the node accepts ours
    /// shows at the first call.
    pub async fn connect(node: &Node) -> Result<Self, ConnectError> {
        let dialer = Dialer::new(node, tls::client_tls(&node.identity)?);
        let first = dialer.dial().await?;
        let zone = node.zone.as_ref().map(Zone::new).unwrap_or_default();
        let transport = channel(dialer.clone(), first);
        Ok(Self { node: node.name.clone(), transport, zone, dialer })
    }

    /// The same connection, with every call for that zone instead of the one before.
    #[must_use]
    pub fn in_zone(&self, path: &ZonePath) -> Self {
        Self { zone: Zone::new(path), ..self.clone() }
    }

    /// The node's name.
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// For the typed clients that `aurae-proto` generates. [`Client::explain`] makes their transport
    /// errors readable.
    pub fn channel(&self) -> Channel {
        Channel::new(self.transport.clone(), self.zone.clone())
    }

    /// Why the connection was lost or not made again, where that is known.
    pub fn connect_error(&self) -> Option<ConnectError> {
        self.dialer.last_error.get()
    }

    /// Puts the reason into a status that says no more than that the transport failed: its source is
    /// then a [`ConnectError`]. What a node answered has no source and stays as it is.
    pub fn explain(&self, status: Status) -> Status {
        if std::error::Error::source(&status).is_none() {
            return status;
        }
        if is_out_of_time(&status) {
            return deadline_exceeded();
        }
        let error = self.connect_error().unwrap_or_else(|| ConnectError::Lost {
            address: self.dialer.address.clone(),
            // The transport's own words, from the innermost cause: what the kernel said.
            reason: innermost(&status),
        });
        let mut explained = Status::unavailable(report(&error));
        explained.set_source(Arc::new(error));
        explained
    }

    /// Calls a unary RPC with a message that is encoded already. `path` is `/package.Service/Method`.
    /// A `timeout` is sent along as the deadline, and kept here.
    pub async fn unary(
        &self,
        path: &str,
        message: Bytes,
        metadata: MetadataMap,
        timeout: Option<Duration>,
    ) -> Result<Response<Bytes>, Status> {
        let (path, request) = (parse_path(path)?, request(message, metadata, timeout));
        let mut grpc = self.grpc();
        self.bounded(timeout, async {
            ready(&mut grpc).await?;
            grpc.unary(request, path, RawCodec).await
        })
        .await
    }

    /// Calls a server-streaming RPC as [`Client::unary`] does. The `timeout` is sent along as the
    /// deadline of the whole stream, and kept here until the stream begins.
    pub async fn server_streaming(
        &self,
        path: &str,
        message: Bytes,
        metadata: MetadataMap,
        timeout: Option<Duration>,
    ) -> Result<Response<Streaming<Bytes>>, Status> {
        let (path, request) = (parse_path(path)?, request(message, metadata, timeout));
        let mut grpc = self.grpc();
        self.bounded(timeout, async {
            ready(&mut grpc).await?;
            grpc.server_streaming(request, path, RawCodec).await
        })
        .await
    }

    /// Calls a server-streaming RPC as [`Client::server_streaming`] does, and goes on from the `place`
    /// when the node's daemon is replaced, or comes back after it was killed. The `timeout` bounds all of
    /// it. The call is made when the first message is asked for.
    pub fn resuming<P: Place>(
        &self,
        path: &str,
        place: P,
        timeout: Option<Duration>,
    ) -> Resuming<P> {
        Resuming::new(self.clone(), path, place, timeout)
    }

    /// Calls a client-streaming or a bidirectional RPC; a client-streaming one answers one message.
    /// As [`Client::server_streaming`] otherwise.
    pub async fn streaming(
        &self,
        path: &str,
        messages: impl Stream<Item = Bytes> + Send + 'static,
        metadata: MetadataMap,
        timeout: Option<Duration>,
    ) -> Result<Response<Streaming<Bytes>>, Status> {
        let (path, request) = (parse_path(path)?, request(messages, metadata, timeout));
        let mut grpc = self.grpc();
        self.bounded(timeout, async {
            ready(&mut grpc).await?;
            grpc.streaming(request, path, RawCodec).await
        })
        .await
    }

    fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.channel())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    async fn bounded<T>(
        &self,
        timeout: Option<Duration>,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let Some(timeout) = timeout else {
            return call.await.map_err(|status| self.explain(status));
        };
        let started = Instant::now();
        match tokio::time::timeout(timeout, call).await {
            Err(_) => Err(deadline_exceeded()),
            // Who notices first, we or the node, makes no difference to the caller.
            Ok(Err(status)) if status.code() == Code::Cancelled && started.elapsed() >= timeout => {
                Err(deadline_exceeded())
            }
            Ok(result) => result.map_err(|status| self.explain(status)),
        }
    }
}

fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the time for the call is over")
}

/// Whether the time that we gave a call is over: the transport says that it cancelled it, as it says of
/// calls whose connection closed before they were sent.
fn is_out_of_time(status: &Status) -> bool {
    let mut causes = std::iter::successors(std::error::Error::source(status), |e| e.source());
    causes.any(|cause| cause.is::<tonic::TimeoutExpired>())
}

fn innermost(status: &Status) -> String {
    let mut error: &dyn std::error::Error = status;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// A channel that uses `first` and, once that was lost, dials again.
fn channel(dialer: Dialer, first: crate::stream::WatchedStream) -> transport::Channel {
    let first = Arc::new(Mutex::new(Some(first)));
    let connector = tower::service_fn(move |_| {
        let (dialer, first) = (dialer.clone(), first.clone());
        async move {
            let made = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            match made {
                Some(stream) => Ok(TokioIo::new(stream)),
                None => dialer.dial().await.map(TokioIo::new),
            }
        }
    });
    Endpoint::from_static(ORIGIN)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .connect_with_connector_lazy(connector)
}

fn parse_path(path: &str) -> Result<PathAndQuery, Status> {
    if !path.starts_with('/') {
        return Err(Status::invalid_argument(format!("`{path}` is no path of an RPC")));
    }
    PathAndQuery::from_str(path).map_err(|error| {
        Status::invalid_argument(format!("`{path}` is no path of an RPC: {error}"))
    })
}

fn request<T>(message: T, metadata: MetadataMap, timeout: Option<Duration>) -> Request<T> {
    let mut request = Request::new(message);
    *request.metadata_mut() = metadata;
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    request
}

async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))
}
