//! One process, another program: `execveat(2)` of a new version of the daemon, and the way back.
//!
//! ```text
//! old: execute ─alarm(2)─▶ new: take, arm ─▶ … ─▶ disarm      it is ready
//!  ▲                                         ├─ roll_back     it says itself that it failed
//!  └────── execveat of the old image ────────┴─ a signal      it crashed, or was not ready in time
//! ```
//!
//! Descriptors that go along are not close-on-exec until the new program is ready: an exception from
//! the rule of this crate, since the way back needs them too.

use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use rustix::io::{Errno, FdFlags};

use crate::error::Context;
use crate::{Error, Result};

/// How long a new program has to get ready, in seconds.
pub const READY_SECONDS: u32 = 10;

/// The environment variable in which the program that comes back is told why.
pub const ROLLED_BACK: &str = "AURAE_ROLLED_BACK";

/// So many bytes of the reason are told.
const MAX_REASON: usize = 512;

/// What ends the attempt.
const SIGNALS: [c_int; 6] =
    [libc::SIGALRM, libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGABRT, libc::SIGFPE];

/// A program to execute in this process.
#[derive(Debug)]
pub struct Program {
    /// The file.
    pub image: OwnedFd,
    /// `argv`.
    pub arguments: Vec<CString>,
    /// The whole environment: `NAME=value`.
    pub environment: Vec<CString>,
}

/// Executes a program in this process, with the descriptors of `kept` open under their numbers. It has
/// [`READY_SECONDS`] until SIGALRM. Returns only if that failed.
pub fn execute(program: &Program, kept: &[BorrowedFd<'_>]) -> Error {
    const OPERATION: &str = "execute the new daemon";
    for descriptor in kept {
        if let Err(errno) = rustix::io::fcntl_setfd(descriptor, FdFlags::empty()) {
            return Error::new(OPERATION, errno);
        }
    }
    set_alarm(READY_SECONDS);
    let arguments = null_terminated(&program.arguments);
    let environment = null_terminated(&program.environment);
    let errno = execveat(program.image.as_raw_fd(), &arguments, &environment);
    set_alarm(0);
    for descriptor in kept {
        // It was done the other way a moment ago; a child never inherits more than it is given.
        let _ = rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC);
    }
    Error::new(OPERATION, errno)
}

/// Takes over the descriptors that came through [`execute`]. They go on being inherited.
///
/// # Errors
/// One of them did not come that way, or was named twice, or some were taken before.
pub fn take(numbers: &[RawFd]) -> Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(Error::new("take over descriptors again", Errno::ALREADY));
    }
    for (index, number) in numbers.iter().enumerate() {
        let operation = || format!("take over descriptor {number}");
        if *number <= libc::STDERR_FILENO || numbers[..index].contains(number) {
            return Err(Error::new(operation(), Errno::BADF));
        }
        // SAFETY: only borrowed for the call that finds out whether it is open.
        let borrowed = unsafe { BorrowedFd::borrow_raw(*number) };
        // What this process opened itself is close-on-exec.
        if rustix::io::fcntl_getfd(borrowed).context(operation)?.contains(FdFlags::CLOEXEC) {
            return Err(Error::new(operation(), Errno::BADF));
        }
    }
    let owned = numbers.iter().map(|number| {
        // SAFETY: it is open and was inherited, so nobody owns it; it is named once, and `TAKEN` lets
        // this happen once.
        unsafe { OwnedFd::from_raw_fd(*number) }
    });
    Ok(owned.collect())
}

/// What the way back needs, made before it is known whether it is taken: a signal handler may not
/// allocate.
struct WayBack {
    program: Program,
    /// Open under their numbers for as long as there is a way back.
    _kept: Vec<OwnedFd>,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    /// `AURAE_ROLLED_BACK=` and zeros: [`MAX_REASON`] for the reason and one for the end. Leaked.
    reason: *mut u8,
    /// What the signals did before.
    before: Vec<(c_int, libc::sigaction)>,
}

/// The way back while there is one. Whoever takes the pointer out owns it.
static ARMED: AtomicPtr<WayBack> = AtomicPtr::new(ptr::null_mut());

