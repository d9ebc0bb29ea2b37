//! A node that is none: the real services' interface over real mutual TLS, cells that are entries in
//! a map, and executables that are processes of this machine.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use aurae_client::RawCodec;
use aurae_proto::cells::cell_service_server::{CellService, CellServiceServer};
use aurae_proto::cells::*;
use aurae_proto::discovery::discovery_service_server::{DiscoveryService, DiscoveryServiceServer};
use aurae_proto::discovery::{DiscoverRequest, DiscoverResponse};
use aurae_proto::node::node_service_server::{NodeService, NodeServiceServer};
use aurae_proto::node::*;
use aurae_proto::observe::observe_service_server::{ObserveService, ObserveServiceServer};
use aurae_proto::observe::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::codegen::BoxStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status, Streaming};

/// The name that clients ask for.
const SERVER_NAME: &str = "server.unsafe.aurae.io";

/// How many accepted connections wait for the server.
const BACKLOG: usize = 16;

/// How many bytes are on their way between TLS and the server.
const PIPE_BYTES: usize = 64 * 1024;

/// A fake node with its client configuration.
pub(crate) struct FakeNode {
    directory: tempfile::TempDir,
    /// What the node was asked, and what it has.
    pub(crate) state: Arc<State>,
}

/// What the node has.
#[derive(Default)]
pub(crate) struct State {
    cells: Mutex<BTreeMap<String, Cell>>,
    outputs: Mutex<HashMap<ExecutableId, Output>>,
    /// Calls that were told to go on for ever and have ended.
    pub(crate) ended: Mutex<usize>,
    /// So many calls are answered as by a daemon that is replaced; streams in the middle.
    pub(crate) refusals: Mutex<u32>,
    /// How many calls there were that can be answered so.
    pub(crate) asked: Mutex<u32>,
}

/// A cell and an executable in it.
type ExecutableId = (String, String);

/// What an executable wrote, and its exit code.
type Output = (Vec<u8>, i32);

impl State {
    /// Whether the call is answered, or as by a daemon that is replaced.
    fn answers(&self) -> Result<(), Status> {
        *self.asked.lock().unwrap() += 1;
        let mut refusals = self.refusals.lock().unwrap();
        if *refusals == 0 {
            return Ok(());
        }
        *refusals -= 1;
        let mut status = Status::unavailable("the daemon is being replaced");
        status.metadata_mut().insert("grpc-retry-pushback-ms", MetadataValue::from_static("5"));
        Err(status)
    }

    /// The names of the cells.
    pub(crate) fn cells(&self) -> Vec<String> {
        self.cells.lock().unwrap().keys().cloned().collect()
    }
}

impl FakeNode {
    /// Starts a node on a thread of its own. Its configuration has it as the default node, as `one`
    /// and, on a unix socket, as `socket`, and a node `down` where nobody listens.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tls = certificates(directory.path());
        let state = Arc::new(State::default());
        let (tell, address) = std::sync::mpsc::channel();
        let served = state.clone();
        let socket = directory.path().join("aurae.sock");
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let unix = UnixListener::bind(socket).unwrap();
                serve(listener, unix, tls, served).await;
            });
        });
        let address = address.recv().unwrap();
        let config = format!(
            "[auth]\nca_crt = \"ca.crt\"\nclient_crt = \"me.crt\"\nclient_key = \"me.key\"\n\
             [system]\nsocket = \"{address}\"\n\
             [nodes.one]\nsocket = \"{address}\"\n\
             [nodes.socket]\nsocket = \"./aurae.sock\"\n\
             [nodes.down]\nsocket = \"127.0.0.1:1\"\n"
        );
        std::fs::write(directory.path().join("config"), config).unwrap();
        Self { directory, state }
    }

    /// The client configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("config")
    }
}

/// Writes an authority and a client certificate, and makes the server's.
fn certificates(directory: &Path) -> Arc<ServerConfig> {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL takes a certificate whose issuer has its own name for a self-signed one.
    params.distinguished_name.push(DnType::CommonName, "the authority");
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(directory.join("ca.crt"), issuer.pem()).unwrap();

    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["me".to_owned()]).unwrap();
    let client = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(directory.join("me.crt"), client.pem()).unwrap();
    std::fs::write(directory.join("me.key"), key.serialize_pem()).unwrap();

    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([SERVER_NAME.to_owned()]).unwrap();
    let server = params.signed_by(&key, &issuer).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![server.der().clone()],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

