//! Control groups, version 2 (`Documentation/admin-guide/cgroup-v2.rst` of the kernel).
//!
//! A [`Cgroup`] is an open directory: every file below it is reached through its descriptor, so that
//! neither a renamed path nor another mount namespace can lead an operation elsewhere.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, XattrFlags, chownat, mkdirat, openat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Pid, Uid};

use crate::error::Context;
use crate::{Error, Result};

/// How often a removal is tried while the kernel still says "busy".
const REMOVE_TRIES: usize = 64;

/// Files of a cgroup are small: one read of this many bytes takes nearly all of them.
const READ_CHUNK: usize = 4096;

/// What belongs to whom a cgroup is given to: its directory, and what moves processes and controllers.
const DELEGATED: [&str; 4] = [".", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"];

/// No note is longer; a longer one is an error for whoever reads it (`ERANGE`).
const MAX_NOTE: usize = 1024;

/// Where cgroup v2 is mounted, from `/proc/self/mountinfo`; `None` where it is not.
///
/// A hybrid host has it beside version 1, without controllers; that is still a mount of version 2.
///
/// # Errors
/// The file cannot be read.
pub fn mount_point() -> Result<Option<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| Error::from_io("read /proc/self/mountinfo", &error))?;
    Ok(find_mount(&mounts))
}

/// The mount point of the first mount of type `cgroup2` (proc_pid_mountinfo(5)).
fn find_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        (filesystem.split(' ').next() == Some("cgroup2"))
            .then(|| mount.split(' ').nth(4).map(PathBuf::from))
            .flatten()
    })
}

/// The path of this process's cgroup below the mount, from `/proc/self/cgroup`.
///
/// # Errors
/// The file cannot be read, or has no line for version 2.
pub fn own_path() -> Result<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/cgroup")
        .map_err(|error| Error::from_io("read /proc/self/cgroup", &error))?;
    text.lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .map(PathBuf::from)
        .ok_or_else(|| Error::new("find this process's cgroup (version 2)", Errno::NOENT))
}

/// An open cgroup.
#[derive(Debug)]
pub struct Cgroup {
    directory: OwnedFd,
    /// Below the mount point, for people and errors.
    path: PathBuf,
}

impl Cgroup {
    /// Opens the cgroup at `path` below the mount point `mount`.
    ///
    /// # Errors
    /// It does not exist, or may not be read.
    pub fn open(mount: &Path, path: &Path) -> Result<Self> {
        let directory = openat(CWD, mount.join(path), directory_flags(), Mode::empty())
            .context(|| format!("open cgroup /{}", path.display()))?;
        Ok(Self { directory, path: path.to_owned() })
    }

    /// A cgroup whose directory was opened by somebody else; `path` is for people and errors.
    #[must_use]
    pub fn from_directory(directory: OwnedFd, path: PathBuf) -> Self {
        Self { directory, path }
    }

