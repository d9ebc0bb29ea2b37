//! Starting a process: `clone3(2)` straight into its cgroup and namespaces, then `execve(2)`.
//!
//! `CLONE_VM | CLONE_VFORK` keep the page tables from being copied: the child runs on a stack of its
//! own in the parent's memory, the calling thread sleeps until the child has executed the program or
//! has ended, and a failure of the child's is a plain variable in that memory. Until then the child
//! may do nothing but system calls: other threads go on in the same memory. Nor is the table of descriptors
//! copied, but for what the child needs of it (see [`places`]).
//!
//! ```text
//! parent: prepare ─ clone3 ─ (asleep) ───────────────────────── read the outcome
//! child:      └─ descriptors ─ session ─ terminal ─ confinement, ids ─ directory ─ signals ─ execve ─┘
//! ```
//!
//! In a user namespace of its own the child has no users until its parent gives it some: then the parent
//! does not sleep, and waits in [`users`](crate::users) instead.

mod places;

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;
use rustix::process::{Pid, Resource, getrlimit};

use crate::confine::{Confinement, Prepared};
use crate::process::reap;
use crate::users::{self, Files, Gate, IdMap};
use places::Lease;
pub use places::reserve;

#[cfg(not(target_arch = "x86_64"))]
compile_error!(
    "process start is written for x86_64; other architectures need their own `clone3_vfork`"
);

/// The child's stack: it runs some dozen system calls, a few hundred bytes deep.
const STACK_SIZE: usize = 16 * 1024;

/// A process has at most this many descriptors given to it; they become 0, 1, 2, ….
pub const MAX_DESCRIPTORS: usize = 16;

/// Handled signals get their default disposition in the child (clone(2)).
const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;

/// The child is born in the cgroup given (clone(2)).
pub(crate) const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Makes the descriptors the caller's own, without those of the range (close_range(2), Linux 5.9).
const CLOSE_RANGE_UNSHARE: c_long = 2;

/// Marks a range of descriptors close-on-exec (close_range(2), Linux 5.11).
const CLOSE_RANGE_CLOEXEC: c_long = 4;

/// Namespaces that a process gets of its own (namespaces(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Own pid, mount, ipc and uts namespaces.
    pub process: bool,
    /// An own network namespace.
    pub network: bool,
    /// An own user namespace, which the others are of, with these users. The process is its user 0. Who
    /// gives them needs `CAP_SETUID` and `CAP_SETGID` outside of it, and a `/proc`.
    pub users: Option<IdMap>,
}

impl Namespaces {
    fn flags(self) -> u64 {
        let process =
            libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        let flags = if self.process { process } else { 0 }
            | if self.network { libc::CLONE_NEWNET } else { 0 }
            | if self.users.is_some() { libc::CLONE_NEWUSER } else { 0 };
        // The flags are bits of an `int`; none of these is its sign.
        u64::from(flags.unsigned_abs())
    }
}

/// What to execute.
#[derive(Clone, Copy, Debug)]
pub enum Image<'a> {
    /// A file by its path; relative paths start at the working directory.
    Path(&'a CStr),
    /// An open file.
    Descriptor(BorrowedFd<'a>),
}

/// A process to start.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// What to execute.
    pub image: Image<'a>,
    /// `argv`.
    pub arguments: &'a [CString],
    /// The whole environment: `NAME=value`.
    pub environment: &'a [CString],
    /// The cgroup it is born in; `None`: the caller's.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// The cgroup namespace that it enters (see [`crate::cgroup_namespace`]); `None`: the caller's.
    pub cgroup_namespace: Option<BorrowedFd<'a>>,
    /// Its descriptors: the first becomes 0, and so on; no other is inherited. At most
    /// [`MAX_DESCRIPTORS`].
    pub descriptors: &'a [BorrowedFd<'a>],
    /// The first descriptor is a terminal, which becomes that of its session (`TIOCSCTTY`).
    pub terminal: bool,
    /// The directory it starts in; `None`: the caller's.
    pub directory: Option<&'a CStr>,
    /// Its user; `None`: the caller's. With a user or a group of its own it has no supplementary
    /// groups.
    pub uid: Option<u32>,
    /// Its group; `None`: the caller's.
    pub gid: Option<u32>,
    /// Its `oom_score_adj` (proc_pid_oom_score_adj(5)), as text; `None`: the caller's. With users of its
    /// own it cannot be set here: see [`Child::set_oom_score`].
    pub oom_score: Option<&'a CStr>,
    /// How many descriptors it may have open (the soft `RLIMIT_NOFILE`); the hard limit is the
    /// caller's. `None`: the caller's.
    pub open_files: Option<u64>,
    /// What it is not to have of what the caller has.
    pub confinement: Confinement<'a>,
}

