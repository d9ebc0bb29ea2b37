//! A node whose identity is from a Workload API: a server of it here gives short-lived ones.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use rcgen::{CertificateParams, IsCa, KeyUsagePurpose, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use time::{Duration as Length, OffsetDateTime};
use tokio::net::UnixListener;
use tokio_rustls::TlsConnector;
use tokio_stream::Stream;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic_prost::ProstCodec;

use super::*;
use crate::daemon::workload_api::Identities;
use crate::settings::parse_endpoint;

/// Who the node is.
const NODE: &str = "spiffe://aurae.local/node/n1";

/// The request, which has nothing in it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct X509SvidRequest {}

/// The answer, as `workload.proto` of the SPIFFE Workload API has it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct X509SvidResponse {
    #[prost(message, repeated, tag = "1")]
    svids: Vec<X509Svid>,
    #[prost(map = "string, bytes", tag = "3")]
    federated_bundles: HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct X509Svid {
    #[prost(string, tag = "1")]
    spiffe_id: String,
    #[prost(bytes = "vec", tag = "2")]
    x509_svid: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    x509_svid_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    bundle: Vec<u8>,
}

/// A Workload API that sends what it is given, again whenever that changes.
#[derive(Clone)]
struct Agent(watch::Receiver<X509SvidResponse>);

impl NamedService for Agent {
    const NAME: &'static str = "SpiffeWorkloadAPI";
}

type Answers = Pin<Box<dyn Stream<Item = Result<X509SvidResponse, tonic::Status>> + Send>>;
type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl ServerStreamingService<X509SvidRequest> for Agent {
    type Response = X509SvidResponse;
    type ResponseStream = Answers;
    type Future = Answer<Result<tonic::Response<Answers>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<X509SvidRequest>) -> Self::Future {
        let answers = WatchStream::new(self.0.clone());
        Box::pin(async move {
            if request.metadata().get("workload.spiffe.io").is_none_or(|value| value != "true") {
                return Err(tonic::Status::invalid_argument("the security header is missing"));
            }
            let answers: Answers = Box::pin(futures_util::StreamExt::map(answers, Ok));
            Ok(tonic::Response::new(answers))
        })
    }
}

impl tower::Service<http::Request<tonic::body::Body>> for Agent {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Answer<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let agent = self.clone();
        Box::pin(async move {
            assert_eq!(request.uri().path(), "/SpiffeWorkloadAPI/FetchX509SVID");
            let mut grpc = Grpc::new(ProstCodec::<X509SvidResponse, X509SvidRequest>::default());
            Ok(grpc.server_streaming(agent, request).await)
        })
    }
}

/// An agent at a socket, and how it is told what to give.
fn serve_agent(path: &Path, first: X509SvidResponse) -> watch::Sender<X509SvidResponse> {
    let (sender, receiver) = watch::channel(first);
    let listener = UnixListenerStream::new(UnixListener::bind(path).unwrap());
    let server = tonic::transport::Server::builder().add_service(Agent(receiver));
    tokio::spawn(server.serve_with_incoming(listener));
    sender
}

