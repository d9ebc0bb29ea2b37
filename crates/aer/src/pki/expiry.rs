//! How long a certificate is valid still, in words.

use aurae_model::moment::relative;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::Validity;
use x509_parser::pem::Pem;

/// What is said about a validity: ` (in 9 years)`, ` (expired yesterday)`.
pub(super) fn state(validity: &Validity) -> String {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    if now < from {
        format!(" (not valid yet: from {})", relative(from, now))
    } else if until < now {
        format!(" (expired {})", relative(until, now))
    } else if is_near(validity) {
        format!(" (SOON: {})", relative(until, now))
    } else {
        format!(" ({})", relative(until, now))
    }
}

/// Whether less than a third of the time is left, as the daemon sees it.
pub(super) fn is_near(validity: &Validity) -> bool {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    until.saturating_sub(now) < until.saturating_sub(from) / 3
}

/// ` (valid until 2036-11-25T10:00:00Z: in 9 years)` for the first certificate of a file's text, and
/// nothing for what is none.
pub(super) fn of_first(content: &[u8]) -> String {
    let Some(Ok(pem)) = Pem::iter_from_buffer(content).next() else { return String::new() };
    let Ok(certificate) = pem.parse_x509() else { return String::new() };
    let until = certificate.validity().not_after.to_datetime();
    let until = until.format(&Rfc3339).unwrap_or_default();
    format!(", valid until {until}{}", state(certificate.validity()))
}
