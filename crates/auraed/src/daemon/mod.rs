//! The composition: lock, services, listeners, and the order in which all of it ends.
//!
//! ```text
//! starting ──▶ serving ──shutdown asked for──▶ stopping ──▶ ended
//!    │          no new connections or requests ┘   │
//!    │                                             executables stop, cells are freed, logs end,
//!    └─ failed                                     open requests drain, connections are cut
//! ```
//!
//! What fails at the start ends a daemon beside another init: the process says why and exits. The
//! machine's init has nowhere to exit to: it is degraded, says so over the API, and goes on.

mod entry;
mod running;

pub(crate) use entry::main;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aurae_proto::cells::cell_service_server::CellServiceServer;
use rustls::ServerConfig;
use tokio::task::JoinSet;

use crate::bundle::BundleError;
use crate::instance::{Instance, InstanceError};
use crate::route::Route;
use crate::runtime::base::BaseError;
use crate::runtime::logs::{self, LogRing};
use crate::runtime::node::{Machine, Role};
use crate::runtime::output::Workloads;
use crate::runtime::reaper::Reaper;
use crate::server::{
    self, Address, BadAddress, DRAIN_TIMEOUT, ListenError, Listener, MAX_MESSAGE_BYTES, Server,
    TlsError,
};
use crate::service::Api;
use crate::service::discovery::Discovery;
use crate::service::health::Reporter;
use crate::service::node::NodeApi;
use crate::service::observe::Observe;
use crate::service::reflection::{ReflectionError, with_reflection};
use crate::settings::{DEFAULT_INIT_SOCKET, DEFAULT_SOCKET, Settings};
use crate::shutdown::Shutdown;
use crate::status::Status;
use crate::{VERSION, reply};
use running::Running;