/// The node's identity for that long, and the authority that made it.
fn svid(pki: &Pki, name: &str, validity: Length) -> X509SvidResponse {
    pki.client(name, |params: &mut CertificateParams| {
        let dns = "server.unsafe.aurae.io".try_into().unwrap();
        params.subject_alt_names =
            vec![SanType::URI(NODE.try_into().unwrap()), SanType::DnsName(dns)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = OffsetDateTime::now_utc() - Length::minutes(1);
        params.not_after = OffsetDateTime::now_utc() + validity;
    });
    let certificate = |name: &str| CertificateDer::from_pem_file(pki.path(name)).unwrap().to_vec();
    let key = PrivateKeyDer::from_pem_file(pki.path(&format!("{name}.key"))).unwrap();
    let svid = X509Svid {
        spiffe_id: NODE.to_owned(),
        x509_svid: certificate(&format!("{name}.crt")),
        x509_svid_key: key.secret_der().to_vec(),
        bundle: certificate("ca.crt"),
    };
    X509SvidResponse { svids: vec![svid], federated_bundles: HashMap::new() }
}

/// The certificate that the node shows.
async fn shown(fixture: &Fixture, authority: &Pki) -> Vec<u8> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.path("ca.crt")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(fixture.address).await.unwrap();
    let name = ServerName::try_from("server.unsafe.aurae.io").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

impl Fixture {
    /// An agent of that authority that gives this first, and what came of it.
    async fn follow(
        &self,
        agents: &Pki,
        first: X509SvidResponse,
    ) -> (watch::Sender<X509SvidResponse>, Identities) {
        let socket = agents.path("agent.sock");
        let agent = serve_agent(&socket, first);
        let endpoint = parse_endpoint(socket.to_str().unwrap()).unwrap();
        let mut identities =
            Identities::follow(endpoint, self.health.clone(), self.shutdown.clone());
        identities.first().await;
        (agent, identities)
    }

    async fn shows(&self, authority: &Pki, svid: &X509SvidResponse) {
        let expected = &svid.svids[0].x509_svid;
        let wait = async {
            while shown(self, authority).await != *expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the node shows the new certificate");
    }
}

#[tokio::test]
async fn a_node_takes_its_identity_from_a_workload_api_and_renews_it() {
    let agents = Pki::called("the agent's", Some("aurae.local"));
    let fixture = Fixture::start();
    let first = svid(&agents, "first", Length::minutes(5));
    let (agent, identities) = fixture.follow(&agents, first.clone()).await;
    assert_eq!(identities.current().unwrap().id, NODE);

    // With it comes whom to believe: the agent's bundle for aurae.local, instead of the file's.
    let (of_file, of_agent) = (fixture.pki.client("alice", |_| {}), agents.client("bob", |_| {}));
    fixture.discover(of_file.clone()).await.unwrap();
    tokio::spawn(identities.renew(fixture.tls.clone(), fixture.health.clone()));
    fixture.logged(&["took up new certificates", NODE]).await;
    fixture.shows(&agents, &first).await;
    fixture.discover(of_agent.clone()).await.unwrap();
    let of_file = Identity { ca_crt: of_agent.ca_crt.clone(), ..of_file };
    fixture.discover(of_file).await.unwrap_err();

    let bob = fixture.connect(of_agent).await;
    let second = svid(&agents, "second", Length::minutes(7));
    agent.send_replace(second.clone());
    fixture.shows(&agents, &second).await;
    // A connection from before goes on.
    DiscoveryServiceClient::new(bob.channel()).discover(DiscoverRequest {}).await.unwrap();
    assert!(fixture.health.degraded().is_empty());
    let expiry = fixture.health.certificate_expiry().unwrap();
    let left = expiry.duration_since(std::time::SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(6 * 60), "{left:?}");
    fixture.shutdown.request(Intent::Exit);
}

#[tokio::test]
async fn an_identity_that_came_while_a_file_was_wrong_is_taken_up_with_the_file() {
    let agents = Pki::called("the agent's", Some("aurae.local"));
    let (fixture, list) = Fixture::with_list();
    let first = svid(&agents, "first", Length::minutes(5));
    let (_agent, identities) = fixture.follow(&agents, first.clone()).await;

    fs::write(&list, "garbage").unwrap();
    let svid = identities.current().unwrap();
    fixture.tls.take(svid).unwrap_err();
    fs::write(&list, fixture.pki.revoke(&[], Length::days(1))).unwrap();
    fixture.tls.reload().unwrap();
    fixture.shows(&agents, &first).await;
    fixture.shutdown.request(Intent::Exit);
}

#[tokio::test]
async fn an_identity_that_cannot_be_used_keeps_nobody_in_who_is_revoked() {
    let (fixture, list) = Fixture::with_list();
    let bad = fixture.pki.client("bad", |_| {});
    fixture.discover(bad.clone()).await.unwrap();

    let (chain, key, bundles) = (Vec::new(), Vec::new(), BTreeMap::new());
    let unusable = Svid { id: NODE.to_owned(), chain, key, bundles };
    fixture.tls.take(Arc::new(unusable)).unwrap_err();
    fs::write(&list, fixture.pki.revoke(&["bad"], Length::days(2))).unwrap();
    fixture.tls.reload().unwrap_err();
    fixture.discover(bad).await.unwrap_err();
    fixture.logged(&["was revoked by"]).await;
    fixture.shutdown.request(Intent::Exit);
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_told_of_until_it_is() {
    let (agents, fixture) = (Pki::called("the agent's", Some("aurae.local")), Fixture::start());
    let socket = agents.path("agent.sock");
    let endpoint = parse_endpoint(socket.to_str().unwrap()).unwrap();
    let mut identities =
        Identities::follow(endpoint, fixture.health.clone(), fixture.shutdown.clone());
    fixture.logged(&["no identity from the SPIFFE Workload API"]).await;
    assert_eq!(fixture.health.degraded()[0].phase, "spiffe");
    let _agent = serve_agent(&socket, svid(&agents, "first", Length::minutes(5)));
    identities.first().await;
    let svid = identities.current().unwrap();
    assert!(fixture.health.degraded().is_empty());
    fixture.shutdown.request(Intent::Exit);

    // It is enough for a node without any file.
    let nothing = TlsFiles { authority: agents.path("none.crt"), ..TlsFiles::default() };
    assert!(Tls::read(&nothing, None).is_err());
    Tls::read(&nothing, Some(svid)).unwrap();
}
