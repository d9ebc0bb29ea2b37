//! From a specification to a cell whose daemon is ready, or to nothing.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aurae_kernel::cgroup::{Cgroup, value};
use aurae_kernel::readiness;
use aurae_kernel::seqpacket::Line;
use aurae_kernel::spawn::{Child, Image, Namespaces, Spawn, SpawnError};
use aurae_model::CellName;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use super::handle::{AllocateError, CellSpec, Shared};
use super::limits;
use crate::runtime::cgroup::Watched;
use crate::runtime::reaper::{ExitReceiver, Reaper};
use crate::zone::protocol::{Config, Event, Report, VERSION};

/// A zone's daemon gets ready in a millisecond; one that takes longer than this is held up by its own
/// limits.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// How much of one stream a zone may send ahead of its reader. A slow reader of logs holds up this
/// much, and its own stream only.
const STREAM_WINDOW: u32 = 64 * 1024;

/// A cell with a daemon that is ready, and nobody who owns it yet.
pub(super) struct Making {
    pub(super) cgroup: Cgroup,
    /// The same once more, for the task that owns the cell.
    pub(super) own_cgroup: Cgroup,
    pub(super) watched: Watched,
    pub(super) line: AsyncFd<Line>,
    pub(super) channel: Channel,
    pub(super) pid: i32,
    pub(super) exit: ExitReceiver,
}

/// Makes the cell's cgroup and starts its daemon. On any error nothing is left.
pub(super) async fn start(
    shared: &Shared,
    name: &CellName,
    spec: &CellSpec,
) -> Result<Making, AllocateError> {
    let parent = &shared.settings.cgroup;
    let cgroup = parent.create_child(name.as_str()).map_err(|error| match error.errno {
        aurae_kernel::Errno::EXIST => AllocateError::Exists(name.clone()),
        _ => error.into(),
    })?;
    match populate(shared, name, spec, &cgroup).await {
        Ok((own_cgroup, watched, line, channel, pid, exit)) => {
            Ok(Making { cgroup, own_cgroup, watched, line, channel, pid, exit })
        }
        Err(error) => {
            let error = explain(error, name, &cgroup);
            undo(shared, name, &cgroup).await;
            Err(error)
        }
    }
}

type Populated = (Cgroup, Watched, AsyncFd<Line>, Channel, i32, ExitReceiver);

async fn populate(
    shared: &Shared,
    name: &CellName,
    spec: &CellSpec,
    cgroup: &Cgroup,
) -> Result<Populated, AllocateError> {
    let own_cgroup = cgroup.try_clone()?;
    limits::apply(&spec.limits, cgroup, &shared.settings.cgroup)?;
    let watched = Watched::new(cgroup)?;
    let (line, zone_line) = Line::pair()?;
    let (stream, zone_stream) = std::os::unix::net::UnixStream::pair()
        .map_err(|error| io_failed("make a socket pair", &error))?;
    line.send(&config(shared, name, spec, cgroup).encode_to_vec(), None)?;
    let channel =
        connect(stream).map_err(|error| io_failed("connect to a cell's daemon", &error))?;
    let line = readiness::register(line, Interest::READABLE)
        .map_err(|error| io_failed("poll a zone's line", &error))?;

    let birth = Birth {
        reaper: shared.reaper.clone(),
        image: clone_fd(&shared.settings.image)?,
        cgroup: clone_fd(cgroup)?,
        line: zone_line,
        stream: zone_stream.into(),
        namespaces: Namespaces { process: spec.isolate_process, network: spec.isolate_network },
        name: name.clone(),
    };
    let ready = async {
        // The call blocks until the daemon was executed, for long where the cell's limits hold it up.
        let (child, exit) = tokio::task::spawn_blocking(move || birth.give())
            .await
            .map_err(|panic| not_ready(name, panic.to_string()))?
            .map_err(|source| AllocateError::Spawn { cell: name.clone(), source })?;
        await_ready(name, &line).await?;
        Ok::<_, AllocateError>((child.pid.as_raw_nonzero().get(), exit))
    };
    let Ok(outcome) = tokio::time::timeout(READY_TIMEOUT, ready).await else {
        return Err(not_ready(name, format!("it took more than {} s", READY_TIMEOUT.as_secs())));
    };
    let (pid, exit) = outcome?;
    Ok((own_cgroup, watched, line, channel, pid, exit))
}

