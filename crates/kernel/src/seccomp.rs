//! The system calls of workloads (seccomp(2), `Documentation/userspace-api/seccomp_filter.rst`).
//!
//! The filter says no to what the default profile of container engines says no to (moby's and
//! containers/common's, which are the same in what counts), so that what runs in a container runs here.
//! It is a list of refusals and not of what is let through: programs use nearly everything, and what
//! neither list knows is refused anyway, with `ENOSYS`, as by an older kernel.
//!
//! ```text
//! another ABI (i386)            the process is killed: nothing of it can be told apart by number
//! after the last known, or x32  ENOSYS
//! gated                         EPERM, unless the program has the capability that the call is for
//! clone3                        ENOSYS: its flags are in memory, where a filter cannot look
//! clone, personality, socket    by their first argument
//! all others                    let through
//! ```
//!
//! It is computed when this is compiled, so the usual one costs no time and no memory of a process.

use libc::{c_long, sock_filter};

/// `AUDIT_ARCH_X86_64` (`linux/audit.h`): 64 bits, little endian, `EM_X86_64`.
const ARCH: u32 = 0xc000_003e;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
/// The low half of the first argument.
const ARGUMENT: u32 = 16;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// Loads of the filter's language (classic BPF), and jumps and answers.
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const IF_ANY_OF: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// The first system call that this daemon does not know: `open_tree_attr`, the one after `removexattrat`
/// (Linux 6.13). Calls of x32 have numbers beyond it.
const FIRST_UNKNOWN: u32 = 467;

/// The capabilities that calls are for, as their bits (capabilities(7)).
const NEVER: u64 = 0;
const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_MODULE: u64 = 1 << 16;
const SYS_RAWIO: u64 = 1 << 17;
const SYS_CHROOT: u64 = 1 << 18;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_PACCT: u64 = 1 << 20;
const SYS_ADMIN: u64 = 1 << 21;
const SYS_BOOT: u64 = 1 << 22;
const SYS_NICE: u64 = 1 << 23;
const SYS_TIME: u64 = 1 << 25;
const SYS_TTY_CONFIG: u64 = 1 << 26;
const SYSLOG: u64 = 1 << 34;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;

