//! A node's API as tests use it: the typed clients, and the calls that nearly every test makes.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use aurae_client::{Channel, Client};
use aurae_model::ZonePath;
use aurae_proto::cells::cell_service_client::CellServiceClient;
use aurae_proto::cells::{
    Cell, CellGraphNode, CellServiceAllocateRequest, CellServiceFreeRequest,
    CellServiceInspectRequest, CellServiceInspectResponse, CellServiceListRequest,
    CellServiceStartRequest, CellServiceStartResponse, CellServiceStopRequest,
    CellServiceWaitRequest, Executable, ExecutableStatus, Security, exit_status::Reason,
};
use aurae_proto::discovery::DiscoverRequest;
use aurae_proto::discovery::discovery_service_client::DiscoveryServiceClient;
use aurae_proto::node::node_service_client::NodeServiceClient;
use aurae_proto::observe::observe_service_client::ObserveServiceClient;
use aurae_proto::observe::{GetExecutableLogsRequest, LogChannelType, LogEntry};
use tonic::Status;

/// A connection to a node.
#[derive(Clone)]
pub struct Api {
    /// For raw calls.
    pub client: Client,
    /// Cells.
    pub cells: CellServiceClient<Channel>,
    /// Streams.
    pub observe: ObserveServiceClient<Channel>,
    /// The machine.
    pub node: NodeServiceClient<Channel>,
    /// Whether it is there.
    pub discovery: DiscoveryServiceClient<Channel>,
    /// What this connection calls its executables on the node itself.
    name_on_node: String,
}

/// How many connections there were.
static CONNECTIONS: AtomicU32 = AtomicU32::new(0);

/// An executable that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How.
    pub status: ExecutableStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Finished {
    /// The exit code; none when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        match self.status.exit_status.as_ref()?.reason.as_ref()? {
            Reason::Code(code) => Some(*code),
            Reason::Signal(_) => None,
        }
    }

    /// What it wrote to standard output; fails the test unless it exited with 0.
    #[track_caller]
    pub fn success(self) -> String {
        if self.code() != Some(0) {
            panic!("it did not exit with 0: {self:?}");
        }
        self.stdout
    }
}

/// A cell without limits.
pub fn cell(name: &str) -> Cell {
    Cell { name: name.to_owned(), ..Cell::default() }
}

impl Api {
    /// A connection with its typed clients.
    pub fn new(client: Client) -> Self {
        Self {
            cells: CellServiceClient::new(client.channel()),
            observe: ObserveServiceClient::new(client.channel()),
            node: NodeServiceClient::new(client.channel()),
            discovery: DiscoveryServiceClient::new(client.channel()),
            name_on_node: format!("run-{}", CONNECTIONS.fetch_add(1, Ordering::Relaxed)),
            client,
        }
    }

    /// The same connection, for calls to a zone below: `cells/web/cells/api`.
    pub fn in_zone(&self, path: &str) -> Self {
        let path = answered("a zone's path", ZonePath::parse(path));
        Self::new(self.client.in_zone(&path))
    }

    /// Makes a cell.
    pub async fn allocate(&self, cell: Cell) {
        let what = format!("allocate {}", cell.name);
        answered(&what, self.try_allocate(cell).await);
    }

    /// Makes a cell, or not.
    pub async fn try_allocate(&self, cell: Cell) -> Result<(), Status> {
        let request = CellServiceAllocateRequest { cell: Some(cell) };
        self.cells.clone().allocate(request).await.map(|_| ())
    }

    /// Ends a cell.
    pub async fn free(&self, name: &str) {
        answered(&format!("free {name}"), self.try_free(name).await);
    }

    /// Ends a cell, or not.
    pub async fn try_free(&self, name: &str) -> Result<(), Status> {
        let request = CellServiceFreeRequest { cell_name: name.to_owned(), grace_period: None };
        self.cells.clone().free(request).await.map(|_| ())
    }

