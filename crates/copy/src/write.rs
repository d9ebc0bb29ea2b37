//! From entries to files.
//!
//! ```text
//!           directory            file of n bytes
//! ┌───────┐ ───────▶ goes in ┌───────┐ ───────▶ ┌───────────────────┐
//! │ ready │                  │ ready │          │ under a temporary │ ◀─ bytes
//! └───────┘ ◀─────── comes   └───────┘ ◀─────── └───────────────────┘
//!           out: mode, owner, time      the n-th byte: gets its name
//! ```

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
};
use rustix::io::Errno;

use crate::entry::{Entry, EntryPath, Kind};
use crate::error::{CopyError, shown};
use crate::temporary::Temporary;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// What a file may do that the owner it was given for may: set-user-ID and set-group-ID.
const OWNERS_BITS: u32 = 0o6000;

/// Whom what is written belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// To the user that writes. Set-user-ID and set-group-ID bits, which were given by another owner,
    /// are left out.
    Own,
    /// To the owner that the entry names.
    Preserved,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// So many entries.
    pub entries: u64,
    /// So many bytes of regular files.
    pub bytes: u64,
}

/// Writes entries below a directory. Each call does one of them, and blocks for that. Dropped before its
/// end, it leaves no half file.
#[derive(Debug)]
pub struct Writer {
    target: Arc<OwnedFd>,
    ownership: Ownership,
    /// The directories from the target to where the next entry goes.
    open: Vec<Level>,
    file: Option<OpenFile>,
    copied: Copied,
}

#[derive(Debug)]
struct Level {
    directory: Arc<OwnedFd>,
    entry: Entry,
    /// Made here: it gets its mode, owner and time when it is left. One that was there keeps its own.
    made: bool,
}

#[derive(Debug)]
struct OpenFile {
    entry: Entry,
    file: File,
    temporary: Temporary,
    size: u64,
    written: u64,
}

