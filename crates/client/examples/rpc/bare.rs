//! A tonic server that answers Discover, and does nothing else: no policy, no record, no limit.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aurae_proto::discovery::discovery_service_server::{DiscoveryService, DiscoveryServiceServer};
use aurae_proto::discovery::{DiscoverRequest, DiscoverResponse};
use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};

use crate::Outcome;

/// Connections that have shaken hands and wait to be served.
const QUEUE: usize = 64;

/// Serves on an address or a path, with client certificates and TLS 1.3, until an accept fails.
pub(crate) async fn serve(socket: &str, ca: &Path, certificate: &Path, key: &Path) -> Outcome<()> {
    let acceptor = TlsAcceptor::from(Arc::new(tls(ca, certificate, key)?));
    let (shaken, connections) = mpsc::channel(QUEUE);
    let server = tonic::transport::Server::builder()
        .add_service(DiscoveryServiceServer::new(Bare))
        .serve_with_incoming(ReceiverStream::new(connections));
    tokio::spawn(server);
    let listener = Listener::bind(socket).await?;
    println!("listening on {socket}");
    loop {
        let (stream, acceptor, shaken) =
            (listener.accept().await?, acceptor.clone(), shaken.clone());
        tokio::spawn(async move {
            match acceptor.accept(stream).await {
                Ok(stream) => drop(shaken.send(io::Result::Ok(Connection(stream))).await),
                Err(error) => eprintln!("refused: {error}"),
            }
        });
    }
}

fn tls(ca: &Path, certificate: &Path, key: &Path) -> Outcome<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(ca)? {
        roots.add(authority?)?;
    }
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let provider = Arc::new(default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients.build()?)
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

struct Bare;

#[tonic::async_trait]
impl DiscoveryService for Bare {
    async fn discover(
        &self,
        _request: Request<DiscoverRequest>,
    ) -> Result<Response<DiscoverResponse>, Status> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Response::new(DiscoverResponse { healthy: true, version }))
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    async fn bind(socket: &str) -> io::Result<Self> {
        match socket.contains('/') {
            true => UnixListener::bind(socket).map(Self::Unix),
            false => TcpListener::bind(socket).await.map(Self::Tcp),
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection of which tonic is told nothing.
struct Connection(TlsStream<Box<dyn Stream>>);

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
