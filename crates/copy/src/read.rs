//! From files to entries.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::entry::{Entry, EntryPath, Kind};
use crate::error::CopyError;

/// So many bytes of a file are read at once: enough to keep the wire busy, little beside a zone.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// So many files that have other names still to come are remembered. Further ones are copied as if
/// each of their names were a file of its own.
pub const MAX_LINKS: usize = 16_384;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Not through a link, not into a wait, not a terminal of ours.
const OPEN: OFlags =
    OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// File systems whose files say a size that they do not have (`f_type` of statfs(2)): procfs, sysfs,
/// cgroup2, debugfs, tracefs, securityfs.
const WITHOUT_SIZE: [i64; 6] =
    [0x9fa0, 0x6265_6572, 0x6367_7270, 0x6462_6720, 0x7472_6163, 0x7363_6673];

/// What a walk meets.
#[derive(Debug)]
pub enum Item {
    /// A file, directory or link.
    Entry(Entry),
    /// Bytes of the file that was the last entry, 1 to [`CHUNK_BYTES`].
    Data(Bytes),
    /// Something that is not copied.
    Skipped {
        /// What it is.
        path: EntryPath,
        /// Why.
        reason: &'static str,
    },
}

/// A walk over a file or a tree. Each call of [`Reader::next_item`] does a little of it, and blocks for that.
#[derive(Debug)]
pub struct Reader {
    start: Option<Start>,
    /// The directories from the source to where the walk is.
    open: Vec<Level>,
    file: Option<OpenFile>,
    links: Links,
}

/// What is to be copied, before it was looked at.
#[derive(Debug)]
enum Start {
    /// A name in a directory.
    Name { directory: OwnedFd, name: EntryPath, path: EntryPath },
    /// A directory that was named with a `/` at the end, and may so have been reached through a link.
    Directory { directory: OwnedFd, path: EntryPath },
}

#[derive(Debug)]
struct Level {
    path: EntryPath,
    entries: Dir,
}

#[derive(Debug)]
struct OpenFile {
    path: EntryPath,
    file: File,
    left: u64,
}

/// What a name stands for, opened where it has content.
struct Seen {
    stat: Stat,
    what: What,
}

enum What {
    File(File),
    Directory(OwnedFd),
    Symlink(Vec<u8>),
    Fifo,
}

/// Why a name is not told as an entry.
enum Refusal {
    Kernel(&'static str, Errno),
    Skip(&'static str),
}

impl Reader {
    /// Opens a walk. The paths of the entries begin with `name`, or else with the last part of `source`.
    /// Where that is a link it is told as one, unless a `/` follows it.
    ///
    /// # Errors
    /// The last part of the source is no name, or its directory cannot be opened.
    pub fn open(source: &Path, name: Option<EntryPath>) -> Result<Self, CopyError> {
        let bytes = source.as_os_str().as_bytes();
        let end = bytes.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
        let begin =
            bytes[..end].iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let last = EntryPath::parse(&bytes[begin..end], "path")?;
        let path = name.unwrap_or_else(|| last.clone());
        let open = |directory: &[u8], access| {
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | access;
            rustix::fs::openat(CWD, directory, flags, Mode::empty())
                .map_err(|errno| CopyError::kernel("open directory", directory, errno))
        };
        let start = if end < bytes.len() {
            Start::Directory { directory: open(bytes, OFlags::RDONLY)?, path }
        } else {
            let parent = if begin == 0 { b"." } else { &bytes[..begin] };
            Start::Name { directory: open(parent, OFlags::PATH)?, name: last, path }
        };
        let (open, file, links) = (Vec::new(), None, Links::default());
        Ok(Self { start: Some(start), open, file, links })
    }

    /// The next of what the walk meets; none at its end.
    ///
    /// # Errors
    /// Something cannot be read. The walk is over then.
    pub fn next_item(&mut self) -> Result<Option<Item>, CopyError> {
        if let Some(start) = self.start.take() {
            return self.first(start).map(Some);
        }
        if let Some(file) = &mut self.file {
            match file.chunk()? {
                Some(chunk) => return Ok(Some(Item::Data(chunk))),
                None => self.file = None,
            }
        }
        while let Some(level) = self.open.last_mut() {
            let Some(found) = level.entries.next() else {
                self.open.pop();
                continue;
            };
            let refused = |errno| CopyError::kernel("read directory", &level.path, errno);
            let found = found.map_err(refused)?;
            let name = found.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let path = level.path.child(name)?;
            let seen = match look(level.entries.fd().map_err(refused)?, name) {
                Err(Refusal::Kernel(_, Errno::NOENT)) => Err(Refusal::Skip("it went away")),
                seen => seen,
            };
            return self.tell(path, seen).map(Some);
        }
        Ok(None)
    }

    fn first(&mut self, start: Start) -> Result<Item, CopyError> {
        match start {
            Start::Name { directory, name, path } => {
                let seen = look(directory.as_fd(), name.as_bytes());
                self.tell(path, seen)
            }
            Start::Directory { directory, path } => {
                let stat = rustix::fs::fstat(&directory).map_err(refusal("look at"));
                let seen = stat.map(|stat| Seen { stat, what: What::Directory(directory) });
                self.tell(path, seen)
            }
        }
    }

    /// Makes an entry of what was seen, and goes into it where there is something in it.
    fn tell(&mut self, path: EntryPath, seen: Result<Seen, Refusal>) -> Result<Item, CopyError> {
        let Seen { stat, what } = match seen {
            Ok(seen) => seen,
            Err(Refusal::Skip(reason)) => return Ok(Item::Skipped { path, reason }),
            Err(Refusal::Kernel(operation, errno)) => {
                return Err(CopyError::kernel(operation, path, errno));
            }
        };
        let kind = match what {
            What::File(file) => match self.links.other_name(&stat, &path) {
                Some(first) => Kind::Hardlink(first),
                None => {
                    let left = u64::try_from(stat.st_size).unwrap_or_default();
                    self.file = Some(OpenFile { path: path.clone(), file, left });
                    Kind::File(left)
                }
            },
            What::Directory(directory) => {
                let entries = Dir::new(directory)
                    .map_err(|errno| CopyError::kernel("read directory", &path, errno))?;
                self.open.push(Level { path: path.clone(), entries });
                Kind::Directory
            }
            What::Symlink(target) => Kind::Symlink(target.into()),
            What::Fifo => Kind::Fifo,
        };
        let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
        Ok(Item::Entry(Entry {
            path,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            modified: stat.st_mtime.saturating_mul(NANOS_PER_SECOND).saturating_add(nanos),
            kind,
        }))
    }
}

impl OpenFile {
    /// The next bytes of what the file had when it was opened.
    fn chunk(&mut self) -> Result<Option<Bytes>, CopyError> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        if length == 0 {
            return Ok(None);
        }
        let mut chunk = vec![0; length];
        let read = self.file.read(&mut chunk).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            CopyError::kernel("read", &self.path, errno)
        })?;
        if read == 0 {
            return Err(CopyError::Shrank { path: crate::error::shown(&self.path) });
        }
        chunk.truncate(read);
        self.left = self.left.saturating_sub(read as u64);
        Ok(Some(chunk.into()))
    }
}

