//! From an [`Executable`] to a process: one run of it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::SystemTime;

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::spawn::{Child, Image, Namespaces, Spawn};
use aurae_model::Executable;

use super::LEAF_PREFIX;
use super::attach::Attachable;
use super::handle::StartError;
use super::leaf::Leaf;
use super::program::Program;
use super::state::RunStart;
use crate::runtime::blocking;
use crate::runtime::changes::Changes;
use crate::runtime::confine::{DeviceKeeper, Restraint};
use crate::runtime::freezer::{Freezer, Passage};
use crate::runtime::reaper::{ExitReceiver, Reaper};
use crate::runtime::stdio::{ProcessEnds, Stdio, Wanted};
use crate::zone::parent::Parent;

/// The soft limit of a workload's open files, as Linux has it: programs that use select(2) break with
/// more, and those that want more raise it to the hard limit themselves.
pub(in crate::runtime) const WORKLOAD_OPEN_FILES: u64 = 1024;

/// The score of a workload, whatever the daemon's own is.
pub(in crate::runtime) const WORKLOAD_OOM_SCORE: &std::ffi::CStr = c"0";

/// What every run in this zone is started with.
#[derive(Debug)]
pub(super) struct Launcher {
    /// The zone's cgroup, under which each run gets its leaf.
    pub(super) cgroup: Arc<Cgroup>,
    pub(super) reaper: Reaper,
    /// Whom a zone tells which process it started.
    pub(super) parent: Option<Parent>,
    pub(super) freezer: Freezer,
    /// Where starts and ends are told.
    pub(super) changes: Changes,
    /// Who restricts their devices.
    pub(super) devices: DeviceKeeper,
}

/// A program that was executed, and all that belongs to its process.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) start: RunStart,
    pub(super) leaf: Leaf,
    pub(super) pidfd: OwnedFd,
    pub(super) exit: ExitReceiver,
    pub(super) stdio: Stdio,
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
        let confine = |source| StartError::Confine { name: executable.name.clone(), source };
        let restraint = Restraint::prepare(&executable.security, self.devices).map_err(confine)?;
        let leaf = Leaf::create(&self.cgroup, format!("{LEAF_PREFIX}{}", executable.name))?;
        restraint.hold(&leaf.cgroup).map_err(confine)?;
        let (stdio, ends) = Stdio::open(wanted(executable))
            .map_err(|source| StartError::Stdio { name: executable.name.clone(), source })?;
        let (child, exit) = self.spawn(executable, &program, &leaf, &restraint, &ends)?;
        drop(ends);
        let controls = stdio.controls(self.reaper.clone(), child.pid);
        // Before anything is awaited: the numbers of a process that was reaped are nobody's.
        let start = RunStart {
            pid: child.pid.as_raw_nonzero().get(),
            numbers: self.parent.as_ref().map(|parent| parent.announce(child.pid)),
            started: SystemTime::now(),
            attachable: controls.has_input().then(|| Arc::new(Attachable::new(controls))),
            held: restraint.facts(),
        };
        Ok(Run { start, leaf, pidfd: child.pidfd, exit, stdio })
    }

    fn spawn(
        &self,
        executable: &Executable,
        program: &Program,
        leaf: &Leaf,
        restraint: &Restraint<'_>,
        ends: &ProcessEnds,
    ) -> Result<(Child, ExitReceiver), StartError> {
        let spawn = Spawn {
            image: Image::Path(&program.path),
            arguments: &program.arguments,
            environment: &program.environment,
            cgroup: Some(leaf.cgroup.as_fd()),
            namespaces: Namespaces::default(),
            cgroup_namespace: None,
            descriptors: &ends.descriptors(),
            terminal: executable.terminal.is_some(),
            directory: Some(&program.directory),
            uid: executable.uid,
            gid: executable.gid,
            oom_score: Some(WORKLOAD_OOM_SCORE),
            open_files: Some(WORKLOAD_OPEN_FILES),
            confinement: restraint.confinement(),
        };
        self.reaper.spawn(&spawn).map_err(|source| StartError::Spawn {
            name: executable.name.clone(),
            program: program.path.to_string_lossy().into_owned(),
            directory: executable.working_directory.clone(),
            source,
        })
    }
}

fn wanted(executable: &Executable) -> Wanted {
    let Executable { stdin, terminal, uid, gid, .. } = executable;
    Wanted { stdin: *stdin, terminal: *terminal, uid: *uid, gid: *gid }
}