/// Somebody is on the way back.
static LEAVING: AtomicBool = AtomicBool::new(false);

/// Opens the way back to `program`: from here on a crash, SIGALRM and [`roll_back`] execute it, with the
/// reason in [`ROLLED_BACK`] and the descriptors of `kept` under their numbers, as [`take`] gave them.
/// The time until SIGALRM begins anew.
///
/// # Errors
/// The kernel refuses a handler; there is no way back then.
pub fn arm(program: Program, kept: Vec<OwnedFd>) -> Result<()> {
    let mut text = Vec::with_capacity(ROLLED_BACK.len() + MAX_REASON + 2);
    text.extend_from_slice(ROLLED_BACK.as_bytes());
    text.push(b'=');
    let start = text.len();
    text.resize(start + MAX_REASON + 1, 0);
    let text = Box::into_raw(text.into_boxed_slice()).cast::<u8>();
    let mut environment = null_terminated(&program.environment);
    environment.insert(0, text.cast_const().cast());
    let way_back = WayBack {
        arguments: null_terminated(&program.arguments),
        environment,
        // SAFETY: `start` is within the allocation.
        reason: unsafe { text.add(start) },
        before: SIGNALS
            .iter()
            .map(|signal| Ok((*signal, handle(*signal)?)))
            .collect::<Result<_>>()?,
        program,
        _kept: kept,
    };
    ARMED.store(Box::into_raw(Box::new(way_back)), Ordering::Release);
    set_alarm(READY_SECONDS);
    Ok(())
}

/// Closes the way back: this program is ready, or has nobody to go back to.
pub fn disarm() {
    let armed = ARMED.swap(ptr::null_mut(), Ordering::AcqRel);
    set_alarm(0);
    if armed.is_null() {
        return;
    }
    // SAFETY: `arm` made it from a box, and the swap made it ours alone.
    let way_back = unsafe { Box::from_raw(armed) };
    for (signal, action) in &way_back.before {
        // SAFETY: `action` is what the kernel told for this signal; no old action is asked for.
        unsafe { libc::sigaction(*signal, action, ptr::null_mut()) };
    }
}

/// Whether there is a way back.
#[must_use]
pub fn is_armed() -> bool {
    !ARMED.load(Ordering::Acquire).is_null()
}

/// Takes the way back, if there is one. Returns if there is none, or if the kernel refuses.
pub fn roll_back(reason: &str) {
    let armed = ARMED.swap(ptr::null_mut(), Ordering::AcqRel);
    if !armed.is_null() {
        LEAVING.store(true, Ordering::Release);
        leave(armed, reason.as_bytes());
    }
}

/// System calls and plain memory only: it runs in a signal handler too.
fn leave(armed: *mut WayBack, reason: &[u8]) {
    // SAFETY: `arm` made it from a box; the caller took it out of `ARMED`, so that it is ours alone.
    let way_back = unsafe { &*armed };
    let length = reason.len().min(MAX_REASON);
    // SAFETY: there is room for MAX_REASON bytes and a zero behind `reason`, which nobody reads yet.
    unsafe { ptr::copy_nonoverlapping(reason.as_ptr(), way_back.reason, length) };
    set_alarm(0);
    unblock_signals();
    execveat(way_back.program.image.as_raw_fd(), &way_back.arguments, &way_back.environment);
}

