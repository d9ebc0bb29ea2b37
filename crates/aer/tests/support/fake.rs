//! The services of a node, made up.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use aurae_proto::cells::cell_service_server::{CellService, CellServiceServer};
use aurae_proto::cells::exit_status::Reason;
use aurae_proto::cells::*;
use aurae_proto::discovery::discovery_service_server::{DiscoveryService, DiscoveryServiceServer};
use aurae_proto::discovery::{DiscoverRequest, DiscoverResponse};
use aurae_proto::node::node_service_server::{NodeService, NodeServiceServer};
use aurae_proto::node::*;
use aurae_proto::observe::observe_service_server::{ObserveService, ObserveServiceServer};
use aurae_proto::observe::*;
use futures_util::StreamExt as _;
use prost_types::Timestamp;
use tokio::sync::watch;
use tokio_stream::{Stream, iter};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// 2026-11-22T15:04:05.25Z.
const WHEN: Timestamp = Timestamp { seconds: 1_795_359_845, nanos: 250_000_000 };
const WHEN_NANOS: i64 = 1_795_359_845_250_000_000;

/// Whoever goes on after a greater number watches what the test makes happen.
const LIVE: u64 = 1000;

/// A node that keeps what it was asked.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    calls: Vec<String>,
    running: BTreeMap<String, Running>,
    /// What watches tell that are for new changes only, or go on.
    changes: watch::Sender<Vec<CellServiceWatchResponse>>,
    /// Changes when the daemon is replaced: what is open ends.
    replaced: watch::Sender<()>,
    refusals: u32,
    forgets_a_start: bool,
}

/// An executable, by the name of its program.
struct Running {
    program: String,
    log: watch::Sender<Vec<LogEntry>>,
    end: watch::Sender<Option<ExitStatus>>,
}

/// What a node answers whose daemon is replaced.
fn replaced() -> Status {
    let mut status = Status::unavailable("the daemon is being replaced by another version");
    status.metadata_mut().insert("grpc-retry-pushback-ms", "20".parse().unwrap());
    status
}

impl Fake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What was called, with the message.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// The names of what was called.
    pub(crate) fn called(&self) -> Vec<String> {
        let calls = self.calls();
        calls.iter().map(|call| call.split(' ').next().unwrap().to_owned()).collect()
    }

    /// Ends what is open, as a daemon does that is replaced.
    pub(crate) fn replace(&self) {
        self.state().replaced.send_replace(());
    }

    /// So many calls are answered as by a daemon that is replaced, and do nothing.
    pub(crate) fn refuse(&self, calls: u32) {
        self.state().refusals = calls;
    }

    /// The next executable is started, and its caller is told as by a daemon that is replaced.
    pub(crate) fn forget_a_start(&self) {
        self.state().forgets_a_start = true;
    }

    /// The executable in that cell writes a line. Two lines have the same time.
    pub(crate) fn write(&self, cell: &str, line: &'static str) {
        self.state().running[cell].log.send_modify(|log| {
            log.push(LogEntry {
                unix_nanos: WHEN_NANOS + i64::try_from(log.len() / 2).unwrap(),
                channel_type: LogChannelType::Stdout.into(),
                data: line.into(),
                partial: false,
            });
        });
    }

    /// The executable in that cell ends.
    pub(crate) fn end(&self, cell: &str, code: i32) {
        self.state().running[cell].end.send_replace(Some(exited(code)));
    }

    /// A change of that number happens.
    pub(crate) fn change(&self, sequence: u64) {
        let time = Timestamp { seconds: i64::try_from(sequence).unwrap(), nanos: 0 };
        let kind = ChangeKind::CellAllocated.into();
        let change = CellServiceWatchResponse {
            sequence,
            time: Some(time),
            kind,
            ..CellServiceWatchResponse::default()
        };
        self.state().changes.send_modify(|changes| changes.push(change));
    }

    /// What came after that number. The last one before comes again, under a new number, as one of a
    /// zone inside does.
    fn live_changes(&self, after: u64) -> Answers<CellServiceWatchResponse> {
        let state = self.state();
        let known =
            state.changes.borrow().iter().take_while(|known| known.sequence <= after).count();
        let again = known.checked_sub(1).map(|last| {
            let last = state.changes.borrow()[last].clone();
            Ok(CellServiceWatchResponse { sequence: after + 1, ..last })
        });
        let no_end = watch::Sender::new(None);
        let new = follow(
            known,
            state.changes.subscribe(),
            no_end.subscribe(),
            state.replaced.subscribe(),
        );
        let new = new.flat_map(move |changes| {
            let _keep = &no_end;
            match changes {
                Ok(changes) => iter(changes.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(status) => iter(vec![Err(status)]),
            }
        });
        Box::pin(iter(again).chain(new))
    }

    fn may_be_called(&self) -> Result<(), Status> {
        let mut state = self.state();
        match state.refusals {
            0 => Ok(()),
            left => {
                state.refusals = left - 1;
                Err(replaced())
            }
        }
    }

    fn note<T: std::fmt::Debug>(&self, name: &str, request: Request<T>) -> T {
        let zone = request.metadata().get("aurae-zone").and_then(|zone| zone.to_str().ok());
        let zone = zone.map(|zone| format!(" in {zone}")).unwrap_or_default();
        let message = request.into_inner();
        self.state().calls.push(format!("{name} {message:?}{zone}"));
        message
    }

    pub(crate) fn cells(&self) -> CellServiceServer<Self> {
        CellServiceServer::new(self.clone())
    }

    pub(crate) fn observe(&self) -> ObserveServiceServer<Self> {
        ObserveServiceServer::new(self.clone())
    }

    pub(crate) fn discovery(&self) -> DiscoveryServiceServer<Self> {
        DiscoveryServiceServer::new(self.clone())
    }

    pub(crate) fn node(&self) -> NodeServiceServer<Self> {
        NodeServiceServer::new(self.clone())
    }
}

