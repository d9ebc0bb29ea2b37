//! What the rest of the daemon sees of its cells.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::spawn::SpawnError;
use aurae_model::{CellName, CellPath, Limits};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tonic::transport::Channel;

use super::limits::{LimitError, read_back};
use super::runner::{Command, Phase, Pids, Runner};
use super::start::{Making, start};
use super::usage::Usage;
use crate::runtime::reaper::Reaper;
use crate::server::MAX_STREAMS;

/// So many cells may exist at once: each costs the node a process.
const MAX_CELLS: usize = 32_768;

/// So many calls that wait for something (an end, more output) may be open to one cell: they share its
/// connection with the calls that must not wait, of which it then takes the rest of its streams.
const MAX_LONG_CALLS: usize = MAX_STREAMS as usize - 64;

/// Commands to one cell that wait to be taken.
const COMMAND_QUEUE: usize = 4;

/// What all cells of a daemon have in common.
#[derive(Debug)]
pub struct CellsSettings {
    /// The cgroup below which cells are made. No process is in it, and its controllers are enabled.
    pub cgroup: Arc<Cgroup>,
    /// The daemon's own image, which zones execute.
    pub image: OwnedFd,
    /// Output kept per executable, in bytes.
    pub log_capacity: usize,
}

/// A cell to make.
#[derive(Clone, Debug)]
pub struct CellSpec {
    /// Its path below this daemon.
    pub path: CellPath,
    /// Its limits.
    pub limits: Limits,
    /// Its own pid, mount, ipc and uts namespaces.
    pub isolate_process: bool,
    /// Its own network namespace.
    pub isolate_network: bool,
}

/// A cell as the kernel has it.
#[derive(Clone, Debug)]
pub struct CellView {
    /// Its name.
    pub name: String,
    /// Its limits, read back.
    pub limits: Limits,
    /// Its own pid, mount, ipc and uts namespaces.
    pub isolate_process: bool,
    /// Its own network namespace.
    pub isolate_network: bool,
    /// Its cgroup below the mount.
    pub cgroup_path: String,
    /// Its daemon's pid.
    pub daemon_pid: i32,
}

/// There is no such cell.
#[derive(Debug, thiserror::Error)]
#[error("cell {0} does not exist")]
pub struct NoSuchCell(pub String);

/// Why a cell cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// There is none.
    #[error(transparent)]
    Missing(#[from] NoSuchCell),
    /// It is in a cell.
    #[error("cell {0} is inside a cell, which this version cannot reach; use cells one level deep")]
    Nested(CellPath),
    /// It is being made or freed.
    #[error("cell {0} is being {1}; try again")]
    Busy(CellName, &'static str),
    /// Its daemon ended.
    #[error("the daemon of cell {0} is gone ({1}); free the cell and allocate it again")]
    Failed(CellName, String),
}

/// Why a cell was not made. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum AllocateError {
    /// The name is taken.
    #[error("cell {0} already exists")]
    Exists(CellName),
    /// The name is of a cell that is being freed.
    #[error("cell {0} is being freed; try again when that is done")]
    Freeing(CellName),
    /// It would be inside a cell.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// There are too many.
    #[error("cell {0} was not made: there are {MAX_CELLS} already")]
    TooMany(CellName),
    /// The daemon is ending.
    #[error("cell {0} was not made: the daemon is ending")]
    Closing(CellName),
    /// A limit cannot be had.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] aurae_kernel::Error),
    /// Its daemon was not started.
    #[error("failed to start the daemon of cell {cell}")]
    Spawn {
        /// The cell.
        cell: CellName,
        /// The step, and what the kernel said.
        #[source]
        source: SpawnError,
    },
    /// Its daemon did not get ready.
    #[error("the daemon of cell {cell} did not get ready: {reason}")]
    NotReady {
        /// The cell.
        cell: CellName,
        /// What it said, or how it ended.
        reason: String,
    },
    /// The OOM killer took its daemon.
    #[error(
        "the daemon of cell {0} does not fit the cell's memory limit; raise memory.max to 1 MiB or more"
    )]
    OutOfMemory(CellName),
}

