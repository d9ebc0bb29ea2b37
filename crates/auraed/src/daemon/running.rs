//! What a node runs: its cells. Its own executables are in a zone beside them, so that they outlive
//! the daemon as those of cells do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::process;

use crate::runtime::base::{Base, Place};
use crate::runtime::cells::{Cells, CellsSettings, Nesting, Traits};
use crate::runtime::changes::Changes;
use crate::runtime::output::Workloads;
use crate::runtime::reaper::Reaper;
use crate::service::cells::{CellApi, OwnZone};
use crate::settings::Settings;

use super::DaemonError;

/// What stopping may take beyond the grace period: killing, reaping, removing cgroups.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Running {
    base: Base,
    cells: Cells,
}

impl Running {
    /// Takes the daemon's place in the cgroup tree, or the one that was handed over, and what an earlier
    /// daemon left running there.
    pub(super) async fn start(
        settings: &Settings,
        reaper: Reaper,
        is_init: bool,
        place: Option<&Place>,
    ) -> Result<Self, DaemonError> {
        if !is_init {
            // An init has all of this by nature, or from its boot.
            process::become_subreaper()?;
            process::raise_open_files()?;
            protect_from_oom();
        }
        reserve_descriptors();
        let base = match place {
            Some(place) => Base::resume(place)?,
            None => Base::take(is_init, &settings.runtime_directory)?,
        };
        let cells = CellsSettings {
            cgroup: base.cgroup(),
            image: aurae_kernel::zone::own_image()?,
            log_capacity: settings.log_capacity,
            path: None,
            parent: None,
            changes: Changes::anew(),
            nesting: Nesting::All,
        };
        let cells = Cells::new(cells, reaper);
        tokio::join!(base.clear(), cells.adopt());
        Ok(Self { base, cells })
    }

    /// The service that drives it.
    pub(super) fn service(&self) -> CellApi {
        let (name, cgroup, traits) = (String::new(), self.base.cgroup(), Traits::default());
        let own = OwnZone { name, cgroup, traits };
        CellApi::new(own, None, self.cells.clone())
    }

    /// The cgroup controllers that cells can have.
    pub(super) fn controllers(&self) -> BTreeSet<String> {
        self.base.controllers().clone()
    }

    /// The cgroup below which it runs.
    pub(super) fn cgroup(&self) -> Arc<Cgroup> {
        self.base.cgroup()
    }

    /// Where that is, for a later version of the daemon.
    pub(super) fn place(&self) -> Place {
        self.base.place()
    }

    /// What it runs.
    pub(super) fn workloads(&self) -> Workloads {
        Workloads { executables: None, cells: Some(self.cells.clone()) }
    }

    /// Leaves what runs as it is, for the next daemon.
    pub(super) fn keep(self) {
        tracing::info!("what runs goes on");
        self.cells.changes().close();
    }

    /// Stops executables and frees cells, all at once.
    pub(super) async fn stop(self, grace: Duration) {
        if tokio::time::timeout(grace + STOP_TIMEOUT, self.cells.close(grace)).await.is_err() {
            tracing::error!("some executables or cells did not end in time; going on without");
        }
        self.cells.changes().close();
        self.base.leave();
    }
}

/// Before there are many. Without, each start of a cell takes longer the more there are.
fn reserve_descriptors() {
    match aurae_kernel::spawn::reserve() {
        Ok(true) => {}
        Ok(false) => tracing::info!(
            "this kernel copies tables of descriptors wrongly (CVE-2024-45025): with many cells, a cell's start takes longer"
        ),
        Err(error) => tracing::info!(%error, "no descriptors are reserved for new processes"),
    }
}

/// The OOM killer takes workloads first. Without the capability for it the score stays.
fn protect_from_oom() {
    if let Err(error) = process::set_oom_score(process::OOM_SCORE_PROTECTED) {
        tracing::info!(error = crate::reply::text(&error), "the OOM killer may take this daemon");
    }
}
