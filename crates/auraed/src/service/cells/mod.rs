//! `aurae.cells.v0.CellService`.
//!
//! What concerns a cell's own executables is answered by the cell's daemon: it is asked with the cell's
//! name left out, and its answer is passed on.

mod messages;

use std::sync::Arc;

use aurae_authz::Executable as ExecutableResource;
use aurae_authz::Permit;
use aurae_kernel::cgroup::Cgroup;
use aurae_model::{CellPath, Executable};
use aurae_proto::cells as wire;
use aurae_proto::cells::cell_service_client::CellServiceClient;
use aurae_proto::cells::cell_service_server::CellService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use crate::admit;
use crate::reply::{self, Unsupported};
use crate::runtime::cells::{Cells, InspectError, ReachError, Zone, view_own};
use crate::runtime::executables::{Executables, StartError, Started};
use crate::service::Answers;
use messages::{executable, graph_node, inspection};

/// The daemon's own zone: what an unset cell name means.
#[derive(Clone, Debug)]
pub struct OwnZone {
    /// The last label of its path; empty for the node.
    pub name: String,
    /// Its cgroup.
    pub cgroup: Arc<Cgroup>,
}

/// The cell service of a daemon.
#[derive(Clone, Debug)]
pub struct CellApi {
    own: OwnZone,
    executables: Executables,
    /// `None` in a zone.
    cells: Option<Cells>,
}

/// A zone was asked for cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cells inside cells are not there yet; ask the node for a cell one level deep")]
pub struct NoCellsHere;

/// An executable's end was not told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the daemon that ran executable {0} ended before the executable's end could be told")]
pub struct EndUnknown(String);

/// A zone did not tell which process it started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cell {0} did not tell which process it started")]
pub struct ProcessUnknown(String);

impl CellApi {
    /// The service over these executables, and these cells where the daemon is a node's.
    #[must_use]
    pub fn new(own: OwnZone, executables: Executables, cells: Option<Cells>) -> Self {
        Self { own, executables, cells }
    }

    fn cells(&self) -> Result<&Cells, Status> {
        self.cells.as_ref().ok_or_else(|| reply::status(&NoCellsHere))
    }

    /// Starting blocks until `execve`: for long where a path leads to a file system that hangs. A
    /// node has threads to make up for it; in a zone only the zone waits.
    fn start_own(&self, executable: &Executable) -> Result<Started, StartError> {
        if self.cells.is_some() {
            return tokio::task::block_in_place(|| self.executables.start(executable));
        }
        self.executables.start(executable)
    }

    /// The cell's daemon.
    fn zone(&self, path: &CellPath) -> Result<Zone, Status> {
        self.cells()?.reach(path).map_err(|error| reply::status(&error))
    }
}

/// What a cell's daemon may answer: 4096 executables with 4 KiB of arguments each, and room.
const MAX_ANSWER: usize = 32 << 20;

/// A client of a cell's daemon.
fn client(zone: &Zone) -> CellServiceClient<Channel> {
    CellServiceClient::new(zone.channel()).max_decoding_message_size(MAX_ANSWER)
}

#[tonic::async_trait]
impl CellService for CellApi {
    async fn allocate(
        &self,
        request: Request<wire::CellServiceAllocateRequest>,
    ) -> Result<Response<wire::CellServiceAllocateResponse>, Status> {
        let (permit, spec) =
            admit::cells::allocate(request).map_err(|error| reply::status(&error))?;
        self.cells()?.allocate(spec).await.map_err(|error| reply::status(&error))?;
        let cell_name = permit.into_resource().to_string();
        Ok(Response::new(wire::CellServiceAllocateResponse { cell_name, cgroup_v2: true }))
    }

