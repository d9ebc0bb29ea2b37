//! What the rest of the daemon sees of the executables.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aurae_kernel::cgroup::{Cgroup, value};
use aurae_kernel::process;
use aurae_kernel::spawn::{Image, Namespaces, Spawn, SpawnError};
use aurae_model::{Executable, ExecutableName};
use rustix::process::{Gid, Signal, Uid};
use tokio::net::unix::pipe;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::LEAF_PREFIX;
use super::program::Program;
use super::runner::{Command, Runner};
use super::state::{Facts, Outcome, Phase, Snapshot};
use crate::runtime::cgroup::Watched;
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

/// The soft limit of a workload's open files, as Linux has it: programs that use select(2) break with
/// more, and those that want more raise it to the hard limit themselves.
const WORKLOAD_OPEN_FILES: u64 = 1024;

/// The score of a workload, whatever the daemon's own is.
const WORKLOAD_OOM_SCORE: &std::ffi::CStr = c"0";

/// A handle to the executables of this zone; clones share them.
#[derive(Clone, Debug)]
pub struct Executables {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The zone's cgroup, under which each executable gets its leaf.
    cgroup: Arc<Cgroup>,
    reaper: Reaper,
    log_capacity: usize,
    /// Whom a zone tells which process it started.
    parent: Option<Parent>,
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
    phase: watch::Receiver<Phase>,
    facts: Arc<Facts>,
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
    /// Its pipes could not be made.
    #[error("failed to make the pipes of executable {name}")]
    Pipes {
        /// The executable.
        name: ExecutableName,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
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
    /// No executables yet, in the zone that `cgroup` is. A zone names its processes on `parent`.
    #[must_use]
    pub fn new(
        cgroup: Arc<Cgroup>,
        reaper: Reaper,
        log_capacity: usize,
        parent: Option<Parent>,
    ) -> Self {
        let table = Mutex::default();
        let started = Notify::new();
        Self { shared: Arc::new(Shared { cgroup, reaper, log_capacity, parent, table, started }) }
    }

    /// Starts an executable. It blocks until the program was executed.
    ///
    /// # Errors
    /// As [`StartError`] says.
    pub fn start(&self, executable: &Executable) -> Result<Started, StartError> {
        let program = Program::resolve(executable).map_err(|errno| StartError::Program {
            program: executable.program.arguments().swap_remove(0),
            errno,
        })?;
        let reservation = self.reserve(&executable.name)?;
        let leaf = Leaf::create(&self.shared.cgroup, &executable.name)?;
        let pipes = Pipes::open(executable).map_err(|source| pipes_failed(executable, source))?;
        let (child, exit) = self.spawn(executable, &program, &leaf, &pipes)?;

        let started = Started {
            pid: child.pid.as_raw_nonzero().get(),
            uid: executable.uid.unwrap_or_else(|| rustix::process::geteuid().as_raw()),
            gid: executable.gid.unwrap_or_else(|| rustix::process::getegid().as_raw()),
            numbers: self.shared.parent.as_ref().map(|parent| parent.announce(child.pid)),
        };
        let facts = Arc::new(Facts {
            name: executable.name.to_string(),
            description: executable.description.clone(),
            arguments: shown(executable.program.arguments()),
            pid: started.pid,
            uid: started.uid,
            gid: started.gid,
            numbers: started.numbers.clone(),
            started: SystemTime::now(),
        });
        let logs = LogRing::new(executable.log_capacity.unwrap_or(self.shared.log_capacity));
        let (phase, phases) = watch::channel(Phase::Running);
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        let runner = Runner {
            leaf,
            pidfd: child.pidfd,
            exit,
            stdout: pipes.stdout,
            stderr: pipes.stderr,
            logs: logs.clone(),
            phase,
            commands: queue,
        };
        reservation.fulfil(Record { phase: phases, facts, commands, logs });
        let (of_task, name) = (self.clone(), executable.name.clone());
        tokio::spawn(async move {
            runner.run().await;
            of_task.note_ended(name);
        });
        Ok(started)
    }

    fn spawn(
        &self,
        executable: &Executable,
        program: &Program,
        leaf: &Leaf,
        pipes: &Pipes,
    ) -> Result<(aurae_kernel::spawn::Child, crate::runtime::reaper::ExitReceiver), StartError>
    {
        let spawn = Spawn {
            image: Image::Path(&program.path),
            arguments: &program.arguments,
            environment: &program.environment,
            cgroup: Some(leaf.cgroup.as_fd()),
            namespaces: Namespaces::default(),
            descriptors: &[pipes.null.as_fd(), pipes.stdout_end.as_fd(), pipes.stderr_end.as_fd()],
            directory: Some(&program.directory),
            uid: executable.uid,
            gid: executable.gid,
            oom_score: Some(WORKLOAD_OOM_SCORE),
            open_files: Some(WORKLOAD_OPEN_FILES),
        };
        self.shared.reaper.spawn(&spawn).map_err(|source| StartError::Spawn {
            name: executable.name.clone(),
            program: program.path.to_string_lossy().into_owned(),
            directory: executable.working_directory.clone(),
            source,
        })
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

    /// Stops an executable, and answers how it ended, when no process of its tree is left.
    ///
    /// # Errors
    /// There is none of that name.
    pub async fn stop(
        &self,
        name: &ExecutableName,
        grace: Duration,
    ) -> Result<Option<Outcome>, NoSuchExecutable> {
        let record = self.record(name)?;
        // The runner takes no command once the executable has ended, which is what was asked for.
        let _ = record.commands.send(Command::Stop { grace }).await;
        Ok(record.end().await)
    }

    /// Answers when an executable has ended; `None` if this daemon stopped watching before.
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

    /// The output of an executable.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn logs(&self, name: &ExecutableName) -> Result<LogRing, NoSuchExecutable> {
        Ok(self.record(name)?.logs)
    }

    /// The name and output of the executable whose first process has, or had, this number. Where the
    /// kernel gave the number twice, the later executable.
    #[must_use]
    pub fn logs_by_pid(&self, pid: i32) -> Option<(String, LogRing)> {
        let table = self.table();
        let records = table.records.values().filter(|record| record.facts.pid == pid);
        let record = records.max_by_key(|record| record.facts.started)?;
        Some((record.facts.name.clone(), record.logs.clone()))
    }

    /// All executables, in the order of their names.
    #[must_use]
    pub fn list(&self) -> Vec<Snapshot> {
        self.table().records.values().map(Record::snapshot).collect()
    }

    /// Stops all executables at once, and takes no more. When it answers, no process is left.
    pub async fn close(&self, grace: Duration) {
        self.table().closing = true;
        self.all_started().await;
        let names: Vec<ExecutableName> = {
            let table = self.table();
            let running = table.records.iter().filter(|(_, record)| !record.has_ended());
            running.map(|(name, _)| name.clone()).collect()
        };
        let mut stops = tokio::task::JoinSet::new();
        for name in names {
            let executables = self.clone();
            stops.spawn(async move { drop(executables.stop(&name, grace).await) });
        }
        stops.join_all().await;
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
        self.phase.borrow().outcome().is_some()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { facts: Arc::clone(&self.facts), phase: *self.phase.borrow() }
    }

    /// Waits for the end; `None` if the runner was ended before (the daemon stops).
    async fn end(&self) -> Option<Outcome> {
        let mut phase = self.phase.clone();
        let ended = phase.wait_for(|phase| phase.outcome().is_some()).await.ok()?;
        ended.outcome()
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

/// The leaf cgroup of one executable; removed when dropped, by when it is empty.
#[derive(Debug)]
pub(super) struct Leaf {
    parent: Arc<Cgroup>,
    name: String,
    pub(super) cgroup: Cgroup,
    pub(super) watched: Watched,
}

impl Leaf {
    fn create(parent: &Arc<Cgroup>, name: &ExecutableName) -> aurae_kernel::Result<Self> {
        let name = format!("{LEAF_PREFIX}{name}");
        let cgroup = parent.create_child(&name)?;
        let remove = |error| {
            drop(parent.remove_child(&name));
            error
        };
        // The whole tree goes when the OOM killer takes one of it, if the cell asks for that.
        let group = parent.read("memory.oom.group").map_err(remove)?;
        if group.is_some_and(|value| value.trim() == "1") {
            cgroup.write("memory.oom.group", "1").map_err(remove)?;
        }
        let watched = Watched::new(&cgroup).map_err(remove)?;
        Ok(Self { parent: Arc::clone(parent), name, cgroup, watched })
    }

    /// Whether the OOM killer ended a process in it.
    pub(super) fn oom_killed(&self) -> bool {
        let events = self.cgroup.read("memory.events").ok().flatten().unwrap_or_default();
        value(&events, "oom_kill") > 0
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        if let Err(error) = self.parent.remove_child(&self.name) {
            tracing::warn!(error = %crate::reply::text(&error), "a leaf cgroup was left behind");
        }
    }
}

/// What an executable's first three descriptors are, and our ends of the last two.
struct Pipes {
    null: OwnedFd,
    stdout: pipe::Receiver,
    stdout_end: OwnedFd,
    stderr: pipe::Receiver,
    stderr_end: OwnedFd,
}

impl Pipes {
    /// The pipes belong to the executable's user, who may want to open `/dev/stdout` once more.
    fn open(executable: &Executable) -> std::io::Result<Self> {
        let null = OwnedFd::from(std::fs::File::open("/dev/null")?);
        let (stdout, stdout_end) = Self::pipe()?;
        let (stderr, stderr_end) = Self::pipe()?;
        let (uid, gid) = (executable.uid.map(Uid::from_raw), executable.gid.map(Gid::from_raw));
        if uid.is_some() || gid.is_some() {
            rustix::fs::fchown(&stdout_end, uid, gid)?;
            rustix::fs::fchown(&stderr_end, uid, gid)?;
        }
        Ok(Self { null, stdout, stdout_end, stderr, stderr_end })
    }

    fn pipe() -> std::io::Result<(pipe::Receiver, OwnedFd)> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        Ok((pipe::Receiver::from_owned_fd(reader)?, writer))
    }
}

fn pipes_failed(executable: &Executable, source: std::io::Error) -> StartError {
    StartError::Pipes { name: executable.name.clone(), source }
}

/// Sends SIGTERM to every process of a tree, and SIGCONT, so that a stopped one can take it.
pub(super) fn terminate(leaf: &Leaf) -> aurae_kernel::Result<()> {
    signal_tree(leaf, Signal::TERM)?;
    signal_tree(leaf, Signal::CONT)
}

/// Sends a signal to every process of a tree.
pub(super) fn signal_tree(leaf: &Leaf, signal: Signal) -> aurae_kernel::Result<()> {
    for pid in leaf.cgroup.processes()? {
        process::signal(pid, signal)?;
    }
    Ok(())
}
