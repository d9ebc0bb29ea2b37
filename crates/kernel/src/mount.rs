//! Mounts: making and undoing them (`mount(2)`, `umount2(2)`), and what is mounted (`proc(5)`).

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
pub use rustix::mount::MountFlags;
use rustix::mount::UnmountFlags;

use crate::error::{Context, Error, Result};

/// A mount to be made.
#[derive(Clone, Copy, Debug)]
pub struct Mount<'a> {
    /// The device, or a name that `/proc/mounts` is to show where there is none.
    pub source: &'a Path,
    /// The directory to mount on.
    pub target: &'a Path,
    /// The file system's type.
    pub filesystem: &'a str,
    /// `MS_*`.
    pub flags: MountFlags,
    /// What the file system itself understands, separated by commas.
    pub options: &'a str,
}

impl Mount<'_> {
    /// Mounts it. The target has to exist.
    pub fn mount(&self) -> Result<()> {
        let operation = || format!("mount {} on {}", self.filesystem, self.target.display());
        let options =
            CString::new(self.options).map_err(|_| Error::new(operation(), Errno::INVAL))?;
        let options = options.as_c_str();
        rustix::mount::mount(self.source, self.target, self.filesystem, self.flags, options)
            .context(operation)
    }
}

/// Unmounts what is on top of `target`.
pub fn unmount(target: &Path) -> Result<()> {
    rustix::mount::unmount(target, UnmountFlags::NOFOLLOW)
        .context(|| format!("unmount {}", target.display()))
}

/// Makes the file system on `target` read-only, for all who have it mounted.
pub fn remount_read_only(target: &Path) -> Result<()> {
    rustix::mount::mount_remount(target, MountFlags::RDONLY, c"")
        .context(|| format!("remount {} read-only", target.display()))
}

/// A line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// Where it is mounted.
    pub target: PathBuf,
    /// The file system's type.
    pub filesystem: String,
    /// The device, or whatever name was given to `mount(2)`.
    pub source: OsString,
}

/// What is mounted, in the order of mounting.
pub fn mounted() -> Result<Vec<MountPoint>> {
    Ok(parse_mountinfo(&read("/proc/self/mountinfo")?))
}

/// A type of file system that the kernel has now (a module may bring more).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filesystem {
    /// The type's name.
    pub name: String,
    /// Whether it lives on a block device.
    pub device: bool,
}

/// The types of file systems that the kernel has, from `/proc/filesystems`.
pub fn filesystems() -> Result<Vec<Filesystem>> {
    Ok(parse_filesystems(&String::from_utf8_lossy(&read("/proc/filesystems")?)))
}

fn read(path: &str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::from_io(format!("read {path}"), &error))
}

fn parse_filesystems(text: &str) -> Vec<Filesystem> {
    text.lines()
        .filter_map(|line| {
            let (flag, name) = line.split_once('\t')?;
            Some(Filesystem { name: name.to_owned(), device: flag != "nodev" })
        })
        .collect()
}

fn parse_mountinfo(text: &[u8]) -> Vec<MountPoint> {
    text.split(|byte| *byte == b'\n').filter_map(parse_mountinfo_line).collect()
}

/// `ID PARENT MAJOR:MINOR ROOT TARGET OPTIONS [TAG…] - TYPE SOURCE SUPER_OPTIONS`
fn parse_mountinfo_line(line: &[u8]) -> Option<MountPoint> {
    let mut fields = line.split(|byte| *byte == b' ');
    let target = unescape(fields.nth(4)?);
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let filesystem = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = unescape(fields.next()?);
    Some(MountPoint { target: target.into(), filesystem, source })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = (byte == b'\\').then(|| tail.get(..3).and_then(octal)).flatten();
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    OsString::from_vec(bytes)
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_read_with_and_without_tags_and_with_escapes() {
        let text = b"22 1 0:20 / /proc rw,nosuid - proc proc rw\n\
            29 22 0:26 / /mnt/a\\040b\\134c rw shared:4 master:1 - ext4 /dev/vda rw\n\
            broken line\n";
        let mounts = parse_mountinfo(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].target, Path::new("/proc"));
        assert_eq!(mounts[0].filesystem, "proc");
        assert_eq!(mounts[1].target, Path::new("/mnt/a b\\c"));
        assert_eq!(mounts[1].filesystem, "ext4");
        assert_eq!(mounts[1].source, "/dev/vda");
    }

    #[test]
    fn file_systems_say_whether_they_need_a_device() {
        let kinds = parse_filesystems("nodev\ttmpfs\n\text4\n");
        assert_eq!(kinds[0], Filesystem { name: "tmpfs".into(), device: false });
        assert_eq!(kinds[1], Filesystem { name: "ext4".into(), device: true });
    }

    #[test]
    fn what_is_mounted_here_can_be_read() {
        assert!(mounted().unwrap().iter().any(|mount| mount.target == Path::new("/proc")));
    }

    #[test]
    fn an_error_names_the_operation_and_the_object() {
        let error = unmount(Path::new("/does/not/exist")).unwrap_err();
        assert_eq!(error.to_string(), "failed to unmount /does/not/exist");
    }
}
