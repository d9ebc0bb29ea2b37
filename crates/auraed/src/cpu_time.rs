//! The daemon's own CPU time since it began: a machine's init has had some before, which is the kernel's
//! for its boot.

use std::sync::OnceLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

static BEGINNING: OnceLock<Duration> = OnceLock::new();

/// The daemon begins. Only the first call counts.
pub(crate) fn begin() {
    BEGINNING.get_or_init(now);
}

/// What it has spent since, over all threads, in milliseconds.
pub(crate) fn spent_ms() -> u64 {
    let spent = now().saturating_sub(*BEGINNING.get_or_init(now));
    u64::try_from(spent.as_millis()).unwrap_or(u64::MAX)
}

fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}
