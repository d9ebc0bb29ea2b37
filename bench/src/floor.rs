//! What the bare system calls cost of what a cell's life is made of: nothing that does the same can be faster.
//!
//! ```text
//! a zone   cgroup, leaf, cgroup namespace, a static `true` executed in namespaces of its own
//! a life   the same with limits until it has ended, then a static `true` in another leaf; all removed
//! ```
//!
//! No mounts, no messages, no client, no restrictions: `true` stands where the zone's daemon would be.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use aurae_kernel::cgroup::{Cgroup, mount_point};
use aurae_kernel::cgroup_namespace;
use aurae_kernel::spawn::{Child, Image, Namespaces, Spawn};
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
        let truth = CString::new(truth.as_os_str().as_bytes()).context("no path")?;
        let base = match root.open_child(BASE) {
            Ok(left_behind) => left_behind,
            Err(_) => root.create_child(BASE)?,
        };
        let floor = Self { root, base, truth, limits };
        floor.root.enable_controllers()?;
        floor.base.enable_controllers()?;
        Ok(floor)
    }

    /// How long it takes until a zone's first program was executed, in seconds.
    pub(crate) fn zone(&self) -> Result<f64> {
        let name = fresh("floor");
        let start = Instant::now();
        let cell = self.base.create_child(&name)?;
        let child = self.start_zone(&cell)?;
        let time = start.elapsed().as_secs_f64();
        wait(&child)?;
        self.remove(&cell, &name, &[ZONE_LEAF])?;
        Ok(time)
    }

    /// How long a cell's life takes, in seconds.
    pub(crate) fn life(&self) -> Result<f64> {
        let name = fresh("floor");
        let start = Instant::now();
        let cell = self.base.create_child(&name)?;
        if self.limits {
            cell.write("memory.max", &MEMORY_MAX.to_string())?;
            cell.write("pids.max", &PIDS_MAX.to_string())?;
            cell.write("cpu.max", &format!("{CPU_QUOTA_US} {CPU_PERIOD_US}"))?;
        }
        wait(&self.start_zone(&cell)?)?;
        let leaf = cell.create_child(PROGRAM_LEAF)?;
        wait(&self.spawn(&leaf).start()?)?;
        self.remove(&cell, &name, &[PROGRAM_LEAF, ZONE_LEAF])?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn start_zone(&self, cell: &Cgroup) -> Result<Child> {
        let namespace = cgroup_namespace::rooted_at(cell.as_fd())?;
        let leaf = cell.create_child(ZONE_LEAF)?;
        cell.enable_controllers()?;
        let spawn = Spawn {
            namespaces: Namespaces { process: true, ..Namespaces::default() },
            cgroup_namespace: Some(namespace.as_fd()),
            ..self.spawn(&leaf)
        };
        Ok(spawn.start()?)
    }

    fn spawn<'a>(&'a self, cgroup: &'a Cgroup) -> Spawn<'a> {
        let arguments = std::slice::from_ref(&self.truth);
        Spawn { cgroup: Some(cgroup.as_fd()), ..Spawn::new(Image::Path(&self.truth), arguments) }
    }

    fn remove(&self, cell: &Cgroup, name: &str, leaves: &[&str]) -> Result<()> {
        leaves.iter().try_for_each(|leaf| cell.remove_child(leaf))?;
        Ok(self.base.remove_child(name)?)
    }
}

fn wait(child: &Child) -> Result<()> {
    let ended = waitpid(Some(child.pid), WaitOptions::empty()).context("failed to wait")?;
    match ended.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        _ => bail!("`true` did not exit with 0"),
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // What is left is empty, and found again.
        let _ = self.root.remove_child(BASE);
    }
}