/// A process that was started. It is a child of the caller, who reaps it.
#[derive(Debug)]
pub struct Child {
    /// Its number, in the caller's pid namespace.
    pub pid: Pid,
    /// The process itself.
    pub pidfd: OwnedFd,
}

impl Child {
    /// Sets its `oom_score_adj` (proc_pid_oom_score_adj(5)). Where the caller has `CAP_SYS_RESOURCE`, the child
    /// cannot go below it.
    ///
    /// Only for a child that has said something: one that is about to execute may share the caller's memory still,
    /// and the kernel gives one score to all that do, the caller among them.
    ///
    /// # Errors
    /// What the kernel says. That it has ended is none.
    pub fn set_oom_score(&self, score: &CStr) -> Result<(), SpawnError> {
        let score = score.to_str().map_err(|_| Errno::INVAL);
        let written = score.and_then(|score| Files::of(self)?.write("oom_score_adj", score));
        match written {
            Ok(()) | Err(Errno::SRCH | Errno::NOENT) => Ok(()),
            Err(errno) => Err(SpawnError { step: Step::OomScore, errno }),
        }
    }
}

/// Why a process was not started; there is none then.
#[derive(Debug, thiserror::Error)]
#[error("failed to {step}")]
pub struct SpawnError {
    /// What was tried.
    pub step: Step,
    /// What the kernel said.
    #[source]
    pub errno: Errno,
}

/// A step on the way to a new process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Step {
    /// Copying descriptors in the parent.
    Prepare,
    /// `clone3`.
    Clone,
    /// `/proc/PID/uid_map` and `gid_map`, and becoming user 0.
    Users,
    /// `setns` into the cgroup namespace.
    CgroupNamespace,
    /// Putting descriptors in their places.
    Descriptors,
    /// `setsid`.
    Session,
    /// `TIOCSCTTY`.
    Terminal,
    /// `chdir`.
    Directory,
    /// `prlimit`.
    OpenFiles,
    /// `oom_score_adj`.
    OomScore,
    /// `RLIMIT_CORE`.
    CoreDumps,
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges,
    /// `landlock_restrict_self`.
    Landlock,
    /// `seccomp`.
    Seccomp,
    /// Capability sets.
    Capabilities,
    /// `setgroups` and `setresgid`.
    Group,
    /// `setresuid`.
    User,
    /// Default signal dispositions, nothing blocked.
    Signals,
    /// `execve`.
    Execute,
}

impl std::fmt::Display for Step {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Prepare => "copy the new process's descriptors",
            Self::Clone => "create the process (clone3)",
            Self::Users => "map the users of its user namespace",
            Self::CgroupNamespace => "enter the cgroup namespace",
            Self::Descriptors => "put the new process's descriptors in place",
            Self::Session => "start a session",
            Self::Terminal => "make the terminal that of the session",
            Self::Directory => "enter the working directory",
            Self::OpenFiles => "limit the open files",
            Self::OomScore => "set the OOM score",
            Self::CoreDumps => "forbid core dumps",
            Self::NoNewPrivileges => "forbid new privileges",
            Self::Landlock => "restrict files and ports (Landlock)",
            Self::Seccomp => "filter the system calls",
            Self::Capabilities => "set the capabilities",
            Self::Group => "set the group",
            Self::User => "set the user",
            Self::Signals => "reset the signals",
            Self::Execute => "execute the program",
        })
    }
}

impl<'a> Spawn<'a> {
    /// A process with no environment and no descriptors, and all else as the caller has it.
    #[must_use]
    pub fn new(image: Image<'a>, arguments: &'a [CString]) -> Self {
        Self {
            image,
            arguments,
            environment: &[],
            cgroup: None,
            namespaces: Namespaces::default(),
            cgroup_namespace: None,
            descriptors: &[],
            terminal: false,
            directory: None,
            uid: None,
            gid: None,
            oom_score: None,
            open_files: None,
            confinement: Confinement::default(),
        }
    }
}

