//! What a zone's daemon does to itself before it serves: a table, in reading order.

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::{Errno, Error, Result, process, zone};

use super::inside;
use super::protocol::Config;
use crate::runtime::cells::DAEMON_LEAF;

/// A step of the set-up.
struct Step {
    /// Whether this zone needs it.
    wanted: fn(&Config) -> bool,
    run: fn(&Config, &Cgroup) -> Result<()>,
}

/// The daemon reaches its cgroup by a descriptor from the mount namespace around, so that what is
/// read-only here is not so for it.
///
/// It was born where it stays: in its leaf, and in a cgroup namespace rooted at the zone's cgroup, whose
/// view `/sys/fs/cgroup` becomes. With users of its own it was born in the zone's cgroup itself: then it
/// makes the namespace, before the mounts, and goes into its leaf last, since no process may stand
/// in the zone's cgroup once controllers are enabled.
const STEPS: &[Step] = &[
    Step { wanted: always, run: |_, _| process::set_name(c"auraed") },
    Step { wanted: |config| !config.isolate_process, run: |_, _| process::become_subreaper() },
    Step { wanted: isolates_process, run: |config, _| zone::set_hostname(&config.name) },
    Step { wanted: has_users, run: |_, _| zone::unshare_cgroup() },
    Step { wanted: isolates_process, run: |_, _| zone::isolate_mounts() },
    Step {
        wanted: |config| config.api_socket,
        run: |_, _| zone::make_directory(inside::DIRECTORY),
    },
    Step { wanted: masks, run: |_, _| make_nodes_directory() },
    Step { wanted: |config| config.read_only_root, run: |_, _| zone::read_only("/") },
    Step { wanted: |config| config.read_only_root, run: |_, _| own_directory("/dev/shm") },
    Step { wanted: |config| config.private_tmp, run: |_, _| own_directory("/tmp") },
    Step { wanted: |config| config.private_tmp, run: |_, _| own_directory("/var/tmp") },
    // Those of the node are other people's: its root could read what they type.
    Step { wanted: isolates_process, run: |_, _| unless_missing(zone::mount_terminals()) },
    Step { wanted: isolates_process, run: |_, _| zone::mount_proc() },
    Step {
        wanted: |config| config.isolate_process && config.isolate_network,
        run: |_, _| zone::mount_sys(),
    },
    Step { wanted: masks, run: |_, _| unless_unmounted(zone::read_only("/sys")) },
    Step { wanted: isolates_process, run: |_, _| mount_cgroup() },
    // With `unmasked_paths` too: in a cgroup of its own making a program would have no device policy.
    Step {
        wanted: isolates_process,
        run: |_, _| unless_unmounted(zone::read_only("/sys/fs/cgroup")),
    },
    // Else another directory could be put in the place of the one that is covered.
    Step { wanted: masks, run: |_, _| unless_missing(zone::hold("/etc")) },
    Step { wanted: masks, run: |_, _| READ_ONLY.iter().try_for_each(|path| read_only(path)) },
    Step { wanted: masks, run: |_, _| cover(COVERED) },
    Step {
        wanted: |config| config.api_socket,
        run: |_, _| zone::mount_api_directory(inside::DIRECTORY),
    },
    Step { wanted: |config| config.isolate_network, run: |_, _| zone::loopback_up() },
    Step { wanted: has_users, run: |_, cgroup| enter_leaf(cgroup) },
    Step { wanted: always, run: |_, _| protect_from_oom() },
];

/// What of the kernel's own files is read-only in an isolated zone, beside all of `/sys`: what changes
/// the machine.
const READ_ONLY: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Where the node's key is, and the policies that it reads again when they change.
const NODES_FILES: &str = "/etc/aurae";

/// What is covered in an isolated zone: the node's own files, and of the kernel's what tells of the machine, and of
/// processes that are not the zone's.
const COVERED: &[&str] = &[
    NODES_FILES,
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Runs the table.
///
/// # Errors
/// The first step that the kernel refuses.
pub(super) fn run(config: &Config, cgroup: &Cgroup) -> Result<()> {
    let wanted = STEPS.iter().filter(|step| (step.wanted)(config));
    wanted.into_iter().try_for_each(|step| (step.run)(config, cgroup))
}

fn always(_config: &Config) -> bool {
    true
}

fn has_users(config: &Config) -> bool {
    config.users().is_some()
}

/// Whether parts of `/proc` and `/sys` are covered.
pub(super) fn masks(config: &Config) -> bool {
    config.isolate_process && !config.unmasked_paths
}

/// Which of these files there are depends on how the kernel was built.
fn unless_missing(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(Error { errno: Errno::NOENT, .. }) => Ok(()),
        outcome => outcome,
    }
}

/// Where the kernel's files are not mounted at all, nobody can write to them.
fn unless_unmounted(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(Error { errno: Errno::INVAL | Errno::NOENT, .. }) => Ok(()),
        outcome => outcome,
    }
}

fn read_only(path: &str) -> Result<()> {
    unless_missing(zone::bind_read_only(path))
}

fn cover(paths: &[&str]) -> Result<()> {
    let mut cover = zone::Cover::default();
    paths.iter().try_for_each(|path| unless_missing(cover.cover(path)))
}

/// What is not there cannot be covered, and could be made, or read once somebody else has made it.
fn make_nodes_directory() -> Result<()> {
    match zone::make_directory(NODES_FILES) {
        // The node's file system is read-only, or its owner is nobody that this zone's root could be.
        Err(Error { errno: Errno::ACCESS | Errno::PERM | Errno::ROFS, .. }) => Ok(()),
        outcome => outcome,
    }
}

fn own_directory(path: &str) -> Result<()> {
    unless_missing(zone::mount_own(path))
}

fn isolates_process(config: &Config) -> bool {
    config.isolate_process
}

/// The node's own mount goes first: all mounts of cgroup v2 are one file system, and the kernel puts
/// none over another, so the zone would go on seeing, and writing, the node's whole tree.
fn mount_cgroup() -> Result<()> {
    match zone::unmount_cgroup() {
        // Nothing is mounted there.
        Err(Error { errno: Errno::INVAL | Errno::NOENT, .. }) => {}
        outcome => outcome?,
    }
    let mounted = match zone::mount_cgroup() {
        // In a user namespace what came in from outside cannot be taken off. It can be covered.
        Err(Error { errno: Errno::BUSY, .. }) => {
            zone::Cover::default().cover("/sys/fs/cgroup")?;
            zone::mount_cgroup()
        }
        mounted => mounted,
    };
    // There is no such directory: then there is no view of cgroups either.
    unless_missing(mounted)
}

fn enter_leaf(cgroup: &Cgroup) -> Result<()> {
    cgroup.create_child(DAEMON_LEAF)?.enter()?;
    cgroup.enable_controllers()?;
    Ok(())
}

/// Workloads go first. Without the capability for it (a daemon in a container) the score stays.
fn protect_from_oom() -> Result<()> {
    match process::set_oom_score(process::OOM_SCORE_PROTECTED) {
        Err(Error { errno: Errno::ACCESS | Errno::PERM, .. }) => Ok(()),
        outcome => outcome,
    }
}