/// Looks at a name, and opens what it stands for. Somebody may put something else there meanwhile: what
/// was opened counts.
fn look(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Seen, Refusal> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    let stat = stat.map_err(refusal("look at"))?;
    let open = |flags| {
        rustix::fs::openat(directory, name, OPEN | flags, Mode::empty()).map_err(
            |errno| match errno {
                // O_NOFOLLOW met a link, O_DIRECTORY something else, a socket took the name.
                Errno::LOOP | Errno::NOTDIR | Errno::NXIO => {
                    Refusal::Skip("it became something else")
                }
                errno => Refusal::Kernel("open", errno),
            },
        )
    };
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let file = open(OFlags::RDONLY)?;
            let stat = rustix::fs::fstat(&file).map_err(refusal("look at"))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(Refusal::Skip("it became something else"));
            }
            let system = rustix::fs::fstatfs(&file).map_err(refusal("look at"))?;
            if WITHOUT_SIZE.contains(&system.f_type) {
                return Err(Refusal::Skip("the kernel makes it as it is read: it has no size"));
            }
            return Ok(Seen { stat, what: What::File(file.into()) });
        }
        FileType::Directory => {
            let directory = open(OFlags::RDONLY | OFlags::DIRECTORY)?;
            let stat = rustix::fs::fstat(&directory).map_err(refusal("look at"))?;
            return Ok(Seen { stat, what: What::Directory(directory) });
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(directory, name, Vec::new());
            What::Symlink(target.map_err(refusal("read the link"))?.into_bytes())
        }
        FileType::Fifo => What::Fifo,
        FileType::Socket => return Err(Refusal::Skip("it is a socket")),
        FileType::CharacterDevice | FileType::BlockDevice => {
            return Err(Refusal::Skip("it is a device"));
        }
        FileType::Unknown => return Err(Refusal::Skip("it is of no known kind")),
    };
    Ok(Seen { stat, what })
}

fn refusal(operation: &'static str) -> impl Fn(Errno) -> Refusal {
    move |errno| Refusal::Kernel(operation, errno)
}

/// The files with several names that were met, by device and inode.
#[derive(Debug, Default)]
struct Links(HashMap<(u64, u64), Link>);

#[derive(Debug)]
struct Link {
    first: EntryPath,
    /// How many names were not met yet.
    left: u64,
}

impl Links {
    /// The name under which the file was met before. Otherwise it is remembered as met under this one.
    fn other_name(&mut self, stat: &Stat, path: &EntryPath) -> Option<EntryPath> {
        let others = stat.st_nlink.saturating_sub(1);
        if others == 0 {
            return None;
        }
        let file = (stat.st_dev, stat.st_ino);
        if let Some(link) = self.0.get_mut(&file) {
            let first = link.first.clone();
            link.left = link.left.saturating_sub(1);
            if link.left == 0 {
                self.0.remove(&file);
            }
            return Some(first);
        }
        if self.0.len() < MAX_LINKS {
            self.0.insert(file, Link { first: path.clone(), left: others });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_without_a_name_is_refused() {
        for source in ["", "/", ".", "..", "/tmp/..", "/tmp/."] {
            let refused = Reader::open(Path::new(source), None).unwrap_err();
            assert!(matches!(refused, CopyError::Invalid(_)), "{source}: {refused}");
        }
    }
}
