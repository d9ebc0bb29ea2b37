//! Leaves, and waiting for a cgroup to become empty, or to stand still.

use std::time::Duration;

use aurae_kernel::cgroup::{Cgroup, Events};
use aurae_kernel::{Errno, Error, Result, readiness};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::cells::{DAEMON_LEAF, LEAF_MARK};

/// After a kill another is sent if something is left by then.
pub const KILL_AGAIN: Duration = Duration::from_secs(1);

/// The leaves of `cgroup` in which workloads run, sorted: all but that of the zone's own daemon.
///
/// # Errors
/// What the kernel says.
pub fn workload_leaves(cgroup: &Cgroup) -> Result<Vec<String>> {
    let mut leaves: Vec<String> = cgroup.children()?.into_iter().collect();
    leaves.retain(|name| name.starts_with(LEAF_MARK) && name != DAEMON_LEAF);
    Ok(leaves)
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
