//! Where the output of executables is found: what the observe service asks of those who run them.

use std::error::Error;
use std::time::Duration;

use aurae_model::{CellPath, ExecutableName};

use super::cells::{Cells, ReachError, Zone};
use super::executables::{Executables, NoSuchExecutable};
use super::logs::LogRing;

/// Where the output of an executable is.
#[derive(Clone, Debug)]
pub enum Output {
    /// It is one of this daemon.
    Here(LogRing),
    /// The daemon of this zone has it.
    Inside(Zone),
}

/// Where the output of a process is.
#[derive(Clone, Debug)]
pub enum ProcessOutput {
    /// It is of an executable of this daemon.
    Here {
        /// The executable's name.
        name: String,
        /// What it wrote.
        ring: LogRing,
    },
    /// The daemon of a zone has it.
    Inside {
        /// The zone.
        zone: Zone,
        /// The process id as that daemon sees it.
        pid: i32,
    },
}

/// Those who know where output is.
pub trait Outputs: Clone + Send + Sync + 'static {
    /// Why it cannot be had.
    type Error: Error;

    /// What an executable wrote, in a cell or in the daemon that is asked.
    ///
    /// # Errors
    /// There is no such executable, or the cell cannot be reached.
    fn of_executable(
        &self,
        cell: Option<&CellPath>,
        name: &ExecutableName,
    ) -> Result<Output, Self::Error>;

    /// Where the output of a process is, by the process id that `Start` answered.
    ///
    /// # Errors
    /// No executable has or had it.
    fn of_process(&self, pid: i32) -> Result<ProcessOutput, Self::Error>;
}

/// What a daemon runs.
#[derive(Clone, Debug)]
pub struct Workloads {
    /// A zone's own executables. A node's own run in a zone beside its cells.
    pub executables: Option<Executables>,
    /// `None` where the daemon has no place for any.
    pub cells: Option<Cells>,
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
    /// The daemon has no place for cells.
    #[error("cell {0} does not exist: this daemon could not get a cgroup")]
    NoCells(CellPath),
}

impl Workloads {
    /// What a daemon runs that could not get a cgroup.
    #[must_use]
    pub fn none() -> Self {
        Self { executables: None, cells: None }
    }

    /// Ends executables and cells, all at once, and takes no more.
    pub async fn close(&self, grace: Duration) {
        let executables = async {
            if let Some(executables) = &self.executables {
                executables.close(grace).await;
            }
        };
        let cells = async {
            if let Some(cells) = &self.cells {
                cells.close(grace).await;
            }
        };
        tokio::join!(executables, cells);
        if let Some(cells) = &self.cells {
            cells.changes().close();
        }
    }
}

impl Outputs for Workloads {
    type Error = NoOutput;

    fn of_executable(
        &self,
        cell: Option<&CellPath>,
        name: &ExecutableName,
    ) -> Result<Output, NoOutput> {
        match (cell, &self.cells, &self.executables) {
            (Some(cell), Some(cells), _) => Ok(Output::Inside(cells.reach(cell)?)),
            (Some(cell), None, _) => Err(NoOutput::NoCells(cell.clone())),
            (None, _, Some(own)) => Ok(Output::Here(own.logs(name)?)),
            (None, cells, None) => {
                let zone = cells.as_ref().map(Cells::node_zone).transpose()?.flatten();
                Ok(Output::Inside(zone.ok_or_else(|| NoSuchExecutable(name.clone()))?))
            }
        }
    }

    fn of_process(&self, pid: i32) -> Result<ProcessOutput, NoOutput> {
        let own = self.executables.as_ref().and_then(|own| own.logs_by_pid(pid));
        if let Some((name, ring)) = own {
            return Ok(ProcessOutput::Here { name, ring });
        }
        let found = self.cells.as_ref().and_then(|cells| cells.find_pid(pid));
        let (zone, pid) = found.ok_or(NoOutput::Process(pid))?;
        Ok(ProcessOutput::Inside { zone, pid })
    }
}
