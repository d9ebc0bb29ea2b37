//! Cells as the kernel has them: read from cgroups and their notes, at any depth, asking no daemon.

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::{Errno, Result};
use aurae_model::{Limits, MAX_DEPTH};

use super::notes::{Frozen, Standing, Traits};
use super::{DAEMON_LEAF, LEAF_MARK, limits::read_back};

/// A cell as the kernel has it.
#[derive(Clone, Debug)]
pub struct CellView {
    /// Its name: a path below the daemon that looks.
    pub name: String,
    /// Its limits, read back.
    pub limits: Limits,
    /// What it was asked to be.
    pub traits: Traits,
    /// Its cgroup below the mount.
    pub cgroup_path: String,
    /// Its daemon's pid; 0: it has none.
    pub daemon_pid: i32,
    /// What it is doing.
    pub state: CellState,
}

/// What a cell that is neither being made nor freed is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CellState {
    /// It takes executables.
    Live,
    /// Its processes stand still.
    Frozen,
    /// Its daemon ended.
    Failed(String),
}

/// A cell and those inside it.
#[derive(Clone, Debug)]
pub struct CellNode {
    /// The cell.
    pub view: CellView,
    /// The cells inside it, in the order of their names.
    pub children: Vec<CellNode>,
}

/// The cells below `cgroup`, which is the one of the cell `around` and at `depth`. Those that are being
/// made or freed are left out.
///
/// # Errors
/// What the kernel says.
pub(super) fn tree(cgroup: &Cgroup, around: &str, depth: usize) -> Result<Vec<CellNode>> {
    let mut nodes = Vec::new();
    if depth >= MAX_DEPTH {
        return Ok(nodes);
    }
    for name in cgroup.children()? {
        if name.starts_with(LEAF_MARK) {
            continue;
        }
        match existing(node(cgroup, &name, around, depth)) {
            Ok(node) => nodes.extend(node.flatten()),
            // A workload may have spoiled it; that is no reason to show none.
            Err(error) => {
                tracing::warn!(
                    cell = name,
                    error = crate::reply::text(&error),
                    "a cell cannot be read"
                );
            }
        }
    }
    Ok(nodes)
}

fn node(parent: &Cgroup, name: &str, around: &str, depth: usize) -> Result<Option<CellNode>> {
    let cgroup = parent.open_child(name)?;
    let path = if around.is_empty() { name.to_owned() } else { format!("{around}/{name}") };
    let Some(view) = view(&cgroup, path)? else { return Ok(None) };
    // What was inside a failed cell was killed with it.
    let children = match view.state {
        CellState::Live | CellState::Frozen => tree(&cgroup, &view.name, depth + 1)?,
        CellState::Failed(_) => Vec::new(),
    };
    Ok(Some(CellNode { view, children }))
}

/// The cell of `cgroup`; `None` where it is no cell's, or the cell is being made or freed.
///
/// # Errors
/// What the kernel says.
pub(super) fn view(cgroup: &Cgroup, name: String) -> Result<Option<CellView>> {
    let Some(traits) = Traits::read(cgroup)? else { return Ok(None) };
    let limits = read_back(cgroup)?;
    let daemon = existing(cgroup.open_child(DAEMON_LEAF).and_then(|leaf| leaf.processes()))?;
    let daemon = daemon.and_then(|processes| processes.first().copied());
    // Looked at last: the files say nothing of a cell that was freed meanwhile.
    let state = match Standing::read(cgroup)? {
        Standing::Unfinished | Standing::Freeing => return Ok(None),
        Standing::Live if Frozen::read(cgroup)? != Frozen::No => CellState::Frozen,
        Standing::Live => CellState::Live,
        Standing::Failed(reason) => CellState::Failed(reason),
    };
    Ok(Some(CellView {
        name,
        limits,
        traits,
        cgroup_path: format!("/{}", cgroup.path().display()),
        daemon_pid: daemon.map_or(0, |pid| pid.as_raw_nonzero().get()),
        state,
    }))
}

/// `None` for what is gone.
pub(super) fn existing<T>(outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.errno, Errno::NODEV | Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
