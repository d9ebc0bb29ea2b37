//! `auraescript` alone, for this crate's tests. What ships is the multi-call binary `aurae`.

use std::process::ExitCode;

fn main() -> ExitCode {
    auraescript::main(std::env::args_os().collect())
}
