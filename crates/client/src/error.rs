//! Why there is no connection, and what to do about it.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError};

use crate::address::{Address, AddressError};
use crate::certificate::{Certificate, moment, now};
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
    #[error("the certificate of the node at {address} is not accepted: {}", why(reason, seen.as_deref(), ca_crt, authorities))]
    NodeCertificate {
        /// The daemon's address.
        address: Address,
        /// The authority it was checked against.
        ca_crt: PathBuf,
        /// Why.
        reason: Box<CertificateError>,
        /// What the node's certificate says.
        seen: Option<Box<Certificate>>,
        /// The names of the authorities in `ca_crt`.
        authorities: Vec<String>,
    },
    /// The node does not accept our certificate, or wants other TLS than we do.
    #[error("the node at {address} refused the connection: {}", complaint(*alert, client_crt, own.as_deref()))]
    Refused {
        /// The daemon's address.
        address: Address,
        /// The certificate that we showed.
        client_crt: PathBuf,
        /// What the node said.
        alert: AlertDescription,
        /// What our certificate says.
        own: Option<Box<Certificate>>,
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
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => format!(
                    "`aer pki init` makes certificates for that name beside the node's own; is the certificate, and {}, of the authority that makes those?",
                    ca_crt.display()
                ),
                _ => format!(
                    "is {} the authority (ca_crt) that signed the node's certificate? `aer pki show` shows both",
                    ca_crt.display()
                ),
            },
            Self::Refused { client_crt, alert, own, .. } => {
                refused_hint(*alert, client_crt, own.as_deref())
            }
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

fn why(
    reason: &CertificateError,
    seen: Option<&Certificate>,
    ca_crt: &Path,
    authorities: &[String],
) -> String {
    match reason {
        // A bad signature is what an authority of the same name with another key leaves.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            let Some(seen) = seen else { return "it was not signed by our authority".to_owned() };
            let (issuer, ca_crt, known) = (&seen.issuer, ca_crt.display(), authorities.join("; "));
            if authorities.contains(issuer) {
                format!(
                    "it is signed by another authority of the name {issuer} than the one in {ca_crt}"
                )
            } else {
                format!("it is signed by {issuer}, and the authority in {ca_crt} is {known}")
            }
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names = presented.join(", ");
            format!("it is not valid for the name {SERVER_NAME}, but for {names}")
        }
        CertificateError::NotValidForName => {
            format!("it is not valid for the name {SERVER_NAME}")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => match seen {
            Some(seen) => format!("it expired {}", moment(seen.until, now())),
            None => "it has expired".to_owned(),
        },
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => match seen {
            Some(seen) => format!("it is not valid yet: it is from {}", moment(seen.from, now())),
            None => "it is not valid yet".to_owned(),
        },
        other => other.to_string(),
    }
}

/// What the node's alert means, with what our own certificate says: TLS has few alerts, and it says more.
fn complaint(alert: AlertDescription, client_crt: &Path, own: Option<&Certificate>) -> String {
    let certificate = format!("our certificate {}", client_crt.display());
    let issuer = own.map_or("an authority", |own| own.issuer.as_str());
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            format!("{certificate} is signed by {issuer}, an authority that it does not trust")
        }
        AlertDescription::CertificateExpired => match own.and_then(Certificate::invalid_now) {
            Some(fault) => format!("{certificate} {fault}"),
            None => format!(
                "by its clock {certificate} has expired or is not valid yet; by ours it is valid"
            ),
        },
        AlertDescription::CertificateRequired => "it wants a client certificate".to_owned(),
        AlertDescription::CertificateRevoked => format!("{certificate} was revoked by {issuer}"),
        AlertDescription::BadCertificateStatusResponse => format!(
            "it cannot tell whether {certificate} was revoked: its revocation list of {issuer} has expired"
        ),
        AlertDescription::UnsupportedCertificate => match own {
            Some(own) if own.for_clients => {
                format!("{certificate} is of a kind that it does not take")
            }
            _ => {
                format!("{certificate} is not for clients: its extended key usage lacks clientAuth")
            }
        },
        AlertDescription::AccessDenied => {
            let domain =
                own.and_then(|own| own.trust_domain.as_deref()).unwrap_or("of its SPIFFE ID");
            format!(
                "{certificate} is of the trust domain {domain}, for which it does not trust {issuer}, which signed it"
            )
        }
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            format!("it does not accept {certificate} ({alert:?})")
        }
        AlertDescription::ProtocolVersion | AlertDescription::NoApplicationProtocol => {
            format!("it does not speak HTTP/2 over TLS 1.3 ({alert:?})")
        }
        other => format!("TLS alert {other:?}"),
    }
}

fn refused_hint(alert: AlertDescription, client_crt: &Path, own: Option<&Certificate>) -> String {
    let certificate = client_crt.display();
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => format!(
            "make {certificate} with the authority that the node trusts (its --ca-crt): `aer pki client DIR NAME`"
        ),
        AlertDescription::CertificateExpired => {
            let early = own.is_some_and(|own| own.from > now());
            match own.and_then(Certificate::invalid_now) {
                Some(_) if early => "check this machine's clock, or wait until then".to_owned(),
                Some(_) => "`aer pki client DIR NAME --force` makes a new one".to_owned(),
                None => format!(
                    "check the clocks of this machine and of the node; `aer pki show {certificate}` shows its validity"
                ),
            }
        }
        AlertDescription::CertificateRevoked => {
            "`aer pki client DIR NAME --force` makes a new one, where the authority agrees"
                .to_owned()
        }
        AlertDescription::BadCertificateStatusResponse => {
            "the node needs a new revocation list (its --crl): `aer pki revoke DIR`".to_owned()
        }
        AlertDescription::UnsupportedCertificate => {
            format!("is {certificate} a server's? `aer pki client DIR NAME` makes one for clients")
        }
        AlertDescription::AccessDenied => format!(
            "the authority of that trust domain has to sign it; `aer pki show {certificate}` shows who did"
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
