//! Authorities, and the lists of what they have revoked.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::TlsError;
use super::files::{AUTHORITY, Content, LIST};

/// The scheme of a SPIFFE ID.
const SPIFFE: &str = "spiffe://";

/// The first byte of a DER sequence, which no PEM begins with.
const DER_SEQUENCE: u8 = 0x30;

/// Now, in seconds since 1970. A clock before that is as good as none.
pub(super) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// The trust domain of a SPIFFE ID.
pub(super) fn trust_domain(id: &str) -> Option<&str> {
    let rest = id.strip_prefix(SPIFFE)?;
    Some(rest.split_once('/').map_or(rest, |(domain, _path)| domain))
}

/// Whether `text` is the name of a trust domain (SPIFFE-ID, section 2.1).
pub(super) fn is_trust_domain(text: &str) -> bool {
    let plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
    };
    !text.is_empty() && text.len() <= 255 && text.bytes().all(plain)
}

/// The trust domain that a certificate's only URI names.
pub(super) fn trust_domain_of(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??;
    let uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match uris.collect::<Vec<_>>().as_slice() {
        [uri] => trust_domain(uri).map(str::to_owned),
        _ => None,
    }
}

/// A certificate that signs clients.
#[derive(Clone, Debug)]
pub(super) struct Authority {
    pub(super) der: CertificateDer<'static>,
    pub(super) name: String,
    /// Where it is from, for errors.
    pub(super) place: PathBuf,
    /// The trust domain that it says it is of (X509-SVID, section 3.1).
    pub(super) trust_domain: Option<String>,
}

impl Authority {
    pub(super) fn parse(der: CertificateDer<'static>, path: &Path) -> Result<Self, TlsError> {
        let (name, trust_domain) = {
            let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| {
                let (what, path) = (AUTHORITY, path.to_owned());
                TlsError::Unreadable { what, path, reason: error.to_string() }
            })?;
            (certificate.subject().to_string(), trust_domain_of(&certificate))
        };
        Ok(Self { der, name, place: path.to_owned(), trust_domain })
    }

    /// All authorities in a file.
    pub(super) fn all(what: &'static str, file: &Content) -> Result<Vec<Self>, TlsError> {
        let certificates = certificates(what, file)?;
        certificates.into_iter().map(|der| Self::parse(der, &file.0)).collect()
    }
}

/// All certificates in a file; one at least.
pub(super) fn certificates(
    what: &'static str,
    (path, bytes): &Content,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::pem(what, path, error))?;
    if certificates.is_empty() {
        return Err(TlsError::pem(what, path, pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

/// What an authority has revoked.
#[derive(Clone, Debug)]
pub(super) struct RevocationList {
    pub(super) der: CertificateRevocationListDer<'static>,
    pub(super) path: PathBuf,
    /// Whose list it is.
    pub(super) issuer: String,
    /// When it was made, and until when another has to be there, in seconds since 1970.
    pub(super) made: i64,
    pub(super) until: i64,
    /// Whether one of the authorities made it.
    pub(super) known: bool,
}

impl RevocationList {
    /// All lists in a file. One that has expired is taken: it keeps all clients of its authority out, and must not keep
    /// those of others, or the node's next certificate, waiting.
    pub(super) fn all(file: &Content, authorities: &[Authority]) -> Result<Vec<Self>, TlsError> {
        let (path, bytes) = file;
        if bytes.first() == Some(&DER_SEQUENCE) {
            return Ok(vec![Self::parse(bytes.clone().into(), path, authorities)?]);
        }
        let lists: Vec<CertificateRevocationListDer<'static>> =
            CertificateRevocationListDer::pem_slice_iter(bytes)
                .collect::<Result<_, _>>()
                .map_err(|error| TlsError::pem(LIST, path, error))?;
        if lists.is_empty() {
            return Err(TlsError::pem(LIST, path, pem::Error::NoItemsFound));
        }
        lists.into_iter().map(|der| Self::parse(der, path, authorities)).collect()
    }

    fn parse(
        der: CertificateRevocationListDer<'static>,
        path: &Path,
        authorities: &[Authority],
    ) -> Result<Self, TlsError> {
        let wrong = |reason| TlsError::RevocationList { path: path.to_owned(), reason };
        let (issuer, made, until, known) = {
            let (_, list) = CertificateRevocationList::from_der(&der)
                .map_err(|error| wrong(format!("it cannot be read: {error}")))?;
            let until = list
                .next_update()
                .ok_or_else(|| wrong("it does not say until when it holds".to_owned()))?;
            let known = signed_by_one_of(&list, authorities).map_err(wrong)?;
            (list.issuer().to_string(), list.last_update().timestamp(), until.timestamp(), known)
        };
        Ok(Self { der, path: path.to_owned(), issuer, made, until, known })
    }
}

/// Whether the list is of an authority that is known, which has to have signed it then.
fn signed_by_one_of(
    list: &CertificateRevocationList<'_>,
    authorities: &[Authority],
) -> Result<bool, String> {
    let mut of_that_name = false;
    for authority in authorities {
        let Ok((_, certificate)) = X509Certificate::from_der(&authority.der) else { continue };
        if certificate.subject().as_raw() != list.issuer().as_raw() {
            continue;
        }
        of_that_name = true;
        if list.verify_signature(certificate.public_key()).is_ok() {
            return Ok(true);
        }
    }
    if of_that_name {
        return Err(format!("{} did not sign it", list.issuer()));
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_domain_is_the_authority_part_of_a_spiffe_id() {
        assert_eq!(trust_domain("spiffe://example.org/user/alice"), Some("example.org"));
        assert_eq!(trust_domain("spiffe://example.org"), Some("example.org"));
        assert_eq!(trust_domain("https://example.org"), None);
        assert!(is_trust_domain("a-b_c.d1") && !is_trust_domain("A") && !is_trust_domain(""));
    }
}
