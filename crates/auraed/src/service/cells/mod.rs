//! `aurae.cells.v0.CellService`.
//!
//! What concerns a cell's own executables is answered by the cell's daemon: it is asked with the cell's
//! name left out, and its answer is passed on.

mod copy;
mod life;
mod messages;
mod place;
mod session;
mod sight;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use aurae_authz::{Executable as ExecutableResource, Principal};
use aurae_kernel::cgroup::Cgroup;
use aurae_model::{CellPath, ExecutableName};
use aurae_proto::cells as wire;
use aurae_proto::cells::cell_service_server::CellService;
use tonic::{Request, Response, Status, Streaming};

use crate::admit;
use crate::reply;
use crate::route;
use crate::runtime::cells::{CellState, Cells, InspectError, Room, Traits, Zone, view_own};
use crate::runtime::executables::{Executables, NoSuchExecutable};
use crate::runtime::freezer::Freezer;
use crate::service::Answers;
pub use life::Unfinished;
use messages::{executable, graph_node, inspection};
use place::{Place, client, from_zone, outside, started_outside, told};
pub use session::Unwatched;

/// The daemon's own zone: what an unset cell name means.
#[derive(Clone, Debug)]
pub struct OwnZone {
    /// The last label of its path; empty for the node.
    pub name: String,
    /// Its cgroup.
    pub cgroup: Arc<Cgroup>,
    /// What it was asked to be. A zone with a user namespace cannot read the note of it.
    pub traits: Traits,
}

/// The cell service of a daemon.
#[derive(Clone, Debug)]
pub struct CellApi {
    own: OwnZone,
    /// A zone's own. A node's own run in a zone beside its cells, so that they outlive the daemon.
    executables: Option<Executables>,
    cells: Cells,
}

/// An executable's end was not told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the daemon that ran executable {0} ended before the executable's end could be told")]
pub struct EndUnknown(String);

impl CellApi {
    /// The service over these executables and cells.
    #[must_use]
    pub fn new(own: OwnZone, executables: Option<Executables>, cells: Cells) -> Self {
        Self { own, executables, cells }
    }
}

#[tonic::async_trait]
impl CellService for CellApi {
    async fn allocate(
        &self,
        request: Request<wire::CellServiceAllocateRequest>,
    ) -> Result<Response<wire::CellServiceAllocateResponse>, Status> {
        let mut forwarded = request.get_ref().clone();
        let (permit, spec) =
            admit::cells::allocate(request).map_err(|error| reply::status(&error))?;
        if let Some(zone) = self.keeper(permit.resource())? {
            forwarded.cell.get_or_insert_default().name = spec.name.to_string();
            let _room = zone.room().map_err(|error| reply::status(&error))?;
            let forwarded = route::request(permit.principal(), &zone, forwarded);
            let made = client(&zone).allocate(forwarded).await;
            made.map_err(|status| from_zone(&zone, status))?;
        } else {
            let passage = self.freezer().map(Freezer::pass).transpose();
            let passage = passage.map_err(|error| reply::status(&error))?;
            self.cells.allocate(spec, passage).await.map_err(|error| reply::status(&error))?;
        }
        let cell_name = permit.into_resource().to_string();
        Ok(Response::new(wire::CellServiceAllocateResponse { cell_name, cgroup_v2: true }))
    }

    async fn free(
        &self,
        request: Request<wire::CellServiceFreeRequest>,
    ) -> Result<Response<wire::CellServiceFreeResponse>, Status> {
        let mut forwarded = request.get_ref().clone();
        let (permit, grace) = admit::cells::free(request).map_err(|error| reply::status(&error))?;
        let name = permit.resource().split_last().1;
        if let Some(zone) = self.keeper(permit.resource())? {
            forwarded.cell_name = name.to_string();
            let _room = room_to_end(&zone, Some(grace))?;
            let forwarded = route::request(permit.principal(), &zone, forwarded);
            return client(&zone).free(forwarded).await.map_err(|status| from_zone(&zone, status));
        }
        self.cells.free(name, grace).await.map_err(|error| reply::status(&error))?;
        Ok(Response::new(wire::CellServiceFreeResponse {}))
    }