fn config(shared: &Shared, name: &CellName, spec: &CellSpec, cgroup: &Cgroup) -> Config {
    Config {
        version: VERSION,
        name: name.to_string(),
        cgroup_path: cgroup.path().to_string_lossy().into_owned(),
        isolate_process: spec.isolate_process,
        isolate_network: spec.isolate_network,
        log_capacity: shared.settings.log_capacity as u64,
    }
}

/// What the new daemon is made of, owned, so that it can be moved to a thread that may block.
struct Birth {
    reaper: Reaper,
    image: OwnedFd,
    cgroup: OwnedFd,
    line: Line,
    stream: OwnedFd,
    namespaces: Namespaces,
    name: CellName,
}

impl Birth {
    /// Its descriptors are those that `aurae_kernel::zone` numbers: 3 the line, 4 the stream, 5 the
    /// cgroup. Its environment is empty: what it needs is in its configuration.
    fn give(self) -> Result<(Child, ExitReceiver), SpawnError> {
        let null = rustix::fs::open(
            "/dev/null",
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .map_err(|errno| SpawnError { step: aurae_kernel::spawn::Step::Prepare, errno })?;
        let name = CString::new(self.name.as_str()).unwrap_or_default();
        let stderr = rustix::stdio::stderr();
        let spawn = Spawn {
            image: Image::Descriptor(self.image.as_fd()),
            arguments: &[c"auraed".into(), c"--nested".into(), name],
            environment: &[],
            cgroup: Some(self.cgroup.as_fd()),
            namespaces: self.namespaces,
            descriptors: &[
                null.as_fd(),
                stderr,
                stderr,
                self.line.as_fd(),
                self.stream.as_fd(),
                self.cgroup.as_fd(),
            ],
            directory: Some(c"/"),
            uid: None,
            gid: None,
            oom_score: None,
            open_files: None,
        };
        self.reaper.spawn(&spawn)
    }
}

/// Waits for the zone's first report.
async fn await_ready(name: &CellName, line: &AsyncFd<Line>) -> Result<(), AllocateError> {
    loop {
        let mut guard =
            line.readable().await.map_err(|error| io_failed("poll a zone's line", &error))?;
        let message = match line.get_ref().receive() {
            Err(error) if error.errno == aurae_kernel::Errno::AGAIN => {
                guard.clear_ready();
                continue;
            }
            message => message?,
        };
        let Some(message) = message else {
            return Err(not_ready(name, "it ended before it was ready".into()));
        };
        return match Report::decode(message.bytes.as_slice()).map(|report| report.event) {
            Ok(Some(Event::Ready(_))) => Ok(()),
            Ok(Some(Event::Failed(reason))) => Err(not_ready(name, reason)),
            _ => Err(not_ready(name, "it sent something else first".into())),
        };
    }
}

/// The one connection to a zone's daemon is made before the daemon is: a pair of sockets, no path
/// that anybody else could open. Once it is lost, the daemon is.
fn connect(stream: std::os::unix::net::UnixStream) -> std::io::Result<Channel> {
    stream.set_nonblocking(true)?;
    let stream = Arc::new(Mutex::new(Some(UnixStream::from_std(stream)?)));
    let connector = tower::service_fn(move |_| {
        let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        let gone =
            || std::io::Error::new(std::io::ErrorKind::NotConnected, "the cell's daemon is gone");
        std::future::ready(stream.map(TokioIo::new).ok_or_else(gone))
    });
    // The connection's window is all there is, so that streams whose readers are slow cannot use it
    // up for the others; each is bounded by its own.
    let endpoint = Endpoint::from_static("http://zone")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(i32::MAX.unsigned_abs());
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// A daemon that the OOM killer took tells nothing; its cgroup does.
fn explain(error: AllocateError, name: &CellName, cgroup: &Cgroup) -> AllocateError {
    let events = cgroup.read("memory.events").ok().flatten().unwrap_or_default();
    if value(&events, "oom") > 0 { AllocateError::OutOfMemory(name.clone()) } else { error }
}

async fn undo(shared: &Shared, name: &CellName, cgroup: &Cgroup) {
    let outcome = async {
        Watched::new(cgroup)?.kill(cgroup).await?;
        shared.reaper.reap();
        shared.settings.cgroup.remove_child(name.as_str())
    };
    if let Err(error) = outcome.await {
        tracing::error!(cell = %name, error = crate::reply::text(&error), "a cell that was not made left something behind");
    }
}

fn not_ready(name: &CellName, reason: String) -> AllocateError {
    AllocateError::NotReady { cell: name.clone(), reason }
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
