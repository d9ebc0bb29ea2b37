//! What a process does to itself to become the init of a zone, single-threaded still.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxAttributes, StatxFlags, statx};
use rustix::io::{DupFlags, Errno, FdFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, unmount,
};
use rustix::process::PidfdGetfdFlags;
use rustix::thread::UnshareFlags;

use crate::error::Context;
use crate::seqpacket::Line;
use crate::{Error, Result};

/// Descriptors of a zone's daemon: what each number is, agreed upon between parent and zone.
pub const LINE: RawFd = 3;
/// The listening socket.
pub const LISTENER: RawFd = 4;
/// The directory of the zone's cgroup.
pub const CGROUP: RawFd = 5;
/// The outer end of the zone's [`Door`]. The number is the same in every version of the daemon.
pub const DOOR: RawFd = 6;

/// The mounts below are meant too (`linux/fcntl.h`).
const AT_RECURSIVE: libc::c_int = 0x8000;

/// What a zone's daemon is born with.
#[derive(Debug)]
pub struct Inheritance {
    /// The line to the parent.
    pub line: OwnedFd,
    /// The listening socket.
    pub listener: OwnedFd,
    /// The directory of the zone's cgroup.
    pub cgroup: OwnedFd,
    /// Where a parent that was started anew comes in.
    pub door: Door,
}

impl Inheritance {
    /// Takes over the inherited descriptors. To be called before anything else opens one.
    ///
    /// # Errors
    /// One of them is not open (this process was not started by a daemon), or they were taken before.
    pub fn take() -> Result<Self> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Err(Error::new("take over the zone's descriptors again", Errno::ALREADY));
        }
        let (line, listener, cgroup) = (inherit(LINE)?, inherit(LISTENER)?, inherit(CGROUP)?);
        Ok(Self { line, listener, cgroup, door: Door::open()? })
    }
}

/// How a parent that lost its end of the line gets another one: a line whose both ends this process
/// holds, the outer one under the number [`DOOR`]. Whoever may trace this process can take a copy of
/// it ([`knock`]), and nobody else: there is no path to it.
#[derive(Debug)]
pub struct Door {
    inner: Line,
    outer: OwnedFd,
}

impl Door {
    /// Makes the door. To be called when [`DOOR`] is the lowest free number.
    fn open() -> Result<Self> {
        let (outer, inner) = Line::pair()?;
        let outer = outer.into_socket();
        if outer.as_raw_fd() != DOOR {
            return Err(Error::new(format!("open the door as descriptor {DOOR}"), Errno::BADF));
        }
        Ok(Self { inner, outer })
    }

    /// The inner end, where somebody that came in speaks first.
    #[must_use]
    pub fn inner(&self) -> &Line {
        &self.inner
    }

    /// Gives the inner end away, to whoever came in, and makes the door anew.
    ///
    /// # Errors
    /// There are too many descriptors; the door is as it was then.
    pub fn replace(&mut self) -> Result<Line> {
        let (outer, inner) = Line::pair()?;
        rustix::io::dup3(outer.into_socket(), &mut self.outer, DupFlags::CLOEXEC)
            .context(|| "make the door anew")?;
        Ok(std::mem::replace(&mut self.inner, inner))
    }
}

/// Takes a line to the daemon of a zone that another process started (pidfd_getfd(2)).
///
/// # Errors
/// `ESRCH` when it has ended, `EPERM` when it may not be traced, or what else the kernel says.
pub fn knock(pidfd: BorrowedFd<'_>) -> Result<Line> {
    rustix::process::pidfd_getfd(pidfd, DOOR, PidfdGetfdFlags::empty())
        .map(Line::from_socket)
        .context(|| "take a line to a zone's daemon")
}

/// Takes over one descriptor, and makes it close-on-exec. Called once for each.
fn inherit(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: only borrowed for the call that finds out whether it is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)
        .context(|| format!("take over descriptor {number}"))?;
    // SAFETY: it is open, and nobody owns it: it was inherited, and `TAKEN` lets this happen once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes the cgroup that this process stands in the root of its cgroup namespace
/// (cgroup_namespaces(7)).
///
/// # Errors
/// What the kernel says.
pub fn unshare_cgroup() -> Result<()> {
    // SAFETY: only CLONE_FILES endangers Rust's view of descriptors, and it is not among the flags.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWCGROUP) }
        .context(|| "unshare the cgroup namespace")
}

/// Keeps the mounts of this mount namespace from the one it was copied from; what is mounted there
/// later still comes in.
///
/// # Errors
/// What the kernel says.
pub fn isolate_mounts() -> Result<()> {
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .context(|| "make the mounts the zone's own")
}

/// Mounts this pid namespace's `/proc`.
///
/// # Errors
/// What the kernel says.
pub fn mount_proc() -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None).context(|| "mount /proc")
}

/// Mounts this network namespace's `/sys`.
///
/// # Errors
/// What the kernel says.
pub fn mount_sys() -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("sysfs", "/sys", "sysfs", flags, None).context(|| "mount /sys")
}

/// Mounts this cgroup namespace's view of the cgroups.
///
/// # Errors
/// What the kernel says; a missing `/sys/fs/cgroup` is one.
pub fn mount_cgroup() -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("cgroup2", "/sys/fs/cgroup", "cgroup2", flags, None).context(|| "mount /sys/fs/cgroup")
}

