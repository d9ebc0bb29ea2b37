//! What a certificate says.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName, KeyUsage};
use x509_parser::pem::Pem;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;

use super::expiry::state;
use crate::failure::Failure;
use crate::output::printable;

/// Shows all certificates in a file.
pub(super) fn render(path: &Path) -> Result<String, Failure> {
    let content = std::fs::read(path)
        .map_err(|error| Failure::new(format!("failed to read {}: {error}", path.display())))?;
    let mut shown = Vec::new();
    for pem in Pem::iter_from_buffer(&content) {
        let pem = pem.map_err(|error| wrong(path, error))?;
        if pem.label != "CERTIFICATE" {
            continue;
        }
        let certificate = pem.parse_x509().map_err(|error| wrong(path, error))?;
        shown.push(describe(&certificate, &pem.contents));
    }
    if shown.is_empty() {
        return Err(Failure::new(format!("there is no certificate (PEM) in {}", path.display())));
    }
    Ok(shown.join("\n"))
}

fn wrong(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{} cannot be read as a certificate: {error}", path.display()))
}

fn describe(certificate: &X509Certificate<'_>, der: &[u8]) -> String {
    let mut text = String::new();
    let rows = [
        ("subject", printable(&certificate.subject().to_string())),
        ("issuer", printable(&certificate.issuer().to_string())),
        ("serial", certificate.raw_serial_as_string()),
        ("names", names(certificate)),
        ("valid from", time(certificate.validity().not_before)),
        (
            "valid until",
            format!("{}{}", time(certificate.validity().not_after), state(certificate.validity())),
        ),
        ("authority", if certificate.is_ca() { "yes" } else { "no" }.to_owned()),
        ("usage", usage(certificate)),
        ("key", key(certificate)),
        ("fingerprint", format!("SHA-256 {}", fingerprint(der))),
    ];
    for (name, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:<13}{value}", format!("{name}:"));
    }
    text
}

fn time(time: ASN1Time) -> String {
    time.to_datetime().format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

fn names(certificate: &X509Certificate<'_>) -> String {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return String::new() };
    let names = names.value.general_names.iter().map(|name| match name {
        GeneralName::DNSName(name) => format!("DNS {name}"),
        GeneralName::URI(uri) => format!("URI {uri}"),
        GeneralName::IPAddress(bytes) => format!("IP {}", address(bytes)),
        other => other.to_string(),
    });
    printable(&names.collect::<Vec<_>>().join(", "))
}

fn address(bytes: &[u8]) -> String {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| v6()).map_or_else(|_| hex(bytes, ":"), |ip| ip.to_string())
}

fn usage(certificate: &X509Certificate<'_>) -> String {
    let mut usages = Vec::new();
    if let Ok(Some(usage)) = certificate.key_usage() {
        usages.extend(key_usages(usage.value));
    }
    if let Ok(Some(usage)) = certificate.extended_key_usage() {
        usages.extend(extended_key_usages(usage.value));
    }
    usages.join(", ")
}

fn key_usages(usage: &KeyUsage) -> impl Iterator<Item = &'static str> {
    let all = [
        (usage.digital_signature(), "digital signature"),
        (usage.non_repudiation(), "non-repudiation"),
        (usage.key_encipherment(), "key encipherment"),
        (usage.data_encipherment(), "data encipherment"),
        (usage.key_agreement(), "key agreement"),
        (usage.key_cert_sign(), "certificate signing"),
        (usage.crl_sign(), "revocation list signing"),
    ];
    all.into_iter().filter(|(set, _)| *set).map(|(_, name)| name)
}

fn extended_key_usages(usage: &ExtendedKeyUsage<'_>) -> impl Iterator<Item = &'static str> {
    let all = [
        (usage.any, "any"),
        (usage.server_auth, "server"),
        (usage.client_auth, "client"),
        (!usage.other.is_empty(), "other"),
    ];
    all.into_iter().filter(|(set, _)| *set).map(|(_, name)| name)
}

fn key(certificate: &X509Certificate<'_>) -> String {
    match certificate.public_key().parsed() {
        Ok(PublicKey::EC(point)) => format!("ECDSA, {} bits", point.key_size()),
        Ok(PublicKey::RSA(key)) => format!("RSA, {} bits", key.key_size()),
        _ => format!("algorithm {}", certificate.public_key().algorithm.algorithm),
    }
}

fn fingerprint(der: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, der).as_ref(), ":")
}

/// Bytes in hexadecimal, with `between` between them.
pub(super) fn hex(bytes: &[u8], between: &str) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(between)
}
