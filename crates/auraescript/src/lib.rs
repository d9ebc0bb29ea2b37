//! Placeholder until the first slice lands.

use std::ffi::OsString;
use std::process::ExitCode;

/// The entry. `arguments[0]` is the program's name.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let _ = arguments;
    ExitCode::FAILURE
}
