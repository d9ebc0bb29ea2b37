//! The daemon inside a zone: its first phase, then the same services as everywhere.
//!
//! ```text
//! inherit descriptors ─▶ configuration ─▶ set-up (a table) ─▶ ready ─▶ serving ─▶ ending
//!                                             └─ failed: told over the line, exit
//! ```
//!
//! **Invariant**: nothing of this starts a thread, parses arguments, or sets up TLS, policy or
//! telemetry: each would cost every zone private memory (`docs/performance.md` has the figures).

pub mod protocol;
mod setup;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::readiness;
use aurae_kernel::seqpacket::{Line, Message as LineMessage};
use aurae_kernel::zone::Inheritance;
use prost::Message;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};

use crate::reply::text;
use crate::runtime::DEFAULT_GRACE;
use crate::runtime::executables::Executables;
use crate::runtime::logs::LogRing;
use crate::runtime::node::{Machine, Role};
use crate::runtime::output::Workloads;
use crate::runtime::reaper::Reaper;
use crate::server::serve_parent;
use crate::service::Api;
use crate::service::cells::{CellApi, OwnZone};
use crate::service::node::NodeApi;
use crate::service::observe::Observe;
use crate::shutdown::{Intent, Shutdown};
use crate::status::Status;
use protocol::{Config, VERSION};

/// What open requests have to be answered once the zone's executables have ended.
const DRAIN: Duration = Duration::from_millis(200);

/// The entry of a zone's daemon.
pub fn main() -> ExitCode {
    let inheritance = match Inheritance::take() {
        Ok(inheritance) => inheritance,
        Err(error) => {
            eprintln!(
                "error: auraed --nested is how a daemon starts the daemon of a zone; \
                 start `auraed` instead ({})",
                text(&error)
            );
            return ExitCode::FAILURE;
        }
    };
    let line = Arc::new(Line::from_socket(inheritance.line));
    match run(&line, inheritance.listener, inheritance.cgroup) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // The parent tells the caller; a parent that is gone needs no telling.
            let _ = line.send(&protocol::failed(reason), None);
            ExitCode::FAILURE
        }
    }
}

fn run(line: &Arc<Line>, stream: OwnedFd, cgroup: OwnedFd) -> Result<(), String> {
    let config = receive_config(line)?;
    let cgroup = Cgroup::from_directory(cgroup, PathBuf::from(&config.cgroup_path));
    setup::run(&config, &cgroup).map_err(|error| text(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("failed to start the runtime: {error}"))?;
    runtime
        .block_on(serve(config, line, stream, cgroup))
        .map_err(|error| format!("failed to serve: {error}"))
}

/// The parent sent it before it started this process.
fn receive_config(line: &Line) -> Result<Config, String> {
    let message = line.receive().map_err(|error| text(&error))?;
    let bytes = message.ok_or("the parent sent no configuration")?.bytes;
    let config = Config::decode(bytes.as_slice())
        .map_err(|error| format!("the parent's configuration cannot be read: {error}"))?;
    if config.version != VERSION {
        let version = config.version;
        return Err(format!(
            "the parent speaks version {version} of the zone protocol, not {VERSION}"
        ));
    }
    Ok(config)
}

async fn serve(
    config: Config,
    line: &Arc<Line>,
    stream: OwnedFd,
    cgroup: Cgroup,
) -> std::io::Result<()> {
    let cgroup = Arc::new(cgroup);
    let reaper = Reaper::start()?;
    let log_capacity = usize::try_from(config.log_capacity).unwrap_or(usize::MAX);
    let executables =
        Executables::new(Arc::clone(&cgroup), reaper, log_capacity, Some(Arc::clone(line)));
    let own = OwnZone { name: config.name, cgroup };
    let shutdown = Shutdown::default();
    let api = api(own, executables.clone(), shutdown.clone());
    let stream = std::os::unix::net::UnixStream::from(stream);
    stream.set_nonblocking(true)?;
    let serving =
        tokio::spawn(serve_parent(UnixStream::from_std(stream)?, api, shutdown.clone(), DRAIN));
    line.send(&protocol::ready(), None).map_err(|error| std::io::Error::other(text(&error)))?;

    end_when_told(line, &executables).await?;
    shutdown.request(Intent::Exit);
    // It only ends by itself: there is nobody to abort it.
    let _ = serving.await;
    Ok(())
}

/// The services of a zone's daemon.
fn api(own: OwnZone, executables: Executables, shutdown: Shutdown) -> Api {
    use aurae_proto::cells::cell_service_server::CellServiceServer;
    // What goes wrong in a zone is told over the line; it keeps no log of its own.
    let log = LogRing::new(0);
    log.close();
    // A controller list that cannot be read is told as none.
    let controllers = own.cgroup.controllers().unwrap_or_default();
    let machine = Machine::new(Role::Zone, controllers, shutdown);
    let cells = CellApi::new(own, executables.clone(), None);
    Api::default()
        .with(CellServiceServer::new(cells))
        .with(NodeApi::service(machine, Status::default()))
        .with(Observe::service(log, Workloads::of_zone(executables)))
}

/// Waits until the parent, or a signal, ends the zone, and stops its executables. Another order
/// meanwhile can only shorten their grace period; the end of the parent is one.
async fn end_when_told(line: &Line, executables: &Executables) -> std::io::Result<()> {
    let readable = line.as_fd().try_clone_to_owned()?;
    let line = readiness::register(Line::from_socket(readable), Interest::READABLE)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut order = tokio::select! {
        order = next_order(&line) => order,
        _ = terminate.recv() => Order::End(DEFAULT_GRACE),
    };
    loop {
        order = tokio::select! {
            () = executables.close(order.grace()) => return Ok(()),
            next = next_order(&line), if !matches!(order, Order::ParentGone) => next,
        };
    }
}

/// What ends a zone.
#[derive(Clone, Copy)]
enum Order {
    /// The parent, or a signal, with a grace period.
    End(Duration),
    /// The parent ended.
    ParentGone,
}

impl Order {
    fn grace(self) -> Duration {
        match self {
            Self::End(grace) => grace,
            Self::ParentGone => DEFAULT_GRACE,
        }
    }
}

/// An order to end, or the end of the line, which is the end of the parent.
async fn next_order(line: &AsyncFd<Line>) -> Order {
    loop {
        let Ok(mut guard) = line.readable().await else { return Order::ParentGone };
        match line.get_ref().receive() {
            Err(error) if error.errno == aurae_kernel::Errno::AGAIN => guard.clear_ready(),
            Ok(Some(LineMessage { bytes, .. })) => {
                let order = protocol::Shutdown::decode(bytes.as_slice());
                return Order::End(order.map_or(DEFAULT_GRACE, |order| order.grace()));
            }
            Ok(None) | Err(_) => return Order::ParentGone,
        }
    }
}
