//! What a process is not to have of what its parent has: capabilities, privileges gained by executing a
//! program, system calls, files. Prepared by the parent, done by the child before it executes.
//!
//! ```text
//! core ─ bounding set ─ no_new_privs ─ landlock ─ seccomp │ user and group │ capabilities ─ ambient
//! ```
//!
//! The filter comes before the capabilities themselves go: without `no_new_privs` a process needs `CAP_SYS_ADMIN`
//! for it. So it lets through what comes after it here.

use std::ffi::{c_int, c_long, c_ulong};
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::OnceLock;

use rustix::io::Errno;

use crate::seccomp::Filter;
use crate::spawn::{Step, last_errno};

/// `_LINUX_CAPABILITY_VERSION_3`: sets of 64 bits, in halves.
const VERSION: u32 = 0x2008_0522;

/// A capability's number is one of so many.
const NUMBERS: u32 = u64::BITS;

/// What a process is not to have. The default takes nothing away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Confinement<'a> {
    /// Which capabilities it keeps; `None`: as its parent's.
    pub capabilities: Option<Capabilities>,
    /// It can gain no privileges by executing a program (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privileges: bool,
    /// It dumps no core (`RLIMIT_CORE`).
    pub no_core_dumps: bool,
    /// Its system calls.
    pub seccomp: Option<&'a Filter>,
    /// Its [`Ruleset`](crate::landlock::Ruleset).
    pub landlock: Option<BorrowedFd<'a>>,
}

/// Which capabilities a process keeps, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// It, and what it starts, never has others. What its parent lacks itself is left out.
    pub bounding: u64,
    /// Those it must get; and as another user than root, has from the start (ambient).
    pub required: u64,
}

/// All that the child needs, so that it makes system calls only.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    no_core_dumps: bool,
    no_new_privileges: bool,
    landlock: Option<RawFd>,
    seccomp: Option<libc::sock_fprog>,
    sets: Option<Sets>,
}

#[derive(Debug)]
struct Sets {
    /// To be dropped from the bounding set.
    dropped: u64,
    ambient: u64,
    header: Header,
    halves: [Half; 2],
}

/// `struct __user_cap_header_struct`; the process is the caller.
#[repr(C)]
#[derive(Debug)]
struct Header {
    version: u32,
    pid: c_int,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

impl Prepared {
    /// `landlock`: the number that the ruleset has in the process. `root`: its user is root.
    pub(crate) fn new(
        confinement: &Confinement<'_>,
        landlock: Option<RawFd>,
        root: bool,
    ) -> Result<Self, (Step, Errno)> {
        Ok(Self {
            no_core_dumps: confinement.no_core_dumps,
            no_new_privileges: confinement.no_new_privileges,
            landlock,
            seccomp: confinement.seccomp.map(Filter::program),
            sets: confinement.capabilities.map(|wanted| Sets::new(wanted, root)).transpose()?,
        })
    }

