//! What a node runs: its cells, and its own executables.

use std::collections::BTreeSet;
use std::time::Duration;

use aurae_kernel::process;

use crate::runtime::base::Base;
use crate::runtime::cells::{Cells, CellsSettings};
use crate::runtime::executables::Executables;
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
    executables: Executables,
    cells: Cells,
}

impl Running {
    /// Takes the daemon's place in the cgroup tree. Nothing runs yet.
    pub(super) async fn start(
        settings: &Settings,
        reaper: Reaper,
        is_init: bool,
    ) -> Result<Self, DaemonError> {
        if !is_init {
            // An init has all of this by nature, or from its boot.
            process::become_subreaper()?;
            process::raise_open_files()?;
            protect_from_oom();
        }
        let base = Base::take(is_init, &settings.runtime_directory)?;
        base.clear().await;
        let executables =
            Executables::new(base.cgroup(), reaper.clone(), settings.log_capacity, None);
        let cells = CellsSettings {
            cgroup: base.cgroup(),
            image: aurae_kernel::zone::own_image()?,
            log_capacity: settings.log_capacity,
        };
        Ok(Self { base, executables, cells: Cells::new(cells, reaper) })
    }

    /// The service that drives it.
    pub(super) fn service(&self) -> CellApi {
        let own = OwnZone { name: String::new(), cgroup: self.base.cgroup() };
        CellApi::new(own, self.executables.clone(), Some(self.cells.clone()))
    }

    /// The cgroup controllers that cells can have.
    pub(super) fn controllers(&self) -> BTreeSet<String> {
        self.base.controllers().clone()
    }

    /// Where its output is.
    pub(super) fn workloads(&self) -> Workloads {
        Workloads::of_node(self.executables.clone(), self.cells.clone())
    }

    /// Stops executables and frees cells, all at once.
    pub(super) async fn stop(self, grace: Duration) {
        let Self { base, executables, cells } = self;
        let stopped = tokio::time::timeout(grace + STOP_TIMEOUT, async {
            tokio::join!(executables.close(grace), cells.close(grace));
        });
        if stopped.await.is_err() {
            tracing::error!("some executables or cells did not end in time; going on without");
        }
        base.leave();
    }
}

/// The OOM killer takes workloads first. Without the capability for it the score stays.
fn protect_from_oom() {
    if let Err(error) = process::set_oom_score(process::OOM_SCORE_PROTECTED) {
        tracing::info!(error = crate::reply::text(&error), "the OOM killer may take this daemon");
    }
}
