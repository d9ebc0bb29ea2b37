//! The daemon inside a zone: its first phase, then the same services as everywhere.
//!
//! ```text
//! inherit descriptors ─▶ configuration ─▶ set-up (a table) ─▶ ready ─▶ serving ─▶ ending
//!                                             └─ failed: told over the line, exit
//! ```
//!
//! It outlives the daemon above it: without a parent it serves nobody, and goes on until another one
//! comes in through its door.
//!
//! **Invariant**: nothing of this starts a thread, parses arguments, or sets up TLS, policy or
//! telemetry: each would cost every zone private memory (`docs/performance.md` has the figures).

mod above;
mod inside;
pub mod line;
pub mod outbox;
pub mod parent;
pub mod protocol;
mod setup;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::seqpacket::{Line, Message};
use aurae_kernel::signals;
use aurae_kernel::zone::{Door, Inheritance, own_image};
use aurae_model::CellPath;
use prost::Message as _;
use rustix::process::Signal;

use crate::audit::Audit;
use crate::reply::text;
use crate::route::Route;
use crate::runtime::DEFAULT_GRACE;
use crate::runtime::cells::{Cells, CellsSettings, Nesting, Traits};
use crate::runtime::confine::{self, DeviceKeeper};
use crate::runtime::executables::Executables;
use crate::runtime::logs::LogRing;
use crate::runtime::node::{Machine, Role};
use crate::runtime::output::Workloads;
use crate::runtime::reaper::Reaper;
use crate::service::Api;
use crate::service::cells::{CellApi, OwnZone};
use crate::service::discovery::Discovery;
use crate::service::health::Reporter;
use crate::service::node::NodeApi;
use crate::service::observe::Observe;
use crate::shutdown::{Intent, Shutdown};
use crate::status::Status;
use above::Above;
use parent::Parent;
use protocol::{Config, Event, OLDEST, VERSION, report};

/// The entry of a zone's daemon.
pub fn main() -> ExitCode {
    let Inheritance { line, listener, cgroup, door } = match Inheritance::take() {
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
    let line = Arc::new(Line::from_socket(line));
    match run(&line, listener, cgroup, door) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // The parent tells the caller; a parent that is gone needs no telling.
            let _ = line.send(&report(Event::Failed(reason)), None);
            ExitCode::FAILURE
        }
    }
}

