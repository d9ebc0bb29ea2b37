//! Leaves, and waiting for a cgroup to become empty, or to stand still.

use std::os::fd::AsFd;
use std::time::Duration;

use aurae_kernel::cgroup::{Cgroup, Events};
use aurae_kernel::{Errno, Error, Result, process, readiness};
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::cells::{DAEMON_LEAF, LEAF_MARK};

/// After a kill another is sent if something is left by then.
pub const KILL_AGAIN: Duration = Duration::from_secs(1);

/// What was killed has so long to die before it is told that it does not: a process that waits in the
/// kernel, for a disk that does not answer for example, dies when that wait ends.
pub const KILL_TIMEOUT: Duration = Duration::from_secs(30);

/// Of the processes that do not die so many are named, for people.
const MAX_NAMED: usize = 16;
/// They are looked for in so many cgroups: a workload decides how many there are.
const MAX_LOOKED_AT: usize = 256;

/// Says which processes in the subtree of `cgroup` have not died.
#[must_use]
pub fn survivors(cgroup: &Cgroup) -> String {
    let mut found = Vec::new();
    let mut open: Vec<Cgroup> = cgroup.try_clone().into_iter().collect();
    for _ in 0..MAX_LOOKED_AT {
        let Some(at) = open.pop().filter(|_| found.len() < MAX_NAMED) else { break };
        // What goes meanwhile is no survivor.
        found.extend(at.processes().unwrap_or_default());
        let below = at.children().unwrap_or_default();
        open.extend(below.iter().take(MAX_LOOKED_AT).filter_map(|name| at.open_child(name).ok()));
    }
    let numbers = found.iter().take(MAX_NAMED).map(|pid| pid.as_raw_nonzero().to_string());
    let numbers = numbers.collect::<Vec<_>>().join(", ");
    format!("processes {numbers} have not died {} s after SIGKILL", KILL_TIMEOUT.as_secs())
}

/// The leaves of `cgroup` in which workloads run, sorted: all but that of the zone's own daemon.
///
/// # Errors
/// What the kernel says.
pub fn workload_leaves(cgroup: &Cgroup) -> Result<Vec<String>> {
    let mut leaves: Vec<String> = cgroup.children()?.into_iter().collect();
    leaves.retain(|name| name.starts_with(LEAF_MARK) && name != DAEMON_LEAF);
    Ok(leaves)
}

/// So many processes are held by a descriptor at once while they are signalled.
const SIGNALLED_AT_ONCE: usize = 64;

/// Sends a signal to every process that is in `cgroup` itself, and to no other: one that has ended may
/// have left its number to somebody else by the time that it is opened, and then is not listed any more.
///
/// # Errors
/// What the kernel says.
pub fn signal_all(cgroup: &Cgroup, signal: Signal) -> Result<()> {
    for pids in cgroup.processes()?.chunks(SIGNALLED_AT_ONCE) {
        let mut opened = Vec::with_capacity(pids.len());
        for pid in pids {
            match process::open_pidfd(*pid) {
                Err(error) if error.errno == Errno::SRCH => {}
                pidfd => opened.push((*pid, pidfd?)),
            }
        }
        let listed = cgroup.processes()?;
        for (pid, pidfd) in opened.iter().filter(|(pid, _)| listed.contains(pid)) {
            match process::signal_pidfd(pidfd.as_fd(), signal) {
                Err(error) if error.errno != Errno::SRCH => return Err(error),
                _ => tracing::trace!(pid = pid.as_raw_nonzero(), "sent a signal"),
            }
        }
    }
    Ok(())
}

/// What is done to a leaf that may go meanwhile, when what ran in it has ended.
///
/// # Errors
/// What the kernel says of a leaf that is there.
pub fn unless_gone(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(Error { errno: Errno::NOENT | Errno::NODEV, .. }) => Ok(()),
        outcome => outcome,
    }
}

/// A cgroup whose events can be awaited.
#[derive(Debug)]
pub struct Watched {
    events: AsyncFd<Events>,
}

impl Watched {
    /// Watches `cgroup`.
    ///
    /// # Errors
    /// `cgroup.events` cannot be opened or polled.
    pub fn new(cgroup: &Cgroup) -> Result<Self> {
        let events = readiness::register(cgroup.events()?, Interest::PRIORITY)
            .map_err(|error| poll_failed(&error))?;
        Ok(Self { events })
    }

    /// Kills what is in the subtree of `cgroup`, again and again until nothing is: a process may be
    /// moved in, or be born there, after a kill.
    ///
    /// # Errors
    /// The kernel does not tell, or does not let it.
    pub async fn kill(&self, cgroup: &Cgroup) -> Result<()> {
        loop {
            cgroup.kill()?;
            if let Ok(emptied) = tokio::time::timeout(KILL_AGAIN, self.empty()).await {
                return emptied;
            }
        }
    }

    /// Waits until no process is left in the subtree.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub async fn empty(&self) -> Result<()> {
        while self.events.get_ref().populated()? {
            self.changed().await?;
        }
        Ok(())
    }

    /// Waits until every process in the subtree stands still.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub async fn frozen(&self) -> Result<()> {
        while !self.events.get_ref().frozen()? {
            self.changed().await?;
        }
        Ok(())
    }

    async fn changed(&self) -> Result<()> {
        let ready = self.events.ready(Interest::PRIORITY).await;
        ready.map_err(|error| poll_failed(&error))?.clear_ready();
        Ok(())
    }
}

fn poll_failed(error: &std::io::Error) -> Error {
    Error::from_io("poll cgroup.events", error)
}
