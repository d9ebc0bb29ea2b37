//! What is known of an executable.

use std::sync::Arc;
use std::time::SystemTime;

use aurae_kernel::process::Exit;

use super::attach::Attachable;
use super::privileges::{self, Privileges};
use crate::runtime::confine::Held;

use crate::zone::parent::Numbers;

/// An executable as it was at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What does not change.
    pub facts: Arc<Facts>,
    /// What does.
    pub status: Status,
}

impl Snapshot {
    /// What its first process may do, as the kernel tells it now; `None` when it does not run.
    #[must_use]
    pub fn privileges(&self) -> Option<Privileges> {
        let runs = matches!(self.status.phase, Phase::Running | Phase::Stopping);
        let run = &self.status.run;
        runs.then(|| privileges::of(run.pid, run.held)).flatten()
    }
}

/// What does not change while an executable lives.
#[derive(Debug)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// For people.
    pub description: String,
    /// `argv`, as executed.
    pub arguments: Vec<String>,
    /// The first process of its first run, as this daemon's pid namespace numbers it.
    pub first_pid: i32,
    /// The user it runs as.
    pub uid: u32,
    /// The group it runs as.
    pub gid: u32,
}

/// What changes while an executable lives.
#[derive(Clone, Debug)]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// The run that it is in, or the last one.
    pub run: RunStart,
    /// How often it was started again, or was tried to be.
    pub restarts: u32,
}

/// How a run of an executable began.
#[derive(Clone, Debug)]
pub struct RunStart {
    /// The first process, as this daemon's pid namespace numbers it.
    pub pid: i32,
    /// How the daemons above number it.
    pub numbers: Option<Numbers>,
    /// When it was started.
    pub started: SystemTime,
    /// What those who attach to it share; `None`: it has no input.
    pub(super) attachable: Option<Arc<Attachable>>,
    /// What it was held to.
    pub(super) held: Held,
}

/// What an executable is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its first process runs.
    Running,
    /// It was told to stop.
    Stopping,
    /// No process of its tree is left, and it will be started again.
    Restarting {
        /// How the last run ended.
        last: Outcome,
        /// When it will be started.
        next_start: SystemTime,
    },
    /// No process of its tree is left, and it will not be started again.
    Ended(Outcome),
}

/// How a run of an executable ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How its first process ended.
    pub exit: Exit,
    /// Whether the OOM killer ended a process of its tree.
    pub oom_killed: bool,
    /// When the first process ended.
    pub ended: SystemTime,
}

impl Phase {
    /// How it ended, once it has for good.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Ended(outcome) => Some(*outcome),
            Self::Running | Self::Stopping | Self::Restarting { .. } => None,
        }
    }

    /// How its last run ended, while there is no other.
    #[must_use]
    pub fn last_outcome(&self) -> Option<Outcome> {
        match self {
            Self::Ended(outcome) | Self::Restarting { last: outcome, .. } => Some(*outcome),
            Self::Running | Self::Stopping => None,
        }
    }
}
