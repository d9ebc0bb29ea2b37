//! An authority and the certificates that it signs.

use std::net::IpAddr;
use std::path::Path;

use aurae_client::SERVER_NAME;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, string::Ia5String,
};
use time::{Duration, OffsetDateTime};

use crate::failure::Failure;

/// How long ago a certificate became valid, for clocks that are behind ours.
const CLOCK_SKEW: Duration = Duration::minutes(5);

/// The longest name: a common name may have 64 characters (RFC 5280, ub-common-name).
const MAX_NAME: usize = 64;

/// From when until when certificates are valid.
#[derive(Clone, Copy)]
pub(super) struct Validity {
    from: OffsetDateTime,
    until: OffsetDateTime,
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
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Reads one that was made before.
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
        check_belongs(&certificate_pem, &pair, certificate, key)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, pair)
            .map_err(|error| wrong(certificate, error))?;
        Ok(Self { issuer, certificate: certificate_pem })
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
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(id).map_err(failed)?)];
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Pair, Failure> {
        let key = generate()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

fn check_belongs(pem: &str, key: &KeyPair, crt: &Path, key_path: &Path) -> Result<(), Failure> {
    use x509_parser::pem::Pem;
    let certificate = Pem::iter_from_buffer(pem.as_bytes()).next().and_then(Result::ok);
    let belongs = certificate.as_ref().and_then(|pem| pem.parse_x509().ok()).map(|certificate| {
        let subject_key = &certificate.public_key().subject_public_key.data;
        subject_key.as_ref() == key.public_key_raw()
    });
    match belongs {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::new(format!(
            "{} does not belong to {}",
            key_path.display(),
            crt.display()
        ))),
        None => Err(Failure::new(format!("there is no certificate (PEM) in {}", crt.display()))),
    }
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
