//! The end of a node: from the last process to the power switch. Each step has a deadline, says on the
//! console what it does, and is no condition of the next.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use aurae_kernel::mount::{self, MountPoint};
use aurae_kernel::power;
use rustix::process::Signal;

use super::report::say;
use crate::reply::text;
use crate::shutdown::Intent;

/// What is left after the executables were stopped is told to end, and gets this long.
const TERMINATE_DEADLINE: Duration = Duration::from_secs(5);
/// A killed process ends at once, unless it waits for a device.
const KILL_DEADLINE: Duration = Duration::from_secs(5);
/// A slow disk with much unwritten data: what is not written by then is lost rather than the node hung.
const SYNC_DEADLINE: Duration = Duration::from_secs(30);
/// Swap has to be read back into memory.
const SWAP_DEADLINE: Duration = Duration::from_secs(10);
/// All rounds of unmounting together.
const UNMOUNT_DEADLINE: Duration = Duration::from_secs(10);
/// How often it is looked whether processes are gone. Short: nothing else is left to do.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Unmounting one file system may free another, and the kernel lets go of the files of processes that
/// have ended a little later: so all are tried again, this often.
const UNMOUNT_ROUNDS: usize = 5;
/// How long between two rounds.
const UNMOUNT_INTERVAL: Duration = Duration::from_millis(50);
/// How long after a power switch that failed it is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// The mounts that stay: they hold nothing, and the console is on one of them.
const KEPT: &[&str] = &["/proc", "/sys", "/dev"];

/// Ends the node. Pid 1 has nowhere to return to: if the power switch fails, it is tried for ever.
pub fn finish(intent: Intent) -> ! {
    end_processes();
    with_deadline("writing out file systems", SYNC_DEADLINE, power::sync);
    with_deadline("stopping swap", SWAP_DEADLINE, stop_swap);
    with_deadline("unmounting file systems", UNMOUNT_DEADLINE, unmount_all);
    with_deadline("writing out what is still mounted", SYNC_DEADLINE, power::sync);
    loop {
        let result = match intent {
            Intent::Reboot => {
                say("restarting the machine");
                power::restart()
            }
            Intent::PowerOff | Intent::Exit | Intent::Replace => {
                say("switching the machine off");
                power::power_off()
            }
        };
        match result {
            Ok(()) => say("the machine is still on"),
            Err(error) => say(&text(&error)),
        }
        thread::sleep(RETRY_INTERVAL);
    }
}

fn end_processes() {
    for (signal, name, deadline) in
        [(Signal::TERM, "SIGTERM", TERMINATE_DEADLINE), (Signal::KILL, "SIGKILL", KILL_DEADLINE)]
    {
        if !power::reap_all() {
            return;
        }
        say(&format!("sending {name} to the processes that are left"));
        for signal in [signal, Signal::CONT] {
            if let Err(error) = power::signal_all(signal) {
                say(&text(&error));
            }
        }
        let end = Instant::now() + deadline;
        while power::reap_all() && Instant::now() < end {
            thread::sleep(POLL_INTERVAL);
        }
    }
    if power::reap_all() {
        say(&format!("processes are left after {} s: going on", KILL_DEADLINE.as_secs()));
    }
}

/// Runs a step in a thread of its own, so that one that hangs in the kernel is left behind.
fn with_deadline(step: &str, deadline: Duration, work: impl FnOnce() + Send + 'static) {
    say(step);
    let (done, wait) = mpsc::channel();
    let spawned = thread::Builder::new().spawn(move || {
        work();
        let _ = done.send(());
    });
    match spawned {
        Ok(_) => {
            // An error other than the deadline means that the step ended by a panic: as good as done.
            if wait.recv_timeout(deadline) == Err(mpsc::RecvTimeoutError::Timeout) {
                say(&format!("{step}: not done after {} s: going on", deadline.as_secs()));
            }
        }
        Err(error) => say(&format!("{step}: failed to start a thread: {error}")),
    }
}

fn stop_swap() {
    for area in swap_areas(&fs::read_to_string("/proc/swaps").unwrap_or_default()) {
        if let Err(error) = power::swap_off(&area) {
            say(&text(&error));
        }
    }
}

/// `/proc/swaps` is a table with a heading, whose first column is the file.
fn swap_areas(table: &str) -> Vec<PathBuf> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_ascii_whitespace().next())
        .map(PathBuf::from)
        .collect()
}

fn unmount_all() {
    for round in 1..=UNMOUNT_ROUNDS {
        let errors: Vec<_> = targets(&mount::mounted().unwrap_or_default())
            .iter()
            .filter_map(|target| mount::unmount(target).err())
            .collect();
        if errors.is_empty() {
            break;
        }
        if round == UNMOUNT_ROUNDS {
            errors.iter().for_each(|error| say(&text(error)));
        } else {
            thread::sleep(UNMOUNT_INTERVAL);
        }
    }
    let devices: BTreeSet<String> = mount::filesystems()
        .unwrap_or_default()
        .into_iter()
        .filter(|kind| kind.device)
        .map(|kind| kind.name)
        .collect();
    for mount in mount::mounted().unwrap_or_default() {
        if devices.contains(&mount.filesystem)
            && let Err(error) = mount::remount_read_only(&mount.target)
        {
            say(&text(&error));
        }
    }
}

/// What is to be unmounted: the last mount first.
fn targets(mounts: &[MountPoint]) -> Vec<&Path> {
    mounts
        .iter()
        .rev()
        .map(|mount| mount.target.as_path())
        .filter(|target| *target != Path::new("/"))
        .filter(|target| !KEPT.iter().any(|kept| *target == Path::new(kept)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(targets: &[&str]) -> Vec<MountPoint> {
        targets
            .iter()
            .map(|target| MountPoint {
                target: target.into(),
                filesystem: "tmpfs".into(),
                source: "tmpfs".into(),
            })
            .collect()
    }

    #[test]
    fn the_last_mount_is_undone_first_and_the_console_stays() {
        let mounts = mounts(&["/", "/proc", "/sys", "/dev", "/dev/pts", "/data", "/data/deep"]);
        let targets = targets(&mounts);
        let expected: Vec<&Path> = ["/data/deep", "/data", "/dev/pts"].map(Path::new).to_vec();
        assert_eq!(targets, expected);
    }

    #[test]
    fn swap_areas_are_read_from_their_table() {
        let table = "Filename\tType\tSize\tUsed\tPriority\n/dev/vdb   partition\t1\t0\t-2\n";
        assert_eq!(swap_areas(table), [PathBuf::from("/dev/vdb")]);
        assert!(swap_areas("").is_empty());
    }

    #[test]
    fn a_step_that_hangs_is_left_behind() {
        let (_keep, hang) = mpsc::channel::<()>();
        with_deadline("hanging", Duration::from_millis(1), move || {
            let _ = hang.recv();
        });
    }
}
