//! From a specification to a cell whose daemon is ready, or to nothing.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use aurae_kernel::cgroup::{Cgroup, value};
use aurae_kernel::confine::Confinement;
use aurae_kernel::seqpacket::Line;
use aurae_kernel::spawn::{Child, Image, Namespaces, Spawn, SpawnError};
use aurae_kernel::users::IdMap;
use aurae_kernel::{Errno, cgroup_namespace, readiness};
use aurae_model::{CellName, CellPath, IdRange};
use prost::Message;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::DAEMON_LEAF;
use super::connection::{Connection, Reached};
use super::errors::AllocateError;
use super::handle::{CellSpec, Cells, CellsSettings, Nesting};
use super::limits;
use super::notes::{self, Standing, Traits};
use super::runner::{Daemon, End};
use crate::runtime::cgroup::Watched;
use crate::runtime::confine;
use crate::runtime::executables::WORKLOAD_OOM_SCORE;
use crate::runtime::reaper::{ExitReceiver, Reaper};
use crate::runtime::thread::on_thread;
use crate::zone::line::receive;
use crate::zone::protocol::{Config, Event, Report, VERSION};

/// A zone's daemon gets ready in a millisecond; one that takes longer than this is held up by its own
/// limits.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// A cell with a daemon, and nobody who owns it yet.
pub(super) struct Making {
    pub(super) cgroup: Cgroup,
    /// The same once more, for the task that owns the cell.
    pub(super) own_cgroup: Cgroup,
    pub(super) watched: Watched,
    pub(super) reached: Reached,
    pub(super) daemon: Daemon,
}

/// Makes the cell's cgroup and starts its daemon. On any error nothing is left.
pub(super) async fn start(cells: &Cells, spec: &CellSpec) -> Result<Making, AllocateError> {
    permit(cells, spec)?;
    let parent = &cells.shared.settings.cgroup;
    let mark = notes::Making::of(&spec.name);
    mark.note(parent)?;
    let made = make(cells, spec).await;
    mark.take_back(parent);
    made
}

/// Whether the zone around can have such a cell.
fn permit(cells: &Cells, spec: &CellSpec) -> Result<(), AllocateError> {
    let path = || cells.path_of(&spec.name);
    match cells.shared.settings.nesting {
        Nesting::None => Err(AllocateError::InUserNamespace(path())),
        Nesting::NoUsers if spec.traits.users.is_some() => Err(AllocateError::Covered(path())),
        Nesting::All | Nesting::NoUsers => Ok(()),
    }
}

async fn make(cells: &Cells, spec: &CellSpec) -> Result<Making, AllocateError> {
    let parent = &cells.shared.settings.cgroup;
    let path = cells.path_of(&spec.name);
    let cgroup = parent.create_child(spec.name.as_str()).map_err(|error| match error.errno {
        Errno::EXIST => AllocateError::Exists(path.clone()),
        _ => error.into(),
    })?;
    match populate(cells, &path, spec, &cgroup).await {
        Ok((own_cgroup, watched, reached, daemon)) => {
            Ok(Making { cgroup, own_cgroup, watched, reached, daemon })
        }
        Err(error) => {
            let error = explain(error, &path, &cgroup);
            if let Err(error) = cells.clear(&spec.name, &cgroup).await {
                tracing::error!(cell = %path, error = crate::reply::text(&error), "a cell that was not made left something behind");
            }
            Err(error)
        }
    }
}

type Populated = (Cgroup, Watched, Reached, Daemon);

