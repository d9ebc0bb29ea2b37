//! The mounts of a node, as a table in the order of mounting, and the links that go with them.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use aurae_kernel::mount::{self, Filesystem, Mount, MountFlags, MountPoint};

use super::report;
use crate::status::Status;

const PHASE: &str = "mounts";

/// A file system that holds no programs, devices or set-user-ID files.
const DATA: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
/// A file system that may hold programs.
const PROGRAMS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
/// A file system that holds devices.
const DEVICES: MountFlags = MountFlags::NOSUID;

struct Entry {
    target: &'static str,
    filesystem: &'static str,
    flags: MountFlags,
    options: &'static str,
}

const fn entry(
    target: &'static str,
    filesystem: &'static str,
    flags: MountFlags,
    options: &'static str,
) -> Entry {
    Entry { target, filesystem, flags, options }
}

/// Comes first: it tells what the kernel has, and what is mounted already.
const PROC: Entry = entry("/proc", "proc", DATA, "");

/// A mount point comes after the mount it lies in. What the kernel lacks is left out without a word.
const TABLE: &[Entry] = &[
    entry("/sys", "sysfs", DATA, ""),
    entry("/dev", "devtmpfs", DEVICES, "mode=0755"),
    entry("/dev/pts", "devpts", DEVICES.union(MountFlags::NOEXEC), "mode=0620,gid=5,ptmxmode=0666"),
    entry("/dev/shm", "tmpfs", PROGRAMS, "mode=1777"),
    entry("/dev/mqueue", "mqueue", DATA, ""),
    entry("/run", "tmpfs", PROGRAMS, "mode=0755"),
    entry("/tmp", "tmpfs", PROGRAMS, "mode=1777"),
    entry("/sys/fs/cgroup", "cgroup2", DATA, "nsdelegate,memory_recursiveprot"),
    entry("/sys/fs/bpf", "bpf", DATA, "mode=0700"),
    entry("/sys/kernel/tracing", "tracefs", DATA, "mode=0700"),
    entry("/sys/kernel/security", "securityfs", DATA, ""),
];

/// Links that programs expect, made where nothing is there yet.
const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/var/run", "/run"),
    ("/etc/mtab", "/proc/self/mounts"),
];

/// Mounts what is in the table and makes the links.
pub(super) fn run(status: &Status) {
    // Where /proc is there already, the kernel answers EBUSY, and what it tells is all we want.
    let proc = mount_entry(&PROC);
    let state = State::read();
    if let (Err(message), None) = (proc, &state) {
        report::degrade(status, PHASE, &message);
    }
    let state = state.unwrap_or_default();
    for entry in TABLE.iter().filter(|entry| state.wants(entry)) {
        if let Err(message) = mount_entry(entry) {
            report::degrade(status, PHASE, &message);
        }
    }
    for (link, target) in LINKS {
        if let Err(error) = make_link(Path::new(link), Path::new(target)) {
            report::degrade(status, PHASE, &format!("failed to link {link} to {target}: {error}"));
        }
    }
}

/// What the kernel has and what is mounted, as `/proc` tells it. Empty: it tells nothing.
#[derive(Debug, Default)]
struct State {
    filesystems: Vec<Filesystem>,
    mounts: Vec<MountPoint>,
}

impl State {
    fn read() -> Option<Self> {
        Some(Self { filesystems: mount::filesystems().ok()?, mounts: mount::mounted().ok()? })
    }

    /// Whether the kernel has the file system, and nothing of this type is mounted there already, by
    /// the kernel or an init before us.
    fn wants(&self, entry: &Entry) -> bool {
        let known = self.filesystems.is_empty()
            || self.filesystems.iter().any(|known| known.name == entry.filesystem);
        let mounted = self.mounts.iter().any(|mount| {
            mount.target == Path::new(entry.target) && mount.filesystem == entry.filesystem
        });
        known && !mounted
    }
}

fn mount_entry(entry: &Entry) -> Result<(), String> {
    let target = Path::new(entry.target);
    make_directory(target)
        .map_err(|error| format!("failed to make the directory {}: {error}", entry.target))?;
    let with = |options| Mount {
        source: Path::new(entry.filesystem),
        target,
        filesystem: entry.filesystem,
        flags: entry.flags,
        options,
    };
    // An older kernel refuses an option that it does not know. The mount without any is better than
    // none.
    match with(entry.options).mount() {
        Err(_) if !entry.options.is_empty() => with("").mount(),
        other => other,
    }
    .map_err(|error| crate::reply::text(&error))
}

fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn make_link(link: &Path, target: &Path) -> io::Result<()> {
    if link.symlink_metadata().is_ok() {
        return Ok(());
    }
    if let Some(parent) = link.parent() {
        make_directory(parent)?;
    }
    symlink(target, link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_comes_after_the_mount_it_lies_in() {
        for (position, inner) in TABLE.iter().enumerate() {
            for outer in &TABLE[position + 1..] {
                assert!(
                    !Path::new(inner.target).starts_with(outer.target),
                    "{} would be hidden by {}",
                    inner.target,
                    outer.target
                );
            }
        }
    }

    #[test]
    fn every_mount_is_nosuid() {
        for entry in TABLE {
            assert!(entry.flags.contains(MountFlags::NOSUID), "{}", entry.target);
        }
    }

    #[test]
    fn what_is_mounted_already_or_unknown_to_the_kernel_is_left_out() {
        let known = |name: &str| Filesystem { name: name.to_owned(), device: false };
        let state = State {
            filesystems: ["devtmpfs", "tmpfs", "sysfs"].map(known).to_vec(),
            mounts: vec![MountPoint {
                target: "/dev".into(),
                filesystem: "devtmpfs".to_owned(),
                source: "udev".into(),
            }],
        };
        let wanted: Vec<&str> =
            TABLE.iter().filter(|entry| state.wants(entry)).map(|entry| entry.target).collect();
        assert_eq!(wanted, ["/sys", "/dev/shm", "/run", "/tmp"]);
    }

    #[test]
    fn a_kernel_that_tells_nothing_is_tried_with_all() {
        assert!(TABLE.iter().all(|entry| State::default().wants(entry)));
    }

    #[test]
    fn a_link_is_made_once_and_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("a/b");
        make_link(&link, Path::new("/one")).unwrap();
        make_link(&link, Path::new("/two")).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("/one"));
    }
}
