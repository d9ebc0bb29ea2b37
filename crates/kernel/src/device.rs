//! Which devices the processes of a cgroup may use: a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`
//! (bpf(2), `Documentation/admin-guide/cgroup-v2.rst`, "Device controller").
//!
//! The programs of the cgroups around have their say too: all must agree. A program goes with its
//! cgroup.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{FileType, major, minor};
use rustix::io::Errno;

use crate::{Error, Result};

/// bpf(2): commands, the program's type, where it is attached and how.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const CGROUP_DEVICE_PROGRAM: u32 = 15;
const AT_CGROUP_DEVICE: u32 = 6;
/// Beside those of other cgroups, and of other owners.
const ALLOW_MULTI: u32 = 2;

/// `struct bpf_cgroup_dev_ctx`: the type in the lower half of the first word, the access in the upper.
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;
/// What may be done, as the program is told it.
pub const MKNOD: u32 = 1;
/// As [`MKNOD`].
pub const READ: u32 = 2;
/// As [`MKNOD`].
pub const WRITE: u32 = 4;

/// Devices that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Block devices, or else character devices.
    pub block: bool,
    /// The driver's number; `None`: any.
    pub major: Option<u32>,
    /// The device's number; `None`: any.
    pub minor: Option<u32>,
    /// [`MKNOD`], [`READ`], [`WRITE`].
    pub access: u32,
}

/// The devices that every program may use (`Documentation/admin-guide/devices.txt`).
pub const USUAL: [Rule; 8] = [
    usual(1, Some(3)), // null
    usual(1, Some(5)), // zero
    usual(1, Some(7)), // full
    usual(1, Some(8)), // random
    usual(1, Some(9)), // urandom
    usual(5, Some(0)), // tty
    usual(5, Some(2)), // ptmx
    usual(136, None),  // pts/*
];

const fn usual(major: u32, minor: Option<u32>) -> Rule {
    Rule { block: false, major: Some(major), minor, access: MKNOD | READ | WRITE }
}

impl Rule {
    /// The device that a path leads to.
    ///
    /// # Errors
    /// There is nothing; `ENODEV` where it is no device.
    pub fn of_path(path: &str, access: u32) -> Result<Self> {
        let failed = |errno| Error::new(format!("find the device {path}"), errno);
        let stat = rustix::fs::stat(path).map_err(failed)?;
        let block = match FileType::from_raw_mode(stat.st_mode) {
            FileType::BlockDevice => true,
            FileType::CharacterDevice => false,
            _ => return Err(failed(Errno::NODEV)),
        };
        let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
        Ok(Self { block, major: Some(major), minor: Some(minor), access })
    }
}

/// A loaded program.
#[derive(Debug)]
pub struct Policy {
    program: OwnedFd,
}

impl Policy {
    /// Loads the program that lets these devices through, and no other.
    ///
    /// # Errors
    /// What the kernel says: `EPERM` without the right to load programs (`CAP_BPF`, or a container's
    /// filter), `ENOSYS` or `EINVAL` where it has none for cgroups.
    pub fn load(rules: &[Rule]) -> Result<Self> {
        let instructions = compile(rules);
        let license = c"Apache-2.0";
        let attributes = LoadAttributes {
            program_type: CGROUP_DEVICE_PROGRAM,
            // A few for each rule.
            count: instructions.len() as u32,
            instructions: instructions.as_ptr().addr() as u64,
            license: license.as_ptr().addr() as u64,
            ..LoadAttributes::default()
        };
        // SAFETY: PROG_LOAD reads `attributes`, and the instructions and the string that it points to,
        // which live here; it writes nothing, as no log is asked for.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                PROG_LOAD,
                &raw const attributes,
                size_of::<LoadAttributes>() as libc::c_uint,
            )
        };
        let program = RawFd::try_from(result).ok().filter(|number| *number >= 0);
        let Some(program) = program else { return Err(last("load the device policy")) };
        // SAFETY: the kernel has just made this descriptor for us. It is close-on-exec (bpf(2)).
        Ok(Self { program: unsafe { OwnedFd::from_raw_fd(program) } })
    }

    /// Makes it hold for the processes of a cgroup, and of those below.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn attach(&self, cgroup: BorrowedFd<'_>) -> Result<()> {
        let attributes = AttachAttributes {
            // Descriptors are not negative.
            target: cgroup.as_raw_fd().cast_unsigned(),
            program: self.program.as_raw_fd().cast_unsigned(),
            attach_type: AT_CGROUP_DEVICE,
            flags: ALLOW_MULTI,
        };
        // SAFETY: PROG_ATTACH reads `attributes`, which lives here, and writes nothing.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                PROG_ATTACH,
                &raw const attributes,
                size_of::<AttachAttributes>() as libc::c_uint,
            )
        };
        if result < 0 { Err(last("put the device policy on a cgroup")) } else { Ok(()) }
    }
}

impl From<OwnedFd> for Policy {
    /// One that another process has loaded.
    fn from(program: OwnedFd) -> Self {
        Self { program }
    }
}

