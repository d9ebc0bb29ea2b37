//! `aurae.cells.v0.CellService`.
//!
//! What concerns a cell's own executables is answered by the cell's daemon: it is asked with the cell's
//! name left out, and its answer is passed on.

use std::sync::Arc;
use std::time::SystemTime;

use aurae_authz::Executable as ExecutableResource;
use aurae_authz::Permit;
use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::process::Exit;
use aurae_model::{CellPath, Device, Executable, Limits};
use aurae_proto::cells as wire;
use aurae_proto::cells::cell_service_client::CellServiceClient;
use aurae_proto::cells::cell_service_server::CellService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::admit;
use crate::reply;
use crate::runtime::cells::{
    CellView, Cells, InspectError, Pressure, PressureLine, ReachError, Usage, Zone, view_own,
};
use crate::runtime::executables::{Executables, Phase, Snapshot, StartError, Started};

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
            return Ok(Response::new(wire::CellServiceStartResponse { pid, uid, gid }));
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

fn inspection(
    (view, usage, controllers): (CellView, Usage, Vec<String>),
) -> wire::CellServiceInspectResponse {
    wire::CellServiceInspectResponse {
        cgroup_path: view.cgroup_path.clone(),
        daemon_pid: view.daemon_pid,
        usage: Some(wire_usage(&usage)),
        cell: Some(cell(view)),
        executables: Vec::new(),
        controllers,
    }
}

fn graph_node(view: CellView) -> wire::CellGraphNode {
    wire::CellGraphNode { cell: Some(cell(view)), children: Vec::new() }
}

fn cell(view: CellView) -> wire::Cell {
    let CellView { name, limits, isolate_process, isolate_network, .. } = view;
    let Limits { cpu, cpuset, memory, pids_max, io } = limits;
    // Beyond i64 the wire has no number; no machine has that much memory.
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let list = |list: Option<aurae_model::List>| list.map(|list| list.as_str().to_owned());
    wire::Cell {
        name,
        cpu: Some(wire::CpuController {
            weight: cpu.weight.map(|weight| weight.get().into()),
            max: bytes(cpu.max.and_then(|max| max.quota)),
            period: cpu.max.map(|max| max.period),
            burst: cpu.max.and_then(|max| max.burst),
        }),
        cpuset: Some(wire::CpusetController { cpus: list(cpuset.cpus), mems: list(cpuset.mems) }),
        memory: Some(wire::MemoryController {
            min: bytes(memory.min),
            low: bytes(memory.low),
            high: bytes(memory.high),
            max: bytes(memory.max),
            swap_max: bytes(memory.swap_max),
            oom_group: memory.oom_group,
        }),
        isolate_process,
        isolate_network,
        pids: Some(wire::PidsController { max: pids_max }),
        io: Some(wire::IoController {
            weight: io.weight.map(aurae_model::Weight::get),
            devices: io.devices.into_iter().map(io_device).collect(),
        }),
    }
}

fn io_device(limit: aurae_model::IoDevice) -> wire::IoDeviceLimit {
    let device = match limit.device {
        Device::Numbers(major, minor) => format!("{major}:{minor}"),
        Device::Path(path) => path,
    };
    wire::IoDeviceLimit {
        device,
        read_bytes_per_second: limit.read_bytes,
        write_bytes_per_second: limit.write_bytes,
        read_operations_per_second: limit.read_operations,
        write_operations_per_second: limit.write_operations,
    }
}

fn wire_usage(usage: &Usage) -> wire::CellUsage {
    wire::CellUsage {
        cpu: usage.cpu.map(|cpu| wire::CpuUsage {
            usage: cpu.usage,
            user: cpu.user,
            system: cpu.system,
            periods: cpu.periods,
            throttled_periods: cpu.throttled_periods,
            throttled: cpu.throttled,
        }),
        memory: usage.memory.map(|memory| wire::MemoryUsage {
            current: memory.current,
            peak: memory.peak,
            swap_current: memory.swap_current,
            events: Some(wire::MemoryEvents {
                low: memory.low,
                high: memory.high,
                max: memory.max,
                oom: memory.oom,
                oom_kill: memory.oom_kill,
            }),
        }),
        pids: usage
            .pids
            .map(|pids| wire::PidsUsage { current: pids.current, refused: pids.refused }),
        cpu_pressure: usage.cpu_pressure.map(pressure),
        memory_pressure: usage.memory_pressure.map(pressure),
        io_pressure: usage.io_pressure.map(pressure),
    }
}

fn pressure(pressure: Pressure) -> wire::Pressure {
    let line = |line: PressureLine| wire::PressureLine {
        avg10: line.avg10,
        avg60: line.avg60,
        avg300: line.avg300,
        total: line.total,
    };
    wire::Pressure { some: Some(line(pressure.some)), full: pressure.full.map(line) }
}

fn executable(snapshot: &Snapshot) -> wire::ExecutableStatus {
    let facts = &snapshot.facts;
    let state = match snapshot.phase {
        Phase::Running => wire::ExecutableState::Running,
        Phase::Stopping => wire::ExecutableState::Stopping,
        Phase::Ended(_) => wire::ExecutableState::Ended,
    };
    let outcome = snapshot.phase.outcome();
    wire::ExecutableStatus {
        name: facts.name.clone(),
        state: state.into(),
        pid: facts.pid,
        start_time: Some(timestamp(facts.started)),
        end_time: outcome.map(|outcome| timestamp(outcome.ended)),
        exit_status: outcome.map(|outcome| wire::ExitStatus {
            reason: Some(match outcome.exit {
                Exit::Code(code) => wire::exit_status::Reason::Code(code),
                Exit::Signal(signal) => wire::exit_status::Reason::Signal(signal),
            }),
            oom_killed: outcome.oom_killed,
        }),
        description: facts.description.clone(),
        args: facts.arguments.clone(),
        uid: facts.uid,
        gid: facts.gid,
    }
}

fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    time.into()
}