async fn serve(tcp: TcpListener, unix: UnixListener, tls: Arc<ServerConfig>, state: Arc<State>) {
    let (connections, incoming) = tokio::sync::mpsc::channel(BACKLOG);
    let node = Services(state);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(CellServiceServer::new(node.clone()))
            .add_service(DiscoveryServiceServer::new(node.clone()))
            .add_service(NodeServiceServer::new(node.clone()))
            .add_service(ObserveServiceServer::new(node))
            .add_service(Echo)
            .serve_with_incoming(ReceiverStream::new(incoming)),
    );
    loop {
        let socket: Box<dyn Socket> = tokio::select! {
            accepted = tcp.accept() => Box::new(accepted.unwrap().0),
            accepted = unix.accept() => Box::new(accepted.unwrap().0),
        };
        let (tls, connections) = (TlsAcceptor::from(tls.clone()), connections.clone());
        tokio::spawn(async move {
            let Ok(mut stream) = tls.accept(socket).await else { return };
            let (mut near, far) = tokio::io::duplex(PIPE_BYTES);
            if connections.send(Ok::<_, std::io::Error>(far)).await.is_ok() {
                // However it ends, the connection is over.
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut near).await;
            }
        });
    }
}

/// A service of streams from the client, which the API does not have (gRPC reflection is one):
/// `Chat` answers each message with itself, `Collect` all of them put together.
#[derive(Clone)]
struct Echo;

impl tonic::server::NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl tower::Service<http::Request<tonic::body::Body>> for Echo {
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(RawCodec);
            Ok(if request.uri().path().ends_with("/Chat") {
                let chat = |request: Request<Streaming<bytes::Bytes>>| async move {
                    Ok::<_, Status>(Response::new(request.into_inner()))
                };
                grpc.streaming(tower::service_fn(chat), request).await
            } else {
                let collect = |request: Request<Streaming<bytes::Bytes>>| async move {
                    let parts: Vec<_> = request.into_inner().collect::<Result<_, _>>().await?;
                    Ok::<_, Status>(Response::new(bytes::Bytes::from(parts.concat())))
                };
                grpc.client_streaming(tower::service_fn(collect), request).await
            })
        })
    }
}

#[derive(Clone)]
struct Services(Arc<State>);

impl Services {
    fn cell(&self, name: &str) -> Result<Cell, Status> {
        let cells = self.0.cells.lock().unwrap();
        cells.get(name).cloned().ok_or_else(|| Status::not_found(format!("no cell {name}")))
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl CellService for Services {
    async fn allocate(
        &self,
        request: Request<CellServiceAllocateRequest>,
    ) -> Answer<CellServiceAllocateResponse> {
        let cell = request.into_inner().cell.unwrap_or_default();
        if cell.name.is_empty() {
            let mut metadata = MetadataMap::new();
            metadata.insert("hint", MetadataValue::from_static("give it one"));
            return Err(Status::with_details_and_metadata(
                Code::FailedPrecondition,
                "Field = cell.name; Required",
                bytes::Bytes::new(),
                metadata,
            ));
        }
        let mut cells = self.0.cells.lock().unwrap();
        if cells.contains_key(&cell.name) {
            return Err(Status::already_exists(format!("cell {} exists", cell.name)));
        }
        cells.insert(cell.name.clone(), cell.clone());
        Ok(Response::new(CellServiceAllocateResponse { cell_name: cell.name, cgroup_v2: true }))
    }

    async fn free(
        &self,
        request: Request<CellServiceFreeRequest>,
    ) -> Answer<CellServiceFreeResponse> {
        self.0.answers()?;
        let name = request.into_inner().cell_name;
        self.cell(&name)?;
        self.0.cells.lock().unwrap().remove(&name);
        Ok(Response::new(CellServiceFreeResponse {}))
    }

    async fn start(
        &self,
        request: Request<CellServiceStartRequest>,
    ) -> Answer<CellServiceStartResponse> {
        let request = request.into_inner();
        let cell = request.cell_name.unwrap_or_default();
        self.cell(&cell)?;
        let executable = request.executable.unwrap_or_default();
        let mut command = match executable.args.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
            None => {
                let mut command = Command::new("sh");
                command.args(["-c", &executable.command]);
                command
            }
        };
        let child = command
            .envs(&executable.env)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Status::not_found(error.to_string()))?;
        let pid = child.id() as i32;
        let output = child.wait_with_output().unwrap();
        self.0
            .outputs
            .lock()
            .unwrap()
            .insert((cell, executable.name), (output.stdout, output.status.code().unwrap_or(-1)));
        Ok(Response::new(CellServiceStartResponse { pid, uid: 0, gid: 0, ..Default::default() }))
    }

    async fn stop(&self, _: Request<CellServiceStopRequest>) -> Answer<CellServiceStopResponse> {
        Ok(Response::new(CellServiceStopResponse {}))
    }

