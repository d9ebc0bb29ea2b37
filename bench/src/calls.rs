//! The calls that figures are made of.

use anyhow::{Context, Result, bail};
use aurae_client::{Channel, Client};
use aurae_proto::cells::cell_service_client::CellServiceClient;
use aurae_proto::cells::{
    Cell, CellServiceAllocateRequest, CellServiceFreeRequest, CellServiceInspectRequest,
    CellServiceStartRequest, CellServiceWaitRequest, CpuController, Executable, MemoryController,
    PidsController,
};
use aurae_proto::discovery::DiscoverRequest;
use aurae_proto::discovery::discovery_service_client::DiscoveryServiceClient;
use aurae_proto::observe::GetExecutableLogsRequest;
use aurae_proto::observe::observe_service_client::ObserveServiceClient;

use crate::peers::{CPU_PERIOD_US, CPU_QUOTA_US, MEMORY_MAX, PIDS_MAX};

/// A connection with its typed clients. Clones share it.
#[derive(Clone)]
pub(crate) struct Api {
    cells: CellServiceClient<Channel>,
    discovery: DiscoveryServiceClient<Channel>,
    observe: ObserveServiceClient<Channel>,
}

/// What came of reading an executable's output.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Output {
    /// What came, in bytes, without the ends of lines.
    pub(crate) text: u64,
    /// Lines that came whole, or at least with their ends.
    pub(crate) lines: u64,
    /// What was told to be missing, in bytes, without the ends of lines.
    pub(crate) missed: u64,
}

impl Output {
    /// What came, in bytes, as it was written.
    pub(crate) fn bytes(&self) -> u64 {
        self.text + self.lines
    }
}

impl Api {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            cells: CellServiceClient::new(client.channel()),
            discovery: DiscoveryServiceClient::new(client.channel()),
            observe: ObserveServiceClient::new(client.channel()),
        }
    }

    pub(crate) async fn discover(&self) -> Result<()> {
        self.discovery.clone().discover(DiscoverRequest {}).await.context("discover")?;
        Ok(())
    }

    pub(crate) async fn allocate(&self, cell: Cell) -> Result<()> {
        let request = CellServiceAllocateRequest { cell: Some(cell) };
        self.cells.clone().allocate(request).await.context("allocate")?;
        Ok(())
    }

    pub(crate) async fn free(&self, cell: &str) -> Result<()> {
        let request = CellServiceFreeRequest { cell_name: cell.to_owned(), grace_period: None };
        self.cells.clone().free(request).await.context("free")?;
        Ok(())
    }

    pub(crate) async fn start(&self, cell: &str, name: &str, arguments: &[&str]) -> Result<()> {
        let executable = Executable {
            name: name.to_owned(),
            args: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            ..Executable::default()
        };
        let request = CellServiceStartRequest {
            cell_name: Some(cell.to_owned()),
            executable: Some(executable),
            ..CellServiceStartRequest::default()
        };
        self.cells.clone().start(request).await.context("start")?;
        Ok(())
    }

    /// Waits until an executable has exited with 0.
    pub(crate) async fn wait(&self, cell: &str, name: &str) -> Result<()> {
        use aurae_proto::cells::exit_status::Reason;
        let request = CellServiceWaitRequest {
            cell_name: Some(cell.to_owned()),
            executable_name: name.to_owned(),
        };
        let response = self.cells.clone().wait(request).await.context("wait")?.into_inner();
        let status = response.executable.and_then(|status| status.exit_status?.reason);
        match status {
            Some(Reason::Code(0)) => Ok(()),
            other => bail!("it did not exit with 0: {other:?}"),
        }
    }

    /// The process of a cell's daemon.
    pub(crate) async fn daemon_pid(&self, cell: &str) -> Result<i32> {
        let request = CellServiceInspectRequest { cell_name: Some(cell.to_owned()) };
        let response = self.cells.clone().inspect(request).await.context("inspect")?;
        Ok(response.into_inner().daemon_pid)
    }

    /// All output of an executable, to its end.
    pub(crate) async fn output(&self, cell: &str, name: &str) -> Result<Output> {
        let request = GetExecutableLogsRequest {
            cell_name: Some(cell.to_owned()),
            executable_name: name.to_owned(),
            follow: true,
            ..GetExecutableLogsRequest::default()
        };
        let response = self.observe.clone().get_executable_logs(request).await.context("logs")?;
        let mut stream = response.into_inner();
        let mut output = Output::default();
        while let Some(message) = stream.message().await.context("logs")? {
            output.missed += message.missed_bytes;
            for entry in message.entries {
                output.text += entry.data.len() as u64;
                output.lines += u64::from(!entry.partial);
            }
        }
        Ok(output)
    }
}

/// An isolated cell, with limits where the machine has the controllers.
pub(crate) fn isolated(name: &str, limits: bool) -> Cell {
    let cell = Cell { name: name.to_owned(), isolate_process: true, ..Cell::default() };
    if !limits {
        return cell;
    }
    Cell {
        cpu: Some(CpuController {
            max: Some(CPU_QUOTA_US),
            period: Some(CPU_PERIOD_US),
            ..CpuController::default()
        }),
        memory: Some(MemoryController {
            max: i64::try_from(MEMORY_MAX).ok(),
            ..MemoryController::default()
        }),
        pids: Some(PidsController { max: Some(PIDS_MAX) }),
        ..cell
    }
}
