//! What the rest of the daemon sees of its cells.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::{Errno, Error};
use aurae_model::{CellName, CellPath, Limits, MAX_DEPTH};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::DAEMON_LEAF;
use super::connection::{Connection, Reached};
use super::errors::{AllocateError, FreeError, InspectError, NoSuchCell, ReachError, TooManyCalls};
use super::limits::read_back;
use super::notes::Traits;
use super::pids::Pids;
use super::runner::{Command, Daemon, Phase, Runner, Unfreed};
use super::start::{Making, start};
use super::tree::{CellNode, CellState, CellView, existing, tree, view};
use super::usage::Usage;
use crate::runtime::cgroup::{KILL_TIMEOUT, Watched, survivors};
use crate::runtime::changes::{CellNews, Changes, News};
use crate::runtime::freezer::Passage;
use crate::runtime::reaper::Reaper;
use crate::runtime::thread::on_thread;
use crate::server::{MAX_ZONE_STREAMS, RESERVED_STREAMS};
use crate::zone::parent::Parent;

/// So many cells may exist at once: each costs the node a process.
pub(super) const MAX_CELLS: usize = 32_768;

/// So many calls that may wait for something can be open to one cell: they share its connection with
/// the calls that must not wait.
pub(super) const MAX_LONG_CALLS: usize = (MAX_ZONE_STREAMS - RESERVED_STREAMS) as usize;

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
    /// The daemon's own path below the node; `None` for the node.
    pub path: Option<CellPath>,
    /// The daemon above; `None` for the node.
    pub parent: Option<Parent>,
    /// Where it is told what happens to cells.
    pub changes: Changes,
    /// What cells can be in its zone.
    pub nesting: Nesting,
}

/// What cells can be in a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nesting {
    /// All.
    All,
    /// Those without a user namespace: where parts of `/proc` are covered the kernel mounts none for another
    /// one (mount_namespaces(7)).
    NoUsers,
    /// None: it has a user namespace itself, in which nothing can be noted on cgroups.
    None,
}

/// A cell to make.
#[derive(Clone, Debug)]
pub struct CellSpec {
    /// Its name in this daemon.
    pub name: CellName,
    /// Its limits.
    pub limits: Limits,
    /// What else it is to be.
    pub traits: Traits,
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
    /// Told whenever a cell is no longer being made, looked for or freed.
    settled: Notify,
}

#[derive(Debug, Default)]
struct Table {
    slots: BTreeMap<CellName, Slot>,
    closing: bool,
}

#[derive(Clone, Debug)]
enum Slot {
    /// What is being done with it.
    Settling(&'static str),
    Made(Arc<Cell>),
}

/// A cell that was made.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) path: CellPath,
    pub(super) cgroup: Cgroup,
    /// Set once its daemon was reached.
    reached: Arc<OnceLock<Reached>>,
    pids: Pids,
    long_calls: Arc<Semaphore>,
    /// Who freezes, thaws or changes the cell waits for it.
    pub(super) turn: Arc<Semaphore>,
    pub(super) phase: watch::Receiver<Phase>,
    commands: mpsc::Sender<Command>,
    changes: Changes,
}

/// A zone that can be asked: a cell of this daemon, or one somewhere inside it.
#[derive(Clone, Debug)]
pub struct Zone {
    pub(super) cell: Arc<Cell>,
    connection: Connection,
    rest: Option<CellPath>,
}

/// Room for a call to a zone that may wait; to be kept for as long as the call is open.
pub type Room = OwnedSemaphorePermit;

impl Cells {
    /// No cells yet.
    #[must_use]
    pub fn new(settings: CellsSettings, reaper: Reaper) -> Self {
        let (table, settled) = (Mutex::default(), Notify::new());
        Self { shared: Arc::new(Shared { settings, reaper, table, settled }) }
    }

