//! How the boot says what it does: a line on the console, and a failed phase in the status.

use std::error::Error;
use std::io::Write;

use crate::reply::text;
use crate::status::Status;

/// Writes a line on the console. A console that is gone is no reason to stop.
pub(super) fn say(message: &str) {
    let _ = writeln!(std::io::stderr(), "auraed: {message}");
}

/// Records that a phase failed, and says so on the console. The boot goes on.
pub(super) fn degrade(status: &Status, phase: &'static str, message: &str) {
    // Before the log is set up, the status has no way to the console of its own.
    if !tracing::dispatcher::has_been_set() {
        say(&format!("{phase}: {message}"));
    }
    status.degrade(phase, message);
}

/// Like [`degrade`], for an error: its text and those of its sources.
pub(super) fn degrade_with(status: &Status, phase: &'static str, error: &dyn Error) {
    degrade(status, phase, &text(error));
}
