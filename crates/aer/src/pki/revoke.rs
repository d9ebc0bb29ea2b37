//! `aer pki revoke`: the lists of what the authorities in a directory have revoked.

use std::path::{Path, PathBuf};

use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber,
};
use time::OffsetDateTime;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::ReasonCode;

use super::files::Files;
use super::issue::{Authority, Validity};
use super::rotate::{authority, read};
use super::{CA_CRT, CRL, OLD_CA_KEY};
use crate::failure::Failure;

/// Adds certificates to the lists, which are made anew.
pub(super) fn run(
    directory: &Path,
    certificates: &[PathBuf],
    validity: Validity,
) -> Result<(), Failure> {
    let mut authorities = vec![authority(directory)?];
    let old = directory.join(OLD_CA_KEY);
    if old.exists() {
        authorities.push(Authority::read(&directory.join(CA_CRT), &old)?);
    }
    let mut revoked: Vec<Vec<RevokedCertParams>> = vec![Vec::new(); authorities.len()];
    for path in certificates {
        let path = found(directory, path);
        let content = read(&path)?;
        let pem = Pem::iter_from_buffer(&content).next().and_then(Result::ok);
        let pem = pem.ok_or_else(|| {
            Failure::new(format!("there is no certificate (PEM) in {}", path.display()))
        })?;
        let certificate = pem
            .parse_x509()
            .map_err(|error| Failure::new(format!("{} cannot be read: {error}", path.display())))?;
        let issuer = authorities.iter().position(|authority| authority.signed(&certificate));
        let issuer = issuer.ok_or_else(|| {
            Failure::new(format!(
                "{} was not signed by an authority in {}",
                path.display(),
                directory.display()
            ))
            .hint("its own authority has to revoke it: `aer pki show` shows which that is")
        })?;
        revoked[issuer].push(entry(certificate.raw_serial(), OffsetDateTime::now_utc(), None));
    }
    let mut lists = String::new();
    for (authority, revoked) in authorities.iter().zip(revoked) {
        lists.push_str(&list(authority, &directory.join(CRL), revoked, validity)?);
    }
    let mut files = Files::new(directory, true);
    files.public(CRL, &lists);
    super::say(files.write()?)
}

/// A certificate's file, or the name of one in the directory.
fn found(directory: &Path, path: &Path) -> PathBuf {
    let name = directory.join(path.with_added_extension("crt"));
    if !path.exists() && name.exists() { name } else { path.to_owned() }
}

/// The lists in a file that are the authority's.
pub(super) fn lists_of(
    authority: &Authority,
    path: &Path,
    validity: Validity,
) -> Result<String, Failure> {
    list(authority, path, Vec::new(), validity)
}

/// The authority's list: what the one in the file has, and more.
fn list(
    authority: &Authority,
    path: &Path,
    more: Vec<RevokedCertParams>,
    validity: Validity,
) -> Result<String, Failure> {
    let (number, mut revoked) = match path.exists() {
        true => before(authority, path)?,
        false => (0, Vec::new()),
    };
    for entry in more {
        if !revoked.iter().any(|known| known.serial_number == entry.serial_number) {
            revoked.push(entry);
        }
    }
    authority.list(&CertificateRevocationListParams {
        this_update: validity.from,
        next_update: validity.until,
        crl_number: SerialNumber::from(number + 1),
        issuing_distribution_point: None,
        revoked_certs: revoked,
        key_identifier_method: KeyIdMethod::Sha256,
    })
}

/// The number and the entries of the authority's list in a file.
fn before(authority: &Authority, path: &Path) -> Result<(u64, Vec<RevokedCertParams>), Failure> {
    let content = read(path)?;
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(format!("{} cannot be read as a revocation list: {error}", path.display()))
    };
    for pem in Pem::iter_from_buffer(&content) {
        let pem = pem.map_err(|error| wrong(&error))?;
        let (_, list) =
            CertificateRevocationList::from_der(&pem.contents).map_err(|error| wrong(&error))?;
        if !authority.made(&list) {
            continue;
        }
        let number = list.crl_number().and_then(|number| u64::try_from(number).ok());
        let entries = list.iter_revoked_certificates().map(|revoked| {
            let reason = revoked.reason_code().and_then(|(_, reason)| reason_of(reason));
            entry(revoked.raw_serial(), revoked.revocation_date.to_datetime(), reason)
        });
        return Ok((number.unwrap_or_default(), entries.collect()));
    }
    Ok((0, Vec::new()))
}

fn entry(
    serial: &[u8],
    time: OffsetDateTime,
    reason: Option<RevocationReason>,
) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from(serial.to_vec()),
        revocation_time: time,
        reason_code: reason,
        invalidity_date: None,
    }
}

/// Ours have none; another tool's stay as they are.
fn reason_of(code: ReasonCode) -> Option<RevocationReason> {
    Some(match code {
        ReasonCode::KeyCompromise => RevocationReason::KeyCompromise,
        ReasonCode::CACompromise => RevocationReason::CaCompromise,
        ReasonCode::AffiliationChanged => RevocationReason::AffiliationChanged,
        ReasonCode::Superseded => RevocationReason::Superseded,
        ReasonCode::CessationOfOperation => RevocationReason::CessationOfOperation,
        ReasonCode::PrivilegeWithdrawn => RevocationReason::PrivilegeWithdrawn,
        _ => return None,
    })
}
