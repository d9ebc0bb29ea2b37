//! The leaf cgroup of one run of an executable, or of a command.

use std::sync::Arc;

use aurae_kernel::cgroup::{Cgroup, value};
use rustix::process::Signal;

use crate::runtime::cgroup::{Watched, signal_all};

/// The leaf cgroup of one run of an executable, or of a command; removed when dropped, by when it is empty.
#[derive(Debug)]
pub(in crate::runtime) struct Leaf {
    parent: Arc<Cgroup>,
    name: String,
    pub(in crate::runtime) cgroup: Cgroup,
    pub(in crate::runtime) watched: Watched,
}

impl Leaf {
    pub(in crate::runtime) fn create(
        parent: &Arc<Cgroup>,
        name: String,
    ) -> aurae_kernel::Result<Self> {
        let cgroup = parent.create_child(&name)?;
        let remove = |error| {
            drop(parent.remove_child(&name));
            error
        };
        // The whole tree goes when the OOM killer takes one of it, if the cell asks for that.
        let group = parent.read("memory.oom.group").map_err(remove)?;
        if group.is_some_and(|value| value.trim() == "1") {
            cgroup.write("memory.oom.group", "1").map_err(remove)?;
        }
        let watched = Watched::new(&cgroup).map_err(remove)?;
        Ok(Self { parent: Arc::clone(parent), name, cgroup, watched })
    }

    /// Whether the OOM killer ended a process in it.
    pub(in crate::runtime) fn oom_killed(&self) -> bool {
        let events = self.cgroup.read("memory.events").ok().flatten().unwrap_or_default();
        value(&events, "oom_kill") > 0
    }

    /// Asks every process to end with a signal, and sends SIGCONT, so that a stopped one can take it.
    pub(super) fn terminate(&self, signal: Signal) -> aurae_kernel::Result<()> {
        self.signal(signal)?;
        self.signal(Signal::CONT)
    }

    /// Sends a signal to every process.
    pub(super) fn signal(&self, signal: Signal) -> aurae_kernel::Result<()> {
        signal_all(&self.cgroup, signal)
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        if let Err(error) = self.parent.remove_child(&self.name) {
            tracing::warn!(error = %crate::reply::text(&error), "a leaf cgroup was left behind");
        }
    }
}
