//! The daemon inside a zone.

use std::process::ExitCode;

/// The entry of a zone's daemon.
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
