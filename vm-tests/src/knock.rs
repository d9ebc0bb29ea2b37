//! TLS handshakes that our own client would not make.

use std::io;
use std::sync::Arc;

use aurae_client::Address;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, SupportedProtocolVersion, client::WantsClientCert,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::node::Node;

/// Connects without a certificate.
///
/// # Errors
/// When the node refuses, which under TLS 1.3 shows at the first byte that it should send.
pub async fn knock_without_certificate(node: &Node) -> io::Result<()> {
    shake(node, builder(node, &TLS13)?.with_no_client_auth()).await
}

/// Connects with a good certificate and an old protocol.
///
/// # Errors
/// When the node refuses.
pub async fn knock_with_tls_1_2(node: &Node) -> io::Result<()> {
    let identity = node.identity();
    let chain = CertificateDer::pem_file_iter(&identity.client_crt)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(&identity.client_key).map_err(io::Error::other)?;
    let config =
        builder(node, &TLS12)?.with_client_auth_cert(chain, key).map_err(io::Error::other)?;
    shake(node, config).await
}

fn builder(
    node: &Node,
    version: &'static SupportedProtocolVersion,
) -> io::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(node.identity().ca_crt).map_err(io::Error::other)?
    {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .map_err(io::Error::other)?;
    Ok(builder.with_root_certificates(roots))
}

async fn shake(node: &Node, mut config: ClientConfig) -> io::Result<()> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    let Address::Tcp { ip, port, .. } = node.address() else {
        return Err(io::Error::other("the node listens on a unix socket"));
    };
    let stream = TcpStream::connect((ip, port)).await?;
    let name = ServerName::try_from(aurae_client::SERVER_NAME).map_err(io::Error::other)?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
    // An accepted client gets the server's settings, a refused one an alert or the end.
    match stream.read(&mut [0; 9]).await? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        _ => Ok(()),
    }
}