/// The pauses between attempts to open the API of an init: they double from the first to the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Why the daemon did not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    /// The threads cannot be started.
    #[error("failed to start the daemon's threads")]
    Threads(#[source] std::io::Error),
    /// Signals cannot be listened to.
    #[error("failed to listen for signals")]
    Signals(#[source] std::io::Error),
    /// There is no place in the cgroup tree.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The kernel refused a step.
    #[error(transparent)]
    Kernel(#[from] aurae_kernel::Error),
    /// Another daemon is there.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Mutual TLS cannot be set up.
    #[error(
        "failed to set up mutual TLS (`aer pki init` makes certificates; --server-crt, --server-key and --ca-crt name others)"
    )]
    Tls(#[source] TlsError),
    /// A default address is broken.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// A socket cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The API cannot describe itself.
    #[error(transparent)]
    Reflection(#[from] ReflectionError),
    /// The bundle was not written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// What a daemon is made of.
#[derive(Debug)]
struct Daemon {
    settings: Settings,
    role: Role,
    status: Status,
    shutdown: Shutdown,
    /// The daemon's own log.
    log: LogRing,
}

/// What clients come in by.
struct Doors {
    tls: Arc<ServerConfig>,
    listeners: Vec<Listener>,
}

impl Daemon {
    fn new(settings: Settings, role: Role, status: Status) -> Self {
        let log = LogRing::new(logs::DEFAULT_CAPACITY);
        Self { settings, role, status, shutdown: Shutdown::default(), log }
    }

    /// Serves until the shutdown is asked for, and stops in order.
    async fn run(&self) -> Result<(), DaemonError> {
        let lock = Instance::lock(&self.settings.runtime_directory);
        let _instance = self.tolerate("runtime-directory", lock.map_err(DaemonError::from))?;
        let doors = self.tolerate("api", self.open_doors())?;
        // An init reaps orphans even where it cannot run anything of its own.
        let reaper = Reaper::start().map_err(DaemonError::Signals)?;
        let is_init = self.role == Role::Init;
        let running = Running::start(&self.settings, reaper.clone(), is_init).await;
        let running = self.tolerate("cells", running)?;
        let health = Reporter::default();
        let api = self.api(&health, running.as_ref())?;
        let cells = running.as_ref().and_then(|running| running.workloads().cells);
        let server = Server::new(Route::new(api.clone(), cells), self.shutdown.clone());
        let doors = match doors {
            Some(doors) => Some(doors),
            None => self.retry_doors().await,
        };
        let mut serving = doors.map(|doors| serve(&server, doors)).unwrap_or_default();
        health.serving(&api).await;

        self.shutdown.wait().await;
        health.stopping(&api).await;
        while serving.join_next().await.is_some() {}
        if let Some(running) = running {
            running.stop(self.settings.workloads_on_exit.grace_period()).await;
        }
        self.log.close();
        server.drain(DRAIN_TIMEOUT).await;
        tracing::info!("stopped");
        Ok(())
    }

    /// What failed ends a daemon beside another init; an init is degraded and goes on without.
    fn tolerate<T>(
        &self,
        phase: &'static str,
        outcome: Result<T, DaemonError>,
    ) -> Result<Option<T>, DaemonError> {
        match (outcome, self.role) {
            (Ok(value), _) => Ok(Some(value)),
            (Err(error), Role::Init) => {
                self.status.degrade(phase, reply::text(&error));
                Ok(None)
            }
            (Err(error), Role::Beside | Role::Zone) => Err(error),
        }
    }

    fn api(&self, health: &Reporter, running: Option<&Running>) -> Result<Api, DaemonError> {
        let mut api =
            Api::default().with(Discovery::service(self.status.clone())).with(health.service());
        let mut workloads = Workloads::none();
        let mut controllers = BTreeSet::new();
        if let Some(running) = running {
            let cells = CellServiceServer::new(running.service());
            api = api.with(cells.max_decoding_message_size(MAX_MESSAGE_BYTES));
            workloads = running.workloads();
            controllers = running.controllers();
        }
        let machine = Machine::new(self.role, controllers, self.shutdown.clone());
        let api = api
            .with(NodeApi::service(machine, self.status.clone()))
            .with(Observe::service(self.log.clone(), workloads));
        Ok(with_reflection(api)?)
    }

    /// Reads the certificates and binds the sockets; nobody is let in yet.
    fn open_doors(&self) -> Result<Doors, DaemonError> {
        let tls = server::server_config(&self.settings.tls).map_err(DaemonError::Tls)?;
        let addresses = self.addresses()?;
        let listeners = addresses.iter().map(Listener::bind).collect::<Result<_, _>>()?;
        Ok(Doors { tls, listeners })
    }

    /// Tries until the doors are open, or the shutdown is asked for. Certificates may come from a disk
    /// that is found late.
    async fn retry_doors(&self) -> Option<Doors> {
        let mut pause = FIRST_RETRY;
        loop {
            tokio::select! {
                _ = self.shutdown.wait() => return None,
                () = tokio::time::sleep(pause) => {}
            }
            if let Ok(doors) = self.open_doors() {
                self.status.recover("api");
                return Some(doors);
            }
            pause = (2 * pause).min(LAST_RETRY);
        }
    }

    fn addresses(&self) -> Result<Vec<Address>, DaemonError> {
        if !self.settings.sockets.is_empty() {
            return Ok(self.settings.sockets.clone());
        }
        let default = match self.role {
            Role::Init => DEFAULT_INIT_SOCKET,
            Role::Beside | Role::Zone => DEFAULT_SOCKET,
        };
        Ok(vec![default.parse()?])
    }
}

fn serve(server: &Server, doors: Doors) -> JoinSet<()> {
    let mut serving = JoinSet::new();
    for listener in doors.listeners {
        let address = listener.address().map(|address| address.to_string());
        tracing::info!(address, version = VERSION, "listening");
        let (server, tls) = (server.clone(), Arc::clone(&doors.tls));
        serving.spawn(async move { server.serve(listener, tls).await });
    }
    serving
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::TlsFiles;
    use crate::server::tests::pki::Pki;

    /// How long a test waits for what has to come.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn daemon(role: Role, directory: &std::path::Path) -> Daemon {
        let settings = Settings {
            runtime_directory: directory.join("run"),
            sockets: vec!["127.0.0.1:0".parse().unwrap()],
            tls: TlsFiles {
                authority: directory.join("ca.crt"),
                certificate: directory.join("server.crt"),
                key: directory.join("server.key"),
            },
            ..Settings::default()
        };
        Daemon::new(settings, role, Status::default())
    }

    #[tokio::test]
    async fn a_daemon_without_certificates_says_which_file_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let error = daemon(Role::Beside, directory.path()).run().await.unwrap_err();
        let text = reply::text(&error);
        assert!(text.contains("aer pki init"), "{text}");
        assert!(text.contains(&directory.path().join("ca.crt").display().to_string()), "{text}");
    }

    #[tokio::test]
    async fn an_init_opens_the_api_once_its_certificates_are_there() {
        let (directory, pki) = (tempfile::tempdir().unwrap(), Pki::new());
        let daemon = Arc::new(daemon(Role::Init, directory.path()));
        assert!(daemon.tolerate("api", daemon.open_doors()).unwrap().is_none());
        assert_eq!(daemon.status.degraded()[0].phase, "api");

        let retrying = Arc::clone(&daemon);
        let opened = tokio::spawn(async move { retrying.retry_doors().await });
        for name in ["ca.crt", "server.crt", "server.key"] {
            std::fs::copy(pki.path(name), directory.path().join(name)).unwrap();
        }
        let doors = tokio::time::timeout(PATIENCE, opened).await.unwrap().unwrap().unwrap();
        assert_eq!(doors.listeners.len(), 1);
        assert!(daemon.status.degraded().is_empty());
    }

    #[tokio::test]
    async fn an_init_without_certificates_can_still_be_shut_down() {
        let directory = tempfile::tempdir().unwrap();
        let daemon = daemon(Role::Init, directory.path());
        daemon.shutdown.request(crate::shutdown::Intent::PowerOff);
        let given_up = tokio::time::timeout(PATIENCE, daemon.retry_doors()).await.unwrap();
        assert!(given_up.is_none());
    }
}
