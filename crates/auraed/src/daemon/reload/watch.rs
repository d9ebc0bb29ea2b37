//! Whether files may have changed: `inotify(7)` on every directory where a name on their way is.
//!
//! Files are replaced by renaming others over them, and directories by swapping links to them, so not
//! the files are watched but the names that lead to them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::future::pending;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use aurae_kernel::readiness;
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// As many links as the kernel follows (`path_resolution(7)`).
const MAX_LINKS: usize = 40;
/// Room for some events; how many there are does not matter.
const BUFFER: usize = 4096;

/// What may change what is read.
const EVENTS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Tells when names on the way to files change. `None`: never.
pub(super) struct Watch(Option<AsyncFd<OwnedFd>>);

impl Watch {
    /// Watches for as long as it lives.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn new<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let directories: BTreeSet<PathBuf> =
            paths.into_iter().flat_map(|path| directories(path)).collect();
        for directory in directories {
            match inotify::add_watch(&inotify, &directory, EVENTS) {
                // One that has just gone is missed from its parent.
                Ok(_) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self(Some(readiness::register(inotify, Interest::READABLE)?)))
    }

    /// Watches nothing.
    pub(super) fn never() -> Self {
        Self(None)
    }

    /// Waits for a change, and takes note of all that there are.
    pub(super) async fn changed(&mut self) {
        let Some(inotify) = &self.0 else { return pending().await };
        loop {
            let Ok(mut ready) = inotify.readable().await else { return pending().await };
            if drain(inotify.get_ref()) {
                return;
            }
            ready.clear_ready();
        }
    }
}

/// Reads all events; whether there were any.
fn drain(inotify: &OwnedFd) -> bool {
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut reader = Reader::new(inotify, &mut buffer);
    let mut any = false;
    while reader.next().is_ok() {
        any = true;
    }
    any
}

/// The directories with the names on the way to `path`: that of each link, that of the file, and it
/// itself if it is a directory. What is not there yet is missed from the last one that is.
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut at = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for _ in 0..MAX_LINKS {
        match first_link(&at) {
            Way::Link { directory, target, rest } => {
                at = directory.join(target);
                at.extend(rest);
                found.insert(directory);
            }
            Way::End(directory) => {
                if at.is_dir() {
                    found.insert(at);
                }
                found.insert(directory);
                return found;
            }
        }
    }
    found
}

/// Where the way to a path leads.
enum Way {
    /// Over a link in `directory` to `target`, with `rest` to go.
    Link { directory: PathBuf, target: PathBuf, rest: Vec<OsString> },
    /// Without a link to a file in this directory, or the last one that is there.
    End(PathBuf),
}

fn first_link(path: &Path) -> Way {
    let mut at = PathBuf::from("/");
    let mut components = path.components().filter(|component| *component != Component::RootDir);
    while let Some(component) = components.next() {
        let next = match component {
            Component::ParentDir => at.parent().map(Path::to_owned).unwrap_or_else(|| at.clone()),
            other => at.join(other),
        };
        if let Ok(target) = next.read_link() {
            let rest = components.map(|component| component.as_os_str().to_owned()).collect();
            return Way::Link { directory: at, target, rest };
        }
        if !next.is_dir() {
            return Way::End(at);
        }
        at = next;
    }
    Way::End(at.parent().map(Path::to_owned).unwrap_or(at))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_directory_with_a_name_on_the_way_is_watched() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("real/v1")).unwrap();
        fs::write(root.join("real/v1/file"), "").unwrap();
        symlink("real", root.join("link")).unwrap();
        symlink("v1/file", root.join("real/file")).unwrap();
        let expected = [root.clone(), root.join("real"), root.join("real/v1")];
        assert_eq!(directories(&root.join("link/file")), expected.into());
        assert_eq!(
            directories(&root.join("real/v1")),
            [root.join("real"), root.join("real/v1")].into()
        );
        assert_eq!(directories(&root.join("none/at/all")), [root.clone()].into());
    }

    #[test]
    fn links_in_a_circle_end() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        assert_eq!(directories(&root.join("a")), [root].into());
    }
}