    /// Makes a cell. It goes on to its end, or is undone, even if the caller stops waiting; the zone
    /// around it is not frozen before.
    ///
    /// # Errors
    /// As [`AllocateError`] says; nothing is left then.
    pub async fn allocate(
        &self,
        spec: CellSpec,
        passage: Option<Passage>,
    ) -> Result<(), AllocateError> {
        let name = spec.name.clone();
        self.reserve(&name)?;
        let (cells, of_task) = (self.clone(), name.clone());
        let task = tokio::spawn(async move {
            let outcome = cells.make(spec).await;
            let (cell, outcome) = match outcome {
                Ok(cell) => (Some(cell), Ok(())),
                Err(error) => (None, Err(error)),
            };
            cells.settled(&of_task, cell.clone());
            if let Some(cell) = cell {
                cell.tell(CellNews::Allocated);
            }
            drop(passage);
            outcome
        });
        task.await.unwrap_or_else(|panic| {
            self.settled(&name, None);
            let cell = self.path_of(&name);
            Err(AllocateError::NotReady { cell, reason: panic.to_string() })
        })
    }

    async fn make(&self, spec: CellSpec) -> Result<Arc<Cell>, AllocateError> {
        let Making { cgroup, own_cgroup, watched, reached, daemon } = start(self, &spec).await?;
        let cgroups = (cgroup, own_cgroup, watched);
        Ok(self.own(&spec.name, cgroups, Some((reached, daemon)), Phase::Live))
    }

    /// Gives a cell the task that owns it.
    pub(super) fn own(
        &self,
        name: &CellName,
        (cgroup, own_cgroup, watched): (Cgroup, Cgroup, Watched),
        daemon: Option<(Reached, Daemon)>,
        phase: Phase,
    ) -> Arc<Cell> {
        let (reached, daemon) = daemon.unzip();
        let reached = Arc::new(reached.map_or_else(OnceLock::new, OnceLock::from));
        let (phase, phases) = watch::channel(phase);
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        let (path, pids) = (self.path_of(name), Pids::default());
        let runner = Runner {
            cells: self.clone(),
            path: path.clone(),
            cgroup: own_cgroup,
            watched,
            daemon,
            reached: Arc::clone(&reached),
            pids: pids.clone(),
            phase,
            commands: queue,
        };
        tokio::spawn(runner.run());
        let long_calls = Arc::new(Semaphore::new(MAX_LONG_CALLS));
        let turn = Arc::new(Semaphore::new(1));
        let (phase, changes) = (phases, self.changes().clone());
        Arc::new(Cell { path, cgroup, reached, pids, long_calls, turn, phase, commands, changes })
    }

    /// Ends a cell. When it answers, no process of it is left, nor its cgroup.
    ///
    /// # Errors
    /// There is none, or it is being made, or the kernel does not let its cgroup go, or a process does
    /// not die.
    pub async fn free(&self, name: &CellName, grace: Duration) -> Result<(), FreeError> {
        self.end(&*self.find(name)?, grace).await
    }

