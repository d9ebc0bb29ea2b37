//! Why mutual TLS cannot be set up.

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem;
use rustls::server::VerifierBuilderError;

/// Mutual TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file or directory cannot be read.
    #[error("failed to read the {what} {}", path.display())]
    Read {
        /// What it is.
        what: &'static str,
        /// Which.
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
    /// A certificate cannot be read.
    #[error("the {what} {} cannot be read as a certificate: {reason}", path.display())]
    Unreadable {
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
    /// A bundle is not called after a trust domain.
    #[error("the bundle {} is not called after a trust domain, as example.org.pem is", .0.display())]
    BundleName(PathBuf),
    /// A bundle's authority says that it is of another trust domain.
    #[error(
        "the bundle {} has the authority {name}, which is of the trust domain {trust_domain}",
        path.display()
    )]
    BundleOfAnother {
        /// The bundle.
        path: PathBuf,
        /// The authority's name.
        name: String,
        /// Its trust domain.
        trust_domain: String,
    },
    /// There are more files than are read.
    #[error("there are more than {max} files in {}", path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
        /// The bound.
        max: usize,
    },
    /// A revocation list cannot be used.
    #[error("the revocation list {} cannot be used: {reason}", path.display())]
    RevocationList {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No verifier can be made of the authorities.
    #[error("clients cannot be verified")]
    Verifier(#[source] VerifierBuilderError),
    /// Certificate and key do not fit together, or the key is of an unknown kind.
    #[error("the server's certificate {certificate} and key {key} cannot be used together")]
    Pair {
        /// Where the certificate is from.
        certificate: String,
        /// Where the key is from.
        key: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The library does not support what the server needs.
    #[error("TLS 1.3 cannot be configured")]
    Protocol(#[source] rustls::Error),
}

impl TlsError {
    pub(super) fn pem(what: &'static str, path: &Path, error: pem::Error) -> Self {
        let path = path.to_owned();
        match error {
            pem::Error::Io(source) => Self::Read { what, path, source },
            pem::Error::NoItemsFound => Self::Pem { what, path, reason: "none found".into() },
            other => Self::Pem { what, path, reason: other.to_string() },
        }
    }
}
