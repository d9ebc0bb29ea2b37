//! An authority and the certificates that it signs.

use std::net::IpAddr;
use std::path::Path;

use aurae_client::SERVER_NAME;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SanType, string::Ia5String,
};
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::failure::Failure;

/// How long ago a certificate became valid, for clocks that are behind ours.
const CLOCK_SKEW: Duration = Duration::minutes(5);

/// The longest name: a common name may have 64 characters (RFC 5280, ub-common-name).
const MAX_NAME: usize = 64;

/// From when until when certificates are valid.
#[derive(Clone, Copy)]
pub(super) struct Validity {
    pub(super) from: OffsetDateTime,
    pub(super) until: OffsetDateTime,
}

impl Validity {
    pub(super) fn from_now(days: u32) -> Result<Self, Failure> {
        let now = OffsetDateTime::now_utc();
        let until = now.checked_add(Duration::days(i64::from(days)));
        let until = until.ok_or_else(|| Failure::usage("too many days"))?;
        Ok(Self { from: now.saturating_sub(CLOCK_SKEW), until })
    }
}

/// A certificate and its key, in PEM.
type Pair = (String, String);

/// An authority.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    der: Vec<u8>,
}

impl Authority {
    /// Makes a new one. Its name has a part of its key's fingerprint in it: certificates of two
    /// authorities of the same trust domain can be told apart.
    pub(super) fn new(domain: &str, validity: Validity) -> Result<Self, Failure> {
        let key = generate()?;
        let mut params = CertificateParams::default();
        let fingerprint =
            super::show::hex(params.key_identifier(&key).get(..4).unwrap_or_default(), "");
        named(&mut params, &format!("{domain} authority {fingerprint}"), validity);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // X509-SVID, section 3.1: whom it may vouch for.
        params.subject_alt_names = vec![uri(format!("spiffe://{domain}"))?];
        let certificate = params.self_signed(&key).map_err(failed)?;
        let (der, pem) = (certificate.der().to_vec(), certificate.pem());
        Ok(Self { issuer: Issuer::new(params, key), certificate: pem, der })
    }

