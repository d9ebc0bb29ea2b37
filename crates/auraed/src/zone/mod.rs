//! The daemon inside a zone.

pub mod protocol;

use std::process::ExitCode;

/// The entry of a zone's daemon.
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
