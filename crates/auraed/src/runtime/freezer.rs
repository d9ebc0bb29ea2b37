//! Lets the processes of this daemon's zone stand still, all but the daemon itself.
//!
//! ```text
//!           freeze                 every leaf stands
//!   Open ───────────▶ Freezing ───────────────────────▶ Frozen
//!    ▲                  │ too late, or the zone ends       │
//!    └──────────────────┴───────── thaw, end ──────────────┘
//! ```
//!
//! Who starts a process needs a [`Passage`], and there is none while the gate is shut. A child that
//! was born into a frozen leaf would never reach `execve`, and the daemon waits for that.

use std::sync::Arc;
use std::time::Duration;

use aurae_kernel::Error;
use aurae_kernel::cgroup::Cgroup;
use tokio::sync::watch;

use super::cgroup::{Watched, unless_gone, workload_leaves};

/// How long processes may take to come to stand. One that waits for a device does not before that
/// answers.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(10);

/// A handle to what lets a zone stand still; clones share it.
#[derive(Clone, Debug)]
pub struct Freezer {
    cgroup: Arc<Cgroup>,
    gate: watch::Sender<Gate>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    shut: bool,
    /// Starts under way.
    passing: usize,
    /// The zone ends: the gate is not shut any more.
    ending: bool,
}

/// Nothing is started in the zone now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cell is frozen; thaw it first")]
pub struct Frozen;

/// Why a zone was not frozen. It goes on as before.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// Some process did not come to stand.
    #[error(
        "not all processes came to stand in {} s, and the cell was thawed; try again",
        FREEZE_TIMEOUT.as_secs()
    )]
    Timeout,
    /// The zone is being ended, or was thawed meanwhile.
    #[error("the cell was not frozen: it is ending, or was thawed meanwhile")]
    Thawed,
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] Error),
}

/// Lets one process be started; the zone is not frozen before it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Passage {
    gate: watch::Sender<Gate>,
}

impl Freezer {
    /// Nothing is frozen in the zone that `cgroup` is.
    #[must_use]
    pub fn new(cgroup: Arc<Cgroup>) -> Self {
        Self { cgroup, gate: watch::Sender::default() }
    }

    /// Lets the caller start a process.
    ///
    /// # Errors
    /// The zone is frozen.
    pub fn pass(&self) -> Result<Passage, Frozen> {
        let passed = self.gate.send_if_modified(|gate| {
            gate.passing += usize::from(!gate.shut);
            !gate.shut
        });
        if passed { Ok(Passage { gate: self.gate.clone() }) } else { Err(Frozen) }
    }

    /// As [`Self::pass`], and waits for it.
    pub async fn passage(&self) -> Passage {
        let mut gate = self.gate.subscribe();
        loop {
            if let Ok(passage) = self.pass() {
                return passage;
            }
            // The sender is here.
            let _ = gate.wait_for(|gate| !gate.shut).await;
        }
    }

    /// Whether the zone is frozen, or about to be.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.gate.borrow().shut
    }

    /// Freezes every leaf but the daemon's, and answers when all processes in them stand still.
    ///
    /// # Errors
    /// As [`FreezeError`] says; the zone was thawed then.
    pub async fn freeze(&self) -> Result<(), FreezeError> {
        let shut = self.gate.send_if_modified(|gate| {
            gate.shut = !gate.ending;
            gate.shut
        });
        if !shut {
            return Err(FreezeError::Thawed);
        }
        let mut gate = self.gate.subscribe();
        let frozen = tokio::select! {
            frozen = tokio::time::timeout(FREEZE_TIMEOUT, self.stand_still()) => frozen,
            _ = gate.wait_for(|gate| !gate.shut) => Ok(Err(FreezeError::Thawed)),
        };
        let frozen = frozen.unwrap_or(Err(FreezeError::Timeout));
        if frozen.is_err() {
            self.thaw()?;
        }
        frozen
    }

    /// Lets everything go on.
    ///
    /// # Errors
    /// What the kernel says of the first leaf that it does not thaw; the others are thawed.
    pub fn thaw(&self) -> Result<(), Error> {
        self.gate.send_modify(|gate| gate.shut = false);
        self.set_leaves(false)
    }

    /// Lets everything go on, for good: the zone ends.
    ///
    /// # Errors
    /// As [`Self::thaw`].
    pub fn end(&self) -> Result<(), Error> {
        self.gate.send_modify(|gate| gate.ending = true);
        if self.is_frozen() { self.thaw() } else { Ok(()) }
    }

    async fn stand_still(&self) -> Result<(), FreezeError> {
        // The sender is here.
        let _ = self.gate.subscribe().wait_for(|gate| gate.passing == 0).await;
        self.set_leaves(true)?;
        for leaf in workload_leaves(&self.cgroup)? {
            let stands = async { Watched::new(&self.cgroup.open_child(&leaf)?)?.frozen().await };
            unless_gone(stands.await)?;
        }
        Ok(())
    }

    fn set_leaves(&self, frozen: bool) -> Result<(), Error> {
        let set = |leaf: String| self.cgroup.open_child(&leaf)?.freeze(frozen);
        let outcomes =
            workload_leaves(&self.cgroup)?.into_iter().map(|leaf| unless_gone(set(leaf)));
        outcomes.fold(Ok(()), Result::and)
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.gate.send_modify(|gate| gate.passing -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// Of a zone without leaves: any directory is one.
    fn freezer(directory: &std::path::Path) -> Freezer {
        let cgroup = Cgroup::open(directory, std::path::Path::new("")).unwrap();
        Freezer::new(Arc::new(cgroup))
    }

    #[tokio::test]
    async fn a_freeze_waits_for_the_starts_under_way_and_refuses_others() {
        let directory = tempfile::tempdir().unwrap();
        let freezer = freezer(directory.path());
        let passage = freezer.pass().unwrap();
        let mut freezing = std::pin::pin!(freezer.freeze());
        assert!(freezing.as_mut().now_or_never().is_none());
        assert_eq!(freezer.pass().unwrap_err(), Frozen);
        drop(passage);
        freezing.await.unwrap();
        let mut waiting = std::pin::pin!(freezer.passage());
        assert!(waiting.as_mut().now_or_never().is_none());
        freezer.thaw().unwrap();
        drop(waiting.await);
        assert!(!freezer.is_frozen());
    }

    #[tokio::test]
    async fn a_zone_that_ends_is_thawed_and_not_frozen_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let freezer = freezer(directory.path());
        freezer.freeze().await.unwrap();
        freezer.end().unwrap();
        assert!(!freezer.is_frozen());
        assert!(matches!(freezer.freeze().await, Err(FreezeError::Thawed)));
    }
}