    /// Reads one that was made before: of the certificates in the file that to which the key belongs.
    pub(super) fn read(certificate: &Path, key: &Path) -> Result<Self, Failure> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|error| {
                Failure::new(format!("failed to read {}: {error}", path.display()))
                    .hint("`aer pki init` makes an authority")
            })
        };
        let wrong = |path: &Path, error: rcgen::Error| {
            Failure::new(format!("{} cannot be used: {error}", path.display()))
        };
        let (certificate_pem, key_pem) = (read(certificate)?, read(key)?);
        let pair = KeyPair::from_pem(&key_pem).map_err(|error| wrong(key, error))?;
        let own = belonging(&certificate_pem, &pair, certificate, key)?;
        let der = own.contents.clone();
        let issuer = Issuer::from_ca_cert_der(&der.as_slice().into(), pair)
            .map_err(|error| wrong(certificate, error))?;
        Ok(Self { issuer, certificate: to_pem(&own), der })
    }

    /// Its certificate, DER.
    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    /// The trust domain that it vouches for, where it is bound to one.
    pub(super) fn trust_domain(&self) -> Option<String> {
        let (_, certificate) = X509Certificate::from_der(&self.der).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix("spiffe://").map(str::to_owned),
            _ => None,
        })
    }

    /// Whether it signed the certificate.
    pub(super) fn signed(&self, certificate: &X509Certificate<'_>) -> bool {
        X509Certificate::from_der(&self.der).is_ok_and(|(_, own)| {
            own.subject().as_raw() == certificate.issuer().as_raw()
                && certificate.verify_signature(Some(own.public_key())).is_ok()
        })
    }

    /// Whether it made the list.
    pub(super) fn made(&self, list: &CertificateRevocationList<'_>) -> bool {
        X509Certificate::from_der(&self.der).is_ok_and(|(_, own)| {
            own.subject().as_raw() == list.issuer().as_raw()
                && list.verify_signature(own.public_key()).is_ok()
        })
    }

    /// A certificate for the same key, names and purposes as another one, in PEM.
    pub(super) fn again(
        &self,
        certificate: &X509Certificate<'_>,
        key: &KeyPair,
        validity: Validity,
    ) -> Result<String, Failure> {
        let mut params = CertificateParams::default();
        let name = certificate.subject().iter_common_name().next();
        named(&mut params, name.and_then(|name| name.as_str().ok()).unwrap_or_default(), validity);
        params.subject_alt_names = subject_names(certificate)?;
        let usage = certificate.extended_key_usage().ok().flatten();
        let server = usage.as_ref().is_some_and(|usage| usage.value.server_auth);
        let purpose = match server {
            true => ExtendedKeyUsagePurpose::ServerAuth,
            false => ExtendedKeyUsagePurpose::ClientAuth,
        };
        self.sign_for(params, purpose, key)
    }

    /// What it has revoked, in PEM.
    pub(super) fn list(&self, params: &CertificateRevocationListParams) -> Result<String, Failure> {
        let list = params.signed_by(&self.issuer).map_err(failed)?;
        list.pem().map_err(failed)
    }

    /// Its certificate, in PEM.
    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its key, in PEM.
    pub(super) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A node's certificate: for the name that every client asks for, for `localhost`, and for the
    /// node's own names and addresses.
    pub(super) fn node(
        &self,
        name: Option<&str>,
        addresses: Vec<String>,
        validity: Validity,
    ) -> Result<Pair, Failure> {
        let fixed = [SERVER_NAME, "localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut names: Vec<SanType> = Vec::new();
        for text in fixed.into_iter().chain(addresses) {
            let name = subject_name(&text)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut params = CertificateParams::default();
        named(&mut params, checked_name(name.unwrap_or(SERVER_NAME))?, validity);
        params.subject_alt_names = names;
        self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's certificate; its name is a SPIFFE ID.
    pub(super) fn client(
        &self,
        name: &str,
        role: &str,
        domain: &str,
        validity: Validity,
    ) -> Result<Pair, Failure> {
        let id = format!("spiffe://{domain}/{role}/{}", checked_name(name)?);
        let mut params = CertificateParams::default();
        named(&mut params, name, validity);
        params.subject_alt_names = vec![uri(id)?];
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(
        &self,
        params: CertificateParams,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Pair, Failure> {
        let key = generate()?;
        Ok((self.sign_for(params, purpose, &key)?, key.serialize_pem()))
    }

    fn sign_for(
        &self,
        mut params: CertificateParams,
        purpose: ExtendedKeyUsagePurpose,
        key: &KeyPair,
    ) -> Result<String, Failure> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        Ok(params.signed_by(key, &self.issuer).map_err(failed)?.pem())
    }
}

/// The certificate that the key belongs to.
fn belonging(pem: &str, key: &KeyPair, crt: &Path, key_path: &Path) -> Result<Pem, Failure> {
    let mut any = false;
    for item in Pem::iter_from_buffer(pem.as_bytes()).flatten() {
        let Ok(certificate) = item.parse_x509() else { continue };
        any = true;
        if certificate.public_key().subject_public_key.data.as_ref() == key.public_key_raw() {
            return Ok(item);
        }
    }
    let (crt, key_path) = (crt.display(), key_path.display());
    Err(Failure::new(match any {
        true => format!("{key_path} does not belong to {crt}"),
        false => format!("there is no certificate (PEM) in {crt}"),
    }))
}

/// A certificate in PEM.
pub(super) fn to_pem(certificate: &Pem) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(&certificate.contents);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines: String = lines.map(|line| format!("{line}\n")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}

fn uri(text: String) -> Result<SanType, Failure> {
    Ok(SanType::URI(Ia5String::try_from(text).map_err(failed)?))
}

/// The names of a certificate, as far as our own have any.
fn subject_names(certificate: &X509Certificate<'_>) -> Result<Vec<SanType>, Failure> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Ok(Vec::new()) };
    let names = names.value.general_names.iter().map(|name| match name {
        GeneralName::URI(text) => uri((*text).to_owned()),
        GeneralName::DNSName(name) => {
            Ok(SanType::DnsName(Ia5String::try_from(*name).map_err(failed)?))
        }
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let v6 = || <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            let address = v4.or_else(|_| v6());
            address.map(SanType::IpAddress).map_err(|_| unknown_name(&name.to_string()))
        }
        other => Err(unknown_name(&other.to_string())),
    });
    names.collect()
}

fn unknown_name(name: &str) -> Failure {
    Failure::new(format!("a certificate of the name {name} was not made by `aer pki`"))
}

fn generate() -> Result<KeyPair, Failure> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)
}

fn failed(error: rcgen::Error) -> Failure {
    Failure::new(format!("failed to make a certificate: {error}"))
}

fn named(params: &mut CertificateParams, name: &str, validity: Validity) {
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = validity.from;
    params.not_after = validity.until;
}

fn subject_name(text: &str) -> Result<SanType, Failure> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let labels_are_right = text.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    });
    if !labels_are_right || text.len() > 253 {
        return Err(Failure::usage(format!("`{text}` is neither an IP address nor a DNS name")));
    }
    Ok(SanType::DnsName(Ia5String::try_from(text).map_err(failed)?))
}

/// A name that is one segment of a SPIFFE ID's path, and of a file's.
fn checked_name(name: &str) -> Result<&str, Failure> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty()
        || name.len() > MAX_NAME
        || !name.bytes().all(allowed)
        || name.starts_with('.')
    {
        return Err(Failure::usage(format!(
            "`{name}` is no name: 1 to {MAX_NAME} letters, digits, `-`, `_` and `.`, not beginning with `.`"
        )));
    }
    Ok(name)
}

/// A trust domain: lower-case letters, digits, `.`, `-` and `_` (SPIFFE-ID, 2.1).
pub(super) fn parse_trust_domain(text: &str) -> Result<String, String> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    // The authority's common name holds it with another 19 characters.
    if text.is_empty() || text.len() > MAX_NAME - 19 || !text.bytes().all(allowed) {
        return Err("expected 1 to 45 lower-case letters, digits, `.`, `-` and `_`".to_owned());
    }
    Ok(text.to_owned())
}
