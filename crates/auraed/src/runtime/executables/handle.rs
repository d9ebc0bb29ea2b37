//! What the rest of the daemon sees of the executables.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::spawn::SpawnError;
use aurae_model::{Executable, ExecutableName};
use rustix::process::Signal;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::LEAF_PREFIX;
use super::attach::{AttachError, Attachment};
use super::launch::Launcher;
use super::runner::{Again, Command, Runner};
use super::state::{Facts, Outcome, Phase, Snapshot, Status};
use crate::runtime::cgroup::{KILL_TIMEOUT, survivors};
use crate::runtime::changes::{Changes, ExecutableNews};
use crate::runtime::commands::Commands;
use crate::runtime::confine::{ConfineError, DeviceKeeper};
use crate::runtime::freezer::{Freezer, Frozen};
use crate::runtime::logs::{self, LogRing};
use crate::runtime::reaper::Reaper;
use crate::zone::parent::{Numbers, Parent};

/// Of the executables that have ended, so many are remembered; the oldest is forgotten first.
const MAX_ENDED: usize = 64;

/// The output of executables that have ended takes so much memory together; the oldest loses its
/// output first, and keeps its exit status. A zone's daemon pays for it from the cell's memory.
const MAX_ENDED_LOGS: usize = 8 << 20;

/// Of the arguments so many bytes are remembered, to be shown.
const MAX_SHOWN_ARGUMENTS: usize = 4096;

/// So many may run at once in one zone: each has five descriptors and a task.
const MAX_RUNNING: usize = 4096;

/// Commands to one executable that wait to be taken; the sender of one more waits.
const COMMAND_QUEUE: usize = 8;

/// A handle to the executables of this zone; clones share them.
#[derive(Clone, Debug)]
pub struct Executables {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    launcher: Arc<Launcher>,
    /// What runs in the zone for as long as somebody waits for it.
    commands: Commands,
    log_capacity: usize,
    table: Mutex<Table>,
    /// Told whenever a start has come to its end.
    started: Notify,
}

#[derive(Debug, Default)]
struct Table {
    records: BTreeMap<ExecutableName, Record>,
    /// Names whose start is under way.
    starting: BTreeSet<ExecutableName>,
    /// Names of records in the order in which they ended.
    ended: VecDeque<ExecutableName>,
    closing: bool,
}

#[derive(Clone, Debug)]
struct Record {
    status: watch::Receiver<Status>,
    facts: Arc<Facts>,
    /// What it has to end, unless a stop says otherwise.
    grace: Duration,
    commands: mpsc::Sender<Command>,
    logs: LogRing,
}

/// An executable that was started.
#[derive(Clone, Debug)]
pub struct Started {
    /// Its first process.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// How the daemons above number its first process.
    pub numbers: Option<Numbers>,
}

/// Why an executable was not started. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// One of that name runs.
    #[error("executable {0} already runs")]
    Exists(ExecutableName),
    /// The zone is being ended.
    #[error("executable {0} was not started: the zone is ending")]
    Closing(ExecutableName),
    /// The zone is frozen.
    #[error("executable {0} was not started")]
    Frozen(ExecutableName, #[source] Frozen),
    /// Too many run.
    #[error("executable {0} was not started: {MAX_RUNNING} run already")]
    TooMany(ExecutableName),
    /// The program is not there, or may not be executed.
    #[error("failed to execute {program}")]
    Program {
        /// As asked for.
        program: String,
        /// What the kernel said.
        #[source]
        errno: aurae_kernel::Errno,
    },
    /// Its cgroup could not be made.
    #[error(transparent)]
    Cgroup(#[from] aurae_kernel::Error),
    /// Its pipes, or its terminal, could not be made.
    #[error("failed to make the input and outputs of executable {name}")]
    Stdio {
        /// The executable.
        name: ExecutableName,
        /// What the kernel said.
        #[source]
        source: aurae_kernel::Error,
    },
    /// It cannot be held to what it may do.
    #[error("executable {name} was not started")]
    Confine {
        /// The executable.
        name: ExecutableName,
        /// What cannot be done.
        #[source]
        source: ConfineError,
    },
    /// The kernel refused a step on the way.
    #[error("failed to start executable {name} ({program} in {directory})")]
    Spawn {
        /// The executable.
        name: ExecutableName,
        /// Its program.
        program: String,
        /// Its working directory.
        directory: String,
        /// The step, and what the kernel said.
        #[source]
        source: SpawnError,
    },
}

/// There is no executable of that name.
#[derive(Debug, thiserror::Error)]
#[error("executable {0} does not exist")]
pub struct NoSuchExecutable(pub ExecutableName);

/// Why an executable was not stopped.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// There is no executable of that name.
    #[error(transparent)]
    Missing(#[from] NoSuchExecutable),
    /// Something of it does not die.
    #[error("executable {0} has not stopped yet: {1}; it ends when they do")]
    Undead(ExecutableName, String),
}

/// Why a signal was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// There is no executable of that name.
    #[error(transparent)]
    Missing(#[from] NoSuchExecutable),
    /// It has ended.
    #[error("executable {0} has ended")]
    Ended(ExecutableName),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] aurae_kernel::Error),
}

