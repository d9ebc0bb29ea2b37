//! What the bare system calls cost of what a cell's life is made of: nothing that does the same can be faster.
//!
//! ```text
//! a zone   cgroup, leaf, cgroup namespace, a static `true` in namespaces of its own; both removed
//! a life   the same with limits, and a static `true` in another leaf meanwhile
//! ```
//!
//! No mounts, no messages, no client, no restrictions: `true` stands where the zone's daemon would be.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use aurae_kernel::cgroup::{Cgroup, mount_point};
use aurae_kernel::cgroup_namespace;
use aurae_kernel::confine::Confinement;
use aurae_kernel::spawn::{Image, Namespaces, Spawn};
use rustix::process::{WaitOptions, waitpid};

use crate::peers::{CPU_PERIOD_US, CPU_QUOTA_US, MEMORY_MAX, PIDS_MAX, fresh};

/// The cgroup below which all this is done.
const BASE: &str = "aurae-bench";
const ZONE_LEAF: &str = "zone";
const PROGRAM_LEAF: &str = "program";

/// Removed again when it is dropped.
pub(crate) struct Floor {
    root: Cgroup,
    base: Cgroup,
    truth: CString,
    limits: bool,
}

impl Floor {
    /// With a static `true`, and `limits` where the machine has the controllers.
    pub(crate) fn new(truth: &Path, limits: bool) -> Result<Self> {
        let mount = mount_point()?.context("no cgroup v2 is mounted")?;
        let root = Cgroup::open(&mount, Path::new(""))?;
        let base = match root.open_child(BASE) {
            Ok(left_behind) => left_behind,
            Err(_) => root.create_child(BASE)?,
        };
        root.enable_controllers()?;
        base.enable_controllers()?;
        let truth = CString::new(truth.as_os_str().as_bytes()).context("no path")?;
        Ok(Self { root, base, truth, limits })
    }

    /// A zone that ends at once.
    pub(crate) fn zone(&self) -> Result<()> {
        let name = fresh("floor");
        let cell = self.base.create_child(&name)?;
        self.start_zone(&cell)?;
        self.remove(&cell, &name, &[ZONE_LEAF])
    }

    /// A cell's life.
    pub(crate) fn life(&self) -> Result<()> {
        let name = fresh("floor");
        let cell = self.base.create_child(&name)?;
        if self.limits {
            cell.write("memory.max", &MEMORY_MAX.to_string())?;
            cell.write("pids.max", &PIDS_MAX.to_string())?;
            cell.write("cpu.max", &format!("{CPU_QUOTA_US} {CPU_PERIOD_US}"))?;
        }
        self.start_zone(&cell)?;
        let leaf = cell.create_child(PROGRAM_LEAF)?;
        self.run(&self.spawn(&leaf))?;
        self.remove(&cell, &name, &[PROGRAM_LEAF, ZONE_LEAF])
    }

    fn start_zone(&self, cell: &Cgroup) -> Result<()> {
        let namespace = cgroup_namespace::rooted_at(cell.as_fd())?;
        let leaf = cell.create_child(ZONE_LEAF)?;
        cell.enable_controllers()?;
        let spawn = Spawn {
            namespaces: Namespaces { process: true, ..Namespaces::default() },
            cgroup_namespace: Some(namespace.as_fd()),
            ..self.spawn(&leaf)
        };
        self.run(&spawn)
    }

    fn spawn<'a>(&'a self, cgroup: &'a Cgroup) -> Spawn<'a> {
        Spawn {
            image: Image::Path(&self.truth),
            arguments: std::slice::from_ref(&self.truth),
            environment: &[],
            cgroup: Some(cgroup.as_fd()),
            namespaces: Namespaces::default(),
            cgroup_namespace: None,
            descriptors: &[],
            terminal: false,
            directory: None,
            uid: None,
            gid: None,
            oom_score: None,
            open_files: None,
            confinement: Confinement::default(),
        }
    }

    fn run(&self, spawn: &Spawn<'_>) -> Result<()> {
        let child = spawn.start()?;
        let ended = waitpid(Some(child.pid), WaitOptions::empty()).context("failed to wait")?;
        match ended.and_then(|(_, status)| status.exit_status()) {
            Some(0) => Ok(()),
            _ => bail!("`true` did not exit with 0"),
        }
    }

    fn remove(&self, cell: &Cgroup, name: &str, leaves: &[&str]) -> Result<()> {
        leaves.iter().try_for_each(|leaf| cell.remove_child(leaf))?;
        Ok(self.base.remove_child(name)?)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // What is left is empty, and found again.
        let _ = self.root.remove_child(BASE);
    }
}
