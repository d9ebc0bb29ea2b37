//! The small phases of the boot: console, command line, host name, limits, sysctls, clock, entropy, control
//! groups, Ctrl-Alt-Del.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use aurae_kernel::{console, mount, power};
use rustix::process::{Resource, Rlimit};
use rustix::rand::GetRandomFlags;

use super::command_line::{Parsed, Settings, parse};
use super::report;
use crate::status::Status;

/// The host name of a node that was given none.
const DEFAULT_HOST_NAME: &str = "aurae";

/// As many descriptors as a daemon with thousands of executables and connections may need; the kernel's
/// own default ceiling (`fs.nr_open`), which bounds it as well.
const DESCRIPTORS: u64 = 1_048_576;

/// 2026-01-01: no certificate of ours is older than this program.
const PROGRAM_EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// The controllers that cells need.
const CONTROLLERS: &[&str] = &["cpu", "cpuset", "io", "memory", "pids"];

/// Of /proc/sys/fs (proc_sys_fs(5)): in a sticky directory that all may write to, nobody is led by a link
/// of somebody else's, gives a second name to a file that is not theirs, or writes into a pipe or a file
/// that somebody else put there.
const SYSCTLS: &[(&str, &str)] = &[
    ("fs/protected_symlinks", "1"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_fifos", "1"),
    ("fs/protected_regular", "1"),
];

/// Opens the console where the kernel gave us none.
pub(super) fn console(status: &Status) {
    if let Err(error) = console::attach() {
        report::degrade_with(status, "console", &error);
    }
}

/// Reads the kernel command line.
pub(super) fn command_line(status: &Status) -> Settings {
    const PHASE: &str = "command-line";
    let line = match fs::read("/proc/cmdline") {
        Ok(line) => line,
        Err(error) => {
            report::degrade(status, PHASE, &format!("failed to read /proc/cmdline: {error}"));
            return Settings::default();
        }
    };
    let Parsed { settings, problems } = parse(&String::from_utf8_lossy(&line));
    for problem in problems {
        report::degrade(status, PHASE, &problem);
    }
    settings
}

/// Sets the host name.
pub(super) fn host_name(name: Option<&str>, status: &Status) {
    let name = name.unwrap_or(DEFAULT_HOST_NAME);
    if let Err(error) = rustix::system::sethostname(name.as_bytes()) {
        let message = format!("failed to set the host name to {name}: {error}");
        report::degrade(status, "hostname", &message);
    }
}

/// Raises the limit of open descriptors.
pub(super) fn limits(status: &Status) {
    let ceiling = fs::read_to_string("/proc/sys/fs/nr_open")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DESCRIPTORS);
    let limit = Some(DESCRIPTORS.min(ceiling));
    let wanted = Rlimit { current: limit, maximum: limit };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, wanted) {
        let message = format!("failed to raise the limit of open descriptors: {error}");
        report::degrade(status, "limits", &message);
    }
}

/// Sets what the kernel leaves open and an init closes. What this kernel lacks is left out.
pub(super) fn sysctls(status: &Status) {
    for (name, value) in SYSCTLS {
        let path = Path::new("/proc/sys").join(name);
        match fs::write(&path, value) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let message = format!("failed to set {name} to {value}: {error}");
                report::degrade(status, "sysctls", &message);
            }
            _ => {}
        }
    }
}

/// Checks that the clock is no older than this program: else no certificate would be valid yet.
pub(super) fn clock(status: &Status) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if now < PROGRAM_EPOCH {
        let message = format!(
            "the clock says {} s after 1970, which is before this program was made; certificates \
             will be refused as not yet valid until it is set",
            now.as_secs()
        );
        report::degrade(status, "clock", &message);
    }
}

/// Sees to it that the kernel's random numbers are good before the first key is made.
///
/// Hardware sources were found with the other devices (`virtio-rng`), and a CPU's own counts unless
/// `random.trust_cpu=off`. If neither gave enough, asking without `GRND_NONBLOCK` makes the kernel
/// collect timing jitter, which takes about a second.
pub(super) fn entropy(status: &Status) {
    let mut byte = [0_u8];
    if rustix::rand::getrandom(&mut byte, GetRandomFlags::NONBLOCK).is_ok() {
        return;
    }
    report::say("entropy: waiting for the kernel to collect randomness");
    if let Err(error) = rustix::rand::getrandom(&mut byte, GetRandomFlags::empty()) {
        report::degrade(status, "entropy", &format!("failed to get random numbers: {error}"));
    }
}

/// Checks that the kernel has control groups v2 with all controllers.
pub(super) fn cgroups(status: &Status) {
    const PHASE: &str = "cgroups";
    const ROOT: &str = "/sys/fs/cgroup";
    let unified = mount::mounted().is_ok_and(|mounts| {
        let mut at_root = mounts.iter().filter(|mount| mount.target == Path::new(ROOT));
        at_root.next_back().is_some_and(|mount| mount.filesystem == "cgroup2")
    });
    if !unified {
        let message = format!(
            "no cgroup2 file system on {ROOT}: cells cannot be allocated; check that the \
             kernel has CONFIG_CGROUPS"
        );
        return report::degrade(status, PHASE, &message);
    }
    let present =
        fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).unwrap_or_default();
    let missing = missing_controllers(&present);
    if !missing.is_empty() {
        let message = format!(
            "the kernel lacks the cgroup v2 controllers {}: limits that need them are refused",
            missing.join(", ")
        );
        report::degrade(status, PHASE, &message);
    }
}

fn missing_controllers(present: &str) -> Vec<&'static str> {
    let present: Vec<&str> = present.split_ascii_whitespace().collect();
    CONTROLLERS.iter().copied().filter(|name| !present.contains(name)).collect()
}

/// Makes Ctrl-Alt-Del a signal to us.
pub(super) fn ctrl_alt_del(status: &Status) {
    if let Err(error) = power::disable_ctrl_alt_del() {
        report::degrade_with(status, "ctrl-alt-del", &error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_that_is_missing_is_named() {
        assert_eq!(
            missing_controllers("cpuset cpu io memory hugetlb pids rdma"),
            Vec::<&str>::new()
        );
        assert_eq!(missing_controllers("cpu pids"), ["cpuset", "io", "memory"]);
    }
}
