//! Where the output of executables is found: what the observe service asks of those who run them.

use std::error::Error;

use aurae_model::{CellPath, ExecutableName};

use super::cells::{Cells, ReachError, Zone};
use super::executables::{Executables, NoSuchExecutable};
use super::logs::LogRing;

/// Where a process's output is.
#[derive(Clone, Debug)]
pub enum Output {
    /// It is an executable of this daemon.
    Here {
        /// The executable's name.
        name: String,
        /// What it wrote.
        ring: LogRing,
    },
    /// It is an executable of a cell of this daemon.
    InCell {
        /// The cell's daemon.
        zone: Zone,
        /// The process id as that daemon sees it.
        pid: i32,
    },
}

/// Those who know where output is.
pub trait Outputs: Clone + Send + Sync + 'static {
    /// Why it cannot be had.
    type Error: Error;

    /// What an executable of this daemon wrote.
    ///
    /// # Errors
    /// There is no such executable.
    fn of_executable(&self, name: &ExecutableName) -> Result<LogRing, Self::Error>;

    /// Where the output of a process is, by the process id that `Start` answered.
    ///
    /// # Errors
    /// No executable has or had it.
    fn of_process(&self, pid: i32) -> Result<Output, Self::Error>;

    /// The daemon of a cell.
    ///
    /// # Errors
    /// There is no such cell, or it cannot be reached.
    fn cell(&self, cell: &CellPath) -> Result<Zone, Self::Error>;
}

/// A node's executables and cells, or a zone's executables.
#[derive(Clone, Debug)]
pub struct Workloads {
    /// None where the daemon has no place to run any.
    executables: Option<Executables>,
    /// A zone has none of its own.
    cells: Option<Cells>,
}

/// There is no such output.
#[derive(Debug, thiserror::Error)]
pub enum NoOutput {
    /// There is no such executable.
    #[error(transparent)]
    Executable(#[from] NoSuchExecutable),
    /// No executable was started with that process id.
    #[error("no executable was started with process id {0}")]
    Process(i32),
    /// The cell cannot be asked.
    #[error(transparent)]
    Cell(#[from] ReachError),
    /// A daemon in a cell has no cells of its own.
    #[error("cell {0} would be inside a cell, which this version cannot have")]
    InZone(CellPath),
}

impl Workloads {
    /// What a node runs.
    #[must_use]
    pub fn of_node(executables: Executables, cells: Cells) -> Self {
        Self { executables: Some(executables), cells: Some(cells) }
    }

    /// What a zone runs.
    #[must_use]
    pub fn of_zone(executables: Executables) -> Self {
        Self { executables: Some(executables), cells: None }
    }

    /// What a daemon runs that could not get a cgroup.
    #[must_use]
    pub fn none() -> Self {
        Self { executables: None, cells: None }
    }
}

impl Outputs for Workloads {
    type Error = NoOutput;

    fn of_executable(&self, name: &ExecutableName) -> Result<LogRing, NoOutput> {
        let executables = self.executables.as_ref();
        Ok(executables.ok_or_else(|| NoSuchExecutable(name.clone()))?.logs(name)?)
    }

    fn of_process(&self, pid: i32) -> Result<Output, NoOutput> {
        let own = self.executables.as_ref().and_then(|own| own.logs_by_pid(pid));
        if let Some((name, ring)) = own {
            return Ok(Output::Here { name, ring });
        }
        let found = self.cells.as_ref().and_then(|cells| cells.find_pid(pid));
        let (zone, pid) = found.ok_or(NoOutput::Process(pid))?;
        Ok(Output::InCell { zone, pid })
    }

    fn cell(&self, cell: &CellPath) -> Result<Zone, NoOutput> {
        match &self.cells {
            Some(cells) => Ok(cells.reach(cell)?),
            None => Err(NoOutput::InZone(cell.clone())),
        }
    }
}
