//! The server as its clients see it: who gets in, what is refused, what is left of it in the log.

mod attack;
pub(crate) mod pki;
mod refusals;
mod reload;
mod spiffe;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use aurae_authz::Form;
use aurae_client::{Client, Identity};
use aurae_proto::auth::WhoAmIRequest;
use aurae_proto::auth::auth_service_client::AuthServiceClient;
use aurae_proto::discovery::DiscoverRequest;
use aurae_proto::discovery::discovery_service_client::DiscoveryServiceClient;
use aurae_proto::node::node_service_client::NodeServiceClient;
use aurae_proto::node::{InfoRequest, PowerOffRequest};
use aurae_proto::observe::observe_service_client::ObserveServiceClient;
use aurae_proto::observe::{GetAuraeDaemonLogStreamRequest, GetExecutableLogsRequest};
use bytes::Bytes;
use rcgen::SanType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::metadata::MetadataMap;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::*;
use crate::audit::{Decision, Entry, Start};
use crate::runtime::logs::{LogRing, Reader, ReaderOptions};
use crate::runtime::node::{Machine, Role};
use crate::runtime::output::Workloads;
use crate::service::Api;
use crate::service::audit::AuditApi;
use crate::service::auth::{Auth, TrustDomains};
use crate::service::discovery::Discovery;
use crate::service::health::Reporter;
use crate::service::node::NodeApi;
use crate::service::observe::Observe;
use crate::service::reflection::with_reflection;
use crate::shutdown::Intent;
use crate::status::Status as Health;
use pki::Pki;

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server in this process, and what it logs.
struct Fixture {
    pki: Pki,
    tls: Tls,
    server: Server,
    address: SocketAddr,
    health: Health,
    shutdown: Shutdown,
    log: LogRing,
    audit: Audit,
    serving: JoinSet<()>,
    _capture: tracing::subscriber::DefaultGuard,
}

impl Fixture {
    fn start() -> Self {
        Self::bounded(Audit::in_memory(), REQUESTS_PER_SECOND)
    }

    /// With these records, and so many calls a second.
    fn bounded(audit: Audit, per_second: u32) -> Self {
        let pki = Pki::new();
        let files = pki.server();
        Self::new(pki, &files, audit, per_second)
    }

    /// With a server that reads a revocation list, which is there and revokes nobody.
    fn with_list() -> (Self, PathBuf) {
        let pki = Pki::new();
        let list = pki.path("crl.pem");
        std::fs::write(&list, pki.revoke(&[], time::Duration::days(1))).unwrap();
        let files = TlsFiles { revocation_lists: vec![list.clone()], ..pki.server() };
        (Self::with(pki, &files), list)
    }

    /// With a server that reads these files.
    fn with(pki: Pki, files: &TlsFiles) -> Self {
        Self::new(pki, files, Audit::in_memory(), REQUESTS_PER_SECOND)
    }

    fn new(pki: Pki, files: &TlsFiles, audit: Audit, per_second: u32) -> Self {
        let policies = PolicyStore::load(std::path::Path::new("/nonexistent")).unwrap();
        let (health, shutdown, log) =
            (Health::default(), Shutdown::default(), LogRing::new(1 << 20));
        let capture = crate::logging::capture(&log);
        let domains = TrustDomains::default();
        let machine = Machine::new(Role::Beside, BTreeSet::new(), shutdown.clone());
        let api = Api::default()
            .with(Discovery::service(health.clone()))
            .with(Auth::service())
            .with(Auth::policy_service(domains.clone()))
            .with(NodeApi::service(machine, health.clone(), None, audit.clone()))
            .with(AuditApi::service(audit.clone()))
            .with(Observe::service(log.clone(), Workloads::none()))
            .with(Reporter::default().service());
        let route = Route::new(with_reflection(api), None);
        let server = Server::new(route, shutdown.clone(), audit.clone(), policies, per_second);
        let tls = Tls::read(files, None).unwrap();
        domains.are_of(&tls);
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let Some(Address::Tcp(address)) = listener.address() else { panic!("no TCP address") };
        let mut fixture = Self {
            pki,
            tls,
            server,
            address,
            health,
            shutdown,
            log,
            audit,
            serving: JoinSet::new(),
            _capture: capture,
        };
        fixture.serve(listener);
        fixture
    }

    fn serve(&mut self, listener: Listener) {
        let (server, tls) = (self.server.clone(), self.tls.clone());
        self.serving.spawn(async move { drop(server.serve(listener, tls).await) });
    }

    async fn client(&self) -> Client {
        self.connect(self.pki.client("alice", |_| {})).await
    }

    async fn connect(&self, identity: Identity) -> Client {
        Client::connect(&pki::node(self.address, identity)).await.unwrap()
    }

