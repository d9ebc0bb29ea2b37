//! Pid 1: what the daemon does before and after being a daemon when it is the node's init.
//!
//! ```text
//! early    mounts → console → command line → host name → limits → modules → clock → entropy →
//!          cgroups → certificates → Ctrl-Alt-Del        one thread, no runtime, in this order
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
use std::path::Path;

pub use self::command_line::{LogFormat, Settings};
pub use self::finish::finish;
use self::modules::Modules;
pub use self::network::run as network;
pub use self::network::settings::{InterfaceSetting, Method, NetworkSettings, StaticAddress};
pub use self::signals::run as signals;
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
    mounts::run(status);
    if let Err(error) = aurae_kernel::console::attach() {
        report::degrade_with(status, "console", &error);
    }
    let mut settings = phases::command_line(status);
    phases::host_name(settings.host_name.as_deref(), status);
    phases::limits(status);
    let mut modules = Modules::open(std::mem::take(&mut settings.module_parameters), status);
    modules.run(&settings.modules, status);
    phases::clock(status);
    phases::entropy(status);
    phases::cgroups(status);
    certificates::run(settings.config_device.as_deref(), &mut modules, status);
    phases::ctrl_alt_del(status);
    Boot { settings }
}
