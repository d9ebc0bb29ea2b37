//! Our side of mutual TLS.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::certificate::Certificate;
use crate::config::Identity;
use crate::error::ConnectError;

/// The name that every node's certificate carries beside the node's own: a client need not know
/// what a node is called to know that it is one.
pub const SERVER_NAME: &str = "server.unsafe.aurae.io";

const CA: &str = "authority's certificate";
const CERTIFICATE: &str = "client certificate";
const KEY: &str = "client key";

/// Our side of the handshake, and the certificates of both: only an error has to read what they say.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    own: Option<CertificateDer<'static>>,
    authorities: Vec<CertificateDer<'static>>,
    seen: Seen,
}

/// The certificate that a node showed last.
type Seen = Arc<Mutex<Option<CertificateDer<'static>>>>;

impl Tls {
    /// Our own certificate.
    pub(crate) fn own(&self) -> Option<Certificate> {
        Certificate::parse(self.own.as_ref()?)
    }

    /// The names of the authorities that a node's certificate may be signed by.
    pub(crate) fn authorities(&self) -> Vec<String> {
        let read = self.authorities.iter().filter_map(|authority| Certificate::parse(authority));
        read.map(|authority| authority.subject).collect()
    }

    /// The certificate that the node showed last.
    pub(crate) fn seen(&self) -> Option<Certificate> {
        Certificate::parse(self.seen.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?)
    }
}

/// Reads the files and makes the TLS configuration: TLS 1.3 alone, HTTP/2 alone.
pub(crate) fn client_tls(identity: &Identity) -> Result<Tls, ConnectError> {
    let (roots, authorities) = roots(&identity.ca_crt)?;
    let chain = certificates(CERTIFICATE, &identity.client_crt)?;
    let key = PrivateKeyDer::from_pem_slice(&read(KEY, &identity.client_key)?)
        .map_err(|error| bad(KEY, &identity.client_key, error))?;

    let own = chain.first().cloned();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| bad(CA, &identity.ca_crt, error))?;
    let seen = Seen::default();
    let verifier = Arc::new(Remembering { inner, seen: Arc::clone(&seen) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| bad(CERTIFICATE, &identity.client_crt, error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .map_err(|error| match error {
            Error::InconsistentKeys(_) => bad(
                KEY,
                &identity.client_key,
                format!("it does not belong to {}", identity.client_crt.display()),
            ),
            error => bad(CERTIFICATE, &identity.client_crt, error),
        })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // One connection is kept open: there is nothing to resume.
    config.resumption = Resumption::disabled();
    Ok(Tls { config: Arc::new(config), own, authorities, seen })
}

/// The usual verifier, beside which a node's certificate is kept: an error that is about it can say what
/// it says.
#[derive(Debug)]
struct Remembering {
    inner: Arc<WebPkiServerVerifier>,
    seen: Seen,
}

impl ServerCertVerifier for Remembering {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let seen = end_entity.clone().into_owned();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.inner.root_hint_subjects()
    }
}

/// The authorities, as they are and for the verifier.
fn roots(path: &Path) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), ConnectError> {
    let authorities = certificates(CA, path)?;
    let mut roots = RootCertStore::empty();
    for authority in &authorities {
        roots.add(authority.clone()).map_err(|error| bad(CA, path, error))?;
    }
    Ok((roots, authorities))
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
