//! What a certificate says, for errors that are about it.

use std::time::{SystemTime, UNIX_EPOCH};

use aurae_model::moment::{relative, timestamp};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// How much of a name is shown: a stranger's certificate may have any.
const MAX_NAME_CHARS: usize = 120;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is.
    pub subject: String,
    /// The authority that signed it.
    pub issuer: String,
    /// From when it is valid, in seconds since 1970.
    pub from: i64,
    /// Until when.
    pub until: i64,
    /// Whether a node accepts it from a client: it has no extended key usage, or clientAuth.
    pub for_clients: bool,
    /// The trust domain of its SPIFFE ID.
    pub trust_domain: Option<String>,
}

impl Certificate {
    /// Reads a certificate (DER); `None` where it is none.
    #[must_use]
    pub fn parse(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let usage = certificate.extended_key_usage().ok().flatten();
        let for_clients = usage.is_none_or(|usage| usage.value.client_auth || usage.value.any);
        Some(Self {
            subject: shown(&certificate.subject().to_string()),
            issuer: shown(&certificate.issuer().to_string()),
            from: certificate.validity().not_before.timestamp(),
            until: certificate.validity().not_after.timestamp(),
            for_clients,
            trust_domain: trust_domain(&certificate),
        })
    }

    /// Why it is not valid by this machine's clock, if it is not.
    pub(crate) fn invalid_now(&self) -> Option<String> {
        let now = now();
        if self.until < now {
            Some(format!("expired {}", moment(self.until, now)))
        } else if self.from > now {
            Some(format!("is not valid yet: it is from {}", moment(self.from, now)))
        } else {
            None
        }
    }
}

/// `yesterday, at 2026-11-24T10:00:00Z`.
pub(crate) fn moment(then: i64, now: i64) -> String {
    format!("{}, at {}", relative(then, now), timestamp(then))
}

pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// A name without what a terminal would take for orders.
fn shown(name: &str) -> String {
    let plain = name.chars().map(|char| if char.is_control() { '?' } else { char });
    let shown: String = plain.take(MAX_NAME_CHARS).collect();
    if shown.is_empty() { "an authority without a name".to_owned() } else { shown }
}

fn trust_domain(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => {
            let rest = uri.strip_prefix("spiffe://")?;
            Some(shown(rest.split('/').next().unwrap_or(rest)))
        }
        _ => None,
    })
}