    async fn list(&self, _: Request<CellServiceListRequest>) -> Answer<CellServiceListResponse> {
        let cells = self.0.cells.lock().unwrap();
        let cells = cells.values().cloned();
        let cells = cells.map(|cell| CellGraphNode {
            cell: Some(cell),
            children: vec![],
            ..Default::default()
        });
        Ok(Response::new(CellServiceListResponse { cells: cells.collect() }))
    }

    async fn inspect(
        &self,
        request: Request<CellServiceInspectRequest>,
    ) -> Answer<CellServiceInspectResponse> {
        let cell = self.cell(&request.into_inner().cell_name.unwrap_or_default())?;
        Ok(Response::new(CellServiceInspectResponse {
            cell: Some(cell),
            ..CellServiceInspectResponse::default()
        }))
    }

    async fn wait(
        &self,
        request: Request<CellServiceWaitRequest>,
    ) -> Answer<CellServiceWaitResponse> {
        let request = request.into_inner();
        let id = (request.cell_name.unwrap_or_default(), request.executable_name.clone());
        let code = match self.0.outputs.lock().unwrap().get(&id) {
            Some((_, code)) => *code,
            None => return Err(Status::not_found("no such executable")),
        };
        let exit = ExitStatus { oom_killed: false, reason: Some(exit_status::Reason::Code(code)) };
        let executable = ExecutableStatus {
            name: request.executable_name,
            exit_status: Some(exit),
            ..ExecutableStatus::default()
        };
        Ok(Response::new(CellServiceWaitResponse { executable: Some(executable) }))
    }

    async fn signal(
        &self,
        _: Request<CellServiceSignalRequest>,
    ) -> Answer<CellServiceSignalResponse> {
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
        _: Request<Streaming<CellServiceCopyInRequest>>,
    ) -> Result<Response<CellServiceCopyInResponse>, Status> {
        Err(Status::unimplemented("this fake has no copy_in"))
    }

    type ExecStream = BoxStream<CellServiceExecResponse>;

    async fn exec(
        &self,
        _: Request<Streaming<CellServiceExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        Err(Status::unimplemented("this fake has no exec"))
    }

    type AttachStream = BoxStream<CellServiceAttachResponse>;

    async fn attach(
        &self,
        _: Request<Streaming<CellServiceAttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        Err(Status::unimplemented("this fake has no attach"))
    }

    type CopyOutStream = BoxStream<CellServiceCopyOutResponse>;

    async fn copy_out(
        &self,
        _: Request<CellServiceCopyOutRequest>,
    ) -> Result<Response<Self::CopyOutStream>, Status> {
        Err(Status::unimplemented("this fake has no copy_out"))
    }

    type WatchStream = BoxStream<CellServiceWatchResponse>;

    async fn watch(
        &self,
        request: Request<CellServiceWatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let after = request.into_inner().after;
        let change = |sequence, seconds| CellServiceWatchResponse {
            sequence,
            time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            ..CellServiceWatchResponse::default()
        };
        // The last one comes again, as one of a zone inside may.
        let again = after.map(|after| change(after + 1, after as i64 / 10));
        let new = (1..=4).map(|at| change(at * 10, at as i64));
        let new = new.filter(|change| Some(change.sequence) > after);
        let mut changes: Vec<_> = again.into_iter().chain(new).map(Ok).collect();
        if let Err(status) = self.0.answers() {
            changes.truncate(2);
            changes.push(Err(status));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(changes))))
    }
}

#[tonic::async_trait]
impl DiscoveryService for Services {
    async fn discover(&self, request: Request<DiscoverRequest>) -> Answer<DiscoverResponse> {
        self.0.answers()?;
        let metadata = request.metadata();
        if metadata.contains_key("never") {
            let _guard = Ended(self.0.clone());
            std::future::pending::<()>().await;
        }
        let version = zone(metadata).unwrap_or_else(|| "1.2.3".to_owned());
        let mut response = Response::new(DiscoverResponse { healthy: true, version });
        for name in ["echo", "echo-bin"] {
            for (key, value) in metadata.clone().into_headers() {
                if let Some(key) = key.filter(|key| key.as_str() == name) {
                    let mut headers = response.metadata().clone().into_headers();
                    headers.insert(key, value);
                    *response.metadata_mut() = MetadataMap::from_headers(headers);
                }
            }
        }
        Ok(response)
    }
}

/// The zone that a call is for.
fn zone(metadata: &MetadataMap) -> Option<String> {
    Some(metadata.get("aurae-zone")?.to_str().unwrap().to_owned())
}

/// Counts a call that has ended.
struct Ended(Arc<State>);

