//! Tries one system call, by its name, and prints `ok` or the name of its error: what a workload that
//! wants out would do. A shell cannot make most of them.
//!
//! `attempt NAME [NUMBER]`; the number is a process.

use std::ffi::{c_int, c_long};
use std::process::ExitCode;

/// A call's number, and arguments with which it would change nothing even where it was allowed, or do
/// no more than the test looks for.
type Call = (&'static str, c_long, [c_long; 5]);

const NEW_USER: c_long = libc::CLONE_NEWUSER as c_long;
const NEW_MOUNTS: c_long = libc::CLONE_NEWNS as c_long;
/// A pointer to nothing: the kernel answers EFAULT, or EINVAL, where it looks at it at all.
const NOWHERE: c_long = 0;
const X32: c_long = 0x4000_0000;

const CALLS: &[Call] = &[
    ("getpid", libc::SYS_getpid, [0; 5]),
    ("umount", libc::SYS_umount2, [NOWHERE, 0, 0, 0, 0]),
    ("pivot_root", libc::SYS_pivot_root, [NOWHERE; 5]),
    ("fsopen", libc::SYS_fsopen, [NOWHERE; 5]),
    ("open_tree", libc::SYS_open_tree, [-1, NOWHERE, 0, 0, 0]),
    ("unshare_user", libc::SYS_unshare, [NEW_USER, 0, 0, 0, 0]),
    ("unshare_mounts", libc::SYS_unshare, [NEW_MOUNTS, 0, 0, 0, 0]),
    ("clone_user", libc::SYS_clone, [NEW_USER | libc::SIGCHLD as c_long, 0, 0, 0, 0]),
    ("clone3", libc::SYS_clone3, [NOWHERE; 5]),
    ("setns", libc::SYS_setns, [-1, 0, 0, 0, 0]),
    ("open_by_handle", libc::SYS_open_by_handle_at, [-1, NOWHERE, 0, 0, 0]),
    ("init_module", libc::SYS_init_module, [NOWHERE; 5]),
    ("finit_module", libc::SYS_finit_module, [-1, NOWHERE, 0, 0, 0]),
    ("delete_module", libc::SYS_delete_module, [NOWHERE; 5]),
    ("kexec_load", libc::SYS_kexec_load, [0; 5]),
    ("bpf", libc::SYS_bpf, [0; 5]),
    ("perf_event_open", libc::SYS_perf_event_open, [NOWHERE; 5]),
    ("userfaultfd", libc::SYS_userfaultfd, [0; 5]),
    ("io_uring_setup", libc::SYS_io_uring_setup, [1, NOWHERE, 0, 0, 0]),
    ("keyctl", libc::SYS_keyctl, [0, -3, 0, 0, 0]),
    ("add_key", libc::SYS_add_key, [NOWHERE; 5]),
    ("request_key", libc::SYS_request_key, [NOWHERE; 5]),
    ("reboot", libc::SYS_reboot, [0; 5]),
    ("swapon", libc::SYS_swapon, [NOWHERE; 5]),
    ("settimeofday", libc::SYS_settimeofday, [NOWHERE; 5]),
    ("iopl", libc::SYS_iopl, [3, 0, 0, 0, 0]),
    ("syslog", libc::SYS_syslog, [10, 0, 0, 0, 0]),
    ("chroot", libc::SYS_chroot, [NOWHERE; 5]),
    ("sethostname", libc::SYS_sethostname, [NOWHERE; 5]),
    ("mbind", libc::SYS_mbind, [0; 5]),
    ("kcmp", libc::SYS_kcmp, [0; 5]),
    ("pidfd_getfd", libc::SYS_pidfd_getfd, [-1, 0, 0, 0, 0]),
    ("vsock", libc::SYS_socket, [libc::AF_VSOCK as c_long, libc::SOCK_STREAM as c_long, 0, 0, 0]),
    ("af_alg", libc::SYS_socket, [libc::AF_ALG as c_long, libc::SOCK_SEQPACKET as c_long, 0, 0, 0]),
    ("personality", libc::SYS_personality, [0x0004_0000, 0, 0, 0, 0]),
    ("unknown", 9999, [0; 5]),
    ("x32", X32 + libc::SYS_getpid, [0; 5]),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let number = arguments.next().and_then(|number| number.parse::<c_long>().ok());
    let result = match (name.as_str(), number) {
        ("ptrace", Some(pid)) => {
            raw(libc::SYS_ptrace, [libc::PTRACE_SEIZE as c_long, pid, 0, 0, 0])
        }
        ("mount", None) => mount(),
        ("i386", None) => i386(),
        (name, _) => match CALLS.iter().find(|(known, ..)| *known == name) {
            Some((_, call, arguments)) => raw(*call, *arguments),
            None => {
                eprintln!("there is no attempt {name:?}");
                return ExitCode::FAILURE;
            }
        },
    };
    println!("{}", if result < 0 { error() } else { "ok".to_owned() });
    ExitCode::SUCCESS
}

fn raw(call: c_long, arguments: [c_long; 5]) -> c_long {
    let [first, second, third, fourth, fifth] = arguments;
    // SAFETY: no pointer among the arguments is one: they are null, so that the kernel reads and writes
    // no memory of this process. A forked child shares none of it, and only prints.
    unsafe { libc::syscall(call, first, second, third, fourth, fifth) }
}

fn mount() -> c_long {
    let (source, target, kind) = (c"none", c"/mnt", c"tmpfs");
    // SAFETY: three strings that live, and no data.
    let result = unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null())
    };
    c_long::from(result)
}

/// getpid(2) as a 32-bit program makes it.
fn i386() -> c_long {
    let result: c_int;
    // SAFETY: the call takes no argument and writes no memory; the kernel keeps all other registers but
    // r8 to r11, which are told.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("eax") 20 => result,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r11") _,
        );
    }
    c_long::from(result)
}

fn error() -> String {
    let error = std::io::Error::last_os_error();
    let name = match error.raw_os_error() {
        Some(libc::EPERM) => "EPERM",
        Some(libc::EACCES) => "EACCES",
        Some(libc::ENOSYS) => "ENOSYS",
        _ => return error.to_string(),
    };
    name.to_owned()
}
