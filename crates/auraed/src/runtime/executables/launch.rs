//! From an [`Executable`] to a process: one run of it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::SystemTime;

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::spawn::{Child, Image, Namespaces, Spawn};
use aurae_model::Executable;
use rustix::process::{Gid, Uid};
use tokio::net::unix::pipe;

use super::handle::StartError;
use super::leaf::Leaf;
use super::program::Program;
use super::state::RunStart;
use crate::runtime::blocking;
use crate::runtime::freezer::{Freezer, Passage};
use crate::runtime::reaper::{ExitReceiver, Reaper};
use crate::zone::parent::Parent;

/// The soft limit of a workload's open files, as Linux has it: programs that use select(2) break with
/// more, and those that want more raise it to the hard limit themselves.
const WORKLOAD_OPEN_FILES: u64 = 1024;

/// The score of a workload, whatever the daemon's own is.
const WORKLOAD_OOM_SCORE: &std::ffi::CStr = c"0";

/// What every run in this zone is started with.
#[derive(Debug)]
pub(super) struct Launcher {
    /// The zone's cgroup, under which each run gets its leaf.
    pub(super) cgroup: Arc<Cgroup>,
    pub(super) reaper: Reaper,
    /// Whom a zone tells which process it started.
    pub(super) parent: Option<Parent>,
    pub(super) freezer: Freezer,
}

/// A program that was executed, and all that belongs to its process.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) start: RunStart,
    pub(super) leaf: Leaf,
    pub(super) pidfd: OwnedFd,
    pub(super) exit: ExitReceiver,
    pub(super) stdout: pipe::Receiver,
    pub(super) stderr: pipe::Receiver,
}

impl Launcher {
    /// Starts a run, and answers when the program was executed.
    ///
    /// # Errors
    /// As [`StartError`] says; nothing is left then.
    pub(super) fn launch(
        &self,
        executable: &Executable,
        _passage: Passage,
    ) -> Result<Run, StartError> {
        blocking(|| self.launch_here(executable))
    }

    fn launch_here(&self, executable: &Executable) -> Result<Run, StartError> {
        let program = Program::resolve(executable).map_err(|errno| StartError::Program {
            program: executable.program.arguments().swap_remove(0),
            errno,
        })?;
        let leaf = Leaf::create(&self.cgroup, &executable.name)?;
        let pipes = Pipes::open(executable)
            .map_err(|source| StartError::Pipes { name: executable.name.clone(), source })?;
        let (child, exit) = self.spawn(executable, &program, &leaf, &pipes)?;
        // Before anything is awaited: the numbers of a process that was reaped are nobody's.
        let start = RunStart {
            pid: child.pid.as_raw_nonzero().get(),
            numbers: self.parent.as_ref().map(|parent| parent.announce(child.pid)),
            started: SystemTime::now(),
        };
        let Pipes { stdout, stderr, .. } = pipes;
        Ok(Run { start, leaf, pidfd: child.pidfd, exit, stdout, stderr })
    }

    fn spawn(
        &self,
        executable: &Executable,
        program: &Program,
        leaf: &Leaf,
        pipes: &Pipes,
    ) -> Result<(Child, ExitReceiver), StartError> {
        let spawn = Spawn {
            image: Image::Path(&program.path),
            arguments: &program.arguments,
            environment: &program.environment,
            cgroup: Some(leaf.cgroup.as_fd()),
            namespaces: Namespaces::default(),
            descriptors: &[pipes.null.as_fd(), pipes.stdout_end.as_fd(), pipes.stderr_end.as_fd()],
            directory: Some(&program.directory),
            uid: executable.uid,
            gid: executable.gid,
            oom_score: Some(WORKLOAD_OOM_SCORE),
            open_files: Some(WORKLOAD_OPEN_FILES),
        };
        self.reaper.spawn(&spawn).map_err(|source| StartError::Spawn {
            name: executable.name.clone(),
            program: program.path.to_string_lossy().into_owned(),
            directory: executable.working_directory.clone(),
            source,
        })
    }
}

/// What an executable's first three descriptors are, and our ends of the last two.
struct Pipes {
    null: OwnedFd,
    stdout: pipe::Receiver,
    stdout_end: OwnedFd,
    stderr: pipe::Receiver,
    stderr_end: OwnedFd,
}

impl Pipes {
    /// The pipes belong to the executable's user, who may want to open `/dev/stdout` once more.
    fn open(executable: &Executable) -> std::io::Result<Self> {
        let null = OwnedFd::from(std::fs::File::open("/dev/null")?);
        let (stdout, stdout_end) = Self::pipe()?;
        let (stderr, stderr_end) = Self::pipe()?;
        let (uid, gid) = (executable.uid.map(Uid::from_raw), executable.gid.map(Gid::from_raw));
        if uid.is_some() || gid.is_some() {
            rustix::fs::fchown(&stdout_end, uid, gid)?;
            rustix::fs::fchown(&stderr_end, uid, gid)?;
        }
        Ok(Self { null, stdout, stdout_end, stderr, stderr_end })
    }

    fn pipe() -> std::io::Result<(pipe::Receiver, OwnedFd)> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        Ok((pipe::Receiver::from_owned_fd(reader)?, writer))
    }
}