/// Calls that are refused, and the capabilities of which any opens them.
const GATES: &[(c_long, u64)] = &[
    // Mounts and namespaces.
    (libc::SYS_mount, SYS_ADMIN),
    (libc::SYS_umount2, SYS_ADMIN),
    (libc::SYS_pivot_root, NEVER),
    (libc::SYS_open_tree, SYS_ADMIN),
    (libc::SYS_move_mount, SYS_ADMIN),
    (libc::SYS_fsopen, SYS_ADMIN),
    (libc::SYS_fsconfig, SYS_ADMIN),
    (libc::SYS_fsmount, SYS_ADMIN),
    (libc::SYS_fspick, SYS_ADMIN),
    (libc::SYS_mount_setattr, SYS_ADMIN),
    (libc::SYS_setns, SYS_ADMIN),
    (libc::SYS_unshare, SYS_ADMIN),
    (libc::SYS_sethostname, SYS_ADMIN),
    (libc::SYS_setdomainname, SYS_ADMIN),
    (libc::SYS_chroot, SYS_CHROOT),
    (libc::SYS_open_by_handle_at, DAC_READ_SEARCH),
    // Code in the kernel, and other kernels.
    (libc::SYS_init_module, SYS_MODULE),
    (libc::SYS_finit_module, SYS_MODULE),
    (libc::SYS_delete_module, SYS_MODULE),
    (libc::SYS_kexec_load, NEVER),
    (libc::SYS_kexec_file_load, NEVER),
    (libc::SYS_bpf, SYS_ADMIN | BPF),
    (libc::SYS_perf_event_open, SYS_ADMIN | PERFMON),
    (libc::SYS_lookup_dcookie, SYS_ADMIN),
    // io_uring and page faults in user space have led to too many holes.
    (libc::SYS_io_uring_setup, NEVER),
    (libc::SYS_io_uring_enter, NEVER),
    (libc::SYS_io_uring_register, NEVER),
    (libc::SYS_userfaultfd, NEVER),
    // Keys belong to no namespace.
    (libc::SYS_keyctl, NEVER),
    (libc::SYS_add_key, NEVER),
    (libc::SYS_request_key, NEVER),
    // The machine.
    (libc::SYS_reboot, SYS_BOOT),
    (libc::SYS_swapon, NEVER),
    (libc::SYS_swapoff, NEVER),
    (libc::SYS_settimeofday, SYS_TIME),
    (libc::SYS_clock_settime, SYS_TIME),
    (libc::SYS_iopl, SYS_RAWIO),
    (libc::SYS_ioperm, SYS_RAWIO),
    (libc::SYS_vhangup, SYS_TTY_CONFIG),
    (libc::SYS_syslog, SYS_ADMIN | SYSLOG),
    (libc::SYS_acct, SYS_PACCT),
    (libc::SYS_quotactl, SYS_ADMIN),
    (libc::SYS_quotactl_fd, SYS_ADMIN),
    (libc::SYS_nfsservctl, NEVER),
    (libc::SYS_fanotify_init, SYS_ADMIN),
    // Where memory lies.
    (libc::SYS_mbind, SYS_NICE),
    (libc::SYS_set_mempolicy, SYS_NICE),
    (libc::SYS_get_mempolicy, SYS_NICE),
    (libc::SYS_set_mempolicy_home_node, SYS_NICE),
    (libc::SYS_migrate_pages, NEVER),
    (libc::SYS_move_pages, NEVER),
    // Other processes, beyond ptrace, which asks the kernel itself.
    (libc::SYS_kcmp, SYS_PTRACE),
    (libc::SYS_pidfd_getfd, SYS_PTRACE),
    (libc::SYS_process_madvise, SYS_PTRACE),
    // Nobody needs these any more.
    (libc::SYS_uselib, NEVER),
    (libc::SYS_ustat, NEVER),
    (libc::SYS_sysfs, NEVER),
    (libc::SYS__sysctl, NEVER),
    // lsm_get_self_attr, lsm_set_self_attr, lsm_list_modules: the C library has no names for them yet.
    (459, SYS_ADMIN),
    (460, SYS_ADMIN),
    (461, SYS_ADMIN),
];

/// Flags of clone(2) for which a namespace is made: mount, cgroup, uts, ipc, user, pid, network.
const NAMESPACES: u32 = 0x7e02_0000;

/// What personality(2) may be asked for: Linux, with or without a short address space, and what it is.
const PERSONALITIES: [u32; 5] = [0, 0x0008, 0x0002_0000, 0x0002_0008, 0xffff_ffff];

/// Socket families that are refused: those that were left alone for long, the kernel's own cryptography
/// (`AF_ALG`), and that of virtual machines (`AF_VSOCK`), which knows no namespace.
const REFUSED_FAMILIES: [u32; 9] = [12, 19, 20, 23, 25, 34, 37, 38, 40];
/// No family from here on is let through: `AF_MCTP` is the last that is.
const FIRST_REFUSED_FAMILY: u32 = 46;

/// More than the longest filter has; it is checked when this is compiled.
const CAPACITY: usize = 192;

/// Gates that are looked at one after the other.
const GROUP: usize = 8;

/// The calls whose gates are shut, sorted.
struct Shut {
    calls: [u32; GATES.len()],
    count: usize,
}

impl Shut {
    const fn with(capabilities: u64) -> Self {
        let mut shut = Self { calls: [0; GATES.len()], count: 0 };
        let mut gate = 0;
        while gate < GATES.len() {
            let (call, opened_by) = GATES[gate];
            if opened_by & capabilities == 0 {
                shut.insert(call as u32);
            }
            gate += 1;
        }
        shut
    }

    const fn insert(&mut self, call: u32) {
        let mut at = self.count;
        while at > 0 && self.calls[at - 1] > call {
            self.calls[at] = self.calls[at - 1];
            at -= 1;
        }
        self.calls[at] = call;
        self.count += 1;
    }
}

const fn smaller(one: usize, other: usize) -> usize {
    if one < other { one } else { other }
}

/// A filter, as the kernel takes it.
#[derive(Clone, Debug)]
pub struct Filter {
    instructions: [sock_filter; CAPACITY],
    length: usize,
}

