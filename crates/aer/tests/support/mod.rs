//! A node that is not one: it answers over mutual TLS on a unix socket, and remembers what it was
//! asked. And a way to run whole command lines against it.

mod copies;
mod fake;
mod snapshot;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

pub(crate) use fake::Fake;
pub(crate) use snapshot::{assert_snapshot, describe};

/// How many accepted connections wait for the server.
const BACKLOG: usize = 16;
/// How many bytes are on their way between TLS and the server.
const PIPE_BYTES: usize = 64 * 1024;

/// A directory with certificates made by `aer pki`, and a node that uses them.
pub(crate) struct Bed {
    directory: tempfile::TempDir,
    pub(crate) fake: Fake,
    runtime: Option<Runtime>,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("aurae.sock");
        let at = directory.path().to_str().unwrap();
        let made = aer_in(directory.path())
            .args(["pki", "init", at, "--client", "me", "--socket", socket.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut bed = Self { directory, fake: Fake::default(), runtime: None };
        bed.come_back();
        bed
    }

    /// Serves, with what the node knew before: its zones outlive its daemon.
    pub(crate) fn come_back(&mut self) {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(serve(&self.fake, self.path(), &self.path().join("aurae.sock")));
        self.runtime = Some(runtime);
    }

    /// Ends the node as if it had lost power.
    pub(crate) fn kill(&mut self) {
        std::fs::remove_file(self.path().join("aurae.sock")).unwrap();
        self.runtime.take().unwrap().shutdown_background();
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Adds nodes to the configuration: the name, and whether it is alive.
    pub(crate) fn add_nodes(&self, nodes: &[(&str, bool)]) {
        let path = self.path().join("config");
        let mut config = std::fs::read_to_string(&path).unwrap();
        for (name, alive) in nodes {
            let socket = if *alive { "aurae.sock" } else { "nobody.sock" };
            config.push_str(&format!("\n[nodes.{name}]\nsocket = \"{socket}\"\n"));
        }
        std::fs::write(path, config).unwrap();
    }

    /// `aer`, with the configuration of this bed.
    pub(crate) fn aer(&self, arguments: &[&str]) -> Command {
        let mut command = aer_in(self.path());
        command.env("AURAE_CONFIG", self.path().join("config")).args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.aer(arguments).output().unwrap()
    }

    /// Runs command lines one after the other, and compares all that they say with a file.
    pub(crate) fn session(&self, name: &str, lines: &[&[&str]]) {
        let said = lines.iter().map(|arguments| describe(arguments, &self.run(arguments)));
        let directory = self.path().to_str().unwrap();
        let said = said.collect::<String>().replace(directory, "[DIR]");
        assert_snapshot(name, &without_fingerprints(&said));
    }
}

/// `aer` with nothing of the environment of the tests but a home directory.
fn aer_in(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aer"));
    command.env_clear().env("HOME", home).current_dir(home).stdin(Stdio::null());
    command
}

async fn serve(fake: &Fake, pki: &Path, socket: &Path) {
    let (connections, incoming) = mpsc::channel(BACKLOG);
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("ready", tonic_health::ServingStatus::Serving).await;
    let server = Server::builder()
        .add_service(health_service)
        .add_service(fake.cells())
        .add_service(fake.observe())
        .add_service(fake.discovery())
        .add_service(fake.node())
        .serve_with_incoming(ReceiverStream::new(incoming));
    tokio::spawn(server);
    let acceptor = TlsAcceptor::from(server_config(pki));
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, connections) = (acceptor.clone(), connections.clone());
            tokio::spawn(async move {
                // A client that is refused is told so by an alert: the test looks at its side.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let (mut near, far) = tokio::io::duplex(PIPE_BYTES);
                connections.send(Ok::<_, std::io::Error>(far)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut near).await;
            });
        }
    });
}

fn server_config(pki: &Path) -> Arc<ServerConfig> {
    let file = |name: &str| -> PathBuf { pki.join(name) };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("ca.crt")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_file(file("_signed.server.crt")).unwrap()],
            PrivateKeyDer::from_pem_file(file("server.key")).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// Each authority is called after its key: without that a text is the same every time.
fn without_fingerprints(text: &str) -> String {
    const BEFORE: &str = "aurae.local authority ";
    const DIGITS: usize = 8;
    let mut pieces = text.split(BEFORE);
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| {
        let rest = piece.get(DIGITS..).unwrap_or_default();
        format!("{text}{BEFORE}[KEY]{rest}")
    })
}