    /// Whether the client gets an answer: its own words if not.
    async fn discover(&self, identity: Identity) -> Result<(), String> {
        let client = Client::connect(&pki::node(self.address, identity)).await;
        let client = client.map_err(|error| aurae_client::report(&error))?;
        let answer =
            DiscoveryServiceClient::new(client.channel()).discover(DiscoverRequest {}).await;
        answer.map(|_| ()).map_err(|status| client.explain(status).to_string())
    }

    /// Waits until a line of the log has all of `parts`.
    async fn logged(&self, parts: &[&str]) -> String {
        let reader = self.log.reader(ReaderOptions { follow: true, ..Default::default() });
        tokio::time::timeout(PATIENCE, find(reader, parts))
            .await
            .unwrap_or_else(|_| panic!("nothing with {parts:?} in the log"))
    }
}

impl Fixture {
    /// Waits for a record like this.
    async fn recorded(&self, wanted: impl Fn(&Entry) -> bool) -> Entry {
        let mut reader = self.audit.reader(Start::Kept, true).unwrap().unwrap();
        let found = async {
            while let Some((seen, _)) = reader.next().await {
                if wanted(&seen.entry) {
                    return (*seen.entry).clone();
                }
            }
            panic!("the audit log ended")
        };
        tokio::time::timeout(PATIENCE, found).await.expect("there is no such record")
    }
}

fn is_for(entry: &Entry, method: &str) -> bool {
    entry.action.as_ref().is_some_and(|action| action.as_str().ends_with(method))
}