    /// Starts a command line in a cell. In the cell `""`, the node itself, it is privileged: tests look
    /// there at what no workload may see.
    pub async fn start(&self, cell: &str, name: &str, command: &str) -> CellServiceStartResponse {
        let executable = shell(name, command);
        let executable = if cell.is_empty() { privileged(executable) } else { executable };
        let result = self.try_start(cell, executable).await;
        answered(&format!("start {name} in {cell}"), result)
    }

    /// Starts an executable in a cell, or not.
    pub async fn try_start(
        &self,
        cell: &str,
        executable: Executable,
    ) -> Result<CellServiceStartResponse, Status> {
        let request = CellServiceStartRequest {
            cell_name: place(cell),
            executable: Some(executable),
            ..CellServiceStartRequest::default()
        };
        self.cells.clone().start(request).await.map(|response| response.into_inner())
    }

    /// Stops an executable.
    pub async fn stop(&self, cell: &str, name: &str) {
        answered(&format!("stop {name} in {cell}"), self.try_stop(cell, name).await);
    }

    /// Stops an executable, or not.
    pub async fn try_stop(&self, cell: &str, name: &str) -> Result<(), Status> {
        let request = CellServiceStopRequest {
            cell_name: place(cell),
            executable_name: name.to_owned(),
            grace_period: None,
        };
        self.cells.clone().stop(request).await.map(|_| ())
    }

    /// Whether the daemon answers.
    pub async fn is_there(&self) -> bool {
        self.discovery.clone().discover(DiscoverRequest {}).await.is_ok()
    }

    /// Waits for an executable's end.
    pub async fn wait(&self, cell: &str, name: &str) -> ExecutableStatus {
        answered(&format!("wait for {name} in {cell}"), self.try_wait(cell, name).await)
    }

    /// Waits for an executable's end, or not.
    pub async fn try_wait(&self, cell: &str, name: &str) -> Result<ExecutableStatus, Status> {
        let request =
            CellServiceWaitRequest { cell_name: place(cell), executable_name: name.to_owned() };
        let response = self.cells.clone().wait(request).await?;
        Ok(response.into_inner().executable.unwrap_or_default())
    }

    /// A cell as the kernel has it.
    pub async fn inspect(&self, cell: &str) -> CellServiceInspectResponse {
        let request = CellServiceInspectRequest { cell_name: place(cell) };
        answered(&format!("inspect {cell}"), self.cells.clone().inspect(request).await).into_inner()
    }

    /// The names of all cells of the daemon itself.
    pub async fn list(&self) -> Vec<String> {
        self.tree().await.into_iter().filter_map(|node| node.cell).map(|cell| cell.name).collect()
    }

    /// All cells.
    pub async fn tree(&self) -> Vec<CellGraphNode> {
        answered("list", self.cells.clone().list(CellServiceListRequest {}).await)
            .into_inner()
            .cells
    }

    /// The names of all cells and of those inside them, sorted.
    pub async fn list_all(&self) -> Vec<String> {
        let (mut names, mut left) = (Vec::new(), self.tree().await);
        while let Some(CellGraphNode { cell, children, .. }) = left.pop() {
            names.extend(cell.map(|cell| cell.name));
            left.extend(children);
        }
        names.sort_unstable();
        names
    }

    /// All output of an executable: what is kept, and what it writes until its end.
    pub async fn logs(&self, cell: &str, name: &str) -> Vec<LogEntry> {
        self.collect_logs(GetExecutableLogsRequest { follow: true, ..logs_of(cell, name) }).await
    }

    /// The output that is kept of an executable.
    pub async fn kept_logs(&self, cell: &str, name: &str) -> Vec<LogEntry> {
        self.collect_logs(logs_of(cell, name)).await
    }

