//! What a process may do, as the kernel tells it (proc_pid_status(5), proc_pid_limits(5)).

use aurae_model::Capabilities;

use crate::runtime::confine::Held;

/// What a process may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Privileges {
    /// What it was held to.
    pub held: Held,
    /// The capabilities that it has.
    pub effective: Capabilities,
    /// Those that it can have.
    pub bounding: Capabilities,
    /// Its system calls are filtered.
    pub seccomp_filter: bool,
    /// It can gain no privileges by executing a program.
    pub no_new_privileges: bool,
    /// It may dump core.
    pub core_dumps: bool,
}

/// `Seccomp:` of a process with a filter.
const FILTERED: &str = "2";

/// Of the process `pid`; `None` when it has ended.
pub(super) fn of(pid: i32, held: Held) -> Option<Privileges> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    parse(&read("status")?, &read("limits")?, held)
}

fn parse(status: &str, limits: &str, held: Held) -> Option<Privileges> {
    let field = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    let set = |name| {
        let digits = field(name)?;
        u64::from_str_radix(digits, 16).ok().map(Capabilities::from_bits)
    };
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size"))?;
    Some(Privileges {
        held,
        effective: set("CapEff")?,
        bounding: set("CapBnd")?,
        // A kernel without seccomp does not tell.
        seccomp_filter: field("Seccomp") == Some(FILTERED),
        no_new_privileges: field("NoNewPrivs") == Some("1"),
        // The hard limit: it may raise the soft one to that. A byte is what it is held to.
        core_dumps: !matches!(core.split_whitespace().nth(1), Some("0" | "1")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
        Max core file size        0                    unlimited            bytes     \n";

    #[test]
    fn what_the_kernel_tells_is_read() {
        let status = "Name:\tsh\nCapEff:\t0000000000000020\nCapBnd:\t00000000000004fb\n\
            NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        let held = Held { devices_restricted: true, ..Held::default() };
        let seen = parse(status, LIMITS, held).unwrap();
        assert_eq!(seen.effective.names(), ["CAP_KILL"]);
        assert_eq!(seen.bounding, Capabilities::DEFAULT);
        assert!(seen.seccomp_filter && seen.no_new_privileges && seen.core_dumps);
        assert!(seen.held.devices_restricted && !seen.held.privileged);
        assert_eq!(parse("Name:\tsh\n", LIMITS, held), None);
        let held_to = |limit| LIMITS.replace("unlimited", limit);
        let dumps = |limit| parse(status, &held_to(limit), held).unwrap().core_dumps;
        assert!(!dumps("0") && !dumps("1") && dumps("4096"));
    }

    #[test]
    fn this_process_tells_as_well() {
        assert!(of(std::process::id().cast_signed(), Held::default()).is_some());
        assert_eq!(of(-1, Held::default()), None);
    }
}