/// A handle to the cells of this daemon; clones share them.
#[derive(Clone, Debug)]
pub struct Cells {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: CellsSettings,
    pub(super) reaper: Reaper,
    table: Mutex<Table>,
    /// Told whenever an allocation has come to its end.
    settled: Notify,
}

#[derive(Debug, Default)]
struct Table {
    slots: BTreeMap<CellName, Slot>,
    closing: bool,
}

#[derive(Clone, Debug)]
enum Slot {
    Allocating,
    Made(Arc<Cell>),
}

/// A cell that was made.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) spec: CellSpec,
    pub(super) name: CellName,
    pub(super) cgroup: Cgroup,
    pub(super) daemon_pid: i32,
    pub(super) channel: Channel,
    pub(super) pids: Pids,
    pub(super) long_calls: Arc<Semaphore>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) commands: mpsc::Sender<Command>,
}

/// A cell whose daemon can be asked.
#[derive(Clone, Debug)]
pub struct Zone {
    cell: Arc<Cell>,
}

impl Cells {
    /// No cells yet.
    #[must_use]
    pub fn new(settings: CellsSettings, reaper: Reaper) -> Self {
        let (table, settled) = (Mutex::default(), Notify::new());
        Self { shared: Arc::new(Shared { settings, reaper, table, settled }) }
    }

    /// Makes a cell. It goes on to its end, or is undone, even if the caller stops waiting.
    ///
    /// # Errors
    /// As [`AllocateError`] says; nothing is left then.
    pub async fn allocate(&self, spec: CellSpec) -> Result<(), AllocateError> {
        let name = self.own_name(&spec.path)?;
        self.reserve(&name)?;
        let (cells, of_task) = (self.clone(), name.clone());
        let task = tokio::spawn(async move {
            let outcome = cells.make(of_task.clone(), spec).await;
            let settled = cells.settle(of_task, outcome);
            cells.shared.settled.notify_waiters();
            settled
        });
        task.await.unwrap_or_else(|panic| {
            self.table().slots.remove(&name);
            self.shared.settled.notify_waiters();
            Err(AllocateError::NotReady { cell: name, reason: panic.to_string() })
        })
    }

    /// Puts what came of a reservation in its place.
    fn settle(
        &self,
        name: CellName,
        outcome: Result<Arc<Cell>, AllocateError>,
    ) -> Result<(), AllocateError> {
        let mut table = self.table();
        match outcome {
            Ok(cell) => {
                table.slots.insert(name, Slot::Made(cell));
                Ok(())
            }
            Err(error) => {
                table.slots.remove(&name);
                Err(error)
            }
        }
    }

    async fn make(&self, name: CellName, spec: CellSpec) -> Result<Arc<Cell>, AllocateError> {
        let Making { cgroup, own_cgroup, watched, line, channel, pid, exit } =
            start(&self.shared, &name, &spec).await?;
        let (phase, phases) = watch::channel(Phase::Live);
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        let pids = Pids::default();
        let runner = Runner {
            cells: self.clone(),
            name: name.clone(),
            cgroup: own_cgroup,
            watched,
            line,
            exit,
            pids: pids.clone(),
            phase,
            commands: queue,
        };
        let cell = Cell {
            spec,
            name,
            cgroup,
            daemon_pid: pid,
            channel,
            pids,
            long_calls: Arc::new(Semaphore::new(MAX_LONG_CALLS)),
            phase: phases,
            commands,
        };
        tokio::spawn(runner.run());
        Ok(Arc::new(cell))
    }

