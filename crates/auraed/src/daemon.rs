//! The composition: settings, log, lock, services, listeners, and the order in which all of it ends.
//!
//! ```text
//! starting ──▶ serving ──shutdown asked for──▶ stopping ──▶ ended
//!    │          no new connections or requests ┘   │
//!    └─ failed: the process says why and exits      executables stop, cells are freed, logs end,
//!                                                   open requests drain, connections are cut
//! ```

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aurae_proto::cells::cell_service_server::CellServiceServer;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::bundle::{self, BundleError};
use crate::instance::{Instance, InstanceError};
use crate::runtime::base::{Base, BaseError};
use crate::runtime::cells::{Cells, CellsSettings};
use crate::runtime::executables::Executables;
use crate::runtime::logs::{self, LogRing};
use crate::runtime::output::Workloads;
use crate::runtime::reaper::Reaper;
use crate::server::{
    self, Address, BadAddress, DRAIN_TIMEOUT, ListenError, Listener, MAX_MESSAGE_BYTES, Server,
    TlsError,
};
use crate::service::Api;
use crate::service::cells::{CellApi, OwnZone};
use crate::service::discovery::Discovery;
use crate::service::health::Reporter;
use crate::service::observe::Observe;
use crate::service::reflection::{ReflectionError, with_reflection};
use crate::settings::{Command, DEFAULT_SOCKET, Settings};
use crate::shutdown::{Intent, Shutdown};
use crate::status::Status;
use crate::{VERSION, logging, reply};

/// Threads that serve, at least: one that is kept busy must not keep the others waiting.
const MIN_WORKERS: usize = 2;
/// Threads that serve, at most: the node's CPUs are there for its workloads.
const MAX_WORKERS: usize = 8;
/// What stopping may take beyond the grace period: killing, reaping, removing cgroups.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the console has to show the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

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

/// The entry of the node's daemon. `arguments[0]` is the program's name.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let settings = match Settings::parse(arguments) {
        Ok(settings) => settings,
        Err(error) => {
            // Help and version are said this way too, with success.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let outcome = match settings.command.clone() {
        Some(Command::Spawn { output }) => {
            bundle::write(&output).map_err(DaemonError::from).map(|()| {
                println!("wrote an OCI bundle to {}", output.display());
            })
        }
        None => beside_another_init(settings),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", reply::text(&error));
            ExitCode::FAILURE
        }
    }
}

fn beside_another_init(settings: Settings) -> Result<(), DaemonError> {
    let daemon = Daemon::new(settings, Status::default());
    let console = logging::start(daemon.settings.logging, &daemon.log);
    let runtime = threads()?;
    let outcome = runtime.block_on(async {
        tokio::spawn(stop_on_signals(daemon.shutdown.clone())?);
        daemon.run().await
    });
    // Blocking work that hangs must not keep the process.
    runtime.shutdown_background();
    console.flush(FLUSH_TIMEOUT);
    outcome
}

fn threads() -> Result<tokio::runtime::Runtime, DaemonError> {
    let cpus = std::thread::available_parallelism().map_or(MIN_WORKERS, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cpus.clamp(MIN_WORKERS, MAX_WORKERS))
        .enable_all()
        .build()
        .map_err(DaemonError::Threads)
}

/// SIGTERM and SIGINT stop the daemon in order. SIGHUP is kept for reading certificates again, and does
/// nothing yet.
fn stop_on_signals(shutdown: Shutdown) -> Result<impl Future<Output = ()>, DaemonError> {
    let listen = |kind| signal(kind).map_err(DaemonError::Signals);
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {
                    tracing::info!(signal = "SIGTERM", "stopping");
                    shutdown.request(Intent::Exit);
                }
                _ = interrupt.recv() => {
                    tracing::info!(signal = "SIGINT", "stopping");
                    shutdown.request(Intent::Exit);
                }
                _ = hang_up.recv() => tracing::info!("SIGHUP does nothing"),
            }
        }
    })
}

