//! An authority, and a node that answers discovery.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aurae_client::{Address, Identity, Node, SERVER_NAME, ZonePath};
use aurae_proto::discovery::discovery_service_server::{DiscoveryService, DiscoveryServiceServer};
use aurae_proto::discovery::{DiscoverRequest, DiscoverResponse};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// The version that answers at once; a caller that sends `slow` is never answered, one
/// that names a zone is told so.
pub(crate) const VERSION: &str = "1.2.3";

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

impl Authority {
    pub(crate) fn new(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(directory.join("ca.crt"), issuer.pem()).unwrap();
        Self { issuer, directory: directory.to_owned() }
    }

    /// Writes a client certificate; its last year is `until`.
    pub(crate) fn client(&self, name: &str, until: i32) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let [client_crt, client_key] =
            ["crt", "key"].map(|end| self.directory.join(format!("{name}.{end}")));
        std::fs::write(&client_crt, certificate.pem()).unwrap();
        std::fs::write(&client_key, key.serialize_pem()).unwrap();
        Identity { ca_crt: self.directory.join("ca.crt"), client_crt, client_key }
    }

    fn server_config(&self, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}

struct Discovery;

#[tonic::async_trait]
impl DiscoveryService for Discovery {
    async fn discover(
        &self,
        request: Request<DiscoverRequest>,
    ) -> Result<Response<DiscoverResponse>, Status> {
        if request.metadata().contains_key("slow") {
            std::future::pending::<()>().await;
        }
        let zone = request.metadata().get(ZonePath::METADATA).map(|zone| zone.to_str().unwrap());
        let version = zone.map_or(VERSION.to_owned(), |zone| format!("{VERSION} in {zone}"));
        Ok(Response::new(DiscoverResponse { healthy: true, version }))
    }
}

/// Serves on TCP with a certificate for `name`, and answers the address.
pub(crate) async fn serve_tcp_as(authority: &Authority, name: &str) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let serve = server(authority.server_config(name));
    tokio::spawn(async move {
        loop {
            serve(Box::new(listener.accept().await.unwrap().0));
        }
    });
    address
}

pub(crate) async fn serve_tcp(authority: &Authority) -> Address {
    serve_tcp_as(authority, SERVER_NAME).await
}

/// Serves on a unix socket.
pub(crate) async fn serve_unix(authority: &Authority, path: &Path) -> Address {
    let listener = UnixListener::bind(path).unwrap();
    let serve = server(authority.server_config(SERVER_NAME));
    tokio::spawn(async move {
        loop {
            serve(Box::new(listener.accept().await.unwrap().0));
        }
    });
    Address::Unix(path.to_owned())
}

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// How many accepted connections wait for the server.
const BACKLOG: usize = 16;
/// How many bytes are on their way between TLS and the server.
const PIPE_BYTES: usize = 64 * 1024;

/// A server, as a function that takes a connection.
fn server(tls: Arc<ServerConfig>) -> impl Fn(Box<dyn Socket>) {
    let (connections, incoming) = tokio::sync::mpsc::channel(BACKLOG);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(DiscoveryServiceServer::new(Discovery))
            .serve_with_incoming(ReceiverStream::new(incoming)),
    );
    move |socket| {
        let (tls, connections) = (TlsAcceptor::from(tls.clone()), connections.clone());
        tokio::spawn(async move {
            // A client that is refused is told so by an alert: the test looks at its side.
            let Ok(mut stream) = tls.accept(socket).await else { return };
            let (mut near, far) = tokio::io::duplex(PIPE_BYTES);
            connections.send(Ok::<_, std::io::Error>(far)).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut near).await;
        });
    }
}

/// A node at that address.
pub(crate) fn node(address: Address, identity: &Identity) -> Node {
    Node::new("n1", address, identity.clone())
}

/// Far longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);