/// What comes in a list, from a place in it on, until the end or until the daemon is replaced.
fn follow<T: Clone + Send + Sync + 'static>(
    seen: usize,
    list: watch::Receiver<Vec<T>>,
    end: watch::Receiver<Option<ExitStatus>>,
    interruption: watch::Receiver<()>,
) -> Answers<Vec<T>> {
    let all = (seen, list, end, interruption);
    Box::pin(futures_util::stream::unfold(Some(all), |all| async {
        let (seen, mut list, mut end, mut interruption) = all?;
        loop {
            let new = list.borrow_and_update()[seen..].to_vec();
            if !new.is_empty() {
                let seen = seen + new.len();
                return Some((Ok(new), Some((seen, list, end, interruption))));
            }
            if end.borrow_and_update().is_some() {
                return None;
            }
            let more = tokio::select! {
                more = list.changed() => more,
                more = end.changed() => more,
                _ = interruption.changed() => return Some((Err(replaced()), None)),
            };
            more.ok()?;
        }
    }))
}

fn exited(code: i32) -> ExitStatus {
    ExitStatus { reason: Some(Reason::Code(code)), oom_killed: false }
}

fn killed(signal: i32, oom_killed: bool) -> ExitStatus {
    ExitStatus { reason: Some(Reason::Signal(signal)), oom_killed }
}

/// How a program of that name ends by itself.
fn end_of(program: &str) -> Option<ExitStatus> {
    match program {
        "sleep" => None,
        "fail" => Some(exited(3)),
        "hog" => Some(killed(9, true)),
        "crash" => Some(killed(11, false)),
        _ => Some(exited(0)),
    }
}

fn output_of(program: &str) -> Vec<LogEntry> {
    let entry = |channel: LogChannelType, data: &'static [u8], partial| LogEntry {
        unix_nanos: WHEN_NANOS,
        channel_type: channel.into(),
        data: data.into(),
        partial,
    };
    match program {
        "hello" => vec![
            entry(LogChannelType::Stdout, b"hello", false),
            entry(LogChannelType::Stderr, b"oops", false),
            entry(LogChannelType::Stdout, b"no line end, and not UTF-8: \xff\x00", true),
        ],
        "sleep" => vec![entry(LogChannelType::Stdout, b"ready", false)],
        _ => Vec::new(),
    }
}