    pub(super) async fn end(&self, cell: &Cell, grace: Duration) -> Result<(), FreeError> {
        let (reply, answer) = oneshot::channel();
        // A runner that takes no command, or drops it, has seen the cell gone.
        let _ = cell.commands.send(Command::Free { grace, reply }).await;
        match answer.await {
            Ok(Err(Unfreed::Refused(reason))) => Err(FreeError::Stuck(cell.path.clone(), reason)),
            Ok(Err(Unfreed::Undead(left))) => Err(FreeError::Undead(cell.path.clone(), left)),
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    /// All cells, and those inside them, in the order of their names; those that are being made or
    /// freed are left out.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn list(&self) -> aurae_kernel::Result<Vec<CellNode>> {
        let depth = self.shared.settings.path.as_ref().map_or(0, CellPath::depth);
        tree(&self.shared.settings.cgroup, "", depth)
    }

    /// A cell of this daemon, or one inside it, as the kernel has it, and what it uses.
    ///
    /// # Errors
    /// There is none, or what the kernel says.
    pub fn inspect(&self, path: &CellPath) -> Result<(CellView, Usage, Vec<String>), InspectError> {
        let (first, _) = path.split_first();
        let mut missing = self.path_of(first);
        let cell = self.find(first)?;
        if matches!(*cell.phase.borrow(), Phase::Freeing | Phase::Gone) {
            return Err(ReachError::Busy(missing, "freed").into());
        }
        let mut cgroup = cell.cgroup.try_clone()?;
        for label in path.labels().skip(1) {
            missing = missing.join(label);
            let child = existing(cgroup.open_child(label.as_str()))?;
            cgroup = child.ok_or_else(|| ReachError::from(NoSuchCell(missing.clone())))?;
        }
        let view = existing(view(&cgroup, path.to_string()))?.flatten();
        let view = view.ok_or_else(|| ReachError::from(NoSuchCell(missing)))?;
        let controllers = cgroup.controllers()?.into_iter().collect();
        Ok((view, Usage::read(&cgroup)?, controllers))
    }

    /// The zone at `path`, to be asked. Only its first label is looked at: the daemon of that cell
    /// knows the rest.
    ///
    /// # Errors
    /// As [`ReachError`] says.
    pub fn reach(&self, path: &CellPath) -> Result<Zone, ReachError> {
        let (first, rest) = path.split_first();
        self.find(first)?.zone(rest)
    }

    /// The zone of the node's own executables, if there is one.
    ///
    /// # Errors
    /// It is being looked for, after a restart of the daemon, or its daemon is not reached yet.
    pub fn node_zone(&self) -> Result<Option<Zone>, ReachError> {
        match self.find(&CellName::of_node()).and_then(|cell| cell.zone(None)) {
            Ok(zone) => Ok(Some(zone)),
            // Nothing runs in it.
            Err(ReachError::Missing(_) | ReachError::Failed(..)) => Ok(None),
            Err(error @ (ReachError::Busy(..) | ReachError::Unreachable(..))) => Err(error),
        }
    }

    /// The zone of the node's own executables, made if there is none. One whose daemon is gone is
    /// made anew.
    ///
    /// # Errors
    /// As [`AllocateError`] says.
    pub async fn make_node_zone(&self) -> Result<Zone, AllocateError> {
        let name = CellName::of_node();
        loop {
            let settled = self.shared.settled.notified();
            match self.find(&name).and_then(|cell| cell.zone(None)) {
                Ok(zone) => return Ok(zone),
                Err(ReachError::Busy(..)) => settled.await,
                // What runs in it goes on.
                Err(error @ ReachError::Unreachable(..)) => return Err(error.into()),
                Err(ReachError::Failed(..)) => {
                    self.free(&name, Duration::ZERO).await.map_err(|error| {
                        let reason = crate::reply::text(&error);
                        AllocateError::NotReady { cell: self.path_of(&name), reason }
                    })?;
                }
                Err(ReachError::Missing(_)) => {
                    let (limits, traits) = (Limits::default(), Traits::default());
                    match self.allocate(CellSpec { name: name.clone(), limits, traits }, None).await
                    {
                        Ok(()) => {}
                        // Somebody else was faster, unless it is a cgroup that nobody owns.
                        Err(AllocateError::Exists(_)) if self.find(&name).is_ok() => {}
                        Err(AllocateError::Exists(_)) if self.is_settling(&name) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// The cell in which the executable of this pid was started, and the pid as the cell numbers it.
    /// Where the kernel gave the pid to several, one after the other, the last is meant.
    #[must_use]
    pub fn find_pid(&self, pid: i32) -> Option<(Zone, i32)> {
        let known = self.made().into_iter();
        let known = known.filter_map(|cell| Some((cell.pids.inside(pid)?, cell)));
        let (inside, cell) = known.max_by_key(|(inside, _)| inside.since)?;
        Some((cell.zone(None).ok()?, inside.pid))
    }

    /// The oldest version of the zone protocol that a cell's daemon speaks; `None`: there is none.
    #[must_use]
    pub fn oldest_protocol(&self) -> Option<u32> {
        let mut living = self.made();
        living.retain(|cell| matches!(*cell.phase.borrow(), Phase::Live));
        living.iter().filter_map(|cell| Some(cell.reached.get()?.version)).min()
    }

    /// Frees all cells at once, and makes no more.
    pub async fn close(&self, grace: Duration) {
        self.table().closing = true;
        self.all_settled().await;
        let mut frees = tokio::task::JoinSet::new();
        for cell in self.made() {
            let cells = self.clone();
            frees.spawn(async move {
                if let Err(error) = cells.end(&cell, grace).await {
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
            if !self.table().slots.values().any(|slot| matches!(slot, Slot::Settling(_))) {
                return;
            }
            settled.await;
        }
    }

    /// The path below the node of the cell `name` of this daemon.
    pub(super) fn path_of(&self, name: &CellName) -> CellPath {
        match &self.shared.settings.path {
            Some(path) => path.join(name),
            None => name.clone().into(),
        }
    }

    fn is_settling(&self, name: &CellName) -> bool {
        matches!(self.table().slots.get(name), Some(Slot::Settling(_)))
    }

    pub(super) fn find(&self, name: &CellName) -> Result<Arc<Cell>, ReachError> {
        match self.table().slots.get(name) {
            Some(Slot::Made(cell)) => Ok(Arc::clone(cell)),
            Some(Slot::Settling(how)) => Err(ReachError::Busy(self.path_of(name), how)),
            None => Err(NoSuchCell(self.path_of(name)).into()),
        }
    }

    pub(super) fn made(&self) -> Vec<Arc<Cell>> {
        let table = self.table();
        let made = table.slots.values().filter_map(|slot| match slot {
            Slot::Made(cell) => Some(Arc::clone(cell)),
            Slot::Settling(_) => None,
        });
        made.collect()
    }

    fn reserve(&self, name: &CellName) -> Result<(), AllocateError> {
        let path = self.path_of(name);
        if path.depth() > MAX_DEPTH {
            return Err(AllocateError::TooDeep(path));
        }
        let mut table = self.table();
        if table.closing {
            return Err(AllocateError::Closing(path));
        }
        match table.slots.get(name) {
            Some(Slot::Made(cell)) if matches!(*cell.phase.borrow(), Phase::Freeing) => {
                return Err(AllocateError::Freeing(path));
            }
            Some(_) => return Err(AllocateError::Exists(path)),
            None if table.slots.len() >= MAX_CELLS => return Err(AllocateError::TooMany(path)),
            None => {}
        }
        table.slots.insert(name.clone(), Slot::Settling("made"));
        Ok(())
    }

    /// Takes a name whose cell is looked for.
    pub(super) fn settling(&self, name: &CellName, how: &'static str) {
        self.table().slots.insert(name.clone(), Slot::Settling(how));
    }

    /// Puts what came of it in the place of a name that was taken.
    pub(super) fn settled(&self, name: &CellName, cell: Option<Arc<Cell>>) {
        let mut table = self.table();
        match cell {
            Some(cell) => drop(table.slots.insert(name.clone(), Slot::Made(cell))),
            None => drop(table.slots.remove(name)),
        }
        drop(table);
        self.shared.settled.notify_waiters();
    }

    /// What changed in this daemon's own zone.
    #[must_use]
    pub fn changes(&self) -> &Changes {
        &self.shared.settings.changes
    }

    /// Gives a name free again: its cell is gone.
    pub(super) fn forget(&self, name: &CellName) {
        self.table().slots.remove(name);
        self.changed();
    }

    /// Lets those look again who wait for a cell to become something else.
    pub(super) fn changed(&self) {
        self.shared.settled.notify_waiters();
    }

    /// Kills what is in a cell that nobody owns, and removes its cgroup.
    pub(super) async fn clear(&self, name: &CellName, cgroup: &Cgroup) -> aurae_kernel::Result<()> {
        let watched = Watched::new(cgroup)?;
        let killed = tokio::time::timeout(KILL_TIMEOUT, watched.kill(cgroup)).await;
        killed.unwrap_or_else(|_| Err(Error::new(survivors(cgroup), Errno::TIMEDOUT)))?;
        self.remove_cgroup(name).await
    }

    /// Removes the cgroup of a cell in which no process is left. A workload decides how many cgroups
    /// there are below, so it may take long.
    pub(super) async fn remove_cgroup(&self, name: &CellName) -> aurae_kernel::Result<()> {
        self.shared.reaper.reap();
        let around = &self.shared.settings.cgroup;
        // Most have nothing below but their daemon's leaf.
        if let Ok(cell) = around.open_child(name.as_str())
            && cell.remove_empty_child(DAEMON_LEAF)
            && around.remove_empty_child(name.as_str())
        {
            return Ok(());
        }
        let (cells, name) = (self.clone(), name.clone());
        let removed =
            on_thread(move || cells.shared.settings.cgroup.remove_child(name.as_str())).await;
        removed.unwrap_or_else(|| Err(Error::new("remove a cell's cgroup", Errno::IO)))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cell {
    /// Tells what happened to it.
    pub(super) fn tell(&self, news: CellNews) {
        self.changes.push(News::Cell(self.path.split_last().1.clone(), news));
    }

    pub(super) fn zone(self: Arc<Self>, rest: Option<CellPath>) -> Result<Zone, ReachError> {
        let phase = self.phase.borrow().clone();
        match (phase, self.reached.get().map(|reached| reached.connection.clone())) {
            (Phase::Live, Some(connection)) => Ok(Zone { cell: self, connection, rest }),
            (Phase::Live, None) => Err(NoSuchCell(self.path.clone()).into()),
            (Phase::Unreachable(reason), _) => {
                Err(ReachError::Unreachable(self.path.clone(), reason))
            }
            (Phase::Failed(reason), _) => Err(ReachError::Failed(self.path.clone(), reason)),
            (Phase::Freeing | Phase::Gone, _) => Err(ReachError::Busy(self.path.clone(), "freed")),
        }
    }
}

impl Zone {
    /// Its path below the node.
    #[must_use]
    pub fn path(&self) -> CellPath {
        let rest = self.rest.iter().flat_map(CellPath::labels);
        rest.fold(self.cell.path.clone(), |path, label| path.join(label))
    }

    /// The rest of its path, below the cell whose daemon is asked first.
    #[must_use]
    pub fn rest(&self) -> Option<&CellPath> {
        self.rest.as_ref()
    }

    /// How many daemons below this one it is.
    #[must_use]
    pub fn levels(&self) -> usize {
        1 + self.rest.as_ref().map_or(0, CellPath::depth)
    }

    /// A connection to the daemon of the first cell on the way.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.connection.clone()
    }

    /// Room for a call that may wait.
    ///
    /// # Errors
    /// Too many are open.
    pub fn room(&self) -> Result<Room, TooManyCalls> {
        let room = Arc::clone(&self.cell.long_calls).try_acquire_owned();
        room.map_err(|_| TooManyCalls(self.cell.path.clone()))
    }
}

/// A daemon's own zone, as the kernel has it.
///
/// # Errors
/// What the kernel says.
pub fn view_own(
    name: &str,
    cgroup: &Cgroup,
    traits: Traits,
    frozen: bool,
) -> aurae_kernel::Result<(CellView, Usage, Vec<String>)> {
    let view = CellView {
        name: name.to_owned(),
        limits: read_back(cgroup)?,
        traits,
        cgroup_path: format!("/{}", cgroup.path().display()),
        daemon_pid: rustix::process::getpid().as_raw_nonzero().get(),
        state: if frozen { CellState::Frozen } else { CellState::Live },
    };
    Ok((view, Usage::read(cgroup)?, cgroup.controllers()?.into_iter().collect()))
}