impl Spawn<'_> {
    /// Starts the process. When it answers `Ok`, the program was executed, or somebody killed the
    /// process before it could be.
    ///
    /// # Errors
    /// The step that the kernel refused; the child, if there was one, has been reaped.
    pub fn start(&self) -> Result<Child, SpawnError> {
        let failed = |step| move |errno| SpawnError { step, errno };
        if self.descriptors.len() > MAX_DESCRIPTORS {
            return Err(failed(Step::Prepare)(Errno::MFILE));
        }
        if self.oom_score.is_some() && self.namespaces.users.is_some() {
            return Err(failed(Step::OomScore)(Errno::INVAL));
        }
        // Above every target: putting one in place then never overwrites another.
        let mut lease = Lease::take().map_err(failed(Step::Prepare))?;
        let mut put = |descriptor| lease.put(descriptor).map_err(failed(Step::Prepare));
        let sources: Vec<RawFd> =
            self.descriptors.iter().map(|descriptor| put(*descriptor)).collect::<Result<_, _>>()?;
        let image = match self.image {
            Image::Path(_) => None,
            Image::Descriptor(file) => Some(put(file)?),
        };
        let landlock = self.confinement.landlock.map(put).transpose()?;
        let root = self.uid.unwrap_or_else(|| rustix::process::geteuid().as_raw()) == 0;
        let confinement = Prepared::new(&self.confinement, landlock, root)
            .map_err(|(step, errno)| SpawnError { step, errno })?;
        let gate = Gate::new();
        let arguments = null_terminated(self.arguments);
        let environment = null_terminated(self.environment);
        let mut plan = Plan {
            spawn: self,
            sources: &sources,
            top: lease.top(),
            image,
            arguments: &arguments,
            environment: &environment,
            open_files: self.open_files.map(|soft| {
                let hard = getrlimit(Resource::Nofile).maximum;
                [hard.map_or(soft, |hard| soft.min(hard)), hard.unwrap_or(libc::RLIM_INFINITY)]
            }),
            confinement,
            gate: self.namespaces.users.map(|_| &gate),
            step: Step::Clone,
            errno: 0,
        };
        let (child, given) = clone(&mut plan).map_err(failed(Step::Clone))?;
        if let Err((step, errno)) = given {
            users::kill(&child);
            let _ = reap(child.pid);
            return Err(failed(step)(errno));
        }
        if plan.errno != 0 {
            // It told why and ended; the daemon's own reaper may have been faster.
            let _ = reap(child.pid);
            return Err(failed(plan.step)(Errno::from_raw_os_error(plan.errno)));
        }
        Ok(child)
    }
}

/// Pointers to the strings, and a null pointer behind them.
fn null_terminated(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// What the child needs, made before it exists, and where it leaves what went wrong.
struct Plan<'a> {
    spawn: &'a Spawn<'a>,
    sources: &'a [RawFd],
    /// One above the highest number of what it needs.
    top: RawFd,
    /// The image, where it is an open file, out of the way of the targets.
    image: Option<RawFd>,
    arguments: &'a [*const c_char],
    environment: &'a [*const c_char],
    /// Soft and hard, as the kernel's `struct rlimit64` has them.
    open_files: Option<[u64; 2]>,
    confinement: Prepared,
    /// Where it waits for its users.
    gate: Option<&'a Gate>,
    step: Step,
    errno: c_int,
}

/// What became of what the parent does for a child with users of its own.
type Given = Result<(), (Step, Errno)>;

/// Makes the child, and answers when it will not look at this memory again: it executes, or has ended.
fn clone(plan: &mut Plan<'_>) -> Result<(Child, Given), Errno> {
    // SAFETY: all zero is a valid `clone_args`: every feature off (clone(2)).
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    let (spawn, gate) = (plan.spawn, plan.gate);
    let asleep = match gate {
        None => libc::CLONE_VFORK,
        Some(gate) => {
            arguments.child_tid = gate.running().addr() as u64;
            libc::CLONE_CHILD_CLEARTID
        }
    };
    // Of a table that it shares it takes a copy of what it needs itself, and changes nothing before (see `places`).
    let files = if places::is_shared() { libc::CLONE_FILES } else { 0 };
    arguments.flags = u64::from((asleep | files).unsigned_abs()) | spawn.namespaces.flags();
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = spawn.cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    let meanwhile = |child: &Child| match (gate, spawn.namespaces.users) {
        (Some(gate), Some(users)) => let_in(child, gate, users),
        _ => Ok(()),
    };
    let data = ptr::from_mut(plan).cast();
    // SAFETY: `run_child` never returns and only makes system calls. With CLONE_VFORK, or at the end of
    // `let_in` (CLONE_CHILD_CLEARTID), the child has executed or ended; `plan` outlives that, and is
    // not looked at meanwhile.
    unsafe { child(arguments, run_child, data, meanwhile) }
}