fn cell(name: &str, memory: i64) -> Cell {
    Cell {
        name: name.to_owned(),
        cpu: Some(CpuController { weight: Some(100), max: Some(20_000), ..Default::default() }),
        memory: Some(MemoryController { max: Some(memory), ..Default::default() }),
        isolate_process: true,
        ..Default::default()
    }
}

fn status_of(name: &str, exit_status: Option<ExitStatus>) -> ExecutableStatus {
    let state = match exit_status {
        None => ExecutableState::Running,
        Some(_) => ExecutableState::Ended,
    };
    ExecutableStatus {
        name: name.to_owned(),
        state: state.into(),
        pid: 42,
        start_time: Some(WHEN),
        end_time: exit_status.map(|_| WHEN),
        exit_status,
        args: vec!["sh".to_owned(), "-c".to_owned(), "a \x1b[31mred\x1b[0m one".to_owned()],
        ..Default::default()
    }
}

#[tonic::async_trait]
impl CellService for Fake {
    async fn allocate(
        &self,
        request: Request<CellServiceAllocateRequest>,
    ) -> Answer<CellServiceAllocateResponse> {
        let cell = self.note("Allocate", request).cell.unwrap_or_default();
        if cell.name == "taken" {
            return Err(Status::already_exists("cell taken exists already"));
        }
        if cell.name.is_empty() {
            return Err(Status::failed_precondition("Field = cell.name; Required"));
        }
        Ok(Response::new(CellServiceAllocateResponse { cell_name: cell.name, cgroup_v2: true }))
    }

    async fn free(
        &self,
        request: Request<CellServiceFreeRequest>,
    ) -> Answer<CellServiceFreeResponse> {
        let request = self.note("Free", request);
        self.may_be_called()?;
        self.state().running.remove(&request.cell_name);
        match request.cell_name.as_str() {
            "absent" => Err(Status::not_found("cell absent does not exist")),
            "stuck" => {
                Err(Status::internal("failed to remove cgroup stuck: device or resource busy"))
            }
            _ => Ok(Response::new(CellServiceFreeResponse {})),
        }
    }

    async fn start(
        &self,
        request: Request<CellServiceStartRequest>,
    ) -> Answer<CellServiceStartResponse> {
        let request = self.note("Start", request);
        let program = request.executable.and_then(|executable| executable.args.first().cloned());
        let program = program.unwrap_or_default();
        match program.as_str() {
            "absent" => return Err(Status::not_found("absent: no such file or directory")),
            "forbidden" => return Err(Status::permission_denied("forbidden: permission denied")),
            _ => {}
        }
        self.may_be_called()?;
        let log = watch::Sender::new(output_of(&program));
        let end = watch::Sender::new(end_of(&program));
        let running = Running { program, log, end };
        self.state().running.insert(request.cell_name.unwrap_or_default(), running);
        if std::mem::take(&mut self.state().forgets_a_start) {
            return Err(replaced());
        }
        Ok(Response::new(CellServiceStartResponse {
            pid: 42,
            uid: 0,
            gid: 0,
            ..Default::default()
        }))
    }

    async fn stop(
        &self,
        request: Request<CellServiceStopRequest>,
    ) -> Answer<CellServiceStopResponse> {
        let request = self.note("Stop", request);
        if let Some(running) = self.state().running.get(request.cell_name()) {
            running.end.send_replace(Some(killed(15, false)));
        }
        Ok(Response::new(CellServiceStopResponse {}))
    }

    async fn list(
        &self,
        request: Request<CellServiceListRequest>,
    ) -> Answer<CellServiceListResponse> {
        self.note("List", request);
        let node = |cell, children| CellGraphNode {
            cell: Some(cell),
            children,
            state: CellState::Live.into(),
            reason: String::new(),
        };
        let child = node(Cell { name: "db/backup".to_owned(), ..Default::default() }, vec![]);
        let cells =
            vec![node(cell("db", 1 << 30), vec![child]), node(cell("web", 64 << 20), vec![])];
        Ok(Response::new(CellServiceListResponse { cells }))
    }