impl Writer {
    /// Opens the directory that the entries go below. Links that its path leads through are followed.
    ///
    /// # Errors
    /// It does not exist, or is none.
    pub fn open(directory: &Path, ownership: Ownership) -> Result<Self, CopyError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let target = rustix::fs::openat(CWD, directory, flags, Mode::empty()).map_err(|errno| {
            CopyError::kernel("open directory", directory.as_os_str().as_bytes(), errno)
        })?;
        let target = Arc::new(target);
        Ok(Self { target, ownership, open: Vec::new(), file: None, copied: Copied::default() })
    }

    /// Writes an entry. Of a file of more than 0 bytes, those are to follow.
    ///
    /// # Errors
    /// It is out of order, its name is taken by something of another kind, or the kernel refuses it.
    pub fn entry(&mut self, entry: Entry) -> Result<(), CopyError> {
        if let Some(file) = &self.file {
            return Err(file.size_error(file.written));
        }
        let parent = self.parent_of(&entry.path)?;
        self.check_name(&parent, &entry)?;
        match &entry.kind {
            Kind::File(size) => self.begin_file(&parent, &entry, *size)?,
            Kind::Directory => self.enter(&parent, &entry)?,
            Kind::Symlink(target) => self.symlink(&parent, &entry, target)?,
            Kind::Hardlink(first) => self.hardlink(&parent, &entry, first)?,
            Kind::Fifo => self.fifo(&parent, &entry)?,
        }
        self.copied.entries += 1;
        Ok(())
    }

    /// Writes bytes of the file that was the last entry.
    ///
    /// # Errors
    /// There is no such file, there are too many, or the kernel refuses them.
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), CopyError> {
        let file = self.file.as_mut().ok_or(CopyError::NoFile)?;
        let written = file.written.saturating_add(bytes.len() as u64);
        if written > file.size {
            return Err(file.size_error(written));
        }
        file.file.write_all(bytes).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            CopyError::kernel("write", &file.entry.path, errno)
        })?;
        file.written = written;
        self.copied.bytes += bytes.len() as u64;
        self.end_file_if_whole()
    }

    /// Ends the copy.
    ///
    /// # Errors
    /// The last file is not whole, or a directory does not take its mode, owner or time.
    pub fn finish(mut self) -> Result<Copied, CopyError> {
        if let Some(file) = &self.file {
            return Err(file.size_error(file.written));
        }
        while let Some(level) = self.open.pop() {
            self.leave(&level)?;
        }
        Ok(self.copied)
    }

    /// The directory that a path is in; those that it is not in are left.
    fn parent_of(&mut self, path: &EntryPath) -> Result<Arc<OwnedFd>, CopyError> {
        let parent = path.parent();
        while let Some(level) = self.open.last() {
            if parent == Some(level.entry.path.as_bytes()) {
                return Ok(Arc::clone(&level.directory));
            }
            if let Some(level) = self.open.pop() {
                self.leave(&level)?;
            }
        }
        match parent {
            None => Ok(Arc::clone(&self.target)),
            Some(_) => Err(CopyError::Order { path: shown(path) }),
        }
    }

    /// What has the name already is to be of the same kind.
    fn check_name(&self, parent: &OwnedFd, entry: &Entry) -> Result<(), CopyError> {
        let stat = match rustix::fs::statat(parent, entry.path.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(CopyError::kernel("look at", &entry.path, errno)),
        };
        let (kind, wanted) = match entry.kind {
            Kind::File(_) | Kind::Hardlink(_) => ("regular file", FileType::RegularFile),
            Kind::Directory => ("directory", FileType::Directory),
            Kind::Symlink(_) => ("symbolic link", FileType::Symlink),
            Kind::Fifo => ("named pipe", FileType::Fifo),
        };
        if FileType::from_raw_mode(stat.st_mode) == wanted {
            return Ok(());
        }
        Err(CopyError::Exists { path: shown(&entry.path), kind })
    }

    fn begin_file(
        &mut self,
        parent: &Arc<OwnedFd>,
        entry: &Entry,
        size: u64,
    ) -> Result<(), CopyError> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let made = Temporary::make(parent, |parent, name| {
            rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
        });
        let (temporary, file) =
            made.map_err(|errno| CopyError::kernel("create", &entry.path, errno))?;
        let entry = entry.clone();
        self.file = Some(OpenFile { entry, file: file.into(), temporary, size, written: 0 });
        self.end_file_if_whole()
    }

    fn end_file_if_whole(&mut self) -> Result<(), CopyError> {
        let Some(OpenFile { entry, file, temporary, .. }) =
            self.file.take_if(|file| file.written == file.size)
        else {
            return Ok(());
        };
        self.dress(&file, &entry)?;
        temporary.place(entry.path.name()).map_err(|errno| refused_name(&entry, errno))
    }

    /// Goes into a directory, which is made where it is not there.
    fn enter(&mut self, parent: &OwnedFd, entry: &Entry) -> Result<(), CopyError> {
        let name = entry.path.name();
        // Its own mode comes last: it may not even let us in.
        let made = match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(CopyError::kernel("create directory", &entry.path, errno)),
        };
        // One that was there is only led through, which needs no right to read it.
        let access = if made { OFlags::RDONLY } else { OFlags::PATH };
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | access;
        let directory = rustix::fs::openat(parent, name, flags, Mode::empty())
            .map_err(|errno| CopyError::kernel("open directory", &entry.path, errno))?;
        self.open.push(Level { directory: Arc::new(directory), entry: entry.clone(), made });
        Ok(())
    }

    fn leave(&self, level: &Level) -> Result<(), CopyError> {
        if level.made { self.dress(&level.directory, &level.entry) } else { Ok(()) }
    }

    fn symlink(
        &self,
        parent: &Arc<OwnedFd>,
        entry: &Entry,
        target: &[u8],
    ) -> Result<(), CopyError> {
        let made =
            Temporary::make(parent, |parent, name| rustix::fs::symlinkat(target, parent, name));
        let (temporary, ()) =
            made.map_err(|errno| CopyError::kernel("create the link", &entry.path, errno))?;
        let link = reopen(parent, temporary.name(), OFlags::PATH, FileType::Symlink)
            .map_err(|errno| CopyError::kernel("open the link", &entry.path, errno))?;
        if let Some((uid, gid)) = self.owner(entry) {
            rustix::fs::chownat(&link, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
                .map_err(|errno| CopyError::kernel("set the owner of", &entry.path, errno))?;
        }
        rustix::fs::utimensat(&link, "", &times(entry), AtFlags::EMPTY_PATH)
            .map_err(|errno| CopyError::kernel("set the time of", &entry.path, errno))?;
        temporary.place(entry.path.name()).map_err(|errno| refused_name(entry, errno))
    }

    /// Gives a file of this copy another name.
    fn hardlink(
        &self,
        parent: &Arc<OwnedFd>,
        entry: &Entry,
        first: &EntryPath,
    ) -> Result<(), CopyError> {
        let refused = |errno| CopyError::kernel("link to", first, errno);
        let directory = self.find_directory(first).map_err(refused)?;
        let stat = rustix::fs::statat(&*directory, first.name(), AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(refused)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(CopyError::Exists { path: shown(first), kind: "regular file" });
        }
        let made = Temporary::make(parent, |parent, name| {
            rustix::fs::linkat(&*directory, first.name(), parent, name, AtFlags::empty())
        });
        let (temporary, ()) = made.map_err(refused)?;
        temporary.place_link(entry.path.name()).map_err(|errno| refused_name(entry, errno))
    }

    /// The directory of a path that came before. It may have been left long ago, so the kernel looks it
    /// up below the target, and refuses every link on the way.
    fn find_directory(&self, path: &EntryPath) -> Result<Arc<OwnedFd>, Errno> {
        let Some(parent) = path.parent() else { return Ok(Arc::clone(&self.target)) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&*self.target, parent, flags, Mode::empty(), resolve).map(Arc::new)
    }

    fn fifo(&self, parent: &Arc<OwnedFd>, entry: &Entry) -> Result<(), CopyError> {
        let refused = |errno| CopyError::kernel("create the named pipe", &entry.path, errno);
        let mode = Mode::RUSR | Mode::WUSR;
        let made = Temporary::make(parent, |parent, name| {
            rustix::fs::mknodat(parent, name, FileType::Fifo, mode, 0)
        });
        let (temporary, ()) = made.map_err(refused)?;
        // A pipe without a writer opens at once for a reader that does not want to wait.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let fifo = reopen(parent, temporary.name(), flags, FileType::Fifo);
        self.dress(&fifo.map_err(refused)?, entry)?;
        temporary.place(entry.path.name()).map_err(|errno| refused_name(entry, errno))
    }

    /// Gives something its owner, mode and time, in the order in which none undoes another.
    fn dress(&self, what: impl AsFd, entry: &Entry) -> Result<(), CopyError> {
        let mut mode = entry.mode & !OWNERS_BITS;
        if let Some((uid, gid)) = self.owner(entry) {
            rustix::fs::fchown(&what, Some(uid), Some(gid))
                .map_err(|errno| CopyError::kernel("set the owner of", &entry.path, errno))?;
            mode = entry.mode;
        }
        rustix::fs::fchmod(&what, Mode::from_raw_mode(mode))
            .map_err(|errno| CopyError::kernel("set the mode of", &entry.path, errno))?;
        rustix::fs::futimens(&what, &times(entry))
            .map_err(|errno| CopyError::kernel("set the time of", &entry.path, errno))
    }

    fn owner(&self, entry: &Entry) -> Option<(Uid, Gid)> {
        match self.ownership {
            Ownership::Own => None,
            Ownership::Preserved => Some((Uid::from_raw(entry.uid), Gid::from_raw(entry.gid))),
        }
    }
}