impl Executables {
    /// No executables yet, in the zone that `cgroup` is. A zone names its processes on `parent`; `devices`
    /// says who restricts theirs.
    #[must_use]
    pub fn new(
        cgroup: Arc<Cgroup>,
        reaper: Reaper,
        log_capacity: usize,
        parent: Option<Parent>,
        devices: DeviceKeeper,
    ) -> Self {
        let freezer = Freezer::new(Arc::clone(&cgroup));
        let commands = Commands::new(Arc::clone(&cgroup), reaper.clone(), freezer.clone(), devices);
        let changes = Changes::default();
        let launcher = Arc::new(Launcher { cgroup, reaper, parent, freezer, changes, devices });
        let (table, started) = (Mutex::default(), Notify::new());
        Self { shared: Arc::new(Shared { launcher, commands, log_capacity, table, started }) }
    }

    /// What lets the zone's processes stand still.
    #[must_use]
    pub fn freezer(&self) -> &Freezer {
        &self.shared.launcher.freezer
    }

    /// What changed in the zone. It is new, as a zone's daemon is started once.
    #[must_use]
    pub fn changes(&self) -> &Changes {
        &self.shared.launcher.changes
    }

    /// Starts an executable. It blocks until the program was executed.
    ///
    /// # Errors
    /// As [`StartError`] says.
    pub fn start(&self, executable: &Executable) -> Result<Started, StartError> {
        let passage = self.freezer().pass();
        let passage =
            passage.map_err(|frozen| StartError::Frozen(executable.name.clone(), frozen))?;
        let reservation = self.reserve(&executable.name)?;
        let run = self.shared.launcher.launch(executable, passage)?;
        let facts = Arc::new(Facts {
            name: executable.name.to_string(),
            description: executable.description.clone(),
            arguments: shown(executable.program.arguments()),
            first_pid: run.start.pid,
            uid: executable.uid.unwrap_or_else(|| rustix::process::geteuid().as_raw()),
            gid: executable.gid.unwrap_or_else(|| rustix::process::getegid().as_raw()),
        });
        let numbers = run.start.numbers.clone();
        let started = Started { pid: facts.first_pid, uid: facts.uid, gid: facts.gid, numbers };
        let logs = LogRing::new(executable.log_capacity.unwrap_or(self.shared.log_capacity));
        let status = Status { phase: Phase::Running, run: run.start.clone(), restarts: 0 };
        let (publisher, status) = watch::channel(status);
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        let runner = Runner {
            name: executable.name.as_str().into(),
            launcher: Arc::clone(&self.shared.launcher),
            again: Again::of(executable),
            stop: executable.stop,
            logs: logs.clone(),
            status: publisher,
            commands: queue,
        };
        let grace = executable.stop.grace;
        reservation.fulfil(Record { status, facts, grace, commands, logs });
        runner.tell(ExecutableNews::Started);
        let (of_task, name) = (self.clone(), executable.name.clone());
        tokio::spawn(async move {
            runner.run(run).await;
            of_task.note_ended(name);
        });
        Ok(started)
    }