/// Makes a directory, and those above it.
///
/// # Errors
/// What the kernel says.
pub fn make_directory(directory: &str) -> Result<()> {
    std::fs::create_dir_all(directory)
        .map_err(|error| Error::from_io(format!("make {directory}"), &error))
}

/// Mounts terminals of this mount namespace's own on `/dev/pts`.
///
/// # Errors
/// What the kernel says; `ENOENT` where there is no such directory.
pub fn mount_terminals() -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", "/dev/pts", "devpts", flags, c"newinstance,ptmxmode=0666,mode=0620")
        .context(|| "mount /dev/pts")
}

/// Mounts an empty file system for the socket of the zone's API, in this mount namespace.
///
/// # Errors
/// What the kernel says.
pub fn mount_api_directory(directory: &str) -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("aurae", directory, "tmpfs", flags, c"mode=0755,size=64k")
        .context(|| format!("mount {directory}"))
}

/// Mounts an empty file system that everybody may write to.
///
/// # Errors
/// What the kernel says; `ENOENT` where there is no such directory.
pub fn mount_own(directory: &str) -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", directory, "tmpfs", flags, c"mode=1777").context(|| format!("mount {directory}"))
}

/// Makes the mount on `path`, and those below it, read-only in this mount namespace
/// (mount_setattr(2), Linux 5.12).
///
/// # Errors
/// What the kernel says; `EINVAL` where nothing is mounted there.
pub fn read_only(path: &str) -> Result<()> {
    let operation = || format!("make {path} read-only");
    let text = CString::new(path).map_err(|_| Error::new(operation(), Errno::INVAL))?;
    // `struct mount_attr`: what is set, what is cleared, the propagation, the user namespace.
    let attributes: [u64; 4] = [libc::MOUNT_ATTR_RDONLY, 0, 0, 0];
    let flags = AT_RECURSIVE | libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the kernel reads the string and the attributes, which live here, and writes neither.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            text.as_ptr(),
            flags,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    if result < 0 {
        return Err(Error::from_io(operation(), &std::io::Error::last_os_error()));
    }
    Ok(())
}

/// Makes what is at `path`, a part of a mount, read-only in this mount namespace.
///
/// # Errors
/// What the kernel says; `ENOENT` where nothing is there.
pub fn bind_read_only(path: &str) -> Result<()> {
    mount_bind(path, path).context(|| format!("bind {path}"))?;
    read_only(path)
}

/// Keeps what is at `path`, with the mounts below it, from being renamed or removed in this mount namespace: a
/// mount point cannot be (rename(2), `EBUSY`).
///
/// # Errors
/// What the kernel says; `ENOENT` where nothing is there.
pub fn hold(path: &str) -> Result<()> {
    let stat = statx(CWD, path, AtFlags::empty(), StatxFlags::empty());
    let stat = stat.context(|| format!("look at {path}"))?;
    if stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(());
    }
    mount_bind_recursive(path, path).context(|| format!("bind {path}"))
}

/// What covers directories: made once, and mounted again for each.
#[derive(Debug, Default)]
pub struct Cover {
    /// A directory that is covered.
    empty: Option<String>,
}

impl Cover {
    /// Covers a file with nothing, or a directory with an empty one that is read-only, in this mount
    /// namespace.
    ///
    /// # Errors
    /// What the kernel says; `ENOENT` where nothing is there.
    pub fn cover(&mut self, path: &str) -> Result<()> {
        let operation = || format!("cover {path}");
        // Of what a link leads to, as mounts follow it.
        let stat = rustix::fs::stat(path).context(operation)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return mount_bind("/dev/null", path).context(operation);
        }
        // Read-only as that one is: the flags are the mount's, and are copied. A directory of the kernel's may
        // be gone by now, with what covers it.
        if self.empty.as_ref().is_some_and(|empty| mount_bind(empty.as_str(), path).is_ok()) {
            return Ok(());
        }
        let flags =
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
        mount("tmpfs", path, "tmpfs", flags, c"mode=0555").context(operation)?;
        self.empty = Some(path.to_owned());
        Ok(())
    }
}

/// Takes off what is mounted on `/sys/fs/cgroup` in this mount namespace.
///
/// # Errors
/// What the kernel says; `EINVAL` where nothing is mounted there.
pub fn unmount_cgroup() -> Result<()> {
    unmount("/sys/fs/cgroup", UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .context(|| "unmount /sys/fs/cgroup")
}

/// Sets the host name of this uts namespace.
///
/// # Errors
/// What the kernel says.
pub fn set_hostname(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes()).context(|| format!("set the host name {name}"))
}

/// Brings the loopback interface of this network namespace up (netdevice(7)).
///
/// # Errors
/// What the kernel says.
pub fn loopback_up() -> Result<()> {
    let operation = || "bring the loopback interface up";
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .context(operation)?;
    // SAFETY: all zero is a valid `ifreq`: an empty name and no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as i16 | libc::IFF_RUNNING as i16;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which lives here.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result < 0 {
        return Err(Error::from_io(operation(), &std::io::Error::last_os_error()));
    }
    Ok(())
}

/// Opens this process's own executable, to start it again whatever becomes of the file.
///
/// # Errors
/// What the kernel says.
pub fn own_image() -> Result<OwnedFd> {
    rustix::fs::openat(CWD, "/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .context(|| "open /proc/self/exe")
}