    /// What comes before the user changes.
    pub(crate) fn before_user(&self) -> Result<(), (Step, c_int)> {
        if self.no_core_dumps {
            no_core_dumps()?;
        }
        // Before the filter, which costs something in each of these calls.
        if let Some(sets) = &self.sets {
            for number in numbers(sets.dropped) {
                prctl(Step::Capabilities, libc::PR_CAPBSET_DROP, number, 0)?;
            }
            if sets.ambient != 0 {
                // Else another user would have none of them left to keep. It ends with `execve`.
                prctl(Step::Capabilities, libc::PR_SET_KEEPCAPS, 1, 0)?;
            }
        }
        if self.no_new_privileges {
            prctl(Step::NoNewPrivileges, libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
        }
        if let Some(landlock) = self.landlock {
            let arguments = [landlock.into(), 0, 0];
            call(Step::Landlock, libc::SYS_landlock_restrict_self, arguments)?;
        }
        if let Some(program) = &self.seccomp {
            let mode = c_long::from(libc::SECCOMP_SET_MODE_FILTER);
            let pointer = std::ptr::from_ref(program).addr() as c_long;
            call(Step::Seccomp, libc::SYS_seccomp, [mode, 0, pointer])?;
        }
        Ok(())
    }

    /// What comes after the user has changed.
    pub(crate) fn after_user(&self) -> Result<(), (Step, c_int)> {
        let Some(sets) = &self.sets else { return Ok(()) };
        let header = std::ptr::from_ref(&sets.header).addr() as c_long;
        let halves = sets.halves.as_ptr().addr() as c_long;
        call(Step::Capabilities, libc::SYS_capset, [header, halves, 0])?;
        for number in numbers(sets.ambient) {
            let raise = libc::PR_CAP_AMBIENT_RAISE as c_ulong;
            prctl(Step::Capabilities, libc::PR_CAP_AMBIENT, raise, number)?;
        }
        Ok(())
    }
}

impl Sets {
    fn new(wanted: Capabilities, root: bool) -> Result<Self, (Step, Errno)> {
        let failed = |errno| (Step::Capabilities, errno);
        let (known, bounding) = bounding();
        let own = permitted().map_err(failed)? & bounding;
        let required = wanted.required & known;
        if required & !own != 0 {
            return Err(failed(Errno::PERM));
        }
        let kept = wanted.bounding & own;
        // Root has by execve(2) all that its bounding set lets it; another user has its ambient ones.
        let ambient = if root { 0 } else { required };
        let (now, inheritable) = if root { (kept, 0) } else { (ambient, ambient) };
        let half = |shift: u32| Half {
            effective: (now >> shift) as u32,
            permitted: (now >> shift) as u32,
            inheritable: (inheritable >> shift) as u32,
        };
        Ok(Self {
            dropped: bounding & !kept,
            ambient,
            header: Header { version: VERSION, pid: 0 },
            halves: [half(0), half(32)],
        })
    }
}

/// The capabilities that the kernel knows, and those of this process's bounding set, which never changes: only
/// children drop from theirs. Asked once, as it takes a system call for each.
fn bounding() -> (u64, u64) {
    static BOUNDING: OnceLock<(u64, u64)> = OnceLock::new();
    *BOUNDING.get_or_init(read_bounding)
}

fn read_bounding() -> (u64, u64) {
    let (mut known, mut bounding) = (0, 0);
    for number in 0..c_ulong::from(NUMBERS) {
        match prctl(Step::Capabilities, libc::PR_CAPBSET_READ, number, 0) {
            Ok(held) => {
                known |= 1 << number;
                bounding |= u64::from(held != 0) << number;
            }
            // The first number that is none.
            Err(_) => break,
        }
    }
    (known, bounding)
}

/// The caller's permitted capabilities.
fn permitted() -> Result<u64, Errno> {
    let header = Header { version: VERSION, pid: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: capget reads `header` and writes the two halves that version 3 has; both live here.
    let result =
        unsafe { libc::syscall(libc::SYS_capget, (&raw const header).addr(), halves.as_mut_ptr()) };
    if result < 0 {
        return Err(Errno::from_raw_os_error(last_errno()));
    }
    let [low, high] = halves;
    Ok(u64::from(high.permitted) << 32 | u64::from(low.permitted))
}

/// The numbers of a set.
fn numbers(set: u64) -> impl Iterator<Item = c_ulong> {
    (0..c_ulong::from(NUMBERS)).filter(move |number| set & (1 << number) != 0)
}

fn no_core_dumps() -> Result<(), (Step, c_int)> {
    // One byte is no dump in a file, and none for a program that collects them, which 0 would be (core(5)).
    let none = [1_u64; 2];
    // SAFETY: the kernel reads one `rlimit64` of 16 bytes from `none`, and writes none.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0 as c_long,
            c_long::from(libc::RLIMIT_CORE),
            none.as_ptr(),
            0 as c_long,
        )
    };
    if result < 0 { Err((Step::CoreDumps, last_errno())) } else { Ok(()) }
}

fn prctl(
    step: Step,
    option: c_int,
    second: c_ulong,
    third: c_ulong,
) -> Result<c_long, (Step, c_int)> {
    // SAFETY: the callers' options take numbers, and nothing but numbers; those that they do not have
    // must be 0.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prctl,
            c_long::from(option),
            second,
            third,
            0 as c_long,
            0 as c_long,
        )
    };
    if result < 0 { Err((step, last_errno())) } else { Ok(result) }
}

/// A system call that takes numbers, or pointers to what the parent prepared.
fn call(step: Step, number: c_long, arguments: [c_long; 3]) -> Result<c_long, (Step, c_int)> {
    let [first, second, third] = arguments;
    // SAFETY: the callers pass calls that only read what lives in `Prepared`, and write no memory.
    let result = unsafe { libc::syscall(number, first, second, third) };
    if result < 0 { Err((step, last_errno())) } else { Ok(result) }
}