    async fn free(
        &self,
        request: Request<wire::CellServiceFreeRequest>,
    ) -> Result<Response<wire::CellServiceFreeResponse>, Status> {
        let (permit, grace) = admit::cells::free(request).map_err(|error| reply::status(&error))?;
        let freed = self.cells()?.free(permit.resource(), grace).await;
        freed.map_err(|error| reply::status(&error))?;
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
        let Some(path) = &permit.resource().cell else {
            let started = self.start_own(&executable).map_err(|error| reply::status(&error))?;
            let (pid, uid, gid) = (started.pid, started.uid, started.gid);
            return Ok(Response::new(wire::CellServiceStartResponse {
                pid,
                uid,
                gid,
                outer_pids: Vec::new(),
            }));
        };
        let zone = self.zone(path)?;
        let answer =
            client(&zone).start(forwarded).await.map_err(|status| from_zone(&zone, status))?;
        let mut started = answer.into_inner();
        started.pid = zone
            .outside_pid(started.pid)
            .await
            .ok_or_else(|| reply::status(&ProcessUnknown(path.to_string())))?;
        Ok(Response::new(started))
    }

    async fn stop(
        &self,
        request: Request<wire::CellServiceStopRequest>,
    ) -> Result<Response<wire::CellServiceStopResponse>, Status> {
        let mut forwarded = request.get_ref().clone();
        let (permit, grace) = admit::cells::stop(request).map_err(|error| reply::status(&error))?;
        let ExecutableResource { cell, name } = permit.into_resource();
        if let Some(path) = cell {
            let zone = self.zone(&path)?;
            forwarded.cell_name = None;
            return client(&zone).stop(forwarded).await.map_err(|status| from_zone(&zone, status));
        }
        self.executables.stop(&name, grace).await.map_err(|error| reply::status(&error))?;
        Ok(Response::new(wire::CellServiceStopResponse {}))
    }

    async fn list(
        &self,
        request: Request<wire::CellServiceListRequest>,
    ) -> Result<Response<wire::CellServiceListResponse>, Status> {
        let _permit = admit::cells::list(request).map_err(|error| reply::status(&error))?;
        let views = self.cells.as_ref().map(Cells::list).unwrap_or_else(|| Ok(Vec::new()));
        let cells = views.map_err(|error| reply::status(&error))?.into_iter().map(graph_node);
        Ok(Response::new(wire::CellServiceListResponse { cells: cells.collect() }))
    }

    async fn inspect(
        &self,
        request: Request<wire::CellServiceInspectRequest>,
    ) -> Result<Response<wire::CellServiceInspectResponse>, Status> {
        let permit = admit::cells::inspect(request).map_err(|error| reply::status(&error))?;
        let answer = match permit.resource() {
            Some(path) => self.inspect_cell(path).await?,
            None => self.inspect_own(&permit)?,
        };
        Ok(Response::new(answer))
    }

    async fn wait(
        &self,
        request: Request<wire::CellServiceWaitRequest>,
    ) -> Result<Response<wire::CellServiceWaitResponse>, Status> {
        let mut forwarded = request.get_ref().clone();
        let permit = admit::cells::wait(request).map_err(|error| reply::status(&error))?;
        let ExecutableResource { cell, name } = permit.into_resource();
        if let Some(path) = cell {
            let zone = self.zone(&path)?;
            let _room = zone.long_call().map_err(|error| reply::status(&error))?;
            forwarded.cell_name = None;
            let answer = client(&zone).wait(forwarded).await;
            let mut answer = answer.map_err(|status| from_zone(&zone, status))?;
            answer
                .get_mut()
                .executable
                .iter_mut()
                .for_each(|executable| outside(&zone, executable));
            return Ok(answer);
        }
        let (snapshot, outcome) =
            self.executables.wait(&name).await.map_err(|error| reply::status(&error))?;
        outcome.ok_or_else(|| reply::status(&EndUnknown(name.to_string())))?;
        Ok(Response::new(wire::CellServiceWaitResponse { executable: Some(executable(&snapshot)) }))
    }

    async fn signal(
        &self,
        request: Request<wire::CellServiceSignalRequest>,
    ) -> Result<Response<wire::CellServiceSignalResponse>, Status> {
        let mut forwarded = request.get_ref().clone();
        let (permit, signal, tree) =
            admit::cells::signal(request).map_err(|error| reply::status(&error))?;
        let ExecutableResource { cell, name } = permit.into_resource();
        if let Some(path) = cell {
            let zone = self.zone(&path)?;
            forwarded.cell_name = None;
            return client(&zone)
                .signal(forwarded)
                .await
                .map_err(|status| from_zone(&zone, status));
        }
        let sent = self.executables.signal(&name, signal, tree).await;
        sent.map_err(|error| reply::status(&error))?;
        Ok(Response::new(wire::CellServiceSignalResponse {}))
    }