impl Drop for Writer {
    /// The directories that were made get their modes even if the copy has failed: a later one finds
    /// them, and leaves them as they are.
    fn drop(&mut self) {
        // First, while its directory is sure to let us.
        self.file = None;
        while let Some(level) = self.open.pop() {
            let _ = self.leave(&level);
        }
    }
}

impl OpenFile {
    fn size_error(&self, got: u64) -> CopyError {
        CopyError::Size { path: shown(&self.entry.path), said: self.size, got }
    }
}

/// Opens what was just made under a name. Whoever may write to the directory may have put something else
/// there since, a second name of a file of somebody else's too: that would get the owner and the mode of
/// the entry (`ESTALE`).
fn reopen(parent: &OwnedFd, name: &str, flags: OFlags, kind: FileType) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_nlink != 1 {
        return Err(Errno::STALE);
    }
    Ok(file)
}

/// Something of another kind came to have the name meanwhile, or the kernel knows a better reason.
fn refused_name(entry: &Entry, errno: Errno) -> CopyError {
    match errno {
        Errno::ISDIR => CopyError::Exists { path: shown(&entry.path), kind: "file" },
        errno => CopyError::kernel("name", &entry.path, errno),
    }
}

/// The time of the last change; that of the last access stays as it is.
fn times(entry: &Entry) -> Timestamps {
    let modified = Timespec {
        tv_sec: entry.modified.div_euclid(NANOS_PER_SECOND),
        tv_nsec: entry.modified.rem_euclid(NANOS_PER_SECOND),
    };
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: modified,
    }
}
