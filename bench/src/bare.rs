//! A gRPC server that does nothing else: what tonic's generated service, hyper and rustls cost, without a node
//! behind them.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use aurae_proto::discovery::discovery_service_server::{DiscoveryService, DiscoveryServiceServer};
use aurae_proto::discovery::{DiscoverRequest, DiscoverResponse};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::{Request, Response, Status};

struct Discovery;

#[tonic::async_trait]
impl DiscoveryService for Discovery {
    async fn discover(
        &self,
        _request: Request<DiscoverRequest>,
    ) -> Result<Response<DiscoverResponse>, Status> {
        Ok(Response::new(DiscoverResponse { healthy: true, version: "0.1.0".to_owned() }))
    }
}

/// Serves Discover until the process ends, with the certificates of a directory of `aer pki`.
pub(crate) fn serve(address: &str, pki: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to make a runtime")?;
    runtime.block_on(async {
        let acceptor = TlsAcceptor::from(Arc::new(tls(pki)?));
        let listener = TcpListener::bind(address).await.context("failed to listen")?;
        loop {
            let (stream, _) = listener.accept().await.context("failed to accept")?;
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let service = TowerToHyperService::new(DiscoveryServiceServer::new(Discovery));
                if let Ok(stream) = accepted(acceptor, stream).await {
                    let http = http2::Builder::new(TokioExecutor::new());
                    // A client that goes away is the end of its connection, and of nothing else.
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                }
            });
        }
    })
}

async fn accepted(
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> std::io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    acceptor.accept(stream).await
}

/// TLS as a node has it: version 1.3, with a certificate of the client.
fn tls(pki: &Path) -> Result<ServerConfig> {
    let certificates = |name: &str| -> Result<Vec<CertificateDer<'static>>> {
        let path = pki.join(name);
        let file =
            File::open(&path).with_context(|| format!("failed to open {}", path.display()))?;
        CertificateDer::pem_reader_iter(BufReader::new(file))
            .collect::<Result<_, _>>()
            .with_context(|| format!("{} has no certificates", path.display()))
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca.crt")? {
        roots.add(certificate).context("no authority")?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .context("no verifier")?;
    let key = PrivateKeyDer::from_pem_file(pki.join("server.key")).context("no key")?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("no TLS 1.3")?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates("_signed.server.crt")?, key)
        .context("the certificate and the key do not fit")?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
