//! A guard: what an empty RPC allocates, client and server together in one thread. Time depends on the
//! machine and on what else it does; this does not.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up has failed")]

use std::alloc::System;
use std::fs;
use std::path::Path;

use aurae_client::{Client, Identity, Node};
use aurae_proto::discovery::DiscoverRequest;
use aurae_proto::discovery::discovery_service_client::DiscoveryServiceClient;
use auraed::audit::Audit;
use auraed::policy::PolicyStore;
use auraed::route::Route;
use auraed::server::{Address, Listener, REQUESTS_PER_SECOND, Server, Tls, TlsFiles};
use auraed::service::Api;
use auraed::service::discovery::Discovery;
use auraed::shutdown::Shutdown;
use auraed::status::Status;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Calls before counting: buffers have grown then, and what is kept is kept.
const WARM_UP: usize = 2000;
/// Calls that are counted: what happens once in a while weighs nothing.
const CALLS: usize = 2000;
/// How much more than what is recorded is a failure.
const TOLERANCE: f64 = 1.1;

/// What is recorded: allocations a call, and bytes.
const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/allocations.golden");

#[tokio::test]
async fn an_empty_rpc_allocates_no_more_than_is_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let client = client(directory.path(), serve(directory.path())).await;
    call(&client, WARM_UP).await;
    let region = Region::new(ALLOCATOR);
    call(&client, CALLS).await;
    let counted = region.change();
    let each = |count: usize| count as f64 / CALLS as f64;
    let found = [
        ("allocations", each(counted.allocations + counted.reallocations)),
        ("bytes", each(counted.bytes_allocated)),
    ];
    let text: String = found.iter().map(|(name, count)| format!("{name} {count:.0}\n")).collect();
    if std::env::var_os("AURAE_BLESS").is_some() {
        fs::write(RECORD, &text).unwrap();
    }
    let recorded = fs::read_to_string(RECORD).unwrap_or_default();
    for ((name, count), line) in found.into_iter().zip(recorded.lines()) {
        let bound: f64 = line.strip_prefix(name).unwrap().trim().parse().unwrap();
        assert!(
            count <= bound * TOLERANCE,
            "an empty RPC has {count:.0} {name}; {bound} are recorded. If that is meant: \
             AURAE_BLESS=1 cargo test --release -p auraed --test allocations"
        );
        if count * TOLERANCE < bound {
            println!("{count:.0} {name} instead of {bound}: record it (AURAE_BLESS=1)");
        }
    }
    assert_eq!(recorded.lines().count(), found.len(), "nothing is recorded in {RECORD}");
}

async fn call(client: &Client, times: usize) {
    for _ in 0..times {
        let mut discovery = DiscoveryServiceClient::new(client.channel());
        assert!(discovery.discover(DiscoverRequest {}).await.unwrap().into_inner().healthy);
    }
}

/// A server as the node's daemon has it, with the built-in policies and records in memory.
fn serve(directory: &Path) -> std::net::SocketAddr {
    let policies = PolicyStore::load(&directory.join("policy")).unwrap();
    let route = Route::new(Api::default().with(Discovery::service(Status::default())), None);
    let (shutdown, audit) = (Shutdown::default(), Audit::in_memory());
    let server = Server::new(route, shutdown, audit, policies, REQUESTS_PER_SECOND);
    certificates(directory);
    let files = TlsFiles {
        certificate: directory.join("server.crt"),
        key: directory.join("server.key"),
        authority: directory.join("ca.crt"),
        ..TlsFiles::default()
    };
    let tls = Tls::read(&files, None).unwrap();
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let Some(Address::Tcp(address)) = listener.address() else { panic!("no TCP address") };
    tokio::spawn(async move { server.serve(listener, tls).await });
    address
}

async fn client(directory: &Path, address: std::net::SocketAddr) -> Client {
    let identity = Identity {
        ca_crt: directory.join("ca.crt"),
        client_crt: directory.join("client.crt"),
        client_key: directory.join("client.key"),
    };
    let (ip, port) = (address.ip(), address.port());
    let address = aurae_client::Address::Tcp { ip, port, scope: None };
    Client::connect(&Node::new("test", address, identity)).await.unwrap()
}

fn certificates(directory: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority of a test");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(directory.join("ca.crt"), authority.pem()).unwrap();
    for (file, name) in [
        ("server", SanType::DnsName("server.unsafe.aurae.io".try_into().unwrap())),
        ("client", SanType::URI("spiffe://aurae.local/admin/alice".try_into().unwrap())),
    ] {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        fs::write(directory.join(format!("{file}.crt")), certificate.pem()).unwrap();
        fs::write(directory.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
}