/// Makes a child that shares this process's memory and calls `entry(data)` on a stack of its own, with
/// every signal blocked, so that no handler of the parent's runs in it. The arguments say what tells the
/// parent of its end; their flags are added to those that this needs.
///
/// # Safety
/// `entry` must not return, and do only what is allowed in memory shared with running threads: system calls
/// that write no memory but `data`'s. The flags have `CLONE_VFORK`, or `meanwhile` waits until the child has
/// executed or ended; `data` must live until then.
pub(crate) unsafe fn child<T>(
    mut arguments: libc::clone_args,
    entry: extern "C" fn(*mut c_void) -> !,
    data: *mut c_void,
    meanwhile: impl FnOnce(&Child) -> T,
) -> Result<(Child, T), Errno> {
    // The ABI wants the stack aligned to 16 bytes, which is the alignment of `u128`.
    let mut stack = vec![MaybeUninit::<u128>::uninit(); STACK_SIZE / size_of::<u128>()];
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_PIDFD;
    arguments.flags |= u64::from(flags.unsigned_abs()) | CLONE_CLEAR_SIGHAND;
    arguments.pidfd = (&raw mut pidfd).addr() as u64;
    arguments.stack = stack.as_mut_ptr().addr() as u64;
    arguments.stack_size = STACK_SIZE as u64;

    let before = block_signals()?;
    // SAFETY: the stack is a live allocation of the size given, 16-byte aligned, and used by the
    // child alone, which has executed or ended when this returns or `meanwhile` does. The caller vouches
    // for that, for `entry` and for `data`.
    let result = unsafe { clone3(&raw const arguments, entry, data) };
    let made = made(result, pidfd).map(|child| {
        let outcome = meanwhile(&child);
        (child, outcome)
    });
    restore_signals(&before);
    made
}

/// Gives a child its users, and waits until it has executed or ended.
fn let_in(child: &Child, gate: &Gate, users: IdMap) -> Given {
    let mapped = Files::of(child).and_then(|files| users.give(&files));
    gate.decide(mapped.is_ok());
    gate.wait_until_gone();
    mapped.map_err(|errno| (Step::Users, errno))
}

/// The child, by what `clone3` answered.
fn made(result: c_long, pidfd: RawFd) -> Result<Child, Errno> {
    let pid = match i32::try_from(result) {
        Ok(pid) if pid > 0 => Pid::from_raw(pid).ok_or(Errno::INVAL)?,
        Ok(errno) => return Err(Errno::from_raw_os_error(-errno)),
        Err(_) => return Err(Errno::INVAL),
    };
    // SAFETY: `clone3` succeeded with CLONE_PIDFD, so the kernel stored a new descriptor that
    // nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid, pidfd })
}