fn run(line: &Arc<Line>, stream: OwnedFd, cgroup: OwnedFd, door: Door) -> Result<(), String> {
    let config = receive_config(line)?;
    let cgroup = Cgroup::from_directory(cgroup, PathBuf::from(&config.cgroup_path));
    setup::run(&config, &cgroup).map_err(|error| text(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("failed to start the runtime: {error}"))?;
    runtime
        .block_on(serve(&config, line, stream, cgroup, door))
        .map_err(|error| format!("failed to serve: {error}"))
}

/// The parent sent it before it started this process.
fn receive_config(line: &Line) -> Result<Config, String> {
    let message = line.receive().map_err(|error| text(&error))?;
    let Message { bytes, descriptor, .. } = message.ok_or("the parent sent no configuration")?;
    if let Some(policy) = descriptor {
        confine::take_usual(policy.into());
    }
    let config = Config::decode(bytes.as_slice())
        .map_err(|error| format!("the parent's configuration cannot be read: {error}"))?;
    if config.version < OLDEST {
        let version = config.version;
        return Err(format!("the zone speaks versions {OLDEST} to {VERSION}, not {version}"));
    }
    Ok(config)
}

async fn serve(
    config: &Config,
    line: &Arc<Line>,
    stream: OwnedFd,
    cgroup: Cgroup,
    door: Door,
) -> std::io::Result<()> {
    let cgroup = Arc::new(cgroup);
    let reaper = Reaper::start().map_err(io)?;
    let parent = Parent::new(Arc::clone(line), reaper.clone());
    let log_capacity = usize::try_from(config.log_capacity).unwrap_or(usize::MAX);
    let executables = Executables::new(
        Arc::clone(&cgroup),
        reaper.clone(),
        log_capacity,
        Some(parent.clone()),
        if config.users().is_some() { DeviceKeeper::Above } else { DeviceKeeper::Zone },
    );
    let changes = executables.changes().clone();
    let workloads = Workloads {
        executables: Some(executables),
        cells: Some(Cells::new(
            CellsSettings {
                cgroup: Arc::clone(&cgroup),
                image: own_image().map_err(io)?,
                log_capacity,
                path: CellPath::parse(&config.path, "path").ok(),
                parent: Some(parent.clone()),
                changes,
                nesting: nesting(config),
            },
            reaper,
        )),
    };
    let shutdown = Shutdown::default();
    let own = OwnZone { name: own_name(config), cgroup, traits: traits(config) };
    let health = Reporter::default();
    let api = api(own, workloads.clone(), shutdown.clone()).with(health.service());
    health.serving(&api).await;
    let route = Route::new(api, workloads.cells.clone());
    if config.api_socket {
        inside::listen(route.clone(), shutdown.clone())?;
    }
    let above = Above::new(line, stream, door, parent, route, shutdown.clone())?;
    end_when_told(above, &workloads, &shutdown).await
}

/// The same as an error of input and output, with all that it says.
fn io(error: aurae_kernel::Error) -> std::io::Error {
    std::io::Error::other(text(&error))
}

/// The last label of its path.
fn own_name(config: &Config) -> String {
    if config.path.is_empty() { String::new() } else { config.name.clone() }
}

/// What it was asked to be.
fn traits(config: &Config) -> Traits {
    Traits {
        isolate_process: config.isolate_process,
        isolate_network: config.isolate_network,
        api_socket: config.api_socket,
        read_only_root: config.read_only_root,
        private_tmp: config.private_tmp,
        unmasked_paths: config.unmasked_paths,
        users: config.users(),
    }
}

/// What cells can be in it.
fn nesting(config: &Config) -> Nesting {
    match (config.users(), setup::masks(config)) {
        (Some(_), _) => Nesting::None,
        (None, true) => Nesting::NoUsers,
        (None, false) => Nesting::All,
    }
}

/// The services of a zone's daemon.
fn api(own: OwnZone, workloads: Workloads, shutdown: Shutdown) -> Api {
    use aurae_proto::cells::cell_service_server::CellServiceServer;
    // What goes wrong in a zone is told over the line; it keeps no log of its own.
    let log = LogRing::new(0);
    log.close();
    // A controller list that cannot be read is told as none.
    let controllers = own.cgroup.controllers().unwrap_or_else(|_| BTreeSet::new());
    let machine = Machine::new(Role::Zone, controllers, shutdown);
    let mut api = Api::default().with(Discovery::service(Status::default()));
    if let Some(cells) = workloads.cells.clone() {
        let cells = CellApi::new(own, workloads.executables.clone(), cells);
        api = api.with(CellServiceServer::new(cells));
    }
    let node = NodeApi::service(machine, Status::default(), None, Audit::none());
    api.with(node).with(Observe::service(log, workloads))
}

/// Waits until the parent, or a signal, ends the zone, and ends its executables and cells. Another
/// order meanwhile can only shorten their grace period.
async fn end_when_told(
    mut above: Above,
    workloads: &Workloads,
    shutdown: &Shutdown,
) -> std::io::Result<()> {
    let mut terminate = signals::listen(Signal::TERM.as_raw()).map_err(io)?;
    let mut grace = tokio::select! {
        grace = above.order() => grace,
        () = terminate.recv() => DEFAULT_GRACE,
    };
    loop {
        tokio::select! {
            () = workloads.close(grace) => break,
            sooner = above.order() => grace = sooner,
        }
    }
    shutdown.request(Intent::Exit);
    above.close().await;
    Ok(())
}
