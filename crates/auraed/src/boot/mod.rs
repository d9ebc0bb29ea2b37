//! Pid 1: what the daemon does before and after being a daemon when it is the node's init.
//!
//! ```text
//! early    mounts → console → command line → host name → limits → sysctls → modules → clock →
//!          entropy → cgroups → certificates → Ctrl-Alt-Del   one thread, no runtime, in this order
//! network  loopback, interfaces, DHCP leases            a task beside the API, for as long as it runs
//! signals  SIGTERM, SIGPWR, power button … → Shutdown   another one
//! finish   SIGTERM → SIGKILL → sync → swap off → unmount → sync → power off or restart
//! ```
//!
//! No phase can keep the API from coming up: what fails is written on the console, kept in the
//! [`Status`] for the API to tell, and the next phase begins. Nothing here panics or exits; pid 1 must
//! not. `docs/init.md` is the operator's view: the settings, the mounts, the signals, the deadlines.

mod certificates;
mod command_line;
mod finish;
mod label;
mod modules;
mod mounts;
mod network;
mod phases;
mod power_button;
mod report;
mod signals;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use self::certificates::Beside;
pub use self::command_line::{LogFormat, Settings};
pub use self::finish::finish;
use self::modules::Modules;
pub use self::network::run as network;
pub use self::network::settings::{InterfaceSetting, Method, NetworkSettings, StaticAddress};
pub use self::signals::run as signals;
use crate::cpu_time;
use crate::status::Status;

/// The initial pid namespace's inode number (`PROC_PID_INIT_INO` of the kernel).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// What the early boot found out.
#[derive(Clone, Debug, Default)]
pub struct Boot {
    /// What the kernel command line sets, to be merged with the daemon's defaults.
    pub settings: Settings,
}

/// Whether this process is the machine's init: pid 1, and not that of a container or a cell.
#[must_use]
pub fn is_init() -> bool {
    let first = rustix::process::getpid() == rustix::process::Pid::INIT;
    // Before anybody has mounted /proc there is nobody who could have made a pid namespace.
    let namespace = fs::read_link("/proc/self/ns/pid");
    first && namespace.map_or(true, |link| link == Path::new(INITIAL_PID_NAMESPACE))
}

/// Makes a node of the machine. Call it once, before the process has a second thread, and only if
/// [`is_init`].
pub fn early(status: &Status) -> Boot {
    guard(status, "mounts", || mounts::run(status));
    guard(status, "console", || phases::console(status));
    let mut settings =
        guard(status, "command-line", || phases::command_line(status)).unwrap_or_default();
    guard(status, "hostname", || phases::host_name(settings.host_name.as_deref(), status));
    guard(status, "limits", || phases::limits(status));
    guard(status, "sysctls", || phases::sysctls(status));
    let parameters = std::mem::take(&mut settings.module_parameters);
    let mut modules =
        guard(status, "modules", || Modules::open(parameters, status)).unwrap_or_default();
    guard(status, "modules", || modules.run(&settings.modules, status));
    guard(status, "clock", || phases::clock(status));
    guard(status, "entropy", || phases::entropy(status));
    guard(status, "cgroups", || phases::cgroups(status));
    let beside = guard(status, "certificates", || {
        certificates::run(settings.config_device.as_deref(), &mut modules, status)
    });
    beside.unwrap_or_else(Beside::in_place).add_to(&mut settings);
    guard(status, "ctrl-alt-del", || phases::ctrl_alt_del(status));
    let spent = cpu_time::spent_ms();
    report::say(&format!("the machine is set up; that took {spent} ms of CPU time"));
    Boot { settings }
}

/// The phases of [`early`] that [`again`] does not repeat.
const EARLY: [&str; 11] = [
    "mounts",
    "console",
    "hostname",
    "limits",
    "sysctls",
    "modules",
    "clock",
    "entropy",
    "cgroups",
    "certificates",
    "ctrl-alt-del",
];

/// Whether a phase was of the machine's boot: a version of the daemon that takes over is told how it
/// went.
pub(crate) fn is_early(phase: &str) -> bool {
    EARLY.contains(&phase)
}

/// What [`early`] found out, where another version of the daemon made a node of the machine already.
pub(crate) fn again(status: &Status) -> Boot {
    let settings = guard(status, "command-line", || phases::command_line(status));
    let mut settings = settings.unwrap_or_default();
    Beside::in_place().add_to(&mut settings);
    Boot { settings }
}

/// Runs a phase so that even a panic in it, which would be a bug, ends the phase alone: the end of pid 1
/// is the machine's.
fn guard<T>(status: &Status, phase: &'static str, work: impl FnOnce() -> T) -> Option<T> {
    let outcome = catch_unwind(AssertUnwindSafe(work));
    if outcome.is_err() {
        report::degrade(
            status,
            phase,
            "the phase panicked, which is a bug; the console says where",
        );
    }
    outcome.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_that_panics_ends_alone_and_is_named() {
        let status = Status::default();
        assert_eq!(guard(&status, "mounts", || 1), Some(1));
        assert_eq!(guard(&status, "modules", || -> u8 { panic!("a bug") }), None);
        let degraded = status.degraded();
        assert_eq!(degraded.len(), 1);
        assert_eq!(degraded[0].phase, "modules");
    }
}