    /// Takes the name, so that two starts at once cannot both have it.
    fn reserve(&self, name: &ExecutableName) -> Result<Reservation<'_>, StartError> {
        let mut table = self.table();
        if table.closing {
            return Err(StartError::Closing(name.clone()));
        }
        let runs = table.records.get(name).is_some_and(|record| !record.has_ended());
        if runs || table.starting.contains(name) {
            return Err(StartError::Exists(name.clone()));
        }
        if table.records.len() + table.starting.len() >= MAX_RUNNING + MAX_ENDED {
            return Err(StartError::TooMany(name.clone()));
        }
        table.starting.insert(name.clone());
        Ok(Reservation { shared: &self.shared, name: name.clone() })
    }

    /// Stops an executable, and answers how it ended, when no process of its tree is left. Its own
    /// grace period holds where `grace` is `None`.
    ///
    /// # Errors
    /// There is none of that name, or a process of its tree does not die. That is waited for still.
    pub async fn stop(
        &self,
        name: &ExecutableName,
        grace: Option<Duration>,
    ) -> Result<Option<Outcome>, StopError> {
        let record = self.record(name)?;
        // The runner takes no command once the executable has ended, which is what was asked for.
        let _ = record.commands.send(Command::Stop { grace }).await;
        let bound = grace.unwrap_or(record.grace).saturating_add(KILL_TIMEOUT);
        tokio::time::timeout(bound, record.end()).await.map_err(|_| {
            let leaf = self.shared.launcher.cgroup.open_child(&format!("{LEAF_PREFIX}{name}"));
            let left =
                leaf.map_or_else(|error| crate::reply::text(&error), |leaf| survivors(&leaf));
            StopError::Undead(name.clone(), left)
        })
    }

    /// Answers when an executable has ended for good; `None` if this daemon stopped watching before.
    ///
    /// # Errors
    /// There is none of that name.
    pub async fn wait(
        &self,
        name: &ExecutableName,
    ) -> Result<(Snapshot, Option<Outcome>), NoSuchExecutable> {
        let record = self.record(name)?;
        let outcome = record.end().await;
        Ok((record.snapshot(), outcome))
    }

    /// Sends a signal to an executable's first process, or to its whole tree.
    ///
    /// # Errors
    /// As [`SignalError`] says.
    pub async fn signal(
        &self,
        name: &ExecutableName,
        signal: Signal,
        tree: bool,
    ) -> Result<(), SignalError> {
        let record = self.record(name)?;
        let (reply, answer) = oneshot::channel();
        let ended = || SignalError::Ended(name.clone());
        let command = Command::Signal { signal, tree, reply };
        record.commands.send(command).await.map_err(|_| ended())?;
        match answer.await.map_err(|_| ended())? {
            Err(error) if error.errno == aurae_kernel::Errno::SRCH => Err(ended()),
            outcome => Ok(outcome?),
        }
    }

    /// Attaches to the run of an executable that has an input.
    ///
    /// # Errors
    /// As [`AttachError`] says.
    pub fn attach(&self, name: &ExecutableName) -> Result<Attachment, AttachError> {
        let record = self.record(name)?;
        let attachable = record.status.borrow().run.attachable.clone();
        attachable.ok_or_else(|| AttachError::NoInput(name.clone()))?.attach(name)
    }

    /// What runs in the zone for as long as somebody waits for it.
    #[must_use]
    pub fn commands(&self) -> &Commands {
        &self.shared.commands
    }

    /// The output of an executable.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn logs(&self, name: &ExecutableName) -> Result<LogRing, NoSuchExecutable> {
        Ok(self.record(name)?.logs)
    }

    /// The name and output of the executable whose first process has, or had, this number: that of
    /// its first run, or of its last. Where the kernel gave the number twice, the later executable.
    #[must_use]
    pub fn logs_by_pid(&self, pid: i32) -> Option<(String, LogRing)> {
        let table = self.table();
        let run_pid = |record: &Record| record.status.borrow().run.pid;
        let records = table
            .records
            .values()
            .filter(|record| record.facts.first_pid == pid || run_pid(record) == pid);
        let record = records.max_by_key(|record| record.status.borrow().run.started)?;
        Some((record.facts.name.clone(), record.logs.clone()))
    }

    /// All executables, in the order of their names.
    #[must_use]
    pub fn list(&self) -> Vec<Snapshot> {
        self.table().records.values().map(Record::snapshot).collect()
    }

    /// Stops all executables at once, kills the commands, and takes no more of either. When it answers,
    /// no process is left, unless one does not die.
    pub async fn close(&self, grace: Duration) {
        self.table().closing = true;
        self.shared.commands.close();
        // Who stands still cannot take a signal.
        if let Err(error) = self.freezer().end() {
            tracing::warn!(error = %crate::reply::text(&error), "an executable was not thawed");
        }
        self.all_started().await;
        let names: Vec<ExecutableName> = {
            let table = self.table();
            let running = table.records.iter().filter(|(_, record)| !record.has_ended());
            running.map(|(name, _)| name.clone()).collect()
        };
        let mut stops = tokio::task::JoinSet::new();
        for name in names {
            let executables = self.clone();
            stops.spawn(async move {
                if let Err(error) = executables.stop(&name, Some(grace)).await {
                    tracing::error!(error = crate::reply::text(&error), "an executable is left");
                }
            });
        }
        stops.join_all().await;
        self.shared.commands.all_ended().await;
    }

    /// Waits for the starts that are under way; there are no more once the zone is closing.
    async fn all_started(&self) {
        loop {
            let started = self.shared.started.notified();
            if self.table().starting.is_empty() {
                return;
            }
            started.await;
        }
    }

    fn record(&self, name: &ExecutableName) -> Result<Record, NoSuchExecutable> {
        self.table().records.get(name).cloned().ok_or_else(|| NoSuchExecutable(name.clone()))
    }

    /// Remembers that an executable has ended, and forgets the oldest beyond the bound.
    fn note_ended(&self, name: ExecutableName) {
        let mut table = self.table();
        table.ended.retain(|other| *other != name);
        table.ended.push_back(name);
        while table.ended.len() > MAX_ENDED {
            let Some(oldest) = table.ended.pop_front() else { return };
            if table.records.get(&oldest).is_some_and(Record::has_ended) {
                table.records.remove(&oldest);
            }
        }
        table.drop_old_logs();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Drops the output of executables that have ended, oldest first, until the rest is in bounds.
    fn drop_old_logs(&mut self) {
        let Self { records, ended, .. } = self;
        let mut kept = 0;
        for name in ended.iter().rev() {
            let Some(record) = records.get_mut(name) else { continue };
            kept += record.logs.allocated();
            if kept > MAX_ENDED_LOGS {
                record.logs = LogRing::new(logs::MIN_CAPACITY);
                record.logs.close();
            }
        }
    }
}