async fn populate(
    cells: &Cells,
    path: &CellPath,
    spec: &CellSpec,
    cgroup: &Cgroup,
) -> Result<Populated, AllocateError> {
    let settings = &cells.shared.settings;
    spec.traits.note(cgroup)?;
    let own_cgroup = cgroup.try_clone()?;
    limits::apply(&spec.limits, cgroup, &settings.cgroup)?;
    if let Some(users) = spec.traits.users {
        // In its user namespace the zone's daemon may do neither.
        cgroup.delegate(users.first())?;
        confine::hold_usual(cgroup)
            .map_err(|source| AllocateError::Devices { cell: path.clone(), source })?;
    }
    let watched = Watched::new(cgroup)?;
    let (line, zone_line) = Line::pair()?;
    configure(&line, &config(settings, path, spec, cgroup))?;
    let (connection, zone_stream) = Connection::pair()
        .await
        .map_err(|error| io_failed("connect to a cell's daemon", &error))?;
    let line = readiness::register(line, Interest::READABLE)
        .map_err(|error| io_failed("poll a zone's line", &error))?;

    let Traits { isolate_process: process, isolate_network: network, users, .. } = spec.traits;
    let users = users.map(|users| IdMap { first: users.first(), count: users.count() });
    let birth = Birth {
        reaper: cells.shared.reaper.clone(),
        image: clone_fd(&settings.image)?,
        cgroup: cgroup.try_clone()?,
        line: zone_line,
        stream: zone_stream,
        namespaces: Namespaces { process, network, users },
        name: spec.name.clone(),
    };
    let ready = async {
        // The call blocks until the daemon was executed, for long where the cell's limits hold it up.
        let (child, exit) = on_thread(move || birth.give())
            .await
            .ok_or_else(|| not_ready(path, "its start panicked".into()))?
            .map_err(|error| error.of(path))?;
        let version = await_ready(path, &line).await?;
        if users.is_some() {
            // What it has in a user namespace it cannot set back for its workloads, which would keep the
            // right to it: there it is protected no more than they are.
            child
                .set_oom_score(WORKLOAD_OOM_SCORE)
                .map_err(|source| AllocateError::Spawn { cell: path.clone(), source })?;
        }
        Standing::Live.note(cgroup)?;
        Ok::<_, AllocateError>((exit, version))
    };
    let Ok(outcome) = tokio::time::timeout(READY_TIMEOUT, ready).await else {
        return Err(not_ready(path, format!("it took more than {} s", READY_TIMEOUT.as_secs())));
    };
    let (exit, version) = outcome?;
    let daemon = Daemon::new(line, End::Child(exit));
    Ok((own_cgroup, watched, Reached { connection, version }, daemon))
}

/// Tells the zone what it is to be, before it is there, and gives it what its programs are held to. One with users
/// of its own is held to that itself, and whoever has the policy could take it away.
fn configure(line: &Line, config: &Config) -> aurae_kernel::Result<()> {
    let bytes = config.encode_to_vec();
    let policy = match config.users() {
        Some(_) => None,
        // Where it cannot be loaded, the programs that need it say so.
        None => confine::usual().ok(),
    };
    match policy {
        Some(policy) => line.send_descriptor(&bytes, policy.as_fd()),
        None => line.send(&bytes, None),
    }
}

fn config(settings: &CellsSettings, path: &CellPath, spec: &CellSpec, cgroup: &Cgroup) -> Config {
    let path = if spec.name.is_of_node() { String::new() } else { path.to_string() };
    Config {
        version: VERSION,
        name: spec.name.to_string(),
        cgroup_path: cgroup.path().to_string_lossy().into_owned(),
        isolate_process: spec.traits.isolate_process,
        isolate_network: spec.traits.isolate_network,
        log_capacity: settings.log_capacity as u64,
        path,
        api_socket: spec.traits.api_socket,
        read_only_root: spec.traits.read_only_root,
        private_tmp: spec.traits.private_tmp,
        unmasked_paths: spec.traits.unmasked_paths,
        users_first: spec.traits.users.map_or(0, IdRange::first),
        users_count: spec.traits.users.map_or(0, IdRange::count),
    }
}

/// What the new daemon is made of, owned, so that it can be moved to a thread that may block.
struct Birth {
    reaper: Reaper,
    image: OwnedFd,
    cgroup: Cgroup,
    line: Line,
    stream: OwnedFd,
    namespaces: Namespaces,
    name: CellName,
}

/// Why no daemon was born.
enum Stillbirth {
    Kernel(aurae_kernel::Error),
    Spawn(SpawnError),
}