extern "C" fn handler(signal: c_int) {
    let armed = ARMED.swap(ptr::null_mut(), Ordering::AcqRel);
    if !armed.is_null() {
        LEAVING.store(true, Ordering::Release);
        leave(armed, reason(signal));
    } else if LEAVING.load(Ordering::Acquire) {
        loop {
            // Another thread executes the old program, which ends this one.
            // SAFETY: it touches no memory.
            unsafe { libc::pause() };
        }
    }
    if signal != libc::SIGALRM {
        // There is no way back: the fault happens again, with its own consequence.
        // SAFETY: the default disposition is valid for every one of the signals.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

fn reason(signal: c_int) -> &'static [u8] {
    match signal {
        libc::SIGALRM => b"it was not ready in 10 s",
        libc::SIGSEGV => b"it crashed (SIGSEGV)",
        libc::SIGBUS => b"it crashed (SIGBUS)",
        libc::SIGILL => b"it crashed (SIGILL)",
        libc::SIGABRT => b"it aborted (SIGABRT)",
        _ => b"it crashed (SIGFPE)",
    }
}

/// Handles a signal, on the stack that its thread has for that; answers what was done before.
fn handle(signal: c_int) -> Result<libc::sigaction> {
    // SAFETY: all zero is a valid `sigaction`: the default disposition, no flags, nothing blocked.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as extern "C" fn(c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_ONSTACK;
    let mut before = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: `action` is valid and its handler makes system calls only; `before` is written on
    // success.
    if unsafe { libc::sigaction(signal, &raw const action, before.as_mut_ptr()) } < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Error::from_io(format!("handle signal {signal}"), &error));
    }
    // SAFETY: written, since the call succeeded.
    Ok(unsafe { before.assume_init() })
}

/// The signal that is being handled is blocked, and would stay so over `execveat`.
fn unblock_signals() {
    let empty = 0_u64;
    // SAFETY: the kernel reads one signal set of 8 bytes from `empty`, and writes none.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const empty,
            ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    };
}

fn set_alarm(seconds: u32) {
    // SAFETY: it touches no memory.
    unsafe { libc::alarm(seconds) };
}

/// Answers only if the kernel refuses.
fn execveat(image: RawFd, arguments: &[*const c_char], environment: &[*const c_char]) -> Errno {
    // SAFETY: the path and both arrays are null-terminated, and live.
    let result = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            image,
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    debug_assert!(result < 0, "execveat answers only when it fails");
    // It allocates nothing for the kernel's own errors.
    let error = std::io::Error::last_os_error();
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// Pointers to the strings, and a null pointer behind them.
fn null_terminated(strings: &[CString]) -> Vec<*const c_char> {
    let pointers = strings.iter().map(|string| CStr::as_ptr(string));
    pointers.chain([ptr::null()]).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What the process of a test is to do; without it `actor` is none.
    const ACT: &str = "AURAE_TEST_ACT";

    /// In a process of its own: arms, and does what it is told.
    #[test]
    fn actor() {
        let Some(act) = std::env::var_os(ACT) else { return };
        let script = c"echo \"back: $AURAE_ROLLED_BACK\"; grep SigBlk /proc/self/status; exit 42";
        let shell = Program {
            image: std::fs::File::open("/bin/sh").unwrap().into(),
            arguments: vec![c"sh".into(), c"-c".into(), script.into()],
            environment: vec![c"PATH=/usr/bin:/bin".into()],
        };
        arm(shell, Vec::new()).unwrap();
        assert!(is_armed());
        match act.to_str().unwrap() {
            // SAFETY: raising a signal that is handled touches no memory.
            "crash" => drop(unsafe { libc::raise(libc::SIGSEGV) }),
            "abort" => std::process::abort(),
            "late" => {
                set_alarm(1);
                std::thread::park();
            }
            "say" => roll_back("it failed"),
            _ => {
                disarm();
                assert!(!is_armed());
                roll_back("it failed");
                println!("ready");
            }
        }
    }

    fn output_of(act: &str) -> String {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "takeover::tests::actor", "--nocapture"]).env(ACT, act);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(if act == "ready" { 0 } else { 42 }), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn what_does_not_get_ready_is_the_one_before_again() {
        for (act, why) in [
            ("crash", "back: it crashed (SIGSEGV)"),
            ("abort", "back: it aborted (SIGABRT)"),
            ("late", "back: it was not ready in 10 s"),
            ("say", "back: it failed"),
        ] {
            let output = output_of(act);
            assert!(output.contains(why), "{output}");
            assert!(output.contains("SigBlk:\t0000000000000000"), "{output}");
        }
    }

    #[test]
    fn what_is_ready_has_no_way_back() {
        assert!(output_of("ready").contains("ready"));
    }

    #[test]
    fn descriptors_that_were_not_inherited_are_not_taken() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(take(&[file.as_raw_fd()]).is_err());
    }
}
