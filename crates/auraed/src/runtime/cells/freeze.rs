//! Whether a cell stands still.
//!
//! A cell does if that was asked for by its name, or if the zone around it does. Which of it holds is
//! noted on its cgroup. Who changes that takes its [`Turn`]: a thaw and a freeze at once end as one
//! of them.

use std::sync::Arc;

use aurae_model::CellName;
use tokio::sync::OwnedSemaphorePermit;

use super::handle::{Cell, Cells, Zone};
use super::notes::Frozen;
use super::runner::Phase;
use crate::runtime::changes::CellNews;

/// Nobody else freezes, thaws or changes the cell meanwhile.
#[derive(Debug)]
pub struct Turn {
    pub(super) cell: Arc<Cell>,
    /// `None`: the semaphore was closed, which nobody does.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Cells {
    /// The cells of this daemon that can be asked, in the order of their names. One that is being
    /// freed is thawed for that, and left out.
    #[must_use]
    pub fn zones(&self) -> Vec<Zone> {
        let mut cells = self.made();
        cells.retain(|cell| matches!(*cell.phase.borrow(), Phase::Live));
        cells.into_iter().filter_map(|cell| cell.zone(None).ok()).collect()
    }

    /// The cell of this name, if it can be asked.
    #[must_use]
    pub fn zone(&self, name: &CellName) -> Option<Zone> {
        self.find(name).ok()?.zone(None).ok()
    }
}

impl Zone {
    /// The name of the cell whose daemon is asked first.
    #[must_use]
    pub fn first(&self) -> &CellName {
        self.cell.path.split_last().1
    }

    /// Whether that cell is neither failed nor being freed.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(*self.cell.phase.borrow(), Phase::Live)
    }

    /// Whether that cell is the same one, and not another of its name.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.cell, &other.cell)
    }

    /// Waits for the turn to freeze, thaw or change the cell.
    pub async fn turn(&self) -> Turn {
        let permit = Arc::clone(&self.cell.turn).acquire_owned().await;
        Turn { cell: Arc::clone(&self.cell), _permit: permit.ok() }
    }
}

impl Turn {
    /// Whether it was asked for by the cell's name that it stands still.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn is_asked(&self) -> aurae_kernel::Result<bool> {
        Ok(Frozen::read(&self.cell.cgroup)? == Frozen::Asked)
    }

    /// Notes, and tells, what holds for the cell: that it goes on, or that it stands still because that was asked
    /// for by its name, or because the zone around it does.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn note(&self, frozen: bool, asked: bool) -> aurae_kernel::Result<()> {
        let note = match (frozen, asked) {
            (false, _) => Frozen::No,
            (true, true) => Frozen::Asked,
            (true, false) => Frozen::Around,
        };
        let was_frozen = Frozen::read(&self.cell.cgroup)? != Frozen::No;
        note.note(&self.cell.cgroup)?;
        if frozen != was_frozen {
            self.cell.tell(if frozen { CellNews::Frozen } else { CellNews::Thawed });
        }
        Ok(())
    }
}
