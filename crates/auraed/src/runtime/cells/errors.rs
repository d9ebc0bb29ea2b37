//! Why something was not done with a cell. Cells are named by their paths below the node.

use aurae_kernel::spawn::SpawnError;
use aurae_model::{CellPath, MAX_DEPTH};

use super::handle::{MAX_CELLS, MAX_LONG_CALLS};
use super::limits::LimitError;

/// There is no such cell.
#[derive(Debug, thiserror::Error)]
#[error("cell {0} does not exist")]
pub struct NoSuchCell(pub CellPath);

/// Why a cell cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// There is none.
    #[error(transparent)]
    Missing(#[from] NoSuchCell),
    /// It is being made or freed, or looked for after a restart of the daemon.
    #[error("cell {0} is being {1}; try again")]
    Busy(CellPath, &'static str),
    /// It runs, and its daemon does not answer this one, which was started anew.
    #[error("cell {0} runs, and its daemon cannot be reached yet ({1}); it is tried again")]
    Unreachable(CellPath, String),
    /// Its daemon ended.
    #[error("the daemon of cell {0} is gone ({1}); free the cell and allocate it again")]
    Failed(CellPath, String),
}

/// Why a cell was not made. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum AllocateError {
    /// The name is taken.
    #[error("cell {0} already exists")]
    Exists(CellPath),
    /// The name is of a cell that is being freed.
    #[error("cell {0} is being freed; try again when that is done")]
    Freeing(CellPath),
    /// It would be inside too many.
    #[error("cell {0} was not made: cells nest at most {MAX_DEPTH} deep")]
    TooDeep(CellPath),
    /// There are too many.
    #[error("cell {0} was not made: there are {MAX_CELLS} already")]
    TooMany(CellPath),
    /// The daemon is ending.
    #[error("cell {0} was not made: the daemon is ending")]
    Closing(CellPath),
    /// What is there already cannot be asked.
    #[error(transparent)]
    Reach(#[from] ReachError),
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
        cell: CellPath,
        /// The step, and what the kernel said.
        #[source]
        source: SpawnError,
    },
    /// Its daemon did not get ready.
    #[error("the daemon of cell {cell} did not get ready: {reason}")]
    NotReady {
        /// The cell.
        cell: CellPath,
        /// What it said, or how it ended.
        reason: String,
    },
    /// The devices of all that will run in it cannot be restricted.
    #[error(
        "cell {cell} was not made: with a user namespace its devices have to be restricted from outside"
    )]
    Devices {
        /// The cell.
        cell: CellPath,
        /// What the kernel said.
        #[source]
        source: aurae_kernel::Error,
    },
    /// It would be in a cell that can have none.
    #[error(
        "cell {0} was not made: a cell with a user namespace has no cells inside, as its daemon may neither note what they are nor restrict their devices"
    )]
    InUserNamespace(CellPath),
    /// A user namespace would show what is covered around it, so the kernel does not mount /proc in it.
    #[error(
        "cell {0} was not made: a cell with a user namespace can be on the node, or in a cell without isolate_process or with unmasked_paths"
    )]
    Covered(CellPath),
    /// The OOM killer took its daemon.
    #[error(
        "the daemon of cell {0} does not fit the cell's memory limit; raise memory.max to 1 MiB or more"
    )]
    OutOfMemory(CellPath),
}

/// Too many calls wait for something in a cell.
#[derive(Debug, thiserror::Error)]
#[error(
    "{MAX_LONG_CALLS} calls are open to cell {0} already (Wait, or logs that follow); end some"
)]
pub struct TooManyCalls(pub CellPath);

/// Why a cell was not freed.
#[derive(Debug, thiserror::Error)]
pub enum FreeError {
    /// There is none, or it is being made.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// The kernel does not let its cgroup go.
    #[error("cell {0} was not freed wholly: {1}")]
    Stuck(CellPath, String),
    /// Something in it does not die.
    #[error("cell {0} is not freed yet: {1}; it goes on, and the name is free when that is done")]
    Undead(CellPath, String),
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