/// The filter of programs without any of the capabilities that open gates.
pub static USUAL: Filter = Filter::with(0);

impl Filter {
    /// The filter of programs that may have these capabilities, a bit each.
    #[must_use]
    pub const fn with(capabilities: u64) -> Self {
        let nothing = sock_filter { code: 0, jt: 0, jf: 0, k: 0 };
        let mut filter = Self { instructions: [nothing; CAPACITY], length: 0 };
        filter.push(LOAD, ARCHITECTURE, 0, 0);
        filter.push(IF_EQUAL, ARCH, 1, 0);
        filter.push(ANSWER, KILL, 0, 0);
        filter.push(LOAD, NUMBER, 0, 0);
        filter.push(IF_AT_LEAST, FIRST_UNKNOWN, 0, 1);
        filter.push(ANSWER, ENOSYS, 0, 0);
        filter.gates(&Shut::with(capabilities));
        if capabilities & SYS_ADMIN == 0 {
            filter.push(IF_EQUAL, libc::SYS_clone3 as u32, 0, 1);
            filter.push(ANSWER, ENOSYS, 0, 0);
            filter.push(IF_EQUAL, libc::SYS_clone as u32, 0, 4);
            filter.push(LOAD, ARGUMENT, 0, 0);
            filter.push(IF_ANY_OF, NAMESPACES, 0, 1);
            filter.push(ANSWER, EPERM, 0, 0);
            filter.push(ANSWER, ALLOW, 0, 0);
        }
        filter.personality();
        filter.socket();
        filter.push(ANSWER, ALLOW, 0, 0);
        filter
    }

    /// In groups, so that a call is compared with the first of each and with one group only: when the
    /// filter is set, the kernel runs it once for every number, and that is most of what it costs.
    const fn gates(&mut self, shut: &Shut) {
        let mut first = 0;
        while first < shut.count {
            let length = smaller(GROUP, shut.count - first);
            let next = first + length;
            let end = if next < shut.count { shut.calls[next] } else { FIRST_UNKNOWN };
            self.push(IF_AT_LEAST, end, length as u8 + 2, 0);
            let mut at = 0;
            while at < length {
                self.push(IF_EQUAL, shut.calls[first + at], (length - at) as u8, 0);
                at += 1;
            }
            // Past the answer, and the groups that follow.
            let left = shut.count - next;
            self.push(JUMP, (1 + left + 3 * left.div_ceil(GROUP)) as u32, 0, 0);
            self.push(ANSWER, EPERM, 0, 0);
            first = next;
        }
    }

    const fn personality(&mut self) {
        self.push(IF_EQUAL, libc::SYS_personality as u32, 0, 2 * PERSONALITIES.len() as u8 + 2);
        self.push(LOAD, ARGUMENT, 0, 0);
        let mut at = 0;
        while at < PERSONALITIES.len() {
            self.push(IF_EQUAL, PERSONALITIES[at], 0, 1);
            self.push(ANSWER, ALLOW, 0, 0);
            at += 1;
        }
        self.push(ANSWER, EPERM, 0, 0);
    }

    const fn socket(&mut self) {
        let refusals = 2 * REFUSED_FAMILIES.len() as u8;
        self.push(IF_EQUAL, libc::SYS_socket as u32, 0, refusals + 3);
        self.push(LOAD, ARGUMENT, 0, 0);
        let mut at = 0;
        while at < REFUSED_FAMILIES.len() {
            self.push(IF_EQUAL, REFUSED_FAMILIES[at], 0, 1);
            self.push(ANSWER, EPERM, 0, 0);
            at += 1;
        }
        self.push(IF_AT_LEAST, FIRST_REFUSED_FAMILY, 0, 1);
        self.push(ANSWER, EPERM, 0, 0);
    }

    /// `then` and `otherwise` are how many instructions are left out.
    const fn push(&mut self, code: u16, value: u32, then: u8, otherwise: u8) {
        self.instructions[self.length] = sock_filter { code, jt: then, jf: otherwise, k: value };
        self.length += 1;
    }