    async fn freeze(
        &self,
        request: Request<wire::CellServiceFreezeRequest>,
    ) -> Result<Response<wire::CellServiceFreezeResponse>, Status> {
        Err(not_yet("Freeze", request))
    }

    async fn thaw(
        &self,
        request: Request<wire::CellServiceThawRequest>,
    ) -> Result<Response<wire::CellServiceThawResponse>, Status> {
        Err(not_yet("Thaw", request))
    }

    async fn update(
        &self,
        request: Request<wire::CellServiceUpdateRequest>,
    ) -> Result<Response<wire::CellServiceUpdateResponse>, Status> {
        Err(not_yet("Update", request))
    }

    type ExecStream = Answers<wire::CellServiceExecResponse>;

    async fn exec(
        &self,
        request: Request<Streaming<wire::CellServiceExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        Err(not_yet("Exec", request))
    }

    type AttachStream = Answers<wire::CellServiceAttachResponse>;

    async fn attach(
        &self,
        request: Request<Streaming<wire::CellServiceAttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        Err(not_yet("Attach", request))
    }

    async fn copy_in(
        &self,
        request: Request<Streaming<wire::CellServiceCopyInRequest>>,
    ) -> Result<Response<wire::CellServiceCopyInResponse>, Status> {
        Err(not_yet("CopyIn", request))
    }

    type CopyOutStream = Answers<wire::CellServiceCopyOutResponse>;

    async fn copy_out(
        &self,
        request: Request<wire::CellServiceCopyOutRequest>,
    ) -> Result<Response<Self::CopyOutStream>, Status> {
        Err(not_yet("CopyOut", request))
    }

    type WatchStream = Answers<wire::CellServiceWatchResponse>;

    async fn watch(
        &self,
        request: Request<wire::CellServiceWatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(not_yet("Watch", request))
    }
}

fn not_yet<T>(what: &'static str, mut request: Request<T>) -> Status {
    match admit::permit(&mut request) {
        Ok(_) => reply::status(&Unsupported { what, instead: "a later version has it" }),
        Err(error) => reply::status(&error),
    }
}

impl CellApi {
    async fn inspect_cell(
        &self,
        path: &CellPath,
    ) -> Result<wire::CellServiceInspectResponse, Status> {
        let inspected = self.cells()?.inspect(path).map_err(|error| reply::status(&error))?;
        let mut answer = inspection(inspected);
        let zone = match self.cells()?.reach(path) {
            Ok(zone) => zone,
            // A failed cell still has figures, which tell why.
            Err(ReachError::Failed(..)) => return Ok(answer),
            Err(error) => return Err(reply::status(&error)),
        };
        let inside =
            client(&zone).inspect(wire::CellServiceInspectRequest { cell_name: None }).await;
        answer.executables =
            inside.map_err(|status| from_zone(&zone, status))?.into_inner().executables;
        answer.executables.iter_mut().for_each(|executable| outside(&zone, executable));
        Ok(answer)
    }

    fn inspect_own(
        &self,
        _permit: &Permit<Option<CellPath>>,
    ) -> Result<wire::CellServiceInspectResponse, Status> {
        let own = view_own(&self.own.name, &self.own.cgroup).map_err(InspectError::from);
        let mut answer = inspection(own.map_err(|error| reply::status(&error))?);
        answer.executables = self.executables.list().iter().map(executable).collect();
        Ok(answer)
    }
}

/// What a zone answered, or that it did not.
fn from_zone(zone: &Zone, status: Status) -> Status {
    reply::from_zone(zone.name(), status)
}

/// A zone numbers its processes for itself; the caller knows them by this daemon's numbers. One so
/// old that its number was forgotten has none: 0.
fn outside(zone: &Zone, executable: &mut wire::ExecutableStatus) {
    executable.pid = zone.known_pid(executable.pid).unwrap_or_default();
}