async fn find(mut reader: Reader, parts: &[&str]) -> String {
    while let Some(batch) = reader.next().await {
        for entry in batch.entries {
            let line = String::from_utf8_lossy(&entry.data).into_owned();
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    }
    panic!("the log ended without {parts:?}")
}

#[tokio::test]
async fn a_client_that_the_authority_signed_is_answered() {
    let fixture = Fixture::start();
    let client = fixture.client().await;
    let mut discovery = DiscoveryServiceClient::new(client.channel());
    let answer = discovery.discover(DiscoverRequest {}).await.unwrap().into_inner();
    assert!(answer.healthy);
    assert_eq!(answer.version, crate::VERSION);
    fixture.health.degrade("mounts", "failed to mount /proc");
    assert!(!discovery.discover(DiscoverRequest {}).await.unwrap().into_inner().healthy);
}

#[tokio::test]
async fn a_caller_is_told_until_when_its_certificate_is_valid() {
    let fixture = Fixture::start();
    let until = time::OffsetDateTime::now_utc() + time::Duration::days(3);
    let alice = fixture.pki.client("alice", |params| params.not_after = until);
    let client = fixture.connect(alice).await;
    let answer = AuthServiceClient::new(client.channel()).who_am_i(WhoAmIRequest {}).await;
    let expiry = answer.unwrap().into_inner().certificate_expiry.unwrap();
    assert_eq!((expiry.seconds, expiry.nanos), (until.unix_timestamp(), 0));
}

#[tokio::test]
async fn a_unix_socket_asks_for_the_same_certificates() {
    let mut fixture = Fixture::start();
    let path = fixture.pki.path("run/aurae.sock");
    fixture.serve(Listener::bind(&Address::Unix(path.clone())).unwrap());
    let identity = fixture.pki.client("alice", |_| {});
    let client = Client::connect(&pki::node_at(&path, identity)).await.unwrap();
    let mut discovery = DiscoveryServiceClient::new(client.channel());
    discovery.discover(DiscoverRequest {}).await.unwrap();
    fixture.recorded(|entry| entry.peer.starts_with("unix:uid=")).await;

    let other = Pki::new();
    let stranger = other.client_of_server_of(&fixture.pki);
    let client = Client::connect(&pki::node_at(&path, stranger)).await.unwrap();
    DiscoveryServiceClient::new(client.channel()).discover(DiscoverRequest {}).await.unwrap_err();
    fixture.logged(&["refused", "unix:uid=", "signed by another authority of the name"]).await;
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_is_cut_off() {
    let fixture = Fixture::start();
    let mut slow = TcpStream::connect(fixture.address).await.unwrap();
    // The header of a record whose rest never comes.
    slow.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
    let cut = tokio::time::timeout(PATIENCE, slow.read_to_end(&mut Vec::new())).await;
    // Closed, or reset because its bytes were not read.
    drop(cut.expect("it is still open"));
    fixture.logged(&["refused a TLS handshake", "it took more than 5 s"]).await;
    assert_eq!(fixture.server.handshakes.available_permits(), MAX_HANDSHAKES - 1);
}

#[tokio::test]
async fn the_audit_log_says_who_did_what_and_what_came_of_it() {
    let fixture = Fixture::start();
    let client = fixture.client().await;
    let channel = client.channel();
    DiscoveryServiceClient::new(channel.clone()).discover(DiscoverRequest {}).await.unwrap();
    let record = fixture.recorded(|entry| is_for(entry, "/Discover")).await;
    let principal = record.principal.unwrap();
    assert_eq!((principal.name(), principal.form()), (pki::ALICE, Form::Spiffe));
    assert!(record.peer.starts_with("127.0.0.1:"), "{}", record.peer);
    let action = record.action.unwrap();
    assert_eq!(action.as_str(), "/aurae.discovery.v0.DiscoveryService/Discover");
    assert_eq!((record.request, record.code, record.decision), (0, Code::Ok, Decision::Allowed));

    let refused = NodeServiceClient::new(channel).power_off(PowerOffRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let record = fixture.recorded(|entry| is_for(entry, "/PowerOff")).await;
    assert_eq!((record.request, record.code), (1, Code::FailedPrecondition));
}

#[tokio::test]
async fn a_certificate_without_a_uri_is_known_by_its_other_names() {
    let fixture = Fixture::start();
    let bob = fixture.pki.client("bob", |params| params.subject_alt_names.clear());
    // Only a SPIFFE ID has a role.
    let refused = fixture.discover(bob).await.unwrap_err();
    assert!(
        // As the error is printed for debugging, with escapes of its own.
        refused.contains(r#"common name \"bob\" may not call discovery.Discover on node"#),
        "{refused}"
    );
    let is = |entry: &Entry, form, name: &str| {
        entry.principal.as_ref().is_some_and(|who| who.form() == form && who.name() == name)
    };
    fixture.recorded(|entry| is(entry, Form::CommonName, "bob")).await;
    let host = fixture.pki.client("carol", |params| {
        params.subject_alt_names = vec![SanType::DnsName("host.example".try_into().unwrap())];
    });
    fixture.discover(host).await.unwrap_err();
    fixture.recorded(|entry| is(entry, Form::Dns, "host.example")).await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let fixture = Fixture::start();
    let client = fixture.client().await;
    let mut observe = ObserveServiceClient::new(client.channel());
    let huge = GetExecutableLogsRequest {
        executable_name: "x".repeat(MAX_MESSAGE_BYTES),
        ..Default::default()
    };
    let refused = observe.get_executable_logs(huge).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    assert!(refused.message().contains("the limit is: 4194304 bytes"), "{refused}");
}

#[tokio::test]
async fn headers_over_the_limit_are_refused() {
    let fixture = Fixture::start();
    let client = fixture.client().await;
    let mut metadata = MetadataMap::new();
    let value = "x".repeat(2 * MAX_HEADER_BYTES as usize);
    metadata.insert("aurae-test", value.parse().unwrap());
    let path = "/aurae.discovery.v0.DiscoveryService/Discover";
    client.unary(path, Bytes::new(), metadata, None).await.unwrap_err();
    // The connection goes on.
    client.unary(path, Bytes::new(), MetadataMap::new(), None).await.unwrap();
}

#[tokio::test]
async fn an_unknown_service_and_an_unknown_method_are_unimplemented() {
    let fixture = Fixture::start();
    let client = fixture.client().await;
    for path in ["/no.Such/Method", "/aurae.discovery.v0.DiscoveryService/Nothing"] {
        let refused = client.unary(path, Bytes::new(), MetadataMap::new(), None).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn reflection_lists_and_describes_every_service() {
    let fixture = Fixture::start();
    let client = fixture.client().await;
    let listed = reflect(&client, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(list) = listed else { panic!("{listed:?}") };
    let listed: BTreeSet<String> = list.service.into_iter().map(|service| service.name).collect();
    let expected = [
        "aurae.audit.v0.AuditService",
        "aurae.auth.v0.AuthService",
        "aurae.auth.v0.PolicyService",
        "aurae.discovery.v0.DiscoveryService",
        "aurae.node.v0.NodeService",
        "aurae.observe.v0.ObserveService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ];
    assert_eq!(listed, expected.map(str::to_owned).into());
    for service in expected {
        let found = reflect(&client, MessageRequest::FileContainingSymbol(service.into())).await;
        assert!(
            matches!(found, MessageResponse::FileDescriptorResponse(_)),
            "{service}: {found:?}"
        );
    }
}

async fn reflect(client: &Client, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let requests = futures_util::stream::iter([request]);
    let mut reflection = ServerReflectionClient::new(client.channel());
    let mut answers = reflection.server_reflection_info(requests).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap().message_response.unwrap()
}

#[tokio::test]
async fn the_node_describes_itself() {
    let fixture = Fixture::start();
    fixture.health.degrade("network", "no link");
    let mut node = NodeServiceClient::new(fixture.client().await.channel());
    let info = node.info(InfoRequest {}).await.unwrap().into_inner();
    assert!(!info.init && info.cpus > 0 && info.memory_total > 0);
    assert_eq!(info.degraded[0].phase, "network");
    assert!(info.interfaces.iter().any(|interface| interface.name == "lo"));
    let refused = node.power_off(PowerOffRequest {}).await.unwrap_err();
    assert!(refused.message().contains("process 1 is"), "{refused}");
    assert_eq!(fixture.shutdown.requested(), None);
}

#[tokio::test]
async fn a_stream_ends_when_its_client_goes_away() {
    let fixture = Fixture::start();
    let client = fixture.client().await;
    let mut observe = ObserveServiceClient::new(client.channel());
    let request = GetAuraeDaemonLogStreamRequest {};
    let mut stream = observe.get_aurae_daemon_log_stream(request).await.unwrap().into_inner();
    tracing::info!("something to read");
    let item = stream.message().await.unwrap().unwrap().item.unwrap();
    assert_eq!(item.channel, "auraed");
    assert!(item.timestamp > 0 && item.line.contains("something to read"), "{item:?}");
    drop(stream);
    let record = fixture.recorded(|entry| is_for(entry, "/GetAuraeDaemonLogStream")).await;
    assert_eq!(record.code, Code::Cancelled);
}

#[tokio::test]
async fn a_connection_ends_with_its_clients_certificate() {
    let fixture = Fixture::start();
    let brief = fixture.pki.client("brief", |params| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + Duration::from_secs(5);
    });
    let mut observe = ObserveServiceClient::new(fixture.connect(brief).await.channel());
    let request = GetAuraeDaemonLogStreamRequest {};
    let mut stream = observe.get_aurae_daemon_log_stream(request).await.unwrap().into_inner();
    let end =
        tokio::time::timeout(PATIENCE, async { while let Ok(Some(_)) = stream.message().await {} });
    end.await.expect("the connection was ended");
    fixture.logged(&["ending a connection", "has expired"]).await;
}

#[tokio::test]
async fn shutdown_lets_streams_end_and_then_cuts() {
    let mut fixture = Fixture::start();
    let client = fixture.client().await;
    let mut observe = ObserveServiceClient::new(client.channel());
    let request = GetAuraeDaemonLogStreamRequest {};
    let mut stream = observe.get_aurae_daemon_log_stream(request).await.unwrap().into_inner();
    tracing::info!("something to read");
    stream.message().await.unwrap().unwrap();

    fixture.shutdown.request(Intent::Exit);
    tokio::time::timeout(PATIENCE, fixture.serving.join_next()).await.unwrap();
    tracing::info!("the last line");
    let next = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap();
    assert!(next.unwrap().is_some(), "an open stream goes on");
    fixture.discover(fixture.pki.client("late", |_| {})).await.unwrap_err();

    fixture.server.drain(Duration::ZERO).await;
    let end =
        tokio::time::timeout(PATIENCE, async { while let Ok(Some(_)) = stream.message().await {} });
    end.await.expect("the connection was cut");
}

#[tokio::test]
async fn an_executable_may_read_its_zone_and_change_nothing() {
    let machine = Machine::new(Role::Zone, BTreeSet::new(), Shutdown::default());
    let api = Api::default().with(Discovery::service(Health::default())).with(NodeApi::service(
        machine,
        Health::default(),
        None,
        Audit::none(),
    ));
    let (ours, theirs) = UnixStream::pair().unwrap();
    let principal = Principal::executable("executables/nginx");
    tokio::spawn(serve_inside(theirs, Route::new(api, None), principal, Shutdown::default()));
    let mut ours = Some(TokioIo::new(ours));
    let connector = tower::service_fn(move |_| {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        std::future::ready(ours.take().ok_or_else(gone))
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://zone");
    let channel = endpoint.connect_with_connector(connector).await.unwrap();

    let mut discovery = DiscoveryServiceClient::new(channel.clone());
    assert!(discovery.discover(DiscoverRequest {}).await.is_ok());
    let mut node = NodeServiceClient::new(channel.clone());
    let denied = node.power_off(PowerOffRequest {}).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied}");
    assert!(denied.message().contains("executables/nginx may not call"), "{denied}");
    let mut elsewhere = tonic::Request::new(DiscoverRequest {});
    elsewhere.metadata_mut().insert("aurae-zone", "cells/inner".parse().unwrap());
    assert!(discovery.discover(elsewhere).await.is_err());
}
