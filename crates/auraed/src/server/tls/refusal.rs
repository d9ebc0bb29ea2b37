//! Why a client is refused, in the words of who has to repair it.
//!
//! TLS has an alert for few of the reasons, so a client is told less than the log. What the verifier
//! found out gets there beside the handshake, which knows no words ([`hear`]).

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;

use aurae_authz::Principal;
use aurae_model::moment::{relative, timestamp};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::authority::RevocationList;

/// How many authorities are named; more than fit a line help nobody.
const MAX_NAMES: usize = 8;
/// How much of a name is shown: a stranger's certificate may have any.
const MAX_NAME_CHARS: usize = 120;

tokio::task_local! {
    /// What the verifier found out in the handshake of this task.
    static HEARD: RefCell<Option<String>>;
}

/// Awaits a handshake; answers also why its client was refused, if the verifier did.
pub(in crate::server) async fn hear<T>(handshake: impl Future<Output = T>) -> (T, Option<String>) {
    let listening = async {
        let outcome = handshake.await;
        (outcome, HEARD.with(RefCell::take))
    };
    HEARD.scope(RefCell::new(None), listening).await
}

/// A client that is not believed.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// What TLS tells the client.
    pub(super) error: Error,
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn unreadable() -> Self {
        let error = CertificateError::BadEncoding.into();
        Self { error, reason: "the client's certificate cannot be read".to_owned() }
    }

    /// Leaves the reason for [`hear`].
    pub(super) fn note(self) -> Error {
        // Outside a handshake of the server's nobody listens.
        let _ = HEARD.try_with(|heard| heard.replace(Some(self.reason)));
        self.error
    }
}

/// A certificate that did not pass.
pub(super) struct Case<'a> {
    pub(super) error: Error,
    pub(super) certificate: &'a CertificateDer<'a>,
    /// Who it says it is for.
    pub(super) principal: &'a Principal,
    pub(super) lists: &'a [RevocationList],
}

impl Case<'_> {
    /// Whether no authority signed it that was asked. A bad signature is what an authority of the same
    /// name with another key leaves.
    pub(super) fn is_of_no_authority(&self) -> bool {
        matches!(
            self.error,
            Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature
            )
        )
    }

    pub(super) fn of_another_trust_domain(&self, claimed: &str, other: Option<&str>) -> Refusal {
        let issuer = self.issuer();
        let vouches = match other {
            Some(other) => format!("vouches for the trust domain {other} alone"),
            None => "does not vouch for that trust domain".to_owned(),
        };
        let reason = format!(
            "{} is of the trust domain {claimed}, and {issuer}, which signed it, {vouches}",
            self.certificate()
        );
        Refusal { error: CertificateError::ApplicationVerificationFailure.into(), reason }
    }

    pub(super) fn of_unknown_authority(self, domain: Option<&str>, trusted: &[String]) -> Refusal {
        let (certificate, issuer) = (self.certificate(), self.issuer());
        let known = match domain {
            Some(domain) => format!("the authorities trusted for {domain}"),
            None => "the authorities trusted".to_owned(),
        };
        let reason = if trusted.is_empty() {
            format!("{certificate} is signed by {issuer}, and {known} are none")
        } else if trusted.iter().any(|name| shortened(name) == issuer) {
            format!(
                "{certificate} is signed by another authority of the name {issuer} than the one trusted"
            )
        } else {
            format!(
                "{certificate} is signed by {issuer}, which is none of {known}: {}",
                list(trusted)
            )
        };
        Refusal { error: CertificateError::UnknownIssuer.into(), reason }
    }

    /// What is wrong with a certificate that an authority signed.
    pub(super) fn refusal(self) -> Refusal {
        let reason = match &self.error {
            Error::InvalidCertificate(error) => self.words(error),
            other => format!("{} is not valid: {other}", self.certificate()),
        };
        // A client is told that its authority is unknown, otherwise.
        let error = match self.error {
            Error::InvalidCertificate(
                CertificateError::ExpiredRevocationList
                | CertificateError::ExpiredRevocationListContext { .. },
            ) => CertificateError::InvalidOcspResponse.into(),
            error => error,
        };
        Refusal { error, reason }
    }

    fn words(&self, error: &CertificateError) -> String {
        let certificate = self.certificate();
        match error {
            CertificateError::ExpiredContext { time, not_after } => {
                format!("{certificate} expired {}", moment(*not_after, *time))
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                format!("{certificate} is not valid yet: it is from {}", moment(*not_before, *time))
            }
            CertificateError::Revoked => {
                format!("{certificate} was revoked by {}", self.issuer())
            }
            CertificateError::ExpiredRevocationListContext { time, next_update } => {
                let until = i64::try_from(next_update.as_secs()).unwrap_or(i64::MAX);
                let list = self.lists.iter().find(|list| list.until == until);
                let path = list.map(|list| format!(" {}", list.path.display())).unwrap_or_default();
                format!(
                    "whether {certificate} was revoked cannot be told: the revocation list{path} expired {}",
                    moment(*next_update, *time)
                )
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                format!("{certificate} is not for clients: its extended key usage lacks clientAuth")
            }
            other => format!("{certificate} is not valid: {other}"),
        }
    }

    fn certificate(&self) -> String {
        format!("the client's certificate ({})", shortened(&self.principal.to_string()))
    }

    fn issuer(&self) -> String {
        let certificate = X509Certificate::from_der(self.certificate);
        let issuer = certificate.map(|(_, certificate)| certificate.issuer().to_string());
        issuer.map_or_else(|_| "an authority without a name".to_owned(), |name| shortened(&name))
    }
}

/// `yesterday, at 2026-11-24T10:00:00Z`.
fn moment(then: UnixTime, now: UnixTime) -> String {
    let [then, now] = [then, now].map(|time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    format!("{}, at {}", relative(then, now), timestamp(then))
}

fn shortened(name: &str) -> String {
    if name.is_empty() {
        return "an authority without a name".to_owned();
    }
    match name.char_indices().nth(MAX_NAME_CHARS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

fn list(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(MAX_NAMES).map(|name| shortened(name)).collect();
    let more = names.len().saturating_sub(MAX_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join("; "))
}

/// Why a handshake failed, for the log, where the verifier did not say.
#[derive(Debug)]
pub(in crate::server) struct HandshakeFailure<'e>(pub(in crate::server) &'e io::Error);

impl fmt::Display for HandshakeFailure<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.0.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match reason {
            Some(Error::NoCertificatesPresented) => {
                formatter.write_str("the client showed no certificate")
            }
            Some(Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::SupportedVersionsExtensionRequired,
            )) => formatter.write_str("the client speaks no TLS newer than 1.2; 1.3 is needed"),
            Some(Error::NoApplicationProtocol) => {
                formatter.write_str("the client does not speak HTTP/2 (ALPN h2)")
            }
            Some(Error::AlertReceived(alert)) => {
                write!(formatter, "the client does not accept the node: {}", complaint(*alert))
            }
            Some(other) => write!(formatter, "{other}"),
            None => write!(formatter, "{}", self.0),
        }
    }
}

fn complaint(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "it does not know the authority of the node's certificate".to_owned()
        }
        AlertDescription::CertificateExpired => {
            "the node's certificate has expired or is not valid yet".to_owned()
        }
        AlertDescription::BadCertificate => {
            "the node's certificate is not for the name that it asks for, or damaged".to_owned()
        }
        other => format!("TLS alert {other:?}"),
    }
}
