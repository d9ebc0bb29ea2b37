//! Our side of mutual TLS.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Identity;
use crate::error::ConnectError;

/// The name that every node's certificate carries beside the node's own: a client need not know
/// what a node is called to know that it is one.
pub const SERVER_NAME: &str = "server.unsafe.aurae.io";

const CA: &str = "authority's certificate";
const CERTIFICATE: &str = "client certificate";
const KEY: &str = "client key";

/// Reads the files and makes the TLS configuration: TLS 1.3 alone, HTTP/2 alone.
pub(crate) fn client_config(identity: &Identity) -> Result<Arc<ClientConfig>, ConnectError> {
    let roots = roots(&identity.ca_crt)?;
    let chain = certificates(CERTIFICATE, &identity.client_crt)?;
    let key = PrivateKeyDer::from_pem_slice(&read(KEY, &identity.client_key)?)
        .map_err(|error| bad(KEY, &identity.client_key, error))?;

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| bad(CERTIFICATE, &identity.client_crt, error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => bad(
                KEY,
                &identity.client_key,
                format!("it does not belong to {}", identity.client_crt.display()),
            ),
            error => bad(CERTIFICATE, &identity.client_crt, error),
        })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // One connection is kept open: there is nothing to resume.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn roots(path: &Path) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(CA, path)? {
        roots.add(certificate).map_err(|error| bad(CA, path, error))?;
    }
    Ok(roots)
}

fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let certificates = CertificateDer::pem_slice_iter(&read(what, path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(what, path, error))?;
    if certificates.is_empty() {
        return Err(bad(what, path, "there is no certificate (PEM) in it"));
    }
    Ok(certificates)
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, ConnectError> {
    std::fs::read(path).map_err(|source| ConnectError::ReadFile {
        what,
        path: path.to_owned(),
        source: Arc::new(source),
    })
}

fn bad(what: &'static str, path: &Path, reason: impl ToString) -> ConnectError {
    ConnectError::BadFile { what, path: path.to_owned(), reason: reason.to_string() }
}
