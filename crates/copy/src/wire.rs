//! Entries as they are on the wire.

use aurae_model::Invalid;
use aurae_proto::cells as wire;
use aurae_proto::cells::copy_entry;

use crate::entry::{Entry, EntryPath, Kind, MAX_PATH_BYTES};

/// All permissions that there are.
const MODE_BITS: u32 = 0o7777;

/// The number that Linux keeps for "no user" and "no group": the owner would stay as it is.
const NO_ID: u32 = u32::MAX;

/// Parses an entry that was received.
///
/// # Errors
/// The field that breaks a rule.
pub fn parse_entry(entry: wire::CopyEntry) -> Result<Entry, Invalid> {
    if entry.mode & !MODE_BITS != 0 {
        return Err(Invalid::new("entry.mode", "At most 0o7777"));
    }
    for (id, field) in [(entry.uid, "entry.uid"), (entry.gid, "entry.gid")] {
        if id == NO_ID {
            return Err(Invalid::new(field, format!("Any number but {NO_ID}")));
        }
    }
    Ok(Entry {
        path: EntryPath::parse(&entry.path, "entry.path")?,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        modified: entry.modified_unix_nanos,
        kind: kind(entry.kind.ok_or_else(|| Invalid::required("entry.kind"))?)?,
    })
}

fn kind(kind: copy_entry::Kind) -> Result<Kind, Invalid> {
    Ok(match kind {
        copy_entry::Kind::File(bytes) => Kind::File(bytes),
        copy_entry::Kind::Directory(_) => Kind::Directory,
        copy_entry::Kind::Symlink(target) => {
            if target.is_empty() || target.len() > MAX_PATH_BYTES || target.contains(&0) {
                let rule = format!("1 to {MAX_PATH_BYTES} bytes without NUL");
                return Err(Invalid::new("entry.symlink", rule));
            }
            Kind::Symlink(target.into())
        }
        copy_entry::Kind::Hardlink(path) => {
            Kind::Hardlink(EntryPath::parse(&path, "entry.hardlink")?)
        }
        copy_entry::Kind::Fifo(_) => Kind::Fifo,
    })
}

impl From<Entry> for wire::CopyEntry {
    fn from(entry: Entry) -> Self {
        let kind = match entry.kind {
            Kind::File(bytes) => copy_entry::Kind::File(bytes),
            Kind::Directory => copy_entry::Kind::Directory(wire::CopyDirectory {}),
            Kind::Symlink(target) => copy_entry::Kind::Symlink(target.into()),
            Kind::Hardlink(path) => copy_entry::Kind::Hardlink(path.as_bytes().into()),
            Kind::Fifo => copy_entry::Kind::Fifo(wire::CopyFifo {}),
        };
        Self {
            path: entry.path.as_bytes().into(),
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            modified_unix_nanos: entry.modified,
            kind: Some(kind),
        }
    }
}