/// `clone3` whose child calls `entry(data)` on its own stack.
///
/// A function of the C library cannot be used: its child would return into the caller's frame, on a
/// stack that it does not have.
///
/// # Safety
/// `arguments` must give the child a stack that lives until it has executed or ended; `entry` must
/// not return, and do only what is allowed in memory shared with running threads.
unsafe fn clone3(
    arguments: *const libc::clone_args,
    entry: extern "C" fn(*mut c_void) -> !,
    data: *mut c_void,
) -> c_long {
    let result: c_long;
    // SAFETY: `syscall` clobbers rcx and r11 beside rax, all told to the compiler. In the child rax is
    // 0 and rsp the top of its own stack, aligned to 16, as the ABI wants it before a call.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") arguments,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") entry,
            in("r13") data,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// The child's life before it executes. It shares the parent's memory: system calls only.
extern "C" fn run_child(data: *mut c_void) -> ! {
    // SAFETY: `data` is the parent's `plan`, which lives while the parent sleeps, and which nobody
    // else looks at meanwhile.
    let plan = unsafe { &mut *data.cast::<Plan<'_>>() };
    let Err((step, errno)) = become_program(plan);
    plan.step = step;
    plan.errno = errno;
    loop {
        // SAFETY: `_exit` ends this process and touches no memory.
        unsafe { libc::syscall(libc::SYS_exit_group, 127) };
    }
}

/// Answers only if a step fails.
fn become_program(plan: &Plan<'_>) -> Result<std::convert::Infallible, (Step, c_int)> {
    let spawn = plan.spawn;
    if let Some(gate) = plan.gate {
        enter_users(gate)?;
    }
    if let Some(namespace) = spawn.cgroup_namespace {
        let arguments = [namespace.as_raw_fd().into(), libc::CLONE_NEWCGROUP.into(), 0];
        system_call(Step::CgroupNamespace, libc::SYS_setns, arguments)?;
    }
    // From here on its descriptors are its own. Where they were so before, this closes the others.
    let others = [plan.top.into(), c_long::from(libc::c_uint::MAX), CLOSE_RANGE_UNSHARE];
    system_call(Step::Descriptors, libc::SYS_close_range, others)?;
    for (target, source) in plan.sources.iter().enumerate() {
        system_call(Step::Descriptors, libc::SYS_dup3, [*source as c_long, target as c_long, 0])?;
    }
    // Whatever else this daemon holds, or was itself given without close-on-exec, ends here.
    let rest = [plan.sources.len() as c_long, c_long::from(libc::c_uint::MAX), CLOSE_RANGE_CLOEXEC];
    system_call(Step::Descriptors, libc::SYS_close_range, rest)?;
    system_call(Step::Session, libc::SYS_setsid, [0; 3])?;
    if spawn.terminal {
        system_call(Step::Terminal, libc::SYS_ioctl, [0, libc::TIOCSCTTY as c_long, 0])?;
    }
    if let Some(score) = spawn.oom_score {
        set_oom_score(score)?;
    }
    // It opens nothing after this: its lowest free number may be above the limit.
    if let Some(limits) = &plan.open_files {
        set_open_files(limits)?;
    }
    plan.confinement.before_user()?;
    if spawn.uid.is_some() || spawn.gid.is_some() {
        // Whoever is no longer the daemon's user has none of its groups.
        system_call(Step::Group, libc::SYS_setgroups, [0; 3])?;
    }
    if let Some(gid) = spawn.gid {
        system_call(Step::Group, libc::SYS_setresgid, [c_long::from(gid); 3])?;
    }
    if let Some(uid) = spawn.uid {
        system_call(Step::User, libc::SYS_setresuid, [c_long::from(uid); 3])?;
    }
    plan.confinement.after_user()?;
    if let Some(directory) = spawn.directory {
        system_call(Step::Directory, libc::SYS_chdir, [directory.as_ptr().addr() as c_long, 0, 0])?;
    }
    default_signals()?;
    let arguments = plan.arguments.as_ptr().addr() as c_long;
    let environment = plan.environment.as_ptr().addr() as c_long;
    let (directory, path, flags) = match (spawn.image, plan.image) {
        (Image::Path(path), _) => (libc::AT_FDCWD, path, 0),
        (Image::Descriptor(_), image) => (image.unwrap_or(-1), c"", libc::AT_EMPTY_PATH),
    };
    // SAFETY: the path and both arrays are null-terminated and live in the parent's memory.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            c_long::from(directory),
            path.as_ptr(),
            arguments,
            environment,
            c_long::from(flags),
        );
    }
    Err((Step::Execute, last_errno()))
}

/// Becomes user 0 once there is one.
fn enter_users(gate: &Gate) -> Result<(), (Step, c_int)> {
    gate.pass().map_err(|errno| (Step::Users, errno.raw_os_error()))?;
    system_call(Step::Users, libc::SYS_setgroups, [0; 3])?;
    system_call(Step::Users, libc::SYS_setresgid, [0; 3])?;
    system_call(Step::Users, libc::SYS_setresuid, [0; 3])?;
    Ok(())
}

fn set_open_files(limits: &[u64; 2]) -> Result<(), (Step, c_int)> {
    // SAFETY: the kernel reads one `rlimit64` of 16 bytes from `limits`, and writes none.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0 as c_long,
            c_long::from(libc::RLIMIT_NOFILE),
            limits.as_ptr(),
            0 as c_long,
        )
    };
    if result < 0 { Err((Step::OpenFiles, last_errno())) } else { Ok(()) }
}

/// The kernel lets a vfork child have a score of its own, though it shares the parent's memory.
fn set_oom_score(score: &CStr) -> Result<(), (Step, c_int)> {
    let path = c"/proc/self/oom_score_adj".as_ptr().addr() as c_long;
    let flags = c_long::from(libc::O_WRONLY | libc::O_CLOEXEC);
    let file = system_call(Step::OomScore, libc::SYS_open, [path, flags, 0])?;
    let text = score.as_ptr().addr() as c_long;
    let length = score.count_bytes() as c_long;
    system_call(Step::OomScore, libc::SYS_write, [file, text, length])?;
    system_call(Step::OomScore, libc::SYS_close, [file, 0, 0])?;
    Ok(())
}