/// What a daemon is made of.
#[derive(Debug)]
struct Daemon {
    settings: Settings,
    status: Status,
    shutdown: Shutdown,
    /// The daemon's own log.
    log: LogRing,
}

impl Daemon {
    fn new(settings: Settings, status: Status) -> Self {
        let log = LogRing::new(logs::DEFAULT_CAPACITY);
        Self { settings, status, shutdown: Shutdown::default(), log }
    }

    /// Serves until the shutdown is asked for, and stops in order.
    async fn run(&self) -> Result<(), DaemonError> {
        let _instance = Instance::lock(&self.settings.runtime_directory)?;
        let running = Running::start(&self.settings)?;
        let health = Reporter::default();
        let api = self.api(&health, &running)?;
        let server = Server::new(api.clone(), self.shutdown.clone());
        let mut serving = self.listen(&server)?;
        health.serving(&api).await;

        self.shutdown.wait().await;
        health.stopping(&api).await;
        while serving.join_next().await.is_some() {}
        running.stop(self.settings.workloads_on_exit.grace_period()).await;
        self.log.close();
        server.drain(DRAIN_TIMEOUT).await;
        tracing::info!("stopped");
        Ok(())
    }

    fn api(&self, health: &Reporter, running: &Running) -> Result<Api, DaemonError> {
        let workloads = Workloads::of_node(running.executables.clone(), running.cells.clone());
        let own = OwnZone { name: String::new(), cgroup: running.base.cgroup() };
        let cells = CellApi::new(own, running.executables.clone(), Some(running.cells.clone()));
        let api = Api::default()
            .with(Discovery::service(self.status.clone()))
            .with(CellServiceServer::new(cells).max_decoding_message_size(MAX_MESSAGE_BYTES))
            .with(Observe::service(self.log.clone(), workloads))
            .with(health.service());
        Ok(with_reflection(api)?)
    }

    fn listen(&self, server: &Server) -> Result<JoinSet<()>, DaemonError> {
        let tls = server::server_config(&self.settings.tls).map_err(DaemonError::Tls)?;
        let mut serving = JoinSet::new();
        for address in self.addresses()? {
            let listener = Listener::bind(&address)?;
            let address = listener.address().unwrap_or(address);
            tracing::info!(%address, version = VERSION, "listening");
            let (server, tls) = (server.clone(), Arc::clone(&tls));
            serving.spawn(async move { server.serve(listener, Some(tls)).await });
        }
        Ok(serving)
    }

    fn addresses(&self) -> Result<Vec<Address>, DaemonError> {
        if self.settings.sockets.is_empty() {
            return Ok(vec![DEFAULT_SOCKET.parse()?]);
        }
        Ok(self.settings.sockets.clone())
    }
}

/// What a node runs.
#[derive(Debug)]
struct Running {
    base: Base,
    executables: Executables,
    cells: Cells,
}

impl Running {
    fn start(settings: &Settings) -> Result<Self, DaemonError> {
        let base = Base::take(false)?;
        let reaper = Reaper::start().map_err(DaemonError::Signals)?;
        let executables =
            Executables::new(base.cgroup(), reaper.clone(), settings.log_capacity, None);
        let cells = Cells::new(
            CellsSettings {
                cgroup: base.cgroup(),
                image: aurae_kernel::zone::own_image()?,
                log_capacity: settings.log_capacity,
            },
            reaper,
        );
        Ok(Self { base, executables, cells })
    }

    /// Stops executables and frees cells, all at once.
    async fn stop(self, grace: Duration) {
        let Self { base, executables, cells } = self;
        let stopped = tokio::time::timeout(grace + STOP_TIMEOUT, async {
            tokio::join!(executables.close(grace), cells.close(grace));
        });
        if stopped.await.is_err() {
            tracing::error!("some executables or cells did not end in time; going on without");
        }
        base.leave();
    }
}
