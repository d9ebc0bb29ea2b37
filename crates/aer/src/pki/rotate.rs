//! `aer pki rotate`: another authority takes the place of the one before.
//!
//! ```text
//! one authority ─rotate─▶ two are trusted, the new one signs ─rotate --finish─▶ one authority
//! ```
//!
//! Each file is written whole, in an order that leaves something that works: a rotation that was
//! interrupted is gone on with by the same command. Keys of nodes and clients stay, so that a certificate
//! is exchanged by one rename.

use std::path::{Path, PathBuf};

use rcgen::KeyPair;
use x509_parser::pem::Pem;

use super::files::Files;
use super::issue::{Authority, Validity, to_pem};
use super::{CA_CRT, CA_KEY, CRL, OLD_CA_KEY, SERVER_CRT, SERVER_KEY, revoke};
use crate::failure::Failure;
use crate::output;

/// Makes the new authority, or goes on with that.
pub(super) fn begin(directory: &Path, domain: &str, validity: Validity) -> Result<(), Failure> {
    let mut authority = authority(directory)?;
    if others(directory, &authority)?.is_empty() {
        let domain = authority.trust_domain().unwrap_or_else(|| domain.to_owned());
        let new = Authority::new(&domain, validity)?;
        let both = format!("{}{}", new.certificate(), authority.certificate());
        // The key at last: until it is there, the authority before signs.
        let mut files = Files::new(directory, true);
        files.public(CA_CRT, &both);
        files.private(OLD_CA_KEY, &authority.key_pem());
        files.private(CA_KEY, &new.key_pem());
        super::say(files.write()?)?;
        authority = new;
    }
    let mut files = Files::new(directory, true);
    let mut without_key = Vec::new();
    for issued in issued(directory)? {
        if authority.signed(&parsed(&issued)?) {
            continue;
        }
        let Some(key) = key_of(&issued.path)? else {
            without_key.push(issued.path);
            continue;
        };
        let again = authority.again(&parsed(&issued)?, &key, validity)?;
        files.public(issued.path, &again);
    }
    super::say(files.write()?)?;
    for path in without_key {
        let path = path.display();
        output::complain(&format!(
            "warning: {path} has no key beside it and stays as it is: it is refused after --finish\n"
        ));
    }
    let directory = directory.display();
    Ok(output::print(&format!(
        "\nBoth authorities are trusted now. Give {CA_CRT} to every node and client first, then their new\ncertificates (the keys stay). When all have them: aer pki rotate {directory} --finish\n"
    ))?)
}

/// Drops the authority before.
pub(super) fn finish(directory: &Path, validity: Validity) -> Result<(), Failure> {
    let authority = authority(directory)?;
    if others(directory, &authority)?.is_empty() {
        return Err(Failure::new(format!("there is one authority in {}", at(directory, CA_CRT)))
            .hint("`aer pki rotate DIR` makes another"));
    }
    for issued in issued(directory)? {
        let Some(_) = key_of(&issued.path)? else { continue };
        if !authority.signed(&parsed(&issued)?) {
            let path = issued.path.display();
            return Err(Failure::new(format!("{path} is not of the new authority yet"))
                .hint("`aer pki rotate DIR` goes on with a rotation that was interrupted"));
        }
    }
    let mut files = Files::new(directory, true);
    if directory.join(CRL).exists() {
        files.public(CRL, &revoke::lists_of(&authority, &directory.join(CRL), validity)?);
    }
    files.public(CA_CRT, authority.certificate());
    super::say(files.write()?)?;
    let key = directory.join(OLD_CA_KEY);
    match std::fs::remove_file(&key) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::new(format!("failed to remove {}: {error}", key.display())))
        }
        _ => Ok(()),
    }
}

fn at(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}

/// The authority that signs.
pub(super) fn authority(directory: &Path) -> Result<Authority, Failure> {
    Authority::read(&directory.join(CA_CRT), &directory.join(CA_KEY))
}

/// The certificates of other authorities in the directory.
fn others(directory: &Path, authority: &Authority) -> Result<Vec<String>, Failure> {
    let content = read(&directory.join(CA_CRT))?;
    let all = Pem::iter_from_buffer(&content).flatten();
    Ok(all.filter(|pem| pem.contents != authority.der()).map(|pem| to_pem(&pem)).collect())
}

/// A certificate that was issued.
struct Issued {
    path: PathBuf,
    certificate: Pem,
}

fn parsed(issued: &Issued) -> Result<x509_parser::certificate::X509Certificate<'_>, Failure> {
    issued
        .certificate
        .parse_x509()
        .map_err(|error| Failure::new(format!("{} cannot be read: {error}", issued.path.display())))
}

/// The certificates in the directory that are no authority's.
fn issued(directory: &Path) -> Result<Vec<Issued>, Failure> {
    let failed = |error| Failure::new(format!("failed to read {}: {error}", directory.display()));
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|end| end != "crt") || path.ends_with(CA_CRT) {
            continue;
        }
        let content = read(&path)?;
        let Some(Ok(certificate)) = Pem::iter_from_buffer(&content).next() else { continue };
        let issued = Issued { path, certificate };
        if !parsed(&issued)?.is_ca() {
            all.push(issued);
        }
    }
    all.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(all)
}

/// The key beside a certificate.
fn key_of(certificate: &Path) -> Result<Option<KeyPair>, Failure> {
    let path = match certificate.ends_with(SERVER_CRT) {
        true => certificate.with_file_name(SERVER_KEY),
        false => certificate.with_extension("key"),
    };
    if !path.exists() {
        return Ok(None);
    }
    let key = String::from_utf8_lossy(&read(&path)?).into_owned();
    let key = KeyPair::from_pem(&key);
    let wrong = |error| Failure::new(format!("{} cannot be used: {error}", path.display()));
    key.map(Some).map_err(wrong)
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| {
        Failure::new(format!("failed to read {}: {error}", path.display()))
            .hint("`aer pki init` makes an authority")
    })
}