    /// What seccomp(2) takes. It points into the filter.
    pub(crate) fn program(&self) -> libc::sock_fprog {
        libc::sock_fprog {
            // At most CAPACITY.
            len: self.length as libc::c_ushort,
            // The kernel only reads it.
            filter: self.instructions.as_ptr().cast_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with a filter, for the instructions that ours are made of.
    fn answer(filter: &Filter, architecture: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = filter.instructions[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { jt } else { jf });
            at += match code {
                LOAD => {
                    loaded = match k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        ARGUMENT => argument,
                        offset => panic!("nothing is at {offset}"),
                    };
                    0
                }
                IF_EQUAL => jump(loaded == k),
                IF_AT_LEAST => jump(loaded >= k),
                IF_ANY_OF => jump(loaded & k != 0),
                JUMP => usize::try_from(k).unwrap(),
                ANSWER => return k,
                code => panic!("{code} is no instruction of ours"),
            };
        }
    }

    fn usual(number: c_long, argument: u32) -> u32 {
        answer(&USUAL, ARCH, u32::try_from(number).unwrap(), argument)
    }

    #[test]
    fn every_gate_is_shut_and_what_is_not_a_gate_is_open() {
        let by_argument = [libc::SYS_clone, libc::SYS_personality, libc::SYS_socket];
        for number in 0..c_long::from(FIRST_UNKNOWN) {
            if by_argument.contains(&number) {
                continue;
            }
            let gated = GATES.iter().any(|(call, _)| *call == number);
            let expected = match number {
                libc::SYS_clone3 => ENOSYS,
                _ if gated => EPERM,
                _ => ALLOW,
            };
            assert_eq!(usual(number, 0), expected, "system call {number}");
        }
    }

    #[test]
    fn what_is_unknown_or_of_another_abi_is_refused() {
        assert_eq!(usual(FIRST_UNKNOWN.into(), 0), ENOSYS);
        assert_eq!(answer(&USUAL, ARCH, 0x4000_0000, 0), ENOSYS, "x32");
        assert_eq!(answer(&USUAL, ARCH, u32::MAX, 0), ENOSYS);
        let i386 = 0x4000_0003;
        assert_eq!(answer(&USUAL, i386, 20, 0), KILL);
    }

    #[test]
    fn threads_and_forks_are_let_through_and_namespaces_are_not() {
        let thread = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_FS;
        assert_eq!(usual(libc::SYS_clone, thread.cast_unsigned()), ALLOW);
        assert_eq!(usual(libc::SYS_clone, libc::SIGCHLD.cast_unsigned()), ALLOW);
        for flag in [
            libc::CLONE_NEWNS,
            libc::CLONE_NEWCGROUP,
            libc::CLONE_NEWUTS,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWNET,
        ] {
            assert_eq!(usual(libc::SYS_clone, flag.cast_unsigned()), EPERM, "{flag:#x}");
        }
    }

    #[test]
    fn personalities_and_sockets_are_let_through_by_kind() {
        assert_eq!(usual(libc::SYS_personality, 0xffff_ffff), ALLOW);
        assert_eq!(usual(libc::SYS_personality, 0x0004_0000), EPERM, "no address randomization");
        for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK] {
            assert_eq!(usual(libc::SYS_socket, family.cast_unsigned()), ALLOW, "{family}");
        }
        for family in [libc::AF_VSOCK, libc::AF_ALG, 46, i32::MAX] {
            assert_eq!(usual(libc::SYS_socket, family.cast_unsigned()), EPERM, "{family}");
        }
    }

    #[test]
    fn a_capability_opens_its_own_gates_only() {
        let filter = Filter::with(SYS_ADMIN);
        let number = |call: c_long| u32::try_from(call).unwrap();
        let asked = |call| answer(&filter, ARCH, number(call), libc::CLONE_NEWNS.cast_unsigned());
        for call in [libc::SYS_mount, libc::SYS_clone, libc::SYS_clone3, libc::SYS_unshare] {
            assert_eq!(asked(call), ALLOW, "{call}");
        }
        for (call, opened_by) in GATES {
            let expected = if opened_by & SYS_ADMIN == 0 { EPERM } else { ALLOW };
            assert_eq!(asked(*call), expected, "{call}");
        }
        assert_eq!(Filter::with(0).length, USUAL.length);
    }
}
