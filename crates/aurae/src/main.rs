//! One static binary, many names: `auraed`, `init`, `aer` and `auraescript` by the name it is called
//! with; called as `aurae`, its first argument is the name.
//!
//! A zone's daemon (`auraed --nested`) is told apart before anything else happens: argument parsing,
//! TLS and telemetry would cost every zone memory and time that it has no use for.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// The names this binary answers to.
const NAMES: [&str; 4] = ["auraed", "init", "aer", "auraescript"];

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|first| first == "--nested") {
        return auraed::zone::main();
    }
    let mut name = program_name(&arguments);
    if !NAMES.contains(&name.as_str()) {
        // Called as `aurae`, or by a name of somebody's own: the first argument is the name.
        if !arguments.is_empty() {
            arguments.remove(0);
        }
        name = program_name(&arguments);
    }
    match name.as_str() {
        "auraed" | "init" => auraed::main(arguments),
        "aer" => aer::main(arguments),
        "auraescript" => auraescript::main(arguments),
        _ => usage(&name),
    }
}

/// The last part of the first argument's path.
fn program_name(arguments: &[OsString]) -> String {
    arguments
        .first()
        .and_then(|argument| Path::new(argument).file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn usage(name: &str) -> ExitCode {
    let names = NAMES.join("|");
    match name {
        "-h" | "--help" | "help" => {
            println!(
                "Usage: aurae {{{names}}} [ARGUMENTS]\n\nEach name can also be a link to this file.\nTry `aurae NAME --help`."
            );
            ExitCode::SUCCESS
        }
        "-V" | "--version" => {
            println!("aurae {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        "" => {
            eprintln!("error: no name given\n\nUsage: aurae {{{names}}} [ARGUMENTS]");
            ExitCode::from(2)
        }
        other => {
            eprintln!(
                "error: `{other}` is none of the names of this binary\n\nUsage: aurae {{{names}}} [ARGUMENTS]"
            );
            ExitCode::from(2)
        }
    }
}