impl Drop for Ended {
    fn drop(&mut self) {
        *self.0.ended.lock().unwrap() += 1;
    }
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl NodeService for Services {
    type KernelLogStream = Messages<KernelLogResponse>;

    async fn info(&self, _: Request<InfoRequest>) -> Answer<InfoResponse> {
        Ok(Response::new(InfoResponse {
            hostname: "fake".to_owned(),
            cpus: 2,
            memory_total: 1 << 30,
            memory_available: 1 << 29,
            ..InfoResponse::default()
        }))
    }

    async fn power_off(&self, _: Request<PowerOffRequest>) -> Answer<PowerOffResponse> {
        Err(Status::failed_precondition("the fake node has no power switch"))
    }

    async fn reboot(&self, _: Request<RebootRequest>) -> Answer<RebootResponse> {
        Err(Status::failed_precondition("the fake node has no power switch"))
    }

    /// A stream that counts to `tail` and then, with `follow`, is silent for ever; without, it fails.
    async fn kernel_log(
        &self,
        request: Request<KernelLogRequest>,
    ) -> Answer<Self::KernelLogStream> {
        let KernelLogRequest { follow, tail } = request.into_inner();
        let records = (0..u64::from(tail.unwrap_or(3))).map(|sequence| {
            let message = format!("record {sequence}");
            Ok(KernelLogResponse { sequence, message, ..KernelLogResponse::default() })
        });
        let guard = Ended(self.0.clone());
        let rest: Messages<KernelLogResponse> = if follow {
            Box::pin(futures_util::stream::once(async move {
                let _guard = guard;
                std::future::pending::<Result<KernelLogResponse, Status>>().await
            }))
        } else {
            let failed = Status::data_loss("the log was cut");
            Box::pin(tokio_stream::iter([Err(failed)]))
        };
        Ok(Response::new(Box::pin(tokio_stream::iter(records).chain(rest))))
    }

    type UpgradeStream = BoxStream<UpgradeResponse>;

    async fn upgrade(
        &self,
        _: Request<Streaming<UpgradeRequest>>,
    ) -> Result<Response<Self::UpgradeStream>, Status> {
        Err(Status::unimplemented("this fake has no upgrade"))
    }
}

#[tonic::async_trait]
impl ObserveService for Services {
    type GetAuraeDaemonLogStreamStream = Messages<GetAuraeDaemonLogStreamResponse>;
    type GetSubProcessStreamStream = Messages<GetSubProcessStreamResponse>;
    type GetPosixSignalsStreamStream = Messages<GetPosixSignalsStreamResponse>;
    type GetExecutableLogsStream = Messages<GetExecutableLogsResponse>;

    async fn get_aurae_daemon_log_stream(
        &self,
        _: Request<GetAuraeDaemonLogStreamRequest>,
    ) -> Answer<Self::GetAuraeDaemonLogStreamStream> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_sub_process_stream(
        &self,
        _: Request<GetSubProcessStreamRequest>,
    ) -> Answer<Self::GetSubProcessStreamStream> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_posix_signals_stream(
        &self,
        _: Request<GetPosixSignalsStreamRequest>,
    ) -> Answer<Self::GetPosixSignalsStreamStream> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_executable_logs(
        &self,
        request: Request<GetExecutableLogsRequest>,
    ) -> Answer<Self::GetExecutableLogsStream> {
        if let Some(zone) = zone(request.metadata()) {
            return Err(Status::not_found(format!("asked in {zone}")));
        }
        let request = request.into_inner();
        let id = (request.cell_name.unwrap_or_default(), request.executable_name);
        let Some((output, _)) = self.0.outputs.lock().unwrap().get(&id).cloned() else {
            return Err(Status::not_found("no such executable"));
        };
        let since = request.since.map_or(0, |since| i64::from(since.nanos));
        let mut lines: Vec<_> = output
            .split_inclusive(|byte| *byte == b'\n')
            .enumerate()
            .filter(|(number, _)| *number as i64 / 2 + 1 >= since)
            .map(|(number, line)| {
                let text = line.strip_suffix(b"\n").unwrap_or(line);
                let entry = LogEntry {
                    unix_nanos: number as i64 / 2 + 1,
                    channel_type: LogChannelType::Stdout as i32,
                    data: bytes::Bytes::copy_from_slice(text),
                    partial: text.len() == line.len(),
                };
                let entries = vec![entry];
                Ok(GetExecutableLogsResponse { entries, ..GetExecutableLogsResponse::default() })
            })
            .collect();
        if let Err(status) = self.0.answers() {
            lines.truncate(2);
            lines.push(Err(status));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(lines))))
    }
}
