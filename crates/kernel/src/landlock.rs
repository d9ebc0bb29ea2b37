//! Which files and ports a process may use at most (landlock(7), `Documentation/userspace-api/landlock.rst`).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use crate::error::Context;
use crate::{Error, Result};

/// Asks landlock_create_ruleset(2) for the version of the interface.
const VERSION: u32 = 1;
/// Types of rules.
const BELOW_PATH: u32 = 1;
const PORT: u32 = 2;

/// Rights on files.
const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIRECTORY: u64 = 1 << 3;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEVICE: u64 = 1 << 15;
/// Those that a file has that is no directory.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEVICE;

/// Rights on ports.
const BIND: u64 = 1 << 0;
const CONNECT: u64 = 1 << 1;
/// The first version with rights on ports (Linux 6.7).
const WITH_PORTS: u32 = 4;

/// What a process may do with the files below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read files and list directories.
    Read,
    /// Everything but execute.
    Write,
    /// Read and execute.
    Execute,
}

/// What a process may use of TCP ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Bind it.
    Bind,
    /// Connect to it.
    Connect,
}

/// Rules for a process that is to be started.
#[derive(Debug)]
pub struct Ruleset {
    descriptor: OwnedFd,
    files: u64,
    version: u32,
}

/// The version of the kernel's interface; 0: it has none.
#[must_use]
pub fn version() -> u32 {
    // SAFETY: with this flag the kernel reads no memory.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            0 as libc::c_long,
            0 as libc::c_long,
            VERSION,
        )
    };
    u32::try_from(version).unwrap_or(0)
}

/// All rights on files that a version knows.
fn all_on_files(version: u32) -> u64 {
    let rights = match version {
        0 => 0,
        1 => 13,
        2 => 14,
        3 | 4 => 15,
        _ => 16,
    };
    (1 << rights) - 1
}

impl Ruleset {
    /// Rules that forbid all files, where `files`, and all TCP ports, where `ports`, until others allow
    /// some.
    ///
    /// # Errors
    /// `ENOSYS` where the kernel cannot enforce them.
    pub fn new(files: bool, ports: bool) -> Result<Self> {
        let version = version();
        let needed = if ports { WITH_PORTS } else { 1 };
        if version < needed {
            let operation = match ports {
                true => "restrict TCP ports (Landlock, Linux 6.7)",
                false => "restrict files (Landlock is not among the kernel's security modules)",
            };
            return Err(Error::new(operation, Errno::NOSYS));
        }
        let files = if files { all_on_files(version) } else { 0 };
        let attributes = [files, if ports { BIND | CONNECT } else { 0 }];
        // Before there were ports the attributes were one number.
        let size = if version < WITH_PORTS { size_of::<u64>() } else { size_of_val(&attributes) };
        // SAFETY: the kernel reads `size` bytes of `attributes`, which has them, and writes none.
        let result = unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                attributes.as_ptr(),
                size,
                0 as libc::c_long,
            )
        };
        let descriptor = RawFd::try_from(result).ok().filter(|number| *number >= 0);
        let Some(descriptor) = descriptor else { return Err(last("make Landlock rules")) };
        // SAFETY: the kernel has just made this descriptor for us. It is close-on-exec.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Self { descriptor, files, version })
    }

    /// Allows what `access` says below `path`.
    ///
    /// # Errors
    /// There is no such path, or what else the kernel says.
    pub fn allow_path(&self, path: &str, access: Access) -> Result<()> {
        let operation = || format!("allow {path} (Landlock)");
        let file =
            openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context(operation)?;
        let mode = fstat(&file).context(operation)?.st_mode;
        let rights = match access {
            Access::Read => READ_FILE | READ_DIRECTORY,
            Access::Write => !EXECUTE,
            Access::Execute => EXECUTE | READ_FILE | READ_DIRECTORY,
        };
        let of_kind = match FileType::from_raw_mode(mode) {
            FileType::Directory => u64::MAX,
            _ => OF_FILES,
        };
        let rule = BelowPath { allowed: rights & of_kind & self.files, parent: file.as_raw_fd() };
        self.add(BELOW_PATH, (&raw const rule).cast(), operation)
    }

    /// Allows a TCP port.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn allow_port(&self, port: u16, used: Use) -> Result<()> {
        let right = match used {
            Use::Bind => BIND,
            Use::Connect => CONNECT,
        };
        // `struct landlock_net_port_attr`.
        let rule = [right, u64::from(port)];
        self.add(PORT, rule.as_ptr().cast(), || format!("allow port {port} (Landlock)"))
    }

    /// `rule` is one of the type of `kind`.
    fn add(
        &self,
        kind: u32,
        rule: *const libc::c_void,
        operation: impl FnOnce() -> String,
    ) -> Result<()> {
        // SAFETY: both callers pass a live rule of the type that they name; the kernel only reads it.
        let result = unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                self.descriptor.as_raw_fd(),
                kind,
                rule,
                0 as libc::c_long,
            )
        };
        if result < 0 { Err(last(&operation())) } else { Ok(()) }
    }

    /// The version of the kernel's interface that enforces it.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }
}

impl std::os::fd::AsFd for Ruleset {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// `struct landlock_path_beneath_attr`, which is packed.
#[repr(C, packed)]
struct BelowPath {
    allowed: u64,
    parent: RawFd,
}

fn last(operation: &str) -> Error {
    Error::from_io(operation, &std::io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_cannot_enforce_is_an_error() {
        let version = version();
        assert_eq!(Ruleset::new(true, false).is_ok(), version >= 1);
        match Ruleset::new(false, true) {
            Ok(rules) => assert!(rules.version() >= WITH_PORTS),
            Err(error) => assert_eq!((error.errno, version < WITH_PORTS), (Errno::NOSYS, true)),
        }
    }

    #[test]
    fn files_and_directories_are_allowed_and_what_is_not_there_is_told() {
        let Ok(rules) = Ruleset::new(true, false) else { return };
        for access in [Access::Read, Access::Write, Access::Execute] {
            rules.allow_path("/dev/null", access).unwrap();
            rules.allow_path("/", access).unwrap();
        }
        let error = rules.allow_path("/no/such", Access::Read).unwrap_err();
        assert_eq!(error.errno, Errno::NOENT);
        assert!(error.to_string().contains("/no/such"));
    }
}