impl AsFd for Policy {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

fn last(operation: &str) -> Error {
    Error::from_io(operation, &std::io::Error::last_os_error())
}

/// The part of `union bpf_attr` that PROG_LOAD needs.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that PROG_ATTACH needs.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// Registers: the answer, and the context that the program is called with.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Opcodes (`Documentation/bpf/standardization/instruction-set.rst`).
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbc;
const SET: u8 = 0xb4;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const IF_NOT_EQUAL: u8 = 0x56;
const IF_ANY_OF: u8 = 0x46;
const EXIT: u8 = 0x95;

/// One instruction: opcode, registers, offset, value.
fn instruction(code: u8, to: u8, from: u8, offset: i16, value: u32) -> u64 {
    let registers = u64::from(from) << 4 | u64::from(to);
    let offset = u64::from(offset.cast_unsigned());
    u64::from(code) | registers << 8 | offset << 16 | u64::from(value) << 32
}

fn compile(rules: &[Rule]) -> Vec<u64> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE, ACCESS, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules {
        let kind = if rule.block { BLOCK } else { CHARACTER };
        let mut tests = vec![(IF_NOT_EQUAL, KIND, kind), (IF_ANY_OF, ACCESS, !rule.access)];
        tests.extend(rule.major.map(|major| (IF_NOT_EQUAL, MAJOR, major)));
        tests.extend(rule.minor.map(|minor| (IF_NOT_EQUAL, MINOR, minor)));
        // Past the tests that follow, and the two instructions that let it through.
        let mut past = tests.len() as i16 + 1;
        for (code, register, value) in tests {
            program.push(instruction(code, register, 0, past, value));
            past -= 1;
        }
        program.push(instruction(SET, ANSWER, 0, 0, 1));
        program.push(instruction(EXIT, 0, 0, 0, 0));
    }
    program.push(instruction(SET, ANSWER, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with a program, for the instructions that ours are made of.
    fn lets_through(rules: &[Rule], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let program = compile(rules);
        let context = [access << 16 | kind, major, minor];
        let (mut registers, mut at) = ([0_u32; 6], 0);
        loop {
            let word = program[at];
            at += 1;
            let (code, value) = (word as u8, (word >> 32) as u32);
            let (to, from) = ((word >> 8 & 0xf) as usize, (word >> 12 & 0xf) as usize);
            let offset = (word >> 16) as u16 as usize;
            match code {
                LOAD_WORD => registers[to] = context[offset / 4],
                MOVE => registers[to] = registers[from],
                SET => registers[to] = value,
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                IF_NOT_EQUAL if registers[to] != value => at += offset,
                IF_ANY_OF if registers[to] & value != 0 => at += offset,
                IF_NOT_EQUAL | IF_ANY_OF => {}
                EXIT => return registers[usize::from(ANSWER)] != 0,
                code => panic!("{code:#x} is no instruction of ours"),
            }
        }
    }

    #[test]
    fn the_usual_devices_may_be_used_and_no_other() {
        let usual = |kind, access, major, minor| lets_through(&USUAL, kind, access, major, minor);
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, 77)] {
            for access in [READ, WRITE, MKNOD, READ | WRITE] {
                assert!(usual(CHARACTER, access, major, minor), "{major}:{minor} {access}");
            }
            assert!(!usual(BLOCK, READ, major, minor), "block {major}:{minor}");
        }
        // mem, port, kmsg, console, kvm, tun, fuse.
        for (major, minor) in [(1, 1), (1, 4), (1, 11), (5, 1), (10, 232), (10, 200), (10, 229)] {
            assert!(!usual(CHARACTER, READ, major, minor), "{major}:{minor}");
            assert!(!usual(CHARACTER, MKNOD, major, minor), "mknod {major}:{minor}");
        }
        assert!(!usual(BLOCK, READ, 8, 0) && !usual(BLOCK, MKNOD, 254, 0));
    }

    #[test]
    fn a_rule_holds_for_its_access_and_numbers() {
        let rule = Rule { block: true, major: Some(8), minor: None, access: READ };
        assert!(lets_through(&[rule], BLOCK, READ, 8, 17));
        assert!(!lets_through(&[rule], BLOCK, READ | WRITE, 8, 17));
        assert!(!lets_through(&[rule], BLOCK, READ, 9, 17));
        assert!(!lets_through(&[], CHARACTER, READ, 1, 3));
        let any = Rule { block: false, major: None, minor: None, access: READ | WRITE | MKNOD };
        assert!(lets_through(&[rule, any], CHARACTER, WRITE, 7, 7));
    }

    #[test]
    fn a_path_is_its_device() {
        let null = Rule::of_path("/dev/null", READ).unwrap();
        assert_eq!(null, Rule { block: false, major: Some(1), minor: Some(3), access: READ });
        assert_eq!(Rule::of_path("/", READ).unwrap_err().errno, Errno::NODEV);
        assert_eq!(Rule::of_path("/no/such", READ).unwrap_err().errno, Errno::NOENT);
    }

    #[test]
    fn the_kernel_takes_the_program_where_it_takes_any() {
        match Policy::load(&USUAL) {
            Ok(_) => {}
            // Not root, or a kernel without BPF for cgroups.
            Err(error) => assert!(
                matches!(error.errno, Errno::PERM | Errno::NOSYS | Errno::ACCESS),
                "{error:?}"
            ),
        }
    }
}