    /// Ends a cell. When it answers, no process of it is left, nor its cgroup.
    ///
    /// # Errors
    /// There is none, or it is being made, or the kernel does not let its cgroup go.
    pub async fn free(&self, path: &CellPath, grace: Duration) -> Result<(), FreeError> {
        let cell = self.find(path)?;
        let (reply, answer) = oneshot::channel();
        // A runner that takes no command, or drops it, has seen the cell gone.
        let _ = cell.commands.send(Command::Free { grace, reply }).await;
        match answer.await {
            Ok(Err(reason)) => Err(FreeError::Stuck(cell.name.clone(), reason)),
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    /// All cells, in the order of their names; those that are being made or freed are left out.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn list(&self) -> aurae_kernel::Result<Vec<CellView>> {
        let made: Vec<Arc<Cell>> = self.made();
        let mut views = Vec::with_capacity(made.len());
        for cell in made {
            let view = cell.view();
            // Looked at last: the kernel's files say nothing of a cell that was freed meanwhile.
            if !matches!(*cell.phase.borrow(), Phase::Live | Phase::Failed(_)) {
                continue;
            }
            match view {
                Ok(view) => views.push(view),
                // It was freed meanwhile.
                Err(error)
                    if matches!(
                        error.errno,
                        aurae_kernel::Errno::NODEV | aurae_kernel::Errno::NOENT
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(views)
    }

    /// A cell as the kernel has it, and what it uses.
    ///
    /// # Errors
    /// There is none, or what the kernel says.
    pub fn inspect(&self, path: &CellPath) -> Result<(CellView, Usage, Vec<String>), InspectError> {
        let cell = self.find(path)?;
        let controllers = cell.cgroup.controllers()?.into_iter().collect();
        Ok((cell.view()?, Usage::read(&cell.cgroup)?, controllers))
    }

    /// A cell's daemon, to be asked.
    ///
    /// # Errors
    /// As [`ReachError`] says.
    pub fn reach(&self, path: &CellPath) -> Result<Zone, ReachError> {
        let cell = self.find(path)?;
        let phase = cell.phase.borrow().clone();
        match phase {
            Phase::Live => Ok(Zone { cell }),
            Phase::Failed(reason) => Err(ReachError::Failed(cell.name.clone(), reason)),
            Phase::Freeing | Phase::Gone => Err(ReachError::Busy(cell.name.clone(), "freed")),
        }
    }

    /// The cell in which the executable of this pid was started, and the pid as the cell numbers it.
    #[must_use]
    pub fn find_pid(&self, pid: i32) -> Option<(Zone, i32)> {
        self.made().into_iter().find_map(|cell| {
            let inside = cell.pids.inside(pid)?;
            Some((Zone { cell }, inside))
        })
    }

    /// Frees all cells at once, and makes no more.
    pub async fn close(&self, grace: Duration) {
        self.table().closing = true;
        self.all_settled().await;
        let mut frees = tokio::task::JoinSet::new();
        for cell in self.made() {
            let cells = self.clone();
            frees.spawn(async move {
                if let Err(error) = cells.free(&cell.spec.path, grace).await {
                    tracing::error!(error = crate::reply::text(&error), "a cell was not freed");
                }
            });
        }
        frees.join_all().await;
    }

    /// Waits for the cells that are being made; there are no more once the daemon is closing.
    async fn all_settled(&self) {
        loop {
            let settled = self.shared.settled.notified();
            if !self.table().slots.values().any(|slot| matches!(slot, Slot::Allocating)) {
                return;
            }
            settled.await;
        }
    }

    fn own_name(&self, path: &CellPath) -> Result<CellName, ReachError> {
        let (first, rest) = path.split_first();
        if rest.is_none() {
            return Ok(first.clone());
        }
        if !self.table().slots.contains_key(first) {
            return Err(NoSuchCell(first.to_string()).into());
        }
        Err(ReachError::Nested(path.clone()))
    }

    fn find(&self, path: &CellPath) -> Result<Arc<Cell>, ReachError> {
        let name = self.own_name(path)?;
        match self.table().slots.get(&name) {
            Some(Slot::Made(cell)) => Ok(Arc::clone(cell)),
            Some(Slot::Allocating) => Err(ReachError::Busy(name, "made")),
            None => Err(NoSuchCell(name.to_string()).into()),
        }
    }

    fn made(&self) -> Vec<Arc<Cell>> {
        let table = self.table();
        let made = table.slots.values().filter_map(|slot| match slot {
            Slot::Made(cell) => Some(Arc::clone(cell)),
            Slot::Allocating => None,
        });
        made.collect()
    }

    fn reserve(&self, name: &CellName) -> Result<(), AllocateError> {
        let mut table = self.table();
        if table.closing {
            return Err(AllocateError::Closing(name.clone()));
        }
        match table.slots.get(name) {
            Some(Slot::Made(cell)) if matches!(*cell.phase.borrow(), Phase::Freeing) => {
                return Err(AllocateError::Freeing(name.clone()));
            }
            Some(_) => return Err(AllocateError::Exists(name.clone())),
            None if table.slots.len() >= MAX_CELLS => {
                return Err(AllocateError::TooMany(name.clone()));
            }
            None => {}
        }
        table.slots.insert(name.clone(), Slot::Allocating);
        Ok(())
    }

    /// Gives a name free again: its cell is gone.
    pub(super) fn forget(&self, name: &CellName) {
        self.table().slots.remove(name);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cell {
    fn view(&self) -> aurae_kernel::Result<CellView> {
        Ok(CellView {
            name: self.spec.path.to_string(),
            limits: read_back(&self.cgroup)?,
            isolate_process: self.spec.isolate_process,
            isolate_network: self.spec.isolate_network,
            cgroup_path: format!("/{}", self.cgroup.path().display()),
            daemon_pid: self.daemon_pid,
        })
    }
}

impl Zone {
    /// The cell's name.
    #[must_use]
    pub fn name(&self) -> &CellName {
        &self.cell.name
    }

    /// A connection to the cell's daemon.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.cell.channel.clone()
    }

    /// Room for a call to the cell that waits; to be kept for as long as the call is open.
    ///
    /// # Errors
    /// Too many are open.
    pub fn long_call(&self) -> Result<OwnedSemaphorePermit, TooManyCalls> {
        let room = Arc::clone(&self.cell.long_calls).try_acquire_owned();
        room.map_err(|_| TooManyCalls(self.cell.name.clone()))
    }

    /// The number that this daemon has for a process that the cell's daemon has just started.
    /// `None` if it is not told in time, which only a daemon that is ending does.
    pub async fn outside_pid(&self, inside: i32) -> Option<i32> {
        self.cell.pids.outside(inside).await
    }

    /// As [`Self::outside_pid`], for a process that was started some time ago.
    #[must_use]
    pub fn known_pid(&self, inside: i32) -> Option<i32> {
        self.cell.pids.known(inside)
    }
}

/// Too many calls wait for something in a cell.
#[derive(Debug, thiserror::Error)]
#[error("{MAX_LONG_CALLS} calls wait in cell {0} already (Wait, or logs that follow); end some")]
pub struct TooManyCalls(CellName);

/// Why a cell was not freed.
#[derive(Debug, thiserror::Error)]
pub enum FreeError {
    /// There is none, or it is being made.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// The kernel does not let its cgroup go.
    #[error("cell {0} was not freed wholly: {1}")]
    Stuck(CellName, String),
}

/// Why a cell cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is none, or it is being made.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] aurae_kernel::Error),
}

/// A daemon's own zone, as the kernel has it.
///
/// # Errors
/// What the kernel says.
pub fn view_own(
    name: &str,
    cgroup: &Cgroup,
) -> aurae_kernel::Result<(CellView, Usage, Vec<String>)> {
    let view = CellView {
        name: name.to_owned(),
        limits: read_back(cgroup)?,
        isolate_process: false,
        isolate_network: false,
        cgroup_path: format!("/{}", cgroup.path().display()),
        daemon_pid: rustix::process::getpid().as_raw_nonzero().get(),
    };
    Ok((view, Usage::read(cgroup)?, cgroup.controllers()?.into_iter().collect()))
}
