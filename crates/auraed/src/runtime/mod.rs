//! What the daemon owns while it runs: each part has one owner that moves its state.

pub mod base;
pub mod cells;
pub mod cgroup;
pub mod changes;
pub mod commands;
pub mod confine;
pub mod copies;
pub mod executables;
pub mod freezer;
pub mod logs;
pub mod node;
pub mod output;
pub mod reaper;
pub mod stdio;
pub mod thread;
pub mod upgrade;

use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};

/// What processes have between SIGTERM and SIGKILL unless the request says otherwise.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// The time since the machine was started, for which all its processes have one clock
/// (clock_gettime(2), `CLOCK_BOOTTIME`).
#[must_use]
pub fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

/// Does what may block for long: where a path leads to a file system that hangs, for example. A node
/// has threads to make up for it; in a zone only the zone waits.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}