    async fn start(
        &self,
        request: Request<wire::CellServiceStartRequest>,
    ) -> Result<Response<wire::CellServiceStartResponse>, Status> {
        // A zone validates again what it is asked, so it gets the request as it came.
        let forwarded =
            wire::CellServiceStartRequest { cell_name: None, ..request.get_ref().clone() };
        let (permit, executable) =
            admit::cells::start(request).map_err(|error| reply::status(&error))?;
        let zone = match self.place(permit.resource().cell.as_ref())? {
            Place::Here(executables) => {
                let started = executables.start(&executable);
                let started = started.map_err(|error| reply::status(&error))?;
                return Ok(Response::new(wire::CellServiceStartResponse {
                    pid: started.pid,
                    uid: started.uid,
                    gid: started.gid,
                    outer_pids: told(started.numbers).await,
                }));
            }
            Place::Inside(zone) => zone,
            Place::Nowhere => {
                let made = self.cells.make_node_zone().await;
                made.map_err(|error| reply::status(&error))?
            }
        };
        let _room = zone.room().map_err(|error| reply::status(&error))?;
        let forwarded = route::request(permit.principal(), &zone, forwarded);
        let answer = client(&zone).start(forwarded).await;
        let mut answer = answer.map_err(|status| from_zone(&zone, status))?;
        started_outside(&zone, answer.get_mut());
        Ok(answer)
    }

    async fn stop(
        &self,
        request: Request<wire::CellServiceStopRequest>,
    ) -> Result<Response<wire::CellServiceStopResponse>, Status> {
        let forwarded =
            wire::CellServiceStopRequest { cell_name: None, ..request.get_ref().clone() };
        let (permit, grace) = admit::cells::stop(request).map_err(|error| reply::status(&error))?;
        let ExecutableResource { cell, name } = permit.resource();
        match self.place(cell.as_ref())? {
            Place::Here(executables) => {
                executables.stop(name, grace).await.map_err(|error| reply::status(&error))?;
                Ok(Response::new(wire::CellServiceStopResponse {}))
            }
            Place::Inside(zone) => {
                let _room = room_to_end(&zone, grace)?;
                let forwarded = route::request(permit.principal(), &zone, forwarded);
                client(&zone).stop(forwarded).await.map_err(|status| from_zone(&zone, status))
            }
            Place::Nowhere => Err(none(name)),
        }
    }

    async fn list(
        &self,
        request: Request<wire::CellServiceListRequest>,
    ) -> Result<Response<wire::CellServiceListResponse>, Status> {
        let permit = admit::cells::list(request).map_err(|error| reply::status(&error))?;
        let nodes = self.cells.list().map_err(|error| reply::status(&error))?;
        let cells = sight::visible(&permit, nodes).into_iter().map(graph_node).collect();
        Ok(Response::new(wire::CellServiceListResponse { cells }))
    }

    async fn inspect(
        &self,
        request: Request<wire::CellServiceInspectRequest>,
    ) -> Result<Response<wire::CellServiceInspectResponse>, Status> {
        let permit = admit::cells::inspect(request).map_err(|error| reply::status(&error))?;
        let answer = match permit.resource() {
            Some(path) => self.inspect_cell(permit.principal(), path).await?,
            None => self.inspect_own(permit.principal()).await?,
        };
        Ok(Response::new(answer))
    }

    async fn wait(
        &self,
        request: Request<wire::CellServiceWaitRequest>,
    ) -> Result<Response<wire::CellServiceWaitResponse>, Status> {
        let forwarded =
            wire::CellServiceWaitRequest { cell_name: None, ..request.get_ref().clone() };
        let permit = admit::cells::wait(request).map_err(|error| reply::status(&error))?;
        let ExecutableResource { cell, name } = permit.resource();
        match self.place(cell.as_ref())? {
            Place::Here(executables) => {
                let waited = executables.wait(name).await;
                let (snapshot, outcome) = waited.map_err(|error| reply::status(&error))?;
                outcome.ok_or_else(|| reply::status(&EndUnknown(name.to_string())))?;
                let executable = Some(executable(&snapshot));
                Ok(Response::new(wire::CellServiceWaitResponse { executable }))
            }
            Place::Inside(zone) => {
                let _room = zone.room().map_err(|error| reply::status(&error))?;
                let forwarded = route::request(permit.principal(), &zone, forwarded);
                let answer = client(&zone).wait(forwarded).await;
                let mut answer = answer.map_err(|status| from_zone(&zone, status))?;
                let executable = answer.get_mut().executable.iter_mut();
                executable.for_each(|executable| outside(&zone, executable));
                Ok(answer)
            }
            Place::Nowhere => Err(none(name)),
        }
    }