    /// The same cgroup, opened once more.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn try_clone(&self) -> Result<Self> {
        let directory = rustix::io::fcntl_dupfd_cloexec(&self.directory, 0)
            .context(|| format!("copy the descriptor of cgroup {}", self.path.display()))?;
        Ok(Self { directory, path: self.path.clone() })
    }

    /// Where it is below the mount point.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the child `name`, which must not exist.
    ///
    /// # Errors
    /// `EEXIST`, or what else the kernel says.
    pub fn create_child(&self, name: &str) -> Result<Self> {
        mkdirat(&self.directory, name, Mode::from(0o755))
            .context(|| format!("create cgroup {}", self.path.join(name).display()))?;
        // A cgroup that nobody has opened would be nobody's.
        self.open_child(name).inspect_err(|_| drop(self.remove_leaf(name)))
    }

    /// Opens the child `name`.
    ///
    /// # Errors
    /// It does not exist.
    pub fn open_child(&self, name: &str) -> Result<Self> {
        let path = self.path.join(name);
        let directory = openat(&self.directory, name, directory_flags(), Mode::empty())
            .context(|| format!("open cgroup {}", path.display()))?;
        Ok(Self { directory, path })
    }

    /// The names of the children, sorted.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn children(&self) -> Result<BTreeSet<String>> {
        let operation = || format!("list cgroup {}", self.path.display());
        let mut names = BTreeSet::new();
        for entry in Dir::read_from(&self.directory).context(operation)? {
            let entry = entry.context(operation)?;
            let name = entry.file_name().to_string_lossy();
            if entry.file_type() == FileType::Directory && name != "." && name != ".." {
                names.insert(name.into_owned());
            }
        }
        Ok(names)
    }

    /// Reads a file; `None` where the kernel has no such file (a controller that is not enabled).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read(&self, file: &str) -> Result<Option<String>> {
        let operation = || format!("read {}", self.path.join(file).display());
        let opened =
            match openat(&self.directory, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
                Err(Errno::NOENT) => return Ok(None),
                opened => opened.context(operation)?,
            };
        let mut bytes = Vec::new();
        let mut chunk = [0; READ_CHUNK];
        loop {
            match rustix::io::read(&opened, &mut chunk) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(Errno::INTR) => {}
                // A controller whose hardware or driver is not there, as `io.pressure` without PSI.
                Err(Errno::OPNOTSUPP) => return Ok(None),
                Err(errno) => return Err(Error::new(operation(), errno)),
            }
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Writes a value to a file.
    ///
    /// # Errors
    /// What the kernel says; `ENOENT` where the controller is not enabled.
    pub fn write(&self, file: &str, value: &str) -> Result<()> {
        let operation = || format!("write {value:?} to {}", self.path.join(file).display());
        let opened = openat(&self.directory, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .context(operation)?;
        rustix::io::write(&opened, value.as_bytes()).context(operation)?;
        Ok(())
    }

    /// Gives the cgroup to a user and the group of the same number: they may make children, move processes
    /// among them and enable controllers, and change no limit of its own (`Delegation` in the document
    /// above).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn delegate(&self, id: u32) -> Result<()> {
        let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
        for file in DELEGATED {
            chownat(&self.directory, file, Some(uid), Some(gid), AtFlags::empty())
                .context(|| format!("give away {}", self.path.join(file).display()))?;
        }
        Ok(())
    }

    /// Notes something on the cgroup, as an extended attribute (xattr(7)) of its directory that only a
    /// privileged process sees. It lives as long as the cgroup.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`, or what else the kernel says.
    pub fn note(&self, name: &CStr, value: &str) -> Result<()> {
        rustix::fs::fsetxattr(&self.directory, name, value.as_bytes(), XattrFlags::empty())
            .context(|| format!("note {value:?} on cgroup {}", self.path.display()))
    }

    /// What was noted under `name`, if anything was.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn noted(&self, name: &CStr) -> Result<Option<String>> {
        let mut value = vec![0; MAX_NOTE];
        match rustix::fs::fgetxattr(&self.directory, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                Ok(Some(String::from_utf8_lossy(&value).into_owned()))
            }
            Err(Errno::NODATA) => Ok(None),
            Err(errno) => {
                Err(Error::new(format!("read the notes of cgroup {}", self.path.display()), errno))
            }
        }
    }

    /// Takes back what was noted under `name`, if anything was.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn unnote(&self, name: &CStr) -> Result<()> {
        match rustix::fs::fremovexattr(&self.directory, name) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(errno) => {
                Err(Error::new(format!("take a note off cgroup {}", self.path.display()), errno))
            }
        }
    }

    /// Whether there is such a file: whether the controller it belongs to is enabled here.
    #[must_use]
    pub fn has(&self, file: &str) -> bool {
        rustix::fs::accessat(&self.directory, file, rustix::fs::Access::EXISTS, AtFlags::empty())
            .is_ok()
    }

    /// The controllers that may be enabled for children (`cgroup.controllers`).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn controllers(&self) -> Result<BTreeSet<String>> {
        let text = self.read("cgroup.controllers")?.unwrap_or_default();
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }

    /// Enables every controller there is for the children (`cgroup.subtree_control`), and answers
    /// those that are enabled then.
    ///
    /// One the kernel refuses (a realtime process keeps `cpu` from being enabled, for example) does
    /// not keep the others from it.
    ///
    /// # Errors
    /// What the kernel says on reading.
    pub fn enable_controllers(&self) -> Result<BTreeSet<String>> {
        let available = self.controllers()?;
        let all: Vec<String> = available.iter().map(|name| format!("+{name}")).collect();
        if !all.is_empty() && self.write("cgroup.subtree_control", &all.join(" ")).is_err() {
            for one in &all {
                // Refused ones are missing from what is read back below.
                let _ = self.write("cgroup.subtree_control", one);
            }
        }
        let enabled = self.read("cgroup.subtree_control")?.unwrap_or_default();
        Ok(enabled.split_whitespace().map(str::to_owned).collect())
    }

    /// Moves the calling process into this cgroup.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn enter(&self) -> Result<()> {
        self.write("cgroup.procs", "0")
    }

    /// The processes in this cgroup itself, not below, as this process's pid namespace numbers them.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        let text = self.read("cgroup.procs")?.unwrap_or_default();
        Ok(text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect())
    }

    /// Sends SIGKILL to every process in the subtree, those that fork meanwhile too (Linux 5.14).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn kill(&self) -> Result<()> {
        self.write("cgroup.kill", "1")
    }

    /// Lets every process in the subtree stand still, or go on (`cgroup.freeze`). They come to stand
    /// some time later, as [`Events::frozen`] tells. One that stands still takes SIGKILL only.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// Opens `cgroup.events`, which polls as readable with priority (`POLLPRI`) whenever it changes.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn events(&self) -> Result<Events> {
        let file = openat(
            &self.directory,
            "cgroup.events",
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
            Mode::empty(),
        )
        .context(|| format!("open {}", self.path.join("cgroup.events").display()))?;
        Ok(Events { file })
    }

    /// Removes the child `name` if there is nothing in it, without looking. Answers whether it is gone.
    #[must_use]
    pub fn remove_empty_child(&self, name: &str) -> bool {
        let removed = unlinkat(&self.directory, name, AtFlags::REMOVEDIR);
        matches!(removed, Ok(()) | Err(Errno::NOENT))
    }

    /// Removes the child `name` and everything below it; none of them may have a process.
    ///
    /// A child that is gone already is removed. Workloads decide how deep the tree is, so it is walked
    /// with one descriptor and no recursion.
    ///
    /// # Errors
    /// `EBUSY` when a process is left, or what else the kernel says.
    pub fn remove_child(&self, name: &str) -> Result<()> {
        if self.remove_empty_child(name) {
            return Ok(());
        }
        let mut at = match self.open_child(name) {
            Err(Error { errno: Errno::NOENT, .. }) => return Ok(()),
            opened => opened?,
        };
        let mut names = vec![name.to_owned()];
        while let Some(own) = names.last() {
            if let Some(below) = at.children()?.pop_first() {
                at = at.open_unnamed(&below)?;
                names.push(below);
            } else {
                let above = at.open_unnamed("..")?;
                above.remove_leaf(own)?;
                at = above;
                names.pop();
            }
        }
        Ok(())
    }

    /// Opens a cgroup beside this one without a path of its own: errors name this one's.
    fn open_unnamed(&self, name: &str) -> Result<Self> {
        let directory = openat(&self.directory, name, directory_flags(), Mode::empty())
            .context(|| format!("open a cgroup below {}", self.path.display()))?;
        Ok(Self { directory, path: self.path.clone() })
    }

    /// Removes a child that has no children.
    fn remove_leaf(&self, name: &str) -> Result<()> {
        let mut outcome = Err(Errno::BUSY);
        // A process that has just ended may still be leaving when its cgroup says it is empty: the
        // kernel takes a task off after `cgroup.events` was updated.
        for _ in 0..REMOVE_TRIES {
            outcome = unlinkat(&self.directory, name, AtFlags::REMOVEDIR);
            match outcome {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::BUSY) => std::thread::yield_now(),
                Err(_) => break,
            }
        }
        outcome.context(|| format!("remove cgroup {}", self.path.join(name).display()))
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// An open `cgroup.events`.
#[derive(Debug)]
pub struct Events {
    file: OwnedFd,
}

