//! The daemon that owns a node, and the daemon inside every zone: one code, two entries.
//!
//! A request's way, and so the order in which to read: `server` → `share` → `gate` → `audit` → `admit` → `service` →
//! `runtime` → the `aurae-kernel` crate → `reply`.

#![forbid(unsafe_code)]

pub mod admit;
pub mod audit;
pub mod boot;
mod bundle;
mod cpu_time;
mod daemon;
pub mod gate;
mod instance;
pub mod logging;
pub mod policy;
mod private;
pub mod reply;
pub mod route;
pub mod runtime;
pub mod server;
pub mod service;
pub mod settings;
pub mod share;
pub mod shutdown;
pub mod status;
pub mod zone;

use std::ffi::OsString;
use std::process::ExitCode;

/// The entry of the node's daemon. `arguments[0]` is the program's name.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    daemon::main(arguments)
}

/// The daemon's version, as every interface reports it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
