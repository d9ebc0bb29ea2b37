//! The server as its clients see it: who gets in, what is refused, what is left of it in the log.

pub(crate) mod pki;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use aurae_client::{Client, Identity};
use aurae_proto::discovery::DiscoverRequest;
use aurae_proto::discovery::discovery_service_client::DiscoveryServiceClient;
use aurae_proto::node::node_service_client::NodeServiceClient;
use aurae_proto::node::{InfoRequest, PowerOffRequest};
use aurae_proto::observe::observe_service_client::ObserveServiceClient;
use aurae_proto::observe::{GetAuraeDaemonLogStreamRequest, GetExecutableLogsRequest};
use bytes::Bytes;
use rcgen::SanType;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tonic::Code;
use tonic::metadata::MetadataMap;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::*;
use crate::runtime::logs::{LogRing, Reader, ReaderOptions};
use crate::runtime::node::{Machine, Role};
use crate::runtime::output::Workloads;
use crate::service::Api;
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
    server: Server,
    address: SocketAddr,
    health: Health,
    shutdown: Shutdown,
    log: LogRing,
    serving: JoinSet<()>,
    _capture: tracing::subscriber::DefaultGuard,
}

impl Fixture {
    fn start() -> Self {
        let policies = PolicyStore::load(std::path::Path::new("/nonexistent")).unwrap();
        let (health, shutdown, log) =
            (Health::default(), Shutdown::default(), LogRing::new(1 << 20));
        let capture = crate::logging::capture(&log);
        let machine = Machine::new(Role::Beside, BTreeSet::new(), shutdown.clone());
        let api = Api::default()
            .with(Discovery::service(health.clone()))
            .with(NodeApi::service(machine, health.clone(), None))
            .with(Observe::service(log.clone(), Workloads::none()))
            .with(Reporter::default().service());
        let route = Route::new(with_reflection(api).unwrap(), None);
        let server = Server::new(route, shutdown.clone(), policies);
        let pki = Pki::new();
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let Some(Address::Tcp(address)) = listener.address() else { panic!("no TCP address") };
        let mut fixture = Self {
            pki,
            server,
            address,
            health,
            shutdown,
            log,
            serving: JoinSet::new(),
            _capture: capture,
        };
        fixture.serve(listener);
        fixture
    }

    fn serve(&mut self, listener: Listener) {
        let (server, tls) = (self.server.clone(), server_config(&self.pki.server()).unwrap());
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
async fn a_unix_socket_asks_for_the_same_certificates() {
    let mut fixture = Fixture::start();
    let path = fixture.pki.path("run/aurae.sock");
    fixture.serve(Listener::bind(&Address::Unix(path.clone())).unwrap());
    let identity = fixture.pki.client("alice", |_| {});
    let client = Client::connect(&pki::node_at(&path, identity)).await.unwrap();
    let mut discovery = DiscoveryServiceClient::new(client.channel());
    discovery.discover(DiscoverRequest {}).await.unwrap();
    fixture.logged(&["audit", "peer=\"unix:uid="]).await;

    let other = Pki::new();
    let stranger = other.client_of_server_of(&fixture.pki);
    let client = Client::connect(&pki::node_at(&path, stranger)).await.unwrap();
    DiscoveryServiceClient::new(client.channel()).discover(DiscoverRequest {}).await.unwrap_err();
    fixture.logged(&["refused", "unix:uid=", "not signed by the node's authority"]).await;
}

#[tokio::test]
async fn a_client_of_another_authority_is_refused() {
    let fixture = Fixture::start();
    let other = Pki::new();
    let stranger = other.client_of_server_of(&fixture.pki);
    fixture.discover(stranger).await.unwrap_err();
    fixture.logged(&["refused a TLS handshake", "not signed by the node's authority"]).await;
}

#[tokio::test]
async fn a_client_whose_certificate_has_expired_is_refused() {
    let fixture = Fixture::start();
    let late = fixture.pki.client("late", |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 1, 2);
    });
    fixture.discover(late).await.unwrap_err();
    fixture.logged(&["refused a TLS handshake", "has expired"]).await;
}

#[tokio::test]
async fn a_client_whose_certificate_is_not_valid_yet_is_refused() {
    let fixture = Fixture::start();
    let early = fixture.pki.client("early", |params| {
        params.not_before = rcgen::date_time_ymd(3001, 1, 1);
        params.not_after = rcgen::date_time_ymd(3001, 1, 2);
    });
    fixture.discover(early).await.unwrap_err();
    fixture.logged(&["refused a TLS handshake", "not valid yet"]).await;
}

#[tokio::test]
async fn a_certificate_for_servers_alone_does_not_admit_a_client() {
    let fixture = Fixture::start();
    let server = fixture.pki.client("server-alone", pki::for_servers);
    fixture.discover(server).await.unwrap_err();
    fixture.logged(&["refused a TLS handshake", "not for clientAuth"]).await;
}

/// A client of a protocol version that shows no certificate.
async fn anonymous(fixture: &Fixture, version: &'static rustls::SupportedProtocolVersion) {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(fixture.pki.path("ca.crt")).unwrap();
    roots.add(authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(fixture.address).await.unwrap();
    let name = ServerName::try_from("server.unsafe.aurae.io").unwrap();
    // In TLS 1.3 the server's refusal comes after the client's handshake.
    let mut refused = match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Ok(stream) => stream,
        Err(_) => return,
    };
    let read = tokio::time::timeout(PATIENCE, refused.read_to_end(&mut Vec::new())).await;
    read.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let fixture = Fixture::start();
    anonymous(&fixture, &rustls::version::TLS13).await;
    fixture.logged(&["refused a TLS handshake", "showed no certificate"]).await;
}

#[tokio::test]
async fn a_version_of_tls_before_1_3_is_refused() {
    let fixture = Fixture::start();
    anonymous(&fixture, &rustls::version::TLS12).await;
    fixture.logged(&["refused a TLS handshake"]).await;
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
    let alice = format!("principal=\"{}\" form=\"spiffe\"", pki::ALICE);
    let peer = "peer=\"127.0.0.1:";
    let action = "action=\"/aurae.discovery.v0.DiscoveryService/Discover\" status=Ok";
    fixture.logged(&["audit", &alice, peer, action, "request=0"]).await;

    let refused = NodeServiceClient::new(channel).power_off(PowerOffRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    fixture.logged(&["audit", "NodeService/PowerOff\" status=FailedPrecondition"]).await;
}

#[tokio::test]
async fn a_certificate_without_a_uri_is_known_by_its_other_names() {
    let fixture = Fixture::start();
    let bob = fixture.pki.client("bob", |params| params.subject_alt_names.clear());
    // Only a SPIFFE ID has a role.
    let refused = fixture.discover(bob).await.unwrap_err();
    assert!(refused.contains("bob may not call discovery.Discover on node"), "{refused}");
    fixture.logged(&["audit", "principal=\"bob\" form=\"common-name\""]).await;
    let host = fixture.pki.client("carol", |params| {
        params.subject_alt_names = vec![SanType::DnsName("host.example".try_into().unwrap())];
    });
    fixture.discover(host).await.unwrap_err();
    fixture.logged(&["audit", "principal=\"host.example\" form=\"dns\""]).await;
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
    fixture.logged(&["audit", "GetAuraeDaemonLogStream\" status=Cancelled"]).await;
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