    async fn signal(
        &self,
        request: Request<wire::CellServiceSignalRequest>,
    ) -> Result<Response<wire::CellServiceSignalResponse>, Status> {
        let forwarded =
            wire::CellServiceSignalRequest { cell_name: None, ..request.get_ref().clone() };
        let (permit, signal, tree) =
            admit::cells::signal(request).map_err(|error| reply::status(&error))?;
        let ExecutableResource { cell, name } = permit.resource();
        match self.place(cell.as_ref())? {
            Place::Here(executables) => {
                let sent = executables.signal(name, signal, tree).await;
                sent.map_err(|error| reply::status(&error))?;
                Ok(Response::new(wire::CellServiceSignalResponse {}))
            }
            Place::Inside(zone) => {
                let forwarded = route::request(permit.principal(), &zone, forwarded);
                client(&zone).signal(forwarded).await.map_err(|status| from_zone(&zone, status))
            }
            Place::Nowhere => Err(none(name)),
        }
    }

    async fn freeze(
        &self,
        request: Request<wire::CellServiceFreezeRequest>,
    ) -> Result<Response<wire::CellServiceFreezeResponse>, Status> {
        self.freeze_cell(request).await
    }

    async fn thaw(
        &self,
        request: Request<wire::CellServiceThawRequest>,
    ) -> Result<Response<wire::CellServiceThawResponse>, Status> {
        self.thaw_cell(request).await
    }

    async fn update(
        &self,
        request: Request<wire::CellServiceUpdateRequest>,
    ) -> Result<Response<wire::CellServiceUpdateResponse>, Status> {
        self.update_cell(request).await
    }

    type ExecStream = Answers<wire::CellServiceExecResponse>;

    async fn exec(
        &self,
        request: Request<Streaming<wire::CellServiceExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        session::exec(self, request).await
    }

    type AttachStream = Answers<wire::CellServiceAttachResponse>;

    async fn attach(
        &self,
        request: Request<Streaming<wire::CellServiceAttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        session::attach(self, request).await
    }

    async fn copy_in(
        &self,
        request: Request<Streaming<wire::CellServiceCopyInRequest>>,
    ) -> Result<Response<wire::CellServiceCopyInResponse>, Status> {
        copy::copy_in(request).await
    }

    type CopyOutStream = Answers<wire::CellServiceCopyOutResponse>;

    async fn copy_out(
        &self,
        request: Request<wire::CellServiceCopyOutRequest>,
    ) -> Result<Response<Self::CopyOutStream>, Status> {
        copy::copy_out(request)
    }

    type WatchStream = Answers<wire::CellServiceWatchResponse>;

    async fn watch(
        &self,
        request: Request<wire::CellServiceWatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        watch::watch(&self.cells, request)
    }
}

/// Room for a call that waits for as long as something takes to end, unless it is killed at once: that gets
/// through always.
fn room_to_end(zone: &Zone, grace: Option<Duration>) -> Result<Option<Room>, Status> {
    let waits = grace != Some(Duration::ZERO);
    waits.then(|| zone.room()).transpose().map_err(|error| reply::status(&error))
}

fn none(name: &ExecutableName) -> Status {
    reply::status(&NoSuchExecutable(name.clone()))
}

impl CellApi {
    async fn inspect_cell(
        &self,
        principal: &Principal,
        path: &CellPath,
    ) -> Result<wire::CellServiceInspectResponse, Status> {
        let inspected = self.cells.inspect(path).map_err(|error| reply::status(&error))?;
        // A failed cell still has figures, which tell why.
        let failed = matches!(inspected.0.state, CellState::Failed(_));
        let mut answer = inspection(inspected);
        if !failed {
            answer.executables = self.executables_in(principal, self.place(Some(path))?).await?;
        }
        Ok(answer)
    }

    async fn inspect_own(
        &self,
        principal: &Principal,
    ) -> Result<wire::CellServiceInspectResponse, Status> {
        let OwnZone { name, cgroup, traits } = &self.own;
        let own = view_own(name, cgroup, *traits, self.is_frozen()).map_err(InspectError::from);
        let mut answer = inspection(own.map_err(|error| reply::status(&error))?);
        answer.executables = self.executables_in(principal, self.place(None)?).await?;
        Ok(answer)
    }

    async fn executables_in(
        &self,
        principal: &Principal,
        place: Place,
    ) -> Result<Vec<wire::ExecutableStatus>, Status> {
        match place {
            Place::Here(executables) => Ok(executables.list().iter().map(executable).collect()),
            Place::Nowhere => Ok(Vec::new()),
            Place::Inside(zone) => {
                let request = wire::CellServiceInspectRequest { cell_name: None };
                let request = route::request(principal, &zone, request);
                let answer = client(&zone).inspect(request).await;
                let answer = answer.map_err(|status| from_zone(&zone, status))?;
                let mut executables = answer.into_inner().executables;
                executables.iter_mut().for_each(|executable| outside(&zone, executable));
                Ok(executables)
            }
        }
    }
}