/// Arguments as they are shown: a workload's may be megabytes.
fn shown(mut arguments: Vec<String>) -> Vec<String> {
    let mut left = MAX_SHOWN_ARGUMENTS;
    arguments.retain_mut(|argument| {
        let fits = left > 0;
        argument.truncate(argument.floor_char_boundary(left));
        left -= argument.len();
        fits
    });
    arguments
}

impl Record {
    fn has_ended(&self) -> bool {
        self.status.borrow().phase.outcome().is_some()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { facts: Arc::clone(&self.facts), status: self.status.borrow().clone() }
    }

    /// Waits for the end, for good; `None` if the runner was ended before (the daemon stops).
    async fn end(&self) -> Option<Outcome> {
        let mut status = self.status.clone();
        let ended = status.wait_for(|status| status.phase.outcome().is_some()).await.ok()?;
        ended.phase.outcome()
    }
}

/// A name that is taken while its executable is being started.
struct Reservation<'a> {
    shared: &'a Shared,
    name: ExecutableName,
}

impl Reservation<'_> {
    fn fulfil(self, record: Record) {
        let mut table = self.shared.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.ended.retain(|other| *other != self.name);
        table.records.insert(self.name.clone(), record);
        drop(table);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut table = self.shared.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.starting.remove(&self.name);
        drop(table);
        self.shared.started.notify_waiters();
    }
}