    /// The entries of a stream of logs, until it ends.
    pub async fn collect_logs(&self, request: GetExecutableLogsRequest) -> Vec<LogEntry> {
        let what = format!("logs of {}", request.executable_name);
        let response = answered(&what, self.observe.clone().get_executable_logs(request).await);
        let mut stream = response.into_inner();
        let mut entries = Vec::new();
        while let Some(message) = answered(&what, stream.message().await) {
            entries.extend(message.entries);
        }
        entries
    }

    /// Runs a command line in a cell to its end, as `run`. The cell `""` is the node itself.
    pub async fn run(&self, cell: &str, command: &str) -> Finished {
        // On the node itself other tests run theirs, too.
        let name = if cell.is_empty() { self.name_on_node.as_str() } else { "run" };
        self.start(cell, name, command).await;
        self.finish(cell, name).await
    }

    /// Runs an executable in a cell to its end.
    pub async fn run_as(&self, cell: &str, executable: Executable) -> Finished {
        let name = executable.name.clone();
        let result = self.try_start(cell, executable).await;
        answered(&format!("start {name} in {cell}"), result);
        self.finish(cell, &name).await
    }

    /// Waits for the end of an executable, and takes its output.
    async fn finish(&self, cell: &str, name: &str) -> Finished {
        let status = self.wait(cell, name).await;
        let entries = self.logs(cell, name).await;
        let text = |channel| String::from_utf8_lossy(&written(&entries, channel)).into_owned();
        Finished {
            status,
            stdout: text(LogChannelType::Stdout),
            stderr: text(LogChannelType::Stderr),
        }
    }

    /// Runs a command line on the node itself and returns what it wrote.
    pub async fn on_node(&self, command: &str) -> String {
        self.run("", command).await.success().trim_end().to_owned()
    }

    /// The numbers that a command line on the node itself writes; exactly so many.
    pub async fn numbers_on_node<T: FromStr, const N: usize>(&self, command: &str) -> [T; N] {
        let text = self.on_node(command).await;
        let numbers: Option<Vec<T>> =
            text.split_whitespace().map(|word| word.parse().ok()).collect();
        match numbers.and_then(|numbers| <[T; N]>::try_from(numbers).ok()) {
            Some(numbers) => numbers,
            None => panic!("`{command}` did not write {N} numbers but {text:?}"),
        }
    }

    /// A number that a command line on the node itself writes.
    pub async fn count_on_node(&self, command: &str) -> u64 {
        let [number] = self.numbers_on_node(command).await;
        number
    }
}

/// A command line to run.
pub fn shell(name: &str, command: &str) -> Executable {
    Executable { name: name.to_owned(), command: command.to_owned(), ..Executable::default() }
}

/// An executable that is held to nothing: as the daemon itself.
pub fn privileged(executable: Executable) -> Executable {
    let security = Some(Security { privileged: true, ..Security::default() });
    Executable { security, ..executable }
}

/// A program and its arguments to run.
pub fn program(name: &str, args: &[&str]) -> Executable {
    Executable {
        name: name.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: BTreeMap::new(),
        ..Executable::default()
    }
}

/// A request for the logs of an executable.
pub fn logs_of(cell: &str, name: &str) -> GetExecutableLogsRequest {
    GetExecutableLogsRequest {
        cell_name: place(cell),
        executable_name: name.to_owned(),
        ..GetExecutableLogsRequest::default()
    }
}

/// The bytes that an executable wrote to one of its outputs, put together again.
pub fn written(entries: &[LogEntry], channel: LogChannelType) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries.iter().filter(|entry| entry.channel_type == channel as i32) {
        bytes.extend_from_slice(&entry.data);
        if !entry.partial {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// The node itself is meant where no cell is named.
fn place(cell: &str) -> Option<String> {
    (!cell.is_empty()).then(|| cell.to_owned())
}

#[track_caller]
fn answered<T, E: Debug>(what: &str, result: Result<T, E>) -> T {
    match result {
        Ok(answer) => answer,
        Err(error) => panic!("{what}: {error:?}"),
    }
}