/// Ignored signals stay ignored over `execve`, blocked ones blocked: a program expects neither.
/// Handled ones were reset by CLONE_CLEAR_SIGHAND.
fn default_signals() -> Result<(), (Step, c_int)> {
    // The kernel's own `struct sigaction`: all zero is SIG_DFL with no flags.
    let default = [0_u64; 4];
    let size = size_of::<u64>() as c_long;
    for signal in [libc::SIGPIPE, libc::SIGHUP, libc::SIGCHLD] {
        let pointer = default.as_ptr().addr() as c_long;
        // SAFETY: the kernel reads one `sigaction` of 32 bytes from `default`, and writes none.
        let result = unsafe {
            libc::syscall(libc::SYS_rt_sigaction, c_long::from(signal), pointer, 0 as c_long, size)
        };
        if result < 0 {
            return Err((Step::Signals, last_errno()));
        }
    }
    let empty = 0_u64;
    // SAFETY: the kernel reads one signal set of 8 bytes from `empty`, and writes none.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK as c_long,
            (&raw const empty).addr() as c_long,
            0 as c_long,
            size,
        )
    };
    if result < 0 { Err((Step::Signals, last_errno())) } else { Ok(()) }
}

/// A system call that takes numbers, or pointers to what the parent prepared.
fn system_call(
    step: Step,
    number: c_long,
    arguments: [c_long; 3],
) -> Result<c_long, (Step, c_int)> {
    let [first, second, third] = arguments;
    // SAFETY: the callers pass calls that read at most a string that lives, and write no memory.
    let result = unsafe { libc::syscall(number, first, second, third) };
    if result < 0 { Err((step, last_errno())) } else { Ok(result) }
}

/// The error of the system call that has just failed.
pub(crate) fn last_errno() -> c_int {
    // SAFETY: the address of the calling thread's `errno`: the waiting parent's, which the child
    // shares (no CLONE_SETTLS) and which nobody else reads or writes.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the pointer is valid for the life of the thread.
    unsafe { *errno }
}