    async fn inspect(
        &self,
        request: Request<CellServiceInspectRequest>,
    ) -> Answer<CellServiceInspectResponse> {
        let name = self.note("Inspect", request).cell_name.unwrap_or_default();
        let executables = match (name.as_str(), self.state().running.contains_key(&name)) {
            ("job", false) => Vec::new(),
            _ => vec![
                status_of("main", None),
                status_of("migrate", Some(exited(0))),
                status_of("hog", Some(killed(9, true))),
            ],
        };
        let line = PressureLine { avg10: 1.5, avg60: 0.25, avg300: 0.0, total: 1_234_567 };
        Ok(Response::new(CellServiceInspectResponse {
            cell: Some(cell(&name, 64 << 20)),
            usage: Some(CellUsage {
                cpu: Some(CpuUsage { usage: 90_500_000, user: 500_000, ..Default::default() }),
                memory: Some(MemoryUsage { current: 1_572_864, ..Default::default() }),
                cpu_pressure: Some(Pressure { some: Some(line), full: None }),
                ..Default::default()
            }),
            executables,
            cgroup_path: "/web".to_owned(),
            daemon_pid: 41,
            controllers: vec!["cpu".to_owned(), "memory".to_owned()],
            state: CellState::Live.into(),
            reason: String::new(),
        }))
    }

    async fn wait(
        &self,
        request: Request<CellServiceWaitRequest>,
    ) -> Answer<CellServiceWaitResponse> {
        let request = self.note("Wait", request);
        let end = self.state().running.get(request.cell_name()).map(|known| known.end.subscribe());
        let mut end = end.ok_or_else(|| Status::not_found("no such executable"))?;
        let mut interruption = self.state().replaced.subscribe();
        let status = tokio::select! {
            status = end.wait_for(Option::is_some) => status.map(|status| *status),
            _ = interruption.changed() => return Err(replaced()),
        };
        let status = status.map_err(|_| Status::unavailable("cell freed"))?;
        let executable = Some(status_of(&request.executable_name, status));
        Ok(Response::new(CellServiceWaitResponse { executable }))
    }

    async fn signal(
        &self,
        request: Request<CellServiceSignalRequest>,
    ) -> Answer<CellServiceSignalResponse> {
        self.note("Signal", request);
        Ok(Response::new(CellServiceSignalResponse {}))
    }

    async fn freeze(
        &self,
        _: Request<CellServiceFreezeRequest>,
    ) -> Result<Response<CellServiceFreezeResponse>, Status> {
        Err(Status::unimplemented("this fake has no freeze"))
    }

    async fn thaw(
        &self,
        _: Request<CellServiceThawRequest>,
    ) -> Result<Response<CellServiceThawResponse>, Status> {
        Err(Status::unimplemented("this fake has no thaw"))
    }

    async fn update(
        &self,
        _: Request<CellServiceUpdateRequest>,
    ) -> Result<Response<CellServiceUpdateResponse>, Status> {
        Err(Status::unimplemented("this fake has no update"))
    }

    async fn copy_in(
        &self,
        request: Request<tonic::Streaming<CellServiceCopyInRequest>>,
    ) -> Result<Response<CellServiceCopyInResponse>, Status> {
        super::copies::copy_in(request.into_inner()).await.map(Response::new)
    }

    type ExecStream = BoxStream<CellServiceExecResponse>;

    /// Says back what it is told, until the input ends or a signal comes. `sudden` ends without a word.
    async fn exec(
        &self,
        request: Request<tonic::Streaming<CellServiceExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        use cell_service_exec_request::Message as To;
        use cell_service_exec_response::Message as From;
        let zone = request.metadata().get("aurae-zone").cloned();
        let mut messages = request.into_inner();
        let Some(To::Start(start)) = messages.message().await?.and_then(|first| first.message)
        else {
            return Err(Status::failed_precondition("Field = start; Must be the first message"));
        };
        let sudden = start.args == ["sudden"];
        self.note("Exec", Request::new((start, zone)));
        let answers = messages.map(|message| {
            let ended =
                |reason| From::ExitStatus(ExitStatus { reason: Some(reason), oom_killed: false });
            Ok(match message?.message {
                Some(To::Stdin(bytes)) => From::Stdout(bytes),
                Some(To::StdinEnd(_)) => ended(Reason::Code(3)),
                Some(To::Signal(signal)) => ended(Reason::Signal(signal)),
                Some(To::Resize(size)) => From::Stderr(format!("{size:?}").into()),
                Some(To::Start(_)) | None => return Err(Status::failed_precondition("no")),
            })
        });
        let begun = iter([
            Ok(From::Started(ExecStarted { pid: 7 })),
            Ok(From::Stdout(bytes::Bytes::from_static(b"ready\n"))),
        ]);
        let answers: BoxStream<From> = match sudden {
            true => Box::pin(begun),
            false => Box::pin(begun.chain(answers)),
        };
        Ok(Response::new(Box::pin(answers.map(|message| {
            message.map(|message| CellServiceExecResponse { message: Some(message) })
        }))))
    }

