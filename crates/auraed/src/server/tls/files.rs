//! What is read from files: bytes first, so that it can be seen whether anything has changed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Svid, TlsError};

/// A certificate or key has a few KiB, and a bundle some of them; more than this is none.
pub(crate) const MAX_FILE_BYTES: u64 = 1 << 20;
/// A revocation list has about 40 bytes a certificate.
pub(crate) const MAX_LIST_BYTES: u64 = 16 << 20;
/// More trust domains, or revocation lists, than one node has to do with.
const MAX_FILES: usize = 256;

/// What the files are called in errors.
pub(super) const CERTIFICATE: &str = "server's certificate";
pub(super) const KEY: &str = "server's private key";
pub(super) const AUTHORITY: &str = "authority's certificate";
pub(super) const BUNDLE: &str = "bundle";
pub(super) const LIST: &str = "revocation list";

/// How bundles and revocation lists in a directory end. Others are left alone: a directory may have a
/// README, and an editor's or a volume's own files.
const BUNDLE_ENDS: &[&str] = &["pem", "crt"];
const LIST_ENDS: &[&str] = &["pem", "crl", "der"];

/// The files that the server needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate and those between it and the authority's, PEM.
    pub certificate: PathBuf,
    /// The server's private key, PEM.
    pub key: PathBuf,
    /// The certificates of the authorities that sign clients, PEM.
    pub authority: PathBuf,
    /// A directory of bundles, `TRUST-DOMAIN.pem`: the authorities of that trust domain.
    pub trust_directory: Option<PathBuf>,
    /// Revocation lists, PEM or DER, or directories of them.
    pub revocation_lists: Vec<PathBuf>,
}

impl TlsFiles {
    /// All of their paths.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let one_each = [&self.certificate, &self.key, &self.authority];
        let more = self.trust_directory.iter().chain(&self.revocation_lists);
        one_each.into_iter().chain(more).cloned().collect()
    }
}

/// A file, as it was when it was read.
pub(super) type Content = (PathBuf, Vec<u8>);

/// Who the server is.
#[derive(PartialEq, Eq)]
pub(super) enum Own {
    /// From files: certificate and key.
    Files(Content, Content),
    /// From a Workload API.
    Svid(Arc<Svid>),
}

/// All that was read.
#[derive(PartialEq, Eq)]
pub(super) struct Inputs {
    pub(super) own: Own,
    /// May be missing where a Workload API says whom to believe.
    pub(super) authority: Option<Content>,
    pub(super) bundles: Vec<Content>,
    pub(super) lists: Vec<Content>,
}

impl Inputs {
    /// Reads the files; an identity that was given stands for the server's own.
    pub(super) fn read(files: &TlsFiles, svid: Option<Arc<Svid>>) -> Result<Self, TlsError> {
        let one = |what, path: &Path| read(what, path, MAX_FILE_BYTES);
        let authority = match one(AUTHORITY, &files.authority) {
            Err(TlsError::Read { source, .. })
                if svid.is_some() && source.kind() == io::ErrorKind::NotFound =>
            {
                None
            }
            read => Some(read?),
        };
        let own = match svid {
            Some(svid) => Own::Svid(svid),
            None => Own::Files(one(CERTIFICATE, &files.certificate)?, one(KEY, &files.key)?),
        };
        let (bundles, lists) = (bundles(files)?, lists(files)?);
        Ok(Self { own, authority, bundles, lists })
    }
}

/// The bundles in a directory, in the order of their names.
///
/// # Errors
/// It cannot be read, or has too many.
pub(crate) fn bundles_in(directory: &Path) -> Result<Vec<PathBuf>, TlsError> {
    inside(BUNDLE, directory, BUNDLE_ENDS)
}

fn bundles(files: &TlsFiles) -> Result<Vec<Content>, TlsError> {
    let Some(directory) = &files.trust_directory else { return Ok(Vec::new()) };
    let paths = bundles_in(directory)?;
    paths.iter().map(|path| read(BUNDLE, path, MAX_FILE_BYTES)).collect()
}

fn lists(files: &TlsFiles) -> Result<Vec<Content>, TlsError> {
    let mut lists = Vec::new();
    for path in &files.revocation_lists {
        let paths = if path.is_dir() { inside(LIST, path, LIST_ENDS)? } else { vec![path.clone()] };
        for path in paths {
            lists.push(read(LIST, &path, MAX_LIST_BYTES)?);
        }
    }
    Ok(lists)
}

/// The files in a directory that end like this, in the order of their names.
fn inside(what: &'static str, directory: &Path, ends: &[&str]) -> Result<Vec<PathBuf>, TlsError> {
    let failed = |source| TlsError::Read { what, path: directory.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let end = path.extension().and_then(|end| end.to_str());
        if hidden || !end.is_some_and(|end| ends.contains(&end)) {
            continue;
        }
        if paths.len() == MAX_FILES {
            return Err(TlsError::TooMany { path: directory.to_owned(), max: MAX_FILES });
        }
        paths.push(path);
    }
    paths.sort();
    Ok(paths)
}

fn read(what: &'static str, path: &Path, max: u64) -> Result<Content, TlsError> {
    let failed = |source| TlsError::Read { what, path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > max {
        return Err(failed(io::Error::other(format!("it is larger than {max} bytes"))));
    }
    Ok((path.to_owned(), bytes))
}
