//! `aer` alone, without the rest of the multi-call binary: what the tests of the command line run.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    aer::main(std::env::args_os().collect())
}
