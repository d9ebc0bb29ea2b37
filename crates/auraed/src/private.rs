//! Directories for the daemon alone.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// The lock's name in a runtime directory.
pub(crate) const LOCK: &str = "auraed.lock";

/// What others may do in a directory, of its mode (inode(7)).
const OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Makes a directory, and those above it, that only its owner may enter.
///
/// One that exists is closed to others where it is ours: it has nothing but what a daemon leaves there. A
/// directory of something else is left as it is, since others may need it, and what is made in it is closed
/// itself.
///
/// # Errors
/// It cannot be made or closed; or others may replace what is in it.
pub(crate) fn create(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mode = fs::metadata(directory)?.mode();
    if mode & OTHERS == 0 {
        return Ok(());
    }
    if is_ours(directory)? {
        return fs::set_permissions(directory, Permissions::from_mode(0o700));
    }
    if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        let mode = mode & 0o7777;
        let reason = format!(
            "others may replace what is in it (its mode is {mode:o}); close it with chmod 700, or choose another"
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    Ok(())
}

/// Whether there are but sockets, and a daemon's lock.
fn is_ours(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name() != LOCK && !entry.file_type()?.is_socket() {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_directory_is_made_for_its_owner_alone_and_those_above_it_too() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("a/b");
        create(&inner).unwrap();
        assert_eq!((mode(&inner), mode(&directory.path().join("a"))), (0o700, 0o700));
    }

    #[test]
    fn a_daemons_own_directory_is_closed_again() {
        let directory = tempfile::tempdir().unwrap();
        let _socket = UnixListener::bind(directory.path().join("aurae.sock")).unwrap();
        fs::write(directory.path().join(LOCK), "1").unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        create(directory.path()).unwrap();
        assert_eq!(mode(directory.path()), 0o700);
    }

    #[test]
    fn a_directory_of_others_is_left_alone_unless_they_may_replace_what_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("theirs"), "").unwrap();
        for (theirs, allowed) in [(0o755, true), (0o1777, true), (0o777, false), (0o775, false)] {
            fs::set_permissions(directory.path(), Permissions::from_mode(theirs)).unwrap();
            let created = create(directory.path());
            assert_eq!(created.is_ok(), allowed, "{theirs:o}");
            assert_eq!(mode(directory.path()), theirs);
        }
    }
}
