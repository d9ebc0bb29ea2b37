//! Mutual TLS 1.3: what the server shows, and whom it believes.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{CertificateError, RootCertStore, ServerConfig};

/// The protocol that a client has to ask for: gRPC is HTTP/2.
const ALPN: &[u8] = b"h2";

/// The files that the server needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate and those between it and the authority's, PEM.
    pub certificate: PathBuf,
    /// The server's private key, PEM.
    pub key: PathBuf,
    /// The certificates of the authorities that sign clients, PEM.
    pub authority: PathBuf,
}

/// Mutual TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("failed to read the {what} {}", path.display())]
    Read {
        /// What the file is.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not PEM, or has no item of the kind.
    #[error("the {what} {} has no usable PEM item: {reason}", path.display())]
    Pem {
        /// What the file is.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An authority's certificate cannot be one.
    #[error("the authority's certificate {} cannot be used", path.display())]
    Authority {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// No verifier can be made of the authorities.
    #[error("clients cannot be verified")]
    Verifier(#[source] VerifierBuilderError),
    /// Certificate and key do not fit together, or the key is of an unknown kind.
    #[error("the server's certificate {} and key {} cannot be used together", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The library does not support what the server needs.
    #[error("TLS 1.3 cannot be configured")]
    Protocol(#[source] rustls::Error),
}

/// Reads the files and makes the configuration of the server.
///
/// Clients have to show a certificate that one of the authorities signed. One without extended key
/// usage is accepted; one with has to have clientAuth. Sessions are never resumed: that would skip
/// the look at the certificate's validity.
///
/// # Errors
/// A file that is missing, unreadable or unusable, by its path.
pub fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let mut authorities = RootCertStore::empty();
    for certificate in certificates("authority's certificate", &files.authority)? {
        authorities
            .add(certificate)
            .map_err(|source| TlsError::Authority { path: files.authority.clone(), source })?;
    }
    let chain = certificates("server's certificate", &files.certificate)?;
    let key = private_key("server's private key", &files.key)?;

    let provider = Arc::new(default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(&provider))
            .build()
            .map_err(TlsError::Verifier)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Protocol)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|source| TlsError::Pair {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            source,
        })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn open(what: &'static str, path: &Path) -> Result<BufReader<File>, TlsError> {
    let read = |source| TlsError::Read { what, path: path.to_owned(), source };
    File::open(path).map(BufReader::new).map_err(read)
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_reader_iter(open(what, path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(what, path, error))?;
    if certificates.is_empty() {
        return Err(unusable(what, path, pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn private_key(what: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_reader(open(what, path)?).map_err(|error| unusable(what, path, error))
}

fn unusable(what: &'static str, path: &Path, error: pem::Error) -> TlsError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(source) => TlsError::Read { what, path, source },
        pem::Error::NoItemsFound => TlsError::Pem { what, path, reason: "none found".into() },
        other => TlsError::Pem { what, path, reason: other.to_string() },
    }
}

/// Why a handshake failed, for the log: rustls' reasons in the words of who has to repair it.
#[derive(Debug)]
pub struct HandshakeFailure<'e>(pub &'e io::Error);

impl fmt::Display for HandshakeFailure<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.0.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match reason {
            Some(rustls::Error::NoCertificatesPresented) => {
                formatter.write_str("the client showed no certificate")
            }
            Some(rustls::Error::InvalidCertificate(error)) => match error {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    write!(formatter, "the client's certificate has expired ({error})")
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    write!(formatter, "the client's certificate is not valid yet ({error})")
                }
                CertificateError::UnknownIssuer | CertificateError::BadSignature => formatter
                    .write_str("the client's certificate is not signed by the node's authority"),
                CertificateError::InvalidPurpose
                | CertificateError::InvalidPurposeContext { .. } => {
                    formatter.write_str("the client's certificate is not for clientAuth")
                }
                other => write!(formatter, "the client's certificate is not valid: {other}"),
            },
            Some(other) => write!(formatter, "{other}"),
            None => write!(formatter, "{}", self.0),
        }
    }
}
