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

/// Mounts come after the cgroup namespace, whose view `/sys/fs/cgroup` then is, and that after the
/// process stands in the zone's cgroup, where it was born. The leaf comes last: once controllers are
/// enabled, no process may stand in the zone's cgroup itself.
const STEPS: &[Step] = &[
    Step { wanted: always, run: |_, _| process::set_name(c"auraed") },
    Step { wanted: |config| !config.isolate_process, run: |_, _| process::become_subreaper() },
    Step { wanted: isolates_process, run: |config, _| zone::set_hostname(&config.name) },
    Step { wanted: isolates_process, run: |_, _| zone::unshare_cgroup() },
    Step { wanted: isolates_process, run: |_, _| zone::isolate_mounts() },
    Step { wanted: isolates_process, run: |_, _| zone::mount_proc() },
    Step {
        wanted: |config| config.isolate_process && config.isolate_network,
        run: |_, _| zone::mount_sys(),
    },
    Step { wanted: isolates_process, run: |_, _| mount_cgroup() },
    Step {
        wanted: |config| config.api_socket,
        run: |_, _| zone::mount_api_directory(inside::DIRECTORY),
    },
    Step { wanted: |config| config.isolate_network, run: |_, _| zone::loopback_up() },
    Step { wanted: always, run: |_, cgroup| enter_leaf(cgroup) },
    Step { wanted: always, run: |_, _| protect_from_oom() },
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
    match zone::mount_cgroup() {
        // There is no such directory: then there is no view of cgroups either.
        Err(Error { errno: Errno::NOENT, .. }) => Ok(()),
        outcome => outcome,
    }
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
