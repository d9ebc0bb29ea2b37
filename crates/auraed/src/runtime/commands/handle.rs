//! What the rest of the daemon sees of the commands.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::spawn::{Child, Image, Namespaces, Spawn, SpawnError};
use aurae_model::Command;
use tokio::sync::{Semaphore, mpsc, watch};

use super::LEAF_PREFIX;
use super::runner::{OUTPUT_QUEUE, Output, Runner};
use crate::runtime::confine::{ConfineError, DeviceKeeper, Restraint};
use crate::runtime::executables::{Leaf, Program, WORKLOAD_OOM_SCORE, WORKLOAD_OPEN_FILES};
use crate::runtime::freezer::{Freezer, Frozen};
use crate::runtime::reaper::{ExitReceiver, Reaper};
use crate::runtime::stdio::{Controls, ProcessEnds, Stdio, Wanted};

/// So many may run at once in one zone: each has a call of its own, a task, five descriptors, and up
/// to 128 KiB of output that waits.
const MAX_COMMANDS: u32 = 256;

/// A handle to the commands of this zone; clones share them.
#[derive(Clone, Debug)]
pub struct Commands {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The zone's cgroup, under which each command gets its leaf.
    cgroup: Arc<Cgroup>,
    reaper: Reaper,
    freezer: Freezer,
    /// Who restricts their devices.
    devices: DeviceKeeper,
    /// The number of the next leaf.
    next: AtomicU64,
    /// One for each command that may run.
    slots: Arc<Semaphore>,
    closing: watch::Sender<bool>,
}

/// A command that runs. It is killed when its outputs are dropped.
#[derive(Debug)]
pub struct Running {
    /// Its first process.
    pub pid: i32,
    /// What can be done to it.
    pub controls: Controls,
    /// What it writes, and at last how it ended.
    pub outputs: mpsc::Receiver<Output>,
}

/// Why a command was not run. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The zone is being ended.
    #[error("the command was not run: the zone is ending")]
    Closing,
    /// The zone is frozen.
    #[error("the command was not run")]
    Frozen(#[from] Frozen),
    /// Too many run.
    #[error("the command was not run: {MAX_COMMANDS} run already")]
    TooMany,
    /// The program is not there, or may not be executed.
    #[error("failed to execute {program}")]
    Program {
        /// As asked for.
        program: String,
        /// What the kernel said.
        #[source]
        errno: aurae_kernel::Errno,
    },
    /// Its pipes or its terminal could not be made.
    #[error("failed to make the input and outputs of the command")]
    Stdio(#[source] aurae_kernel::Error),
    /// Its cgroup could not be made.
    #[error(transparent)]
    Kernel(#[from] aurae_kernel::Error),
    /// It cannot be held to what it may do.
    #[error("the command was not run")]
    Confine(#[from] ConfineError),
    /// The kernel refused a step on the way.
    #[error("failed to run {program} in {directory}")]
    Spawn {
        /// Its program.
        program: String,
        /// Its working directory.
        directory: String,
        /// The step, and what the kernel said.
        #[source]
        source: SpawnError,
    },
}

impl Commands {
    /// No commands yet, in the zone that `cgroup` is.
    #[must_use]
    pub fn new(
        cgroup: Arc<Cgroup>,
        reaper: Reaper,
        freezer: Freezer,
        devices: DeviceKeeper,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(MAX_COMMANDS as usize));
        let (next, closing) = (AtomicU64::default(), watch::Sender::new(false));
        Self { shared: Arc::new(Shared { cgroup, reaper, freezer, devices, next, slots, closing }) }
    }

    /// Runs a command. It blocks until the program was executed. Must be called on a runtime.
    ///
    /// # Errors
    /// As [`CommandError`] says.
    pub fn run(&self, command: &Command) -> Result<Running, CommandError> {
        let shared = &self.shared;
        // Taken first: who closes waits for it, or is seen to have closed.
        let slot = Arc::clone(&shared.slots).try_acquire_owned();
        let closing = shared.closing.subscribe();
        if *closing.borrow() {
            return Err(CommandError::Closing);
        }
        let slot = slot.map_err(|_| CommandError::TooMany)?;
        let _passage = shared.freezer.pass()?;
        let program = Program::of_command(command).map_err(|errno| CommandError::Program {
            program: command.arguments.first().cloned().unwrap_or_default(),
            errno,
        })?;
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let restraint = Restraint::prepare(&command.security, shared.devices)?;
        let leaf = Leaf::create(&shared.cgroup, format!("{LEAF_PREFIX}{number}"))?;
        restraint.hold(&leaf.cgroup)?;
        let (stdio, ends) = Stdio::open(wanted(command)).map_err(CommandError::Stdio)?;
        let (child, exit) = self.spawn(command, &program, &leaf, &restraint, &ends)?;
        drop(ends);
        let controls = stdio.controls(shared.reaper.clone(), child.pid);
        let (sender, outputs) = mpsc::channel(OUTPUT_QUEUE);
        tokio::spawn(Runner { leaf, exit, stdio, outputs: sender, closing, slot }.run());
        Ok(Running { pid: child.pid.as_raw_nonzero().get(), controls, outputs })
    }

    fn spawn(
        &self,
        command: &Command,
        program: &Program,
        leaf: &Leaf,
        restraint: &Restraint<'_>,
        ends: &ProcessEnds,
    ) -> Result<(Child, ExitReceiver), CommandError> {
        let spawn = Spawn {
            image: Image::Path(&program.path),
            arguments: &program.arguments,
            environment: &program.environment,
            cgroup: Some(leaf.cgroup.as_fd()),
            namespaces: Namespaces::default(),
            cgroup_namespace: None,
            descriptors: &ends.descriptors(),
            terminal: command.terminal.is_some(),
            directory: Some(&program.directory),
            uid: command.uid,
            gid: command.gid,
            oom_score: Some(WORKLOAD_OOM_SCORE),
            open_files: Some(WORKLOAD_OPEN_FILES),
            confinement: restraint.confinement(),
        };
        self.shared.reaper.spawn(&spawn).map_err(|source| CommandError::Spawn {
            program: program.path.to_string_lossy().into_owned(),
            directory: command.working_directory.clone(),
            source,
        })
    }

    /// Kills all commands, and takes no more.
    pub fn close(&self) {
        self.shared.closing.send_replace(true);
    }

    /// Answers when no command is left; there are no more once they are closed.
    pub async fn all_ended(&self) {
        // Nobody closes the semaphore.
        let _ = self.shared.slots.acquire_many(MAX_COMMANDS).await;
    }
}

fn wanted(command: &Command) -> Wanted {
    let Command { stdin, terminal, uid, gid, .. } = command;
    Wanted { stdin: *stdin, terminal: *terminal, uid: *uid, gid: *gid }
}