/// Blocks every signal for the calling thread, and answers what was blocked before.
fn block_signals() -> Result<libc::sigset_t, Errno> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` writes the whole set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: `all` was written; `before` is written on success.
    let result =
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    if result != 0 {
        return Err(Errno::from_raw_os_error(result));
    }
    // SAFETY: written, since the call succeeded.
    Ok(unsafe { before.assume_init() })
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: `before` is a valid set; no old set is asked for. It cannot fail with SIG_SETMASK.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spawn(program: &CStr, arguments: &[&CStr], uid: Option<u32>) -> Result<Child, SpawnError> {
        confined(program, arguments, uid, Confinement::default())
    }

    fn confined(
        program: &CStr,
        arguments: &[&CStr],
        uid: Option<u32>,
        confinement: Confinement<'_>,
    ) -> Result<Child, SpawnError> {
        let null = std::fs::File::open("/dev/null").unwrap();
        let arguments: Vec<CString> = arguments.iter().map(|&argument| argument.into()).collect();
        Spawn {
            environment: &[c"PATH=/usr/bin:/bin".into()],
            descriptors: &[std::os::fd::AsFd::as_fd(&null); 3],
            directory: Some(c"/"),
            uid,
            oom_score: Some(c"7"),
            open_files: Some(99),
            confinement,
            ..Spawn::new(Image::Path(program), &arguments)
        }
        .start()
    }

    #[test]
    fn a_program_is_executed_with_its_arguments() {
        let script = c"[ $(ulimit -n) = 99 ] && exit $(cat /proc/self/oom_score_adj)";
        let child = spawn(c"/bin/sh", &[c"sh", c"-c", script], None).unwrap();
        let (_, status) =
            rustix::process::waitpid(Some(child.pid), rustix::process::WaitOptions::empty())
                .unwrap()
                .unwrap();
        assert_eq!(status.exit_status(), Some(7));
    }

    #[test]
    fn the_parents_other_descriptors_are_not_copied() {
        if !reserve().unwrap() {
            return; // A kernel that would make a mistake.
        }
        let script = c"set -- $(grep FDSize /proc/self/status); [ $2 -le 256 ]";
        let shell = || spawn(c"/bin/sh", &[c"sh", c"-c", script], None).unwrap();
        let options = rustix::process::WaitOptions::empty();
        let wait = |child: Child| rustix::process::waitpid(Some(child.pid), options).unwrap();
        let null = || std::fs::File::open("/dev/null").unwrap();
        let _many: Vec<_> = (0..600).map(|_| null()).collect();
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = own.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        assert!(size.trim().parse::<u32>().unwrap() > 600);
        assert_eq!(wait(shell()).unwrap().1.exit_status(), Some(0));
    }

    #[test]
    fn nothing_that_was_given_stays_open() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let arguments = [c"sh".into(), c"-c".into(), c"echo x".into()];
        let child = Spawn {
            descriptors: &[std::os::fd::AsFd::as_fd(&writer); 3],
            ..Spawn::new(Image::Path(c"/bin/sh"), &arguments)
        }
        .start()
        .unwrap();
        drop(writer);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::fs::File::from(reader), &mut text).unwrap();
        assert_eq!(text, "x\n");
        let options = rustix::process::WaitOptions::empty();
        rustix::process::waitpid(Some(child.pid), options).unwrap();
    }

    #[test]
    fn no_other_descriptor_is_inherited() {
        // Opened without close-on-exec, as one from a careless parent would be.
        let flags = rustix::fs::OFlags::RDONLY;
        let _leak = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).unwrap();
        let script = c"for n in /proc/self/fd/*; do [ ${n##*/} -gt 3 ] && exit 1; done; exit 0";
        let child = spawn(c"/bin/sh", &[c"sh", c"-c", script], None).unwrap();
        let options = rustix::process::WaitOptions::empty();
        let (_, status) = rustix::process::waitpid(Some(child.pid), options).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
    }

    /// The exit code of a shell script.
    fn run(script: &CStr, uid: Option<u32>, confinement: Confinement<'_>) -> Option<i32> {
        let child = confined(c"/bin/sh", &[c"sh", c"-c", script], uid, confinement).unwrap();
        let options = rustix::process::WaitOptions::empty();
        let (_, status) = rustix::process::waitpid(Some(child.pid), options).unwrap().unwrap();
        status.exit_status()
    }

    #[test]
    fn a_filtered_program_runs_and_can_gain_nothing() {
        let confinement = Confinement {
            no_new_privileges: true,
            no_core_dumps: true,
            seccomp: Some(&crate::seccomp::USUAL),
            ..Confinement::default()
        };
        let script = c"s() { grep -q \"^$1:[[:space:]]*$2\" /proc/self/status; }
            s NoNewPrivs 1 && s Seccomp 2 && grep -q '^Max core file size  *1  *1 ' /proc/self/limits";
        assert_eq!(run(script, None, confinement), Some(0));
        // A user namespace is what anybody could make without a filter.
        let unshare = c"unshare --user true 2>/dev/null && exit 1; exit 0";
        assert_eq!(run(unshare, None, confinement), Some(0));
    }

    #[test]
    fn capabilities_are_what_is_kept() {
        if !rustix::process::geteuid().is_root() {
            return; // Only root has capabilities to keep.
        }
        let (kill, bind) = (1 << 5, 1 << 10);
        let with = |bounding, required| Confinement {
            capabilities: Some(crate::confine::Capabilities { bounding, required }),
            ..Confinement::default()
        };
        let sets = |eff: &str, bnd: &str, amb: &str| {
            let test = format!(
                "s() {{ grep -q \"^Cap$1:[[:space:]]*$2$\" /proc/self/status; }}
                 s Eff {eff} && s Bnd {bnd} && s Amb {amb}"
            );
            CString::new(test).unwrap()
        };
        let none = "0000000000000000";
        let (both, one) = ("0000000000000420", "0000000000000400");
        assert_eq!(run(&sets(both, both, none), None, with(kill | bind, 0)), Some(0));
        assert_eq!(run(&sets(none, both, none), Some(1234), with(kill | bind, 0)), Some(0));
        assert_eq!(run(&sets(one, both, one), Some(1234), with(kill | bind, bind)), Some(0));
        assert_eq!(run(&sets(none, none, none), None, with(0, 0)), Some(0));
    }

    #[test]
    fn files_are_those_that_are_allowed() {
        use crate::landlock::{Access, Ruleset};
        let Ok(rules) = Ruleset::new(true, false) else { return };
        for path in ["/bin", "/usr", "/lib", "/lib64"] {
            // Not every system has each.
            let _ = rules.allow_path(path, Access::Execute);
        }
        rules.allow_path("/dev/null", Access::Write).unwrap();
        let confinement = Confinement {
            no_new_privileges: true,
            landlock: Some(std::os::fd::AsFd::as_fd(&rules)),
            ..Confinement::default()
        };
        let script = c"cat /etc/passwd 2>/dev/null && exit 1; ls /bin >/dev/null && exit 9";
        let child = Spawn {
            environment: &[c"PATH=/usr/bin:/bin".into()],
            confinement,
            ..Spawn::new(Image::Path(c"/bin/sh"), &[c"sh".into(), c"-c".into(), script.into()])
        }
        .start()
        .unwrap();
        let options = rustix::process::WaitOptions::empty();
        let (_, status) = rustix::process::waitpid(Some(child.pid), options).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(9));
    }

    #[test]
    fn in_a_user_namespace_it_is_a_root_that_is_none_outside() {
        if !rustix::process::geteuid().is_root() {
            return; // Only root may give away users.
        }
        // Without CAP_SYS_RESOURCE a score is no floor (proc_pid_oom_score_adj(5)).
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        let capabilities = u64::from_str_radix(capabilities.trim(), 16).unwrap();
        let floor = if capabilities >> 24 & 1 == 1 { c"FLOOR=1" } else { c"FLOOR=" };
        let own_score = || std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        let before = own_score();
        let script = c"echo x
            [ $(id -u):$(id -g) = 0:0 ] || exit 1
            set -- $(cat /proc/self/uid_map /proc/self/gid_map)
            [ \"$*\" = '0 524288 10 0 524288 10' ] || exit 2
            grep -q '^CapEff:[[:space:]]*0*$' /proc/self/status && exit 3
            [ -w /etc/passwd ] && exit 4
            while [ $(cat /proc/self/oom_score_adj) != 8 ]; do sleep 0.01; done
            [ \"$FLOOR\" ] && echo 7 2>/dev/null > /proc/self/oom_score_adj && exit 5; exit 9";
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let arguments = [c"sh".into(), c"-c".into(), script.into()];
        let started = Spawn {
            environment: &[c"PATH=/usr/bin:/bin".into(), floor.into()],
            namespaces: Namespaces {
                users: Some(IdMap { first: 524_288, count: 10 }),
                ..Namespaces::default()
            },
            descriptors: &[std::os::fd::AsFd::as_fd(&writer); 3],
            directory: Some(c"/"),
            ..Spawn::new(Image::Path(c"/bin/sh"), &arguments)
        }
        .start();
        let child = match started {
            // No user namespaces here.
            Err(SpawnError { step: Step::Clone, .. }) => return,
            child => child.unwrap(),
        };
        // It has executed once it says so.
        assert_eq!(rustix::io::read(&reader, &mut [0; 2]), Ok(2));
        child.set_oom_score(c"8").unwrap();
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", child.pid.as_raw_nonzero()))
                .unwrap();
        let uid = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
        assert_eq!(uid.split_whitespace().nth(1), Some("524288"));
        let options = rustix::process::WaitOptions::empty();
        let (_, status) = rustix::process::waitpid(Some(child.pid), options).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(9));
        assert_eq!(own_score(), before, "the parent's own");
    }

    #[test]
    fn with_users_of_its_own_no_score_is_set_on_the_way() {
        let users = Some(IdMap { first: 524_288, count: 10 });
        let error = Spawn {
            namespaces: Namespaces { users, ..Namespaces::default() },
            oom_score: Some(c"8"),
            ..Spawn::new(Image::Path(c"/bin/true"), &[c"true".into()])
        }
        .start()
        .unwrap_err();
        assert_eq!((error.step, error.errno), (Step::OomScore, Errno::INVAL));
    }

    #[test]
    fn users_that_cannot_be_had_leave_no_child() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let users = Some(IdMap { first: 1, count: u32::MAX });
        let error = Spawn {
            namespaces: Namespaces { users, ..Namespaces::default() },
            ..Spawn::new(Image::Path(c"/bin/true"), &[c"true".into()])
        }
        .start()
        .unwrap_err();
        assert!(matches!(error.step, Step::Users | Step::Clone), "{error:?}");
    }

    #[test]
    fn a_program_that_is_not_there_leaves_no_child() {
        let error = spawn(c"/no/such/program", &[c"x"], None).unwrap_err();
        assert_eq!((error.step, error.errno), (Step::Execute, Errno::NOENT));
        let error = spawn(c"/etc/passwd", &[c"x"], None).unwrap_err();
        assert_eq!((error.step, error.errno), (Step::Execute, Errno::ACCESS));
    }
}
