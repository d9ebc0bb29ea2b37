//! What is known of an executable.

use std::sync::Arc;
use std::time::SystemTime;

use aurae_kernel::process::Exit;

use crate::zone::parent::Numbers;

/// An executable as it was at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What does not change.
    pub facts: Arc<Facts>,
    /// What it is doing.
    pub phase: Phase,
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
    /// The first process, as this daemon's pid namespace numbers it.
    pub pid: i32,
    /// How the daemons above number it.
    pub numbers: Option<Numbers>,
    /// The user it runs as.
    pub uid: u32,
    /// The group it runs as.
    pub gid: u32,
    /// When it was started.
    pub started: SystemTime,
}

/// What an executable is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its first process runs.
    Running,
    /// It was told to stop.
    Stopping,
    /// No process of its tree is left.
    Ended(Outcome),
}

/// How an executable ended.
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
    /// How it ended, once it has.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Ended(outcome) => Some(*outcome),
            Self::Running | Self::Stopping => None,
        }
    }
}