impl Events {
    /// Whether a process is in the subtree. Reading also arms the poll for the next change.
    ///
    /// # Errors
    /// `ENODEV` once the cgroup was removed, or what else the kernel says.
    pub fn populated(&self) -> Result<bool> {
        self.says(b"populated 1")
    }

    /// Whether every process in the subtree stands still. Reading also arms the poll for the next
    /// change.
    ///
    /// # Errors
    /// `ENODEV` once the cgroup was removed, or what else the kernel says.
    pub fn frozen(&self) -> Result<bool> {
        self.says(b"frozen 1")
    }

    fn says(&self, wanted: &[u8]) -> Result<bool> {
        let mut chunk = [0; READ_CHUNK];
        let count =
            rustix::io::pread(&self.file, &mut chunk, 0).context(|| "read cgroup.events")?;
        let text = chunk.get(..count).unwrap_or_default();
        Ok(text.split(|&byte| byte == b'\n').any(|line| line == wanted))
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl std::os::fd::AsRawFd for Events {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.file.as_raw_fd()
    }
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW
}

/// The value of `key` in a flat keyed file (`cpu.stat`, `memory.events`); 0 where it has none.
#[must_use]
pub fn value(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_version_2_is_found_on_a_hybrid_host() {
        let mounts = "30 1 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      32 30 0:28 / /sys/fs/cgroup/unified rw shared:1 - cgroup2 cgroup2 rw\n";
        assert_eq!(find_mount(mounts), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(find_mount("31 30 0:27 / /x rw - cgroup cgroup rw,cpu\n"), None);
    }

    #[test]
    fn who_is_given_a_cgroup_is_given_no_limit_of_it() {
        if !rustix::process::geteuid().is_root() {
            return; // Only root may give files away.
        }
        let directory = tempfile::tempdir().unwrap();
        for file in DELEGATED.iter().skip(1).chain(&["memory.max", "cgroup.max.descendants"]) {
            std::fs::write(directory.path().join(file), "").unwrap();
        }
        let opened = std::fs::File::open(directory.path()).unwrap();
        Cgroup::from_directory(opened.into(), "x".into()).delegate(524_288).unwrap();
        let owner = |file: &str| {
            use std::os::unix::fs::MetadataExt;
            let found = std::fs::metadata(directory.path().join(file)).unwrap();
            (found.uid(), found.gid())
        };
        for file in DELEGATED {
            assert_eq!(owner(file), (524_288, 524_288), "{file}");
        }
        assert_eq!((owner("memory.max"), owner("cgroup.max.descendants")), ((0, 0), (0, 0)));
    }
}
