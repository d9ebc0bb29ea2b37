//! Clients that mean harm: each attack ends its own connection, and the daemon goes on.

use futures_util::stream::{self, FuturesUnordered, StreamExt as _};
use http_body::Frame;
use http_body_util::StreamBody;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;
use tonic::Status;
use tonic::body::Body;
use tonic::client::GrpcService;

use super::*;
use crate::audit;

/// HTTP/2's frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The code of a connection that is ended because its peer wears the other out (section 7).
const ENHANCE_YOUR_CALM: u32 = 11;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DISCOVER: &str = "/aurae.discovery.v0.DiscoveryService/Discover";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The headers of a call: literals that are not indexed (RFC 7541, section 6.2.2).
fn headers(path: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", path),
        (":authority", "node"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A client that is let in, and writes what it likes.
struct Raw {
    stream: ClientStream<TcpStream>,
}

impl Raw {
    async fn connect(fixture: &Fixture) -> Self {
        let identity = fixture.pki.client("mallory", |_| {});
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&identity.ca_crt).unwrap()).unwrap();
        let chain = vec![CertificateDer::from_pem_file(&identity.client_crt).unwrap()];
        let key = rustls::pki_types::PrivateKeyDer::from_pem_file(&identity.client_key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(fixture.address).await.unwrap();
        let name = ServerName::try_from("server.unsafe.aurae.io").unwrap();
        Self { stream: TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap() }
    }

    /// One that has begun as HTTP/2 wants it.
    async fn begun(fixture: &Fixture) -> Self {
        let mut raw = Self::connect(fixture).await;
        raw.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        raw
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next frame; `None`: the connection has ended.
    async fn next(&mut self) -> Option<(u8, u8, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((head[3], head[4], payload))
    }

    /// Sends the same again and again, whatever comes back, until the connection ends: with which code.
    async fn until_the_end(mut self, mut attack: impl FnMut() -> Vec<u8>) -> Option<u32> {
        let mut code = None;
        let fight = async {
            loop {
                let sent = async {
                    self.stream.write_all(&attack()).await?;
                    self.stream.flush().await
                };
                if sent.await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            while let Some((kind, _, payload)) = self.next().await {
                if kind == GOAWAY {
                    code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                }
            }
        };
        tokio::time::timeout(PATIENCE, fight).await.expect("the connection goes on");
        code
    }
}

/// The attack has ended its connection, and somebody else is served.
async fn ends(attack: impl AsyncFnOnce(Raw) -> Option<u32>) {
    let fixture = Fixture::start();
    let code = attack(Raw::begun(&fixture).await).await;
    // A client that is still writing when it is cut off may not get to see why.
    assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
    fixture.discover(fixture.pki.client("alice", |_| {})).await.unwrap();
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_end_the_connection() {
    let mut stream = 1;
    ends(async |raw: Raw| {
        raw.until_the_end(|| {
            let mut attack = Vec::new();
            for _ in 0..200 {
                attack.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &headers(DISCOVER)));
                attack.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
                stream += 2;
            }
            attack
        })
        .await
    })
    .await;
}

#[tokio::test]
async fn headers_that_never_end_end_the_connection() {
    ends(async |mut raw: Raw| {
        raw.send(&frame(HEADERS, 0, 1, &headers(DISCOVER))).await;
        raw.until_the_end(|| frame(CONTINUATION, 0, 1, b"\0\x01a\x01b")).await
    })
    .await;
}

#[tokio::test]
async fn data_without_data_ends_the_connection() {
    ends(async |mut raw: Raw| {
        raw.send(&frame(HEADERS, END_HEADERS, 1, &headers(DISCOVER))).await;
        raw.until_the_end(|| frame(DATA, 0, 1, &[]).repeat(1000)).await
    })
    .await;
}

const START: &str = "/aurae.cells.v0.CellService/Start";
const STOP: &str = "/aurae.cells.v0.CellService/Stop";
const WHO_AM_I: &str = "/aurae.auth.v0.AuthService/WhoAmI";
const POWER_OFF: &str = "/aurae.node.v0.NodeService/PowerOff";

/// A client without a role.
async fn mallory(fixture: &Fixture) -> Client {
    let mallory = fixture.pki.client("mallory", |params| {
        let id = "spiffe://aurae.local/user/mallory".try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(id)];
    });
    fixture.connect(mallory).await
}

/// The answer to a request that begins like this, and does not go on.
async fn half(client: &Client, path: &str, bytes: &[u8]) -> Status {
    let pieces: Vec<_> = bytes
        .chunks(16 << 10)
        .map(|piece| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    answer(client, path, StreamBody::new(stream::iter(pieces).chain(stream::pending()))).await
}

/// The answer to a request with this body.
async fn answer<B>(client: &Client, path: &str, body: B) -> Status
where
    B: http_body::Body<Data = Bytes, Error = Status> + Send + 'static,
{
    let body = Body::new(body);
    let request = http::Request::post(path).header("content-type", "application/grpc");
    let request = request.header("te", "trailers").body(body).unwrap();
    let mut channel = client.channel();
    std::future::poll_fn(|context| GrpcService::<Body>::poll_ready(&mut channel, context))
        .await
        .unwrap();
    let response = GrpcService::<Body>::call(&mut channel, request).await.unwrap();
    Status::from_header_map(response.headers()).unwrap()
}

#[tokio::test]
async fn messages_that_do_not_get_whole_hold_a_bounded_part_of_memory() {
    let fixture = Fixture::start();
    let client = fixture.client().await;
    let alice = Principal::named(Form::Spiffe, pki::ALICE).unwrap();
    let guest = fixture.server.shares.admit(&alice).unwrap();
    // All but the last byte.
    let mut message = vec![0; 5 + MAX_MESSAGE_BYTES - 1];
    message[1..5].copy_from_slice(&u32::try_from(MAX_MESSAGE_BYTES).unwrap().to_be_bytes());
    let mut open: FuturesUnordered<_> = (0..12).map(|_| half(&client, START, &message)).collect();
    let refused = tokio::time::timeout(PATIENCE, open.next()).await.expect("all is kept").unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().starts_with("requests of yours that are not whole yet have"));
    let held = guest.memory().held();
    assert!(held > 0 && held <= MAX_REQUEST_BYTES_PER_PRINCIPAL, "{held}");
    // What comes at once needs nothing of it.
    client.unary(DISCOVER, Bytes::new(), MetadataMap::new(), None).await.unwrap();
    drop(open);
    drop(client);
    let given_back = async {
        while guest.memory().held() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, given_back).await.expect("memory is held for nobody");
}

#[tokio::test]
async fn little_is_kept_of_what_no_rule_could_allow() {
    const MANY: usize = 200;
    let fixture = Fixture::start();
    let mallory = mallory(&fixture).await;
    let name = Principal::named(Form::Spiffe, "spiffe://aurae.local/user/mallory").unwrap();
    let guest = fixture.server.shares.admit(&name).unwrap();
    // Headers alone, and with a part of a message.
    let begun = [&b""[..], b"\0\0\0\0\x09x"];
    let mut open: FuturesUnordered<_> =
        (0..MANY).map(|number| half(&mallory, START, begun[number % 2])).collect();
    let refused = async {
        // The three headers of each count.
        while open.len() > MAX_REQUEST_BYTES_OF_DENIED / (3 * 128) {
            let refused = open.next().await.unwrap();
            assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
            assert!(
                refused.message().contains("may not call cells.Start on anything"),
                "{refused}"
            );
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("more of them are waited for");
    assert!(guest.memory().held() <= MAX_REQUEST_BYTES_OF_DENIED, "{}", guest.memory().held());
    let record = fixture.recorded(|entry| is_for(entry, "/Start")).await;
    assert_eq!((record.decision, record.code), (Decision::Denied, Code::PermissionDenied));
}

#[tokio::test]
async fn what_a_caller_is_told_does_not_depend_on_how_its_message_comes() {
    let fixture = Fixture::start();
    let mallory = mallory(&fixture).await;
    let name = Principal::named(Form::Spiffe, "spiffe://aurae.local/user/mallory").unwrap();
    let guest = fixture.server.shares.admit(&name).unwrap();
    // A cell that is not there, or hidden.
    let message = b"\0\0\0\0\x0c\x0a\x03web\x12\x05nginx";
    for is_late in [false, true] {
        let memory = guest.memory().clone();
        let message = stream::once(async move {
            while is_late && memory.held() == 0 {
                tokio::task::yield_now().await;
            }
            Ok(Frame::data(Bytes::from_static(message)))
        });
        let told = answer(&mallory, STOP, StreamBody::new(Box::pin(message))).await;
        assert_eq!(told.code(), Code::NotFound, "{told}");
        assert_eq!(told.message(), "cell web does not exist");
    }
}

#[tokio::test]
async fn who_has_no_role_cannot_push_out_what_others_did() {
    const CALLS: usize = 1500;
    let fixture = Fixture::start();
    let alice = fixture.client().await;
    alice.unary(DISCOVER, Bytes::new(), MetadataMap::new(), None).await.unwrap();
    let mallory = mallory(&fixture).await;
    let mut unanswered = 0;
    for number in 0..CALLS {
        let path = [WHO_AM_I, POWER_OFF][number % 2];
        let answer = mallory.unary(path, Bytes::new(), MetadataMap::new(), None).await;
        match answer.map_err(|status| (status.code(), status)) {
            Ok(_) => assert_eq!(path, WHO_AM_I),
            Err((Code::PermissionDenied, _)) => assert_eq!(path, POWER_OFF),
            Err((code, status)) => {
                assert_eq!(code, Code::ResourceExhausted, "{status}");
                assert!(status.metadata().get("grpc-retry-pushback-ms").is_some());
                unanswered += 1;
            }
        }
    }
    assert!(unanswered > 0, "all was recorded");
    let records = audit::all(&fixture.audit).await;
    assert!(is_for(&records[0], "/Discover"), "{:?}", records[0]);
    assert_eq!(records.len() - 1 + unanswered, CALLS);
    let info = NodeServiceClient::new(alice.channel()).info(InfoRequest {}).await.unwrap();
    assert_eq!(info.into_inner().audit.unwrap().omitted, unanswered as u64);
}

#[tokio::test]
async fn what_changes_something_is_recorded_before_it_is_done_where_it_must_be() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.log");
    let settings =
        audit::Settings { file: Some(file.clone()), required: true, ..Default::default() };
    let log = Audit::start(&settings, &Health::default()).unwrap();
    let fixture = Fixture::bounded(log, REQUESTS_PER_SECOND);
    let client = fixture.client().await;
    let call = async |path| client.unary(path, Bytes::new(), MetadataMap::new(), None).await;
    call(DISCOVER).await.unwrap();
    assert_eq!(call(POWER_OFF).await.unwrap_err().code(), Code::FailedPrecondition);
    fixture.recorded(|entry| is_for(entry, "/PowerOff")).await;
    fixture.audit.flush(PATIENCE).await;
    let written = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<serde_json::Value> =
        written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| (line["request_id"].as_u64(), line["begun"].as_bool(), line["status"].as_i64()))
        .collect();
    let failed = i64::from(i32::from(Code::FailedPrecondition));
    let expected =
        [(Some(0), None, Some(0)), (Some(1), Some(true), None), (Some(1), None, Some(failed))];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_flood_of_pings_and_settings_is_answered_one_by_one_beside_everybody_else() {
    const FLOOD: usize = 20_000;
    let fixture = Fixture::start();
    let mut raw = Raw::begun(&fixture).await;
    let flood = async {
        let (mut sent, mut answered) = (0, 0);
        while answered < FLOOD {
            // No more than the socket takes at once: who does not read his answers is not read.
            if sent == answered {
                let pair = [frame(PING, 0, 0, b"aaaaaaaa"), frame(SETTINGS, 0, 0, &[])].concat();
                raw.send(&pair.repeat(100)).await;
                sent += 200;
            }
            let (kind, flags, _) = raw.next().await.expect("the connection has ended");
            answered += usize::from(matches!(kind, PING | SETTINGS) && flags == ACK);
        }
    };
    let served = async {
        for _ in 0..20 {
            fixture.discover(fixture.pki.client("alice", |_| {})).await.unwrap();
        }
    };
    let both = async { tokio::join!(flood, served) };
    tokio::time::timeout(PATIENCE, both).await.expect("the flood was not answered");
}

#[tokio::test]
async fn a_client_that_does_not_begin_is_cut_off() {
    let fixture = Fixture::start();
    let mut slow = Raw::connect(&fixture).await;
    slow.send(&PREFACE[..10]).await;
    let end = tokio::time::timeout(PATIENCE, slow.stream.read_to_end(&mut Vec::new())).await;
    drop(end.expect("it is still open"));
    let record = fixture.recorded(|entry| entry.reason.is_some()).await;
    assert!(record.reason.unwrap().contains("it took more than 5 s"));
}

#[tokio::test]
async fn a_client_of_another_protocol_is_refused_and_recorded() {
    let fixture = Fixture::start();
    let mut old = Raw::connect(&fixture).await;
    old.send(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n").await;
    let end = tokio::time::timeout(PATIENCE, old.stream.read_to_end(&mut Vec::new())).await;
    drop(end.expect("it is still open"));
    let record = fixture.recorded(|entry| entry.reason.is_some()).await;
    assert_eq!(record.reason.as_deref(), Some("the client speaks no HTTP/2"));
    assert_eq!((record.decision, record.code), (Decision::Denied, Code::Unauthenticated));
}

#[tokio::test]
async fn more_streams_than_a_connection_has_are_refused_one_by_one() {
    let fixture = Fixture::start();
    let mut raw = Raw::begun(&fixture).await;
    let streams = (0..MAX_STREAMS + 10).map(|number| 2 * number + 1);
    let open: Vec<_> =
        streams.map(|stream| frame(HEADERS, END_HEADERS, stream, &headers(DISCOVER))).collect();
    raw.send(&open.concat()).await;
    let refused = async {
        loop {
            let (kind, _, payload) = raw.next().await.expect("the connection has ended");
            if kind == RST_STREAM {
                break u32::from_be_bytes(payload.try_into().unwrap());
            }
        }
    };
    const REFUSED_STREAM: u32 = 7;
    let refused = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert_eq!(refused, REFUSED_STREAM);
    fixture.discover(fixture.pki.client("alice", |_| {})).await.unwrap();
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_ask_again() {
    let fixture = Fixture::bounded(Audit::in_memory(), 1);
    let client = fixture.client().await;
    let mut discovery = DiscoveryServiceClient::new(client.channel());
    let mut refused = None;
    for _ in 0..100 {
        if let Err(status) = discovery.discover(DiscoverRequest {}).await {
            refused = Some(status);
            break;
        }
    }
    let refused = refused.expect("a hundred calls in a second were answered");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let pause = refused.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap();
    assert!((1..=1001).contains(&pause.parse::<u64>().unwrap()), "{pause}");
    let record = fixture.recorded(|entry| entry.decision == Decision::Denied).await;
    assert_eq!(record.code, Code::ResourceExhausted);
    // Somebody else is not concerned.
    let bob = fixture.pki.client("bob", |params| {
        let id = "spiffe://aurae.local/reader/bob".try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(id)];
    });
    fixture.discover(bob).await.unwrap();
}

#[tokio::test]
async fn every_call_leaves_one_record_however_it_ends() {
    let fixture = Fixture::start();
    let client = fixture.client().await;
    let unary = |path: &'static str| client.unary(path, Bytes::new(), MetadataMap::new(), None);
    unary(DISCOVER).await.unwrap();
    unary("/aurae.discovery.v0.DiscoveryService/Nothing").await.unwrap_err();
    unary("/no.Such/Method").await.unwrap_err();
    unary("/aurae.node.v0.NodeService/PowerOff").await.unwrap_err();
    let mut observe = ObserveServiceClient::new(client.channel());
    let request = GetAuraeDaemonLogStreamRequest {};
    drop(observe.get_aurae_daemon_log_stream(request).await.unwrap());
    let mut late = tonic::Request::new(GetAuraeDaemonLogStreamRequest {});
    late.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    observe.get_aurae_daemon_log_stream(late).await.unwrap_err();
    let other = Pki::new();
    let stranger = other.client_of_server_of(&fixture.pki);
    fixture.discover(stranger).await.unwrap_err();

    fixture.recorded(|entry| entry.code == Code::Cancelled).await;
    fixture.recorded(|entry| entry.code == Code::InvalidArgument).await;
    fixture.recorded(|entry| entry.reason.is_some()).await;
    let records = audit::all(&fixture.audit).await;
    let calls = records.iter().filter(|entry| entry.action.is_some());
    let mut numbers: Vec<_> = calls.map(|entry| entry.request).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    assert!(records.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
    let refused: Vec<_> = records.iter().filter(|entry| entry.action.is_none()).collect();
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].reason.as_deref().unwrap().contains("signed by another authority"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn no_record_holds_what_a_request_carries() {
    use aurae_proto::cells::{CellServiceExecRequest, CellServiceStartRequest, Executable};
    use prost::Message;
    const SECRET: &str = "hunter2";
    let directory = tempfile::tempdir().unwrap();
    let file = Some(directory.path().join("audit.log"));
    let settings = audit::Settings { file, ..audit::Settings::default() };
    let log = Audit::start(&settings, &Health::default()).unwrap();
    let fixture = Fixture::bounded(log, REQUESTS_PER_SECOND);
    let client = fixture.client().await;
    let start = CellServiceStartRequest {
        executable: Some(Executable {
            command: format!("login --password {SECRET}"),
            env: [("PASSWORD".to_owned(), SECRET.to_owned())].into(),
            ..Executable::default()
        }),
        ..CellServiceStartRequest::default()
    };
    let exec = CellServiceExecRequest {
        message: Some(aurae_proto::cells::cell_service_exec_request::Message::Stdin(
            Bytes::from_static(SECRET.as_bytes()),
        )),
    };
    for (method, message) in [("Start", start.encode_to_vec()), ("Exec", exec.encode_to_vec())] {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", format!("Bearer {SECRET}").parse().unwrap());
        let path = format!("/aurae.cells.v0.CellService/{method}");
        client.unary(&path, Bytes::from(message), metadata, None).await.unwrap_err();
        fixture.recorded(|entry| is_for(entry, method)).await;
    }
    fixture.audit.flush(PATIENCE).await;
    let written = std::fs::read_to_string(directory.path().join("audit.log")).unwrap();
    assert!(written.contains("CellService/Start") && written.contains("CellService/Exec"));
    assert!(!written.contains(SECRET), "{written}");
    let kept = audit::all(&fixture.audit).await;
    assert!(!format!("{kept:?}").contains(SECRET));
}

#[tokio::test]
async fn calls_are_refused_where_they_must_be_recorded_and_cannot() {
    let settings = audit::Settings {
        file: Some("/dev/full".into()),
        required: true,
        ..audit::Settings::default()
    };
    let health = Health::default();
    let log = Audit::start(&settings, &health).unwrap();
    let fixture = Fixture::bounded(log, REQUESTS_PER_SECOND);
    let client = fixture.client().await;
    let refused = async {
        loop {
            let answer = client.unary(DISCOVER, Bytes::new(), MetadataMap::new(), None).await;
            if let Err(status) = answer {
                break status;
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("could not be recorded"), "{refused}");
    assert!(refused.message().contains("No space left on device"), "{refused}");
    assert_eq!(health.degraded()[0].phase, "audit");
}

#[tokio::test]
async fn the_audit_log_is_a_stream_that_goes_on_after_a_number() {
    use aurae_proto::audit::StreamRequest;
    use aurae_proto::audit::audit_service_client::AuditServiceClient;
    let fixture = Fixture::start();
    let client = fixture.client().await;
    for _ in 0..3 {
        client.unary(DISCOVER, Bytes::new(), MetadataMap::new(), None).await.unwrap();
    }
    let mut audit = AuditServiceClient::new(client.channel());
    let request = StreamRequest { follow: true, ..StreamRequest::default() };
    let mut stream = audit.stream(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().record.unwrap();
    assert_eq!(first.action, DISCOVER);
    assert_eq!((first.principal.as_str(), first.form.as_str()), (pki::ALICE, "spiffe"));
    let second = stream.message().await.unwrap().unwrap().record.unwrap();
    drop(stream);

    let request = StreamRequest { follow: true, after: Some(second.sequence), tail: None };
    let mut stream = audit.stream(request).await.unwrap().into_inner();
    let third = stream.message().await.unwrap().unwrap().record.unwrap();
    assert_eq!((third.action.as_str(), third.request_id), (DISCOVER, 2));
    // The first stream is in the second; this one is not in itself.
    let ended = stream.message().await.unwrap().unwrap().record.unwrap();
    assert_eq!((ended.action.as_str(), ended.status), ("/aurae.audit.v0.AuditService/Stream", 1));
    let brief = StreamRequest { follow: false, after: Some(ended.sequence), tail: None };
    let mut brief = audit.stream(brief).await.unwrap().into_inner();
    assert_eq!(brief.message().await.unwrap(), None);

    let info = NodeServiceClient::new(client.channel()).info(InfoRequest {}).await.unwrap();
    let standing = info.into_inner().audit.unwrap();
    assert!(standing.records >= 4 && standing.lost == 0 && standing.file.is_empty());
}
