//! What the daemon owns while it runs: each part has one owner that moves its state.

pub mod base;
pub mod cells;
pub mod cgroup;
pub mod executables;
pub mod freezer;
pub mod logs;
pub mod node;
pub mod output;
pub mod reaper;

use std::time::Duration;

/// What processes have between SIGTERM and SIGKILL unless the request says otherwise.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);
