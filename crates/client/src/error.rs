//! Why there is no connection, and what to do about it.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError};

use crate::address::{Address, AddressError};
use crate::connect::CONNECT_TIMEOUT;
use crate::tls::SERVER_NAME;

/// Why there is no connection. [`ConnectError::hint`] says what to do next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// A certificate or a key cannot be read.
    #[error("failed to read the {what} {}", path.display())]
    ReadFile {
        /// What the file is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: Arc<io::Error>,
    },
    /// A certificate or a key is not what it should be.
    #[error("the {what} {} cannot be used: {reason}", path.display())]
    BadFile {
        /// What the file is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The address names no interface of this machine.
    #[error("failed to connect to {address}")]
    Address {
        /// The daemon's address.
        address: Address,
        /// Why.
        source: AddressError,
    },
    /// Nobody listens there, or the way there is closed.
    #[error("failed to connect to {address}")]
    Dial {
        /// The daemon's address.
        address: Address,
        /// What the kernel said.
        source: Arc<io::Error>,
    },
    /// Nobody answered in time.
    #[error("failed to connect to {address}: no answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout {
        /// The daemon's address.
        address: Address,
    },
    /// The other side's certificate is not that of a node of ours.
    #[error("the certificate of the node at {address} is not accepted: {}", why(reason))]
    NodeCertificate {
        /// The daemon's address.
        address: Address,
        /// The authority it was checked against.
        ca_crt: PathBuf,
        /// Why.
        reason: Box<CertificateError>,
    },
    /// The node does not accept our certificate, or wants other TLS than we do.
    #[error("the node at {address} refused the connection: {}", complaint(*alert))]
    Refused {
        /// The daemon's address.
        address: Address,
        /// The certificate that we showed.
        client_crt: PathBuf,
        /// What the node said.
        alert: AlertDescription,
    },
    /// The connection was there and broke.
    #[error("the connection to {address} was lost: {reason}")]
    Lost {
        /// The daemon's address.
        address: Address,
        /// What is known about it.
        reason: String,
    },
    /// What else went wrong in the handshake.
    #[error("failed to set up TLS with {address}")]
    Handshake {
        /// The daemon's address.
        address: Address,
        /// What went wrong.
        source: Arc<io::Error>,
    },
}

impl ConnectError {
    /// Whether it may be different in a moment: a daemon that is replaced, or started again.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Dial { .. } | Self::Timeout { .. } | Self::Lost { .. } => true,
            Self::Handshake { .. } => true,
            Self::ReadFile { .. } | Self::BadFile { .. } | Self::Address { .. } => false,
            Self::NodeCertificate { .. } | Self::Refused { .. } => false,
        }
    }

    /// What to do next, a sentence without a full stop.
    pub fn hint(&self) -> String {
        match self {
            Self::ReadFile { .. } | Self::BadFile { .. } => {
                "check [auth] in the client configuration; `aer pki client` makes a client certificate"
                    .to_owned()
            }
            Self::Address { .. } => "name an interface that `ip link` shows".to_owned(),
            Self::Dial { source, .. } => dial_hint(source.kind()).to_owned(),
            Self::Timeout { .. } => {
                "is the node up, and does a firewall let us through to that port?".to_owned()
            }
            Self::NodeCertificate { ca_crt, reason, .. } => match reason.as_ref() {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "give the node a new certificate, or set this machine's clock".to_owned()
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "set this machine's clock".to_owned()
                }
                _ => format!(
                    "is {} the authority (ca_crt) that signed the node's certificate? `aer pki show` shows both",
                    ca_crt.display()
                ),
            },
            Self::Refused { client_crt, alert, .. } => refused_hint(*alert, client_crt),
            Self::Lost { .. } => {
                "did the daemon (auraed) stop, or the node go down? `aer discovery discover` asks it"
                    .to_owned()
            }
            Self::Handshake { .. } => {
                "does that port speak TLS 1.3, and is it a node's?".to_owned()
            }
        }
    }
}

fn dial_hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "is the daemon (auraed) running, and does it listen there?"
        }
        io::ErrorKind::PermissionDenied => {
            "who may connect is decided by the socket's owner and mode: run as root or as a member of its group"
        }
        _ => "is the address right, and can this machine reach it?",
    }
}

fn why(reason: &CertificateError) -> String {
    match reason {
        // A bad signature is what an authority of the same name with another key leaves.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it was not signed by our authority".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("it is not valid for the name {SERVER_NAME}")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        other => other.to_string(),
    }
}

fn complaint(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "our certificate is from an authority that it does not trust".to_owned()
        }
        AlertDescription::CertificateExpired => {
            "our certificate has expired or is not valid yet".to_owned()
        }
        AlertDescription::CertificateRequired => "it wants a client certificate".to_owned(),
        AlertDescription::CertificateRevoked => "our certificate was revoked".to_owned(),
        AlertDescription::UnsupportedCertificate => {
            "our certificate is not one for clients".to_owned()
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => {
            format!("it does not accept our certificate ({alert:?})")
        }
        AlertDescription::ProtocolVersion | AlertDescription::NoApplicationProtocol => {
            format!("it does not speak HTTP/2 over TLS 1.3 ({alert:?})")
        }
        other => format!("TLS alert {other:?}"),
    }
}

fn refused_hint(alert: AlertDescription, client_crt: &std::path::Path) -> String {
    let certificate = client_crt.display();
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => format!(
            "make {certificate} with the authority that the node trusts (its --ca-crt): `aer pki client DIR NAME`"
        ),
        AlertDescription::CertificateExpired => format!(
            "`aer pki show {certificate}` shows its validity; if that is right, check the node's clock; `aer pki client DIR NAME` makes a new one"
        ),
        _ => format!("`aer pki show {certificate}` shows the certificate that was sent"),
    }
}

/// An error and its causes in one line.
pub fn report(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string does not fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