impl Stillbirth {
    fn of(self, cell: &CellPath) -> AllocateError {
        match self {
            Self::Kernel(error) => error.into(),
            Self::Spawn(source) => AllocateError::Spawn { cell: cell.clone(), source },
        }
    }
}

impl From<aurae_kernel::Error> for Stillbirth {
    fn from(error: aurae_kernel::Error) -> Self {
        Self::Kernel(error)
    }
}

impl Birth {
    /// Its descriptors are those that `aurae_kernel::zone` numbers: 3 the line, 4 the stream, 5 the
    /// cgroup. Its environment is empty: what it needs is in its configuration.
    ///
    /// It is born in its leaf, in the cgroup namespace that is rooted above, below controllers that are
    /// enabled: no process is moved, for which the kernel would wait (see `cgroup_namespace`). Where it has
    /// users of its own, the namespace has to be theirs, so it does all that itself (see `zone::setup`).
    fn give(self) -> Result<(Child, ExitReceiver), Stillbirth> {
        let cgroup_namespace = match self.namespaces {
            Namespaces { process: true, users: None, .. } => {
                Some(cgroup_namespace::rooted_at(self.cgroup.as_fd())?)
            }
            _ => None,
        };
        let leaf = match self.namespaces.users {
            Some(_) => None,
            None => {
                let leaf = self.cgroup.create_child(DAEMON_LEAF)?;
                self.cgroup.enable_controllers()?;
                Some(leaf)
            }
        };
        let null = rustix::fs::open(
            "/dev/null",
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .map_err(|errno| aurae_kernel::Error::new("open /dev/null", errno))?;
        let name = CString::new(self.name.as_str()).unwrap_or_default();
        let stderr = rustix::stdio::stderr();
        let spawn = Spawn {
            image: Image::Descriptor(self.image.as_fd()),
            arguments: &[c"auraed".into(), c"--nested".into(), name],
            environment: &[],
            cgroup: Some(leaf.as_ref().unwrap_or(&self.cgroup).as_fd()),
            namespaces: self.namespaces,
            cgroup_namespace: cgroup_namespace.as_ref().map(AsFd::as_fd),
            descriptors: &[
                null.as_fd(),
                stderr,
                stderr,
                self.line.as_fd(),
                self.stream.as_fd(),
                self.cgroup.as_fd(),
            ],
            terminal: false,
            directory: Some(c"/"),
            uid: None,
            gid: None,
            oom_score: None,
            open_files: None,
            confinement: Confinement::default(),
        };
        self.reaper.spawn(&spawn).map_err(Stillbirth::Spawn)
    }
}

/// Waits for the zone's first report, and answers the version of the protocol that it speaks.
async fn await_ready(path: &CellPath, line: &AsyncFd<Line>) -> Result<u32, AllocateError> {
    let Some(message) = receive(line).await? else {
        return Err(not_ready(path, "it ended before it was ready".into()));
    };
    match Report::decode(message.bytes.as_slice()).map(|report| report.event) {
        Ok(Some(Event::Ready(version))) => Ok(version),
        Ok(Some(Event::Failed(reason))) => Err(not_ready(path, reason)),
        _ => Err(not_ready(path, "it sent something else first".into())),
    }
}

/// A daemon that the OOM killer took tells nothing; its cgroup does.
fn explain(error: AllocateError, path: &CellPath, cgroup: &Cgroup) -> AllocateError {
    let events = cgroup.read("memory.events").ok().flatten().unwrap_or_default();
    if value(&events, "oom") > 0 { AllocateError::OutOfMemory(path.clone()) } else { error }
}

fn not_ready(path: &CellPath, reason: String) -> AllocateError {
    AllocateError::NotReady { cell: path.clone(), reason }
}

fn clone_fd(descriptor: &impl AsFd) -> aurae_kernel::Result<OwnedFd> {
    descriptor
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| aurae_kernel::Error::from_io("copy a descriptor", &error))
}

fn io_failed(operation: &str, error: &std::io::Error) -> AllocateError {
    aurae_kernel::Error::from_io(operation, error).into()
}
