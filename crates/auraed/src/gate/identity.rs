//! From a peer's certificate to a principal. The certificate was verified by then.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aurae_authz::Principal;
use x509_parser::asn1_rs::{Any, Class, FromDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;

/// A certificate that passed verification and still cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the peer's certificate cannot be read: {0}")]
pub struct UnreadableCertificate(String);

/// What a peer's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who it is for.
    pub principal: Principal,
    /// How long it is valid still.
    pub validity: Duration,
    /// Until when it is valid.
    pub expiry: CertificateExpiry,
}

/// Until when the certificate is valid that a connection's peer has shown. Beside a request of such a
/// connection, in its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateExpiry(pub SystemTime);

/// Reads a certificate (DER).
///
/// # Errors
/// It cannot be read.
pub fn identity_of_certificate(der: &[u8]) -> Result<Identity, UnreadableCertificate> {
    let unreadable = |error: &dyn std::fmt::Display| UnreadableCertificate(error.to_string());
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| unreadable(&error))?;
    if !rest.is_empty() {
        return Err(unreadable(&format_args!("{} bytes come after it", rest.len())));
    }
    let names = certificate
        .get_extension_unique(&OID_X509_EXT_SUBJECT_ALT_NAME)
        .map_err(|error| unreadable(&error))?;
    if names.is_some_and(|extension| !are_names(extension.value)) {
        return Err(unreadable(&"it has a malformed name"));
    }
    let names = certificate.subject_alternative_name().map_err(|error| unreadable(&error))?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let (mut uris, mut dns_names) = (Vec::new(), Vec::new());
    for name in names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::DNSName(name) => dns_names.push(*name),
            // What is passed over might be the second URI, or for another reader the first name.
            GeneralName::Invalid(..) => return Err(unreadable(&"it has a malformed name")),
            _ => {}
        }
    }
    let common_name =
        certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let serial = certificate.raw_serial_as_string();
    let principal = Principal::of_certificate(&uris, &dns_names, common_name, &serial);
    // None left where it has just expired.
    let validity = certificate.validity().time_to_expiration().unwrap_or_default();
    // One of before 1970 is of nobody who is let in.
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
    let expiry = CertificateExpiry(UNIX_EPOCH + Duration::from_secs(seconds));
    Ok(Identity { principal, validity: validity.unsigned_abs(), expiry })
}

/// Kinds of names that are made of others (RFC 5280, 4.2.1.6): otherName, x400Address, directoryName, ediPartyName.
const OF_OTHERS: [u32; 4] = [0, 3, 4, 5];

/// Whether each name is encoded as its kind is. The library looks at a kind's number alone, so that what is no
/// URI for another reader would be one for us.
fn are_names(extension: &[u8]) -> bool {
    let Ok((_, names)) = Any::from_der(extension) else { return false };
    let mut rest = names.data;
    while !rest.is_empty() {
        let Ok((after, name)) = Any::from_der(rest) else { return false };
        let kind = name.header.tag().0;
        if name.header.class() != Class::ContextSpecific
            || name.header.constructed() != OF_OTHERS.contains(&kind)
        {
            return false;
        }
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    /// A certificate for these URIs.
    fn certificate(uris: [&str; 2]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.map(|uri| SanType::URI(uri.try_into().unwrap())).to_vec();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_with_a_malformed_name_names_nobody() {
        let der = certificate(["spiffe://a/b", "spiffe://a/c"]);
        assert_ne!(identity_of_certificate(&der).unwrap().principal.name(), "spiffe://a/c");
        // A name's tag: a URI becomes something that is not read as one, by us or by somebody else.
        for (name, other) in
            [("spiffe://a/b", 0x80), ("spiffe://a/c", 0xa6), ("spiffe://a/c", 0x06)]
        {
            let mut der = der.clone();
            let place =
                der.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
            let tag = der.get_mut(place - 2).unwrap();
            assert_eq!(std::mem::replace(tag, other), 0x86);
            let error = identity_of_certificate(&der).unwrap_err().to_string();
            assert!(error.ends_with("it has a malformed name"), "{error}");
        }
    }

    #[test]
    fn nothing_comes_after_a_certificate() {
        let mut der = certificate(["spiffe://a/b", "spiffe://a/c"]);
        der.push(0);
        assert!(identity_of_certificate(&der).is_err());
    }
}