    type AttachStream = BoxStream<CellServiceAttachResponse>;

    async fn attach(
        &self,
        _: Request<tonic::Streaming<CellServiceAttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        Err(Status::unimplemented("this fake has no attach"))
    }

    type CopyOutStream = BoxStream<CellServiceCopyOutResponse>;

    async fn copy_out(
        &self,
        request: Request<CellServiceCopyOutRequest>,
    ) -> Result<Response<Self::CopyOutStream>, Status> {
        Ok(Response::new(super::copies::copy_out(&request.into_inner().path)))
    }

    type WatchStream = BoxStream<CellServiceWatchResponse>;

    async fn watch(
        &self,
        request: Request<CellServiceWatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = self.note("Watch", request);
        if request.only_new || request.after() > LIVE {
            return Ok(Response::new(self.live_changes(request.after())));
        }
        let change = |kind: ChangeKind, sequence| CellServiceWatchResponse {
            sequence,
            time: Some(WHEN),
            kind: kind.into(),
            cell_name: "web/api".to_owned(),
            ..CellServiceWatchResponse::default()
        };
        let of_main = |kind, sequence| CellServiceWatchResponse {
            executable_name: "main".to_owned(),
            pid: 12,
            ..change(kind, sequence)
        };
        let exit = ExitStatus { reason: Some(Reason::Code(3)), oom_killed: false };
        let changes = [
            CellServiceWatchResponse { cell_name: String::new(), ..change(ChangeKind::Resync, 7) },
            change(ChangeKind::CellAllocated, 8),
            of_main(ChangeKind::ExecutableStarted, 9),
            CellServiceWatchResponse {
                exit_status: Some(exit),
                missed: 5,
                ..of_main(ChangeKind::ExecutableEnded, 15)
            },
            CellServiceWatchResponse {
                reason: "signal 9 ended it".to_owned(),
                ..change(ChangeKind::CellFailed, 16)
            },
        ];
        Ok(Response::new(Box::pin(iter(changes.map(Ok)))))
    }
}

#[tonic::async_trait]
impl ObserveService for Fake {
    type GetAuraeDaemonLogStreamStream = Answers<GetAuraeDaemonLogStreamResponse>;
    type GetSubProcessStreamStream = Answers<GetSubProcessStreamResponse>;
    type GetPosixSignalsStreamStream = Answers<GetPosixSignalsStreamResponse>;
    type GetExecutableLogsStream = Answers<GetExecutableLogsResponse>;

    async fn get_aurae_daemon_log_stream(
        &self,
        _: Request<GetAuraeDaemonLogStreamRequest>,
    ) -> Answer<Self::GetAuraeDaemonLogStreamStream> {
        let items = ["listening", "a \x1b]0;title\x07 cell"].map(|line| {
            let line = line.to_owned();
            let item = LogItem { channel: "auraed".to_owned(), line, timestamp: WHEN.seconds };
            Ok(GetAuraeDaemonLogStreamResponse { item: Some(item) })
        });
        Ok(Response::new(Box::pin(iter(items))))
    }

    async fn get_sub_process_stream(
        &self,
        request: Request<GetSubProcessStreamRequest>,
    ) -> Answer<Self::GetSubProcessStreamStream> {
        self.note("GetSubProcessStream", request);
        let items = [("main::stdout", "hello"), ("main::stderr", "oops")].map(|(channel, line)| {
            let (channel, line) = (channel.to_owned(), line.to_owned());
            let item = LogItem { channel, line, timestamp: WHEN.seconds };
            Ok(GetSubProcessStreamResponse { item: Some(item) })
        });
        Ok(Response::new(Box::pin(iter(items))))
    }

