//! What a client sees of a node that it may call, and of one that it may not.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::time::Duration;

use aurae_client::{Client, ConnectError, ZonePath, fan_out, report};
use aurae_proto::discovery::discovery_service_client::DiscoveryServiceClient;
use aurae_proto::discovery::{DiscoverRequest, DiscoverResponse};
use bytes::Bytes;
use support::{Authority, LONG, VERSION, node, serve_tcp, serve_tcp_as, serve_unix};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

const DISCOVER: &str = "/aurae.discovery.v0.DiscoveryService/Discover";

async fn version(client: &Client) -> Result<String, Status> {
    let mut discovery = DiscoveryServiceClient::new(client.channel());
    let answer = discovery.discover(DiscoverRequest {}).await;
    answer.map(|response| response.into_inner().version).map_err(|s| client.explain(s))
}

#[tokio::test]
async fn a_call_works_over_tcp_and_over_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let me = authority.client("me", 2100);
    let unix = serve_unix(&authority, &directory.path().join("aurae.sock")).await;
    for address in [serve_tcp(&authority).await, unix] {
        let client = Client::connect(&node(address, &me)).await.unwrap();
        assert_eq!(version(&client).await.unwrap(), VERSION);
    }
}

#[tokio::test]
async fn bytes_go_through_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let address = serve_tcp(&authority).await;
    let client = Client::connect(&node(address, &authority.client("me", 2100))).await.unwrap();
    let answer = client.unary(DISCOVER, Bytes::new(), MetadataMap::new(), Some(LONG)).await;
    let expected = DiscoverResponse { healthy: true, version: VERSION.to_owned() };
    assert_eq!(answer.unwrap().into_inner(), prost::Message::encode_to_vec(&expected));

    let unknown = client.unary("/no.Such/Rpc", Bytes::new(), MetadataMap::new(), None).await;
    assert_eq!(unknown.unwrap_err().code(), Code::Unimplemented);
    let wrong = client.unary("no path", Bytes::new(), MetadataMap::new(), None).await;
    assert_eq!(wrong.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn calls_say_which_zone_they_are_for() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let address = serve_tcp(&authority).await;
    let mut node = node(address, &authority.client("me", 2100));
    node.zone = Some(ZonePath::parse("cells/web").unwrap());
    let client = Client::connect(&node).await.unwrap();
    assert_eq!(version(&client).await.unwrap(), format!("{VERSION} in cells/web"));
    let inner = client.in_zone(&ZonePath::parse("cells/web/cells/api").unwrap());
    let answer = inner.unary(DISCOVER, Bytes::new(), MetadataMap::new(), None).await.unwrap();
    let answer = <DiscoverResponse as prost::Message>::decode(answer.into_inner()).unwrap();
    assert_eq!(answer.version, format!("{VERSION} in cells/web/cells/api"));
}

#[tokio::test]
async fn a_call_ends_when_its_time_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let address = serve_tcp(&authority).await;
    let client = Client::connect(&node(address, &authority.client("me", 2100))).await.unwrap();
    let mut metadata = MetadataMap::new();
    metadata.insert("slow", "1".parse().unwrap());
    let short = Some(Duration::from_millis(50));
    let status = client.unary(DISCOVER, Bytes::new(), metadata, short).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}

#[tokio::test]
async fn a_certificate_from_another_authority_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let ours = Authority::new(&directory.path().join("ours"));
    let theirs = Authority::new(&directory.path().join("theirs"));
    let mut me = theirs.client("me", 2100);
    me.ca_crt = ours.client("other", 2100).ca_crt;
    let unix = serve_unix(&ours, &directory.path().join("aurae.sock")).await;
    for address in [serve_tcp(&ours).await, unix] {
        let client = Client::connect(&node(address, &me)).await.unwrap();
        let status = version(&client).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("an authority that it does not trust"), "{status:?}");
        let hint = client.connect_error().unwrap().hint();
        assert!(hint.contains("theirs/me.crt") && hint.contains("aer pki client"), "{hint}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let address = serve_tcp(&authority).await;
    let client = Client::connect(&node(address, &authority.client("me", 2001))).await.unwrap();
    let status = version(&client).await.unwrap_err();
    let words = ["me.crt expired ", " years ago, at 2001-12-31"];
    assert!(words.iter().all(|words| status.message().contains(words)), "{status:?}");
}

#[tokio::test]
async fn a_node_of_another_authority_or_name_is_not_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let ours = Authority::new(&directory.path().join("ours"));
    let theirs = Authority::new(&directory.path().join("theirs"));
    let me = ours.client("me", 2100);
    for (address, reason) in [
        (serve_tcp(&theirs).await, "another authority of the name"),
        (
            serve_tcp_as(&ours, "example.org").await,
            "not valid for the name server.unsafe.aurae.io, but for",
        ),
    ] {
        let error = Client::connect(&node(address, &me)).await.err().unwrap();
        assert!(matches!(error, ConnectError::NodeCertificate { .. }), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
        assert!(error.hint().contains("ours/ca.crt"), "{}", error.hint());
    }
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_named_with_the_kernels_words() {
    let directory = tempfile::tempdir().unwrap();
    let me = Authority::new(directory.path()).client("me", 2100);
    let socket = directory.path().join("no.sock");
    for (address, words) in [
        (socket.display().to_string(), "No such file or directory"),
        ("127.0.0.1:1".to_owned(), "Connection refused"),
    ] {
        let node = node(address.parse().unwrap(), &me);
        let error = Client::connect(&node).await.err().unwrap();
        let text = report(&error);
        assert!(text.starts_with(&format!("failed to connect to {address}: {words}")), "{text}");
        assert!(error.hint().contains("running"), "{}", error.hint());
    }
}

#[tokio::test]
async fn wrong_files_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let address = serve_tcp(&authority).await;
    let (me, you) = (authority.client("me", 2100), authority.client("you", 2100));
    let connect = async |identity| {
        report(&Client::connect(&node(address.clone(), &identity)).await.err().unwrap())
    };

    let mut identity = me.clone();
    identity.client_key = you.client_key;
    let text = connect(identity).await;
    assert!(text.contains("me.crt") && text.contains("does not belong"), "{text}");

    let mut identity = me.clone();
    identity.ca_crt = me.client_key.clone();
    let text = connect(identity).await;
    assert!(text.contains("authority's certificate") && text.contains("no certificate"), "{text}");

    let mut identity = me.clone();
    identity.client_crt = directory.path().join("absent");
    let text = connect(identity).await;
    assert!(text.contains("client certificate") && text.contains("No such file"), "{text}");
}

#[tokio::test]
async fn a_dead_node_delays_no_other_and_answers_come_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let me = authority.client("me", 2100);
    let alive = node(serve_tcp(&authority).await, &me);
    let mut dead = node("127.0.0.1:1".parse().unwrap(), &me);
    dead.name = aurae_client::Node::new("dead", dead.address.clone(), me).name;

    let answers =
        fan_out([dead, alive.clone(), alive], async |client: Client| -> Result<String, Failure> {
            Ok(version(&client).await?)
        })
        .await;
    let names: Vec<_> =
        answers.iter().map(|(name, result)| (name.as_str(), result.is_ok())).collect();
    assert_eq!(names, [("dead", false), ("n1", true), ("n1", true)]);
}

#[derive(Debug)]
struct Failure;

impl From<ConnectError> for Failure {
    fn from(_: ConnectError) -> Self {
        Self
    }
}

impl From<Status> for Failure {
    fn from(_: Status) -> Self {
        Self
    }
}
