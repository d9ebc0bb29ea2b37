//! Who answers for a cell: this daemon, or the daemon of a zone.

use std::sync::Arc;

use aurae_model::CellPath;
use aurae_proto::cells::cell_service_client::CellServiceClient;
use tokio::time::timeout;
use tonic::Status;

use super::{CellApi, wire};
use crate::reply;
use crate::runtime::cells::{Connection, Zone};
use crate::runtime::executables::Executables;
use crate::zone::parent::{NUMBERS_TIMEOUT, Numbers};

/// What a zone may answer: 4096 executables with 4 KiB of arguments each, and room.
const MAX_ANSWER: usize = 32 << 20;

/// Where executables are.
pub(super) enum Place {
    /// In this daemon.
    Here(Executables),
    /// In a zone.
    Inside(Zone),
    /// Nowhere: this is a node, and none was started in it.
    Nowhere,
}

impl CellApi {
    /// Where the executables of a cell are; `None`: those of the daemon that answers, itself.
    pub(super) fn place(&self, cell: Option<&CellPath>) -> Result<Place, Status> {
        match (cell, &self.executables) {
            (Some(path), _) => self.zone(path).map(Place::Inside),
            (None, Some(own)) => Ok(Place::Here(own.clone())),
            (None, None) => {
                let zone = self.cells.node_zone().map_err(|error| reply::status(&error))?;
                Ok(zone.map_or(Place::Nowhere, Place::Inside))
            }
        }
    }

    /// The daemon of a cell.
    pub(super) fn zone(&self, path: &CellPath) -> Result<Zone, Status> {
        self.cells.reach(path).map_err(|error| reply::status(&error))
    }

    /// The daemon that keeps a cell inside a cell: that of the cell around it. `None`: this one keeps
    /// the cell.
    pub(super) fn keeper(&self, path: &CellPath) -> Result<Option<Zone>, Status> {
        path.split_last().0.map(|around| self.zone(&around)).transpose()
    }
}

/// A client of a zone.
pub(super) fn client(zone: &Zone) -> CellServiceClient<Connection> {
    let origin = http::Uri::from_static("http://zone");
    CellServiceClient::with_origin(zone.connection(), origin).max_decoding_message_size(MAX_ANSWER)
}

/// What a zone answered, or that it did not.
pub(super) fn from_zone(zone: &Zone, status: Status) -> Status {
    reply::from_zone(&zone.path(), status)
}

/// The numbers that the daemons above have for a process; none where there are none above, or they
/// did not tell in time.
pub(super) async fn told(numbers: Option<Numbers>) -> Vec<i32> {
    let Some(mut numbers) = numbers else { return Vec::new() };
    let told = timeout(NUMBERS_TIMEOUT, numbers.wait_for(Option::is_some)).await;
    let told = told.ok().and_then(Result::ok).and_then(|numbers| numbers.clone());
    told.as_deref().unwrap_or_default().to_vec()
}

/// A zone numbers its processes for itself; the caller knows them by this daemon's numbers. One whose
/// number was not told has none: 0.
pub(super) fn outside(zone: &Zone, executable: &mut wire::ExecutableStatus) {
    executable.pid = number(zone, &mut executable.outer_pids).unwrap_or_default();
}

/// As [`outside`], for one that was just started.
pub(super) fn started_outside(zone: &Zone, started: &mut wire::CellServiceStartResponse) {
    started.pid = number(zone, &mut started.outer_pids).unwrap_or_default();
}

/// This daemon's number among those of the daemons above a zone, and leaves those above this one.
fn number(zone: &Zone, outer: &mut Vec<i32>) -> Option<i32> {
    let above = outer.split_off(zone.levels().min(outer.len()));
    let own = outer.get(zone.levels() - 1).copied();
    *outer = above;
    own
}

/// The numbers of a process that are known by now.
pub(super) fn known(numbers: Option<&Numbers>) -> Vec<i32> {
    let numbers = numbers.and_then(|numbers| numbers.borrow().clone());
    numbers.as_ref().map(Arc::as_ref).unwrap_or_default().to_vec()
}