    async fn get_posix_signals_stream(
        &self,
        _: Request<GetPosixSignalsStreamRequest>,
    ) -> Answer<Self::GetPosixSignalsStreamStream> {
        Err(Status::unimplemented("GetPosixSignalsStream is not implemented yet; use Wait"))
    }

    async fn get_executable_logs(
        &self,
        request: Request<GetExecutableLogsRequest>,
    ) -> Answer<Self::GetExecutableLogsStream> {
        let request = self.note("GetExecutableLogs", request);
        let since = request
            .since
            .map_or(i64::MIN, |since| since.seconds * 1_000_000_000 + i64::from(since.nanos));
        let state = self.state();
        if let Some(running) = state.running.get(request.cell_name()).filter(|_| request.follow) {
            let older = |entry: &LogEntry| entry.unix_nanos < since;
            let seen = running.log.borrow().iter().take_while(|entry| older(entry)).count();
            let interruption = state.replaced.subscribe();
            let entries =
                follow(seen, running.log.subscribe(), running.end.subscribe(), interruption);
            let answers = entries.map(|entries| {
                Ok(GetExecutableLogsResponse { entries: entries?, ..Default::default() })
            });
            return Ok(Response::new(Box::pin(answers)));
        }
        let running = state.running.get(request.cell_name()).map(|it| it.program.clone());
        let program = running.unwrap_or_else(|| "hello".to_owned());
        let missed_entries = if request.tail == Some(3) { 7 } else { 0 };
        let first = GetExecutableLogsResponse {
            entries: output_of(&program),
            missed_entries,
            missed_bytes: missed_entries * 1024,
        };
        let last = GetExecutableLogsResponse::default();
        Ok(Response::new(Box::pin(iter([Ok(first), Ok(last)]))))
    }
}

#[tonic::async_trait]
impl DiscoveryService for Fake {
    async fn discover(&self, request: Request<DiscoverRequest>) -> Answer<DiscoverResponse> {
        self.note("Discover", request);
        self.may_be_called()?;
        Ok(Response::new(DiscoverResponse { healthy: true, version: "1.2.3".to_owned() }))
    }
}

#[tonic::async_trait]
impl NodeService for Fake {
    type KernelLogStream = Answers<KernelLogResponse>;

    async fn info(&self, _: Request<InfoRequest>) -> Answer<InfoResponse> {
        let interface = |name: &str, running, address: &str| NetworkInterface {
            name: name.to_owned(),
            running,
            addresses: vec![address.to_owned()],
            ..Default::default()
        };
        Ok(Response::new(InfoResponse {
            version: "1.2.3".to_owned(),
            boot_time: Some(WHEN),
            cpus: 2,
            memory_total: 8 << 30,
            cgroup_controllers: vec!["cpu".to_owned(), "memory".to_owned()],
            capabilities: Some(NodeCapabilities { kvm: true, bpf: false, landlock_abi: 4 }),
            interfaces: vec![
                interface("lo", true, "127.0.0.1/8"),
                interface("eth0", false, "10.0.2.15/24"),
            ],
            ..Default::default()
        }))
    }

    async fn power_off(&self, request: Request<PowerOffRequest>) -> Answer<PowerOffResponse> {
        self.note("PowerOff", request);
        Ok(Response::new(PowerOffResponse {}))
    }

    async fn reboot(&self, _: Request<RebootRequest>) -> Answer<RebootResponse> {
        std::future::pending().await
    }

    async fn kernel_log(&self, _: Request<KernelLogRequest>) -> Answer<Self::KernelLogStream> {
        let record = KernelLogResponse {
            sequence: 1,
            unix_nanos: WHEN_NANOS,
            severity: 6,
            facility: 0,
            message: "Linux version 6.1".to_owned(),
        };
        Ok(Response::new(Box::pin(iter([Ok(record)]))))
    }

    type UpgradeStream = BoxStream<UpgradeResponse>;

    async fn upgrade(
        &self,
        _: Request<tonic::Streaming<UpgradeRequest>>,
    ) -> Result<Response<Self::UpgradeStream>, Status> {
        Err(Status::unimplemented("this fake has no upgrade"))
    }
}
