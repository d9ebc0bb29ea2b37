//! `aer run`: a command in a cell of its own, as if it ran here.
//!
//! ```text
//! allocate ─ start ─┬─ follow both outputs ─┬─ free ─ exit as the command did
//!                   └─ wait for its end ────┘
//!            Ctrl-C: stop, then free; once more: free at once
//! ```
//! Once the cell was allocated, every way out frees it.

mod plan;
mod session;

use std::collections::BTreeSet;
use std::process::ExitCode;

use aurae_client::Client;
use clap::{Arg, ArgMatches, Command};

use crate::api::Api;
use crate::derive;
use crate::failure::Failure;
use crate::settings::{self, Settings};
use plan::Plan;
use session::Session;

pub(crate) const NAME: &str = "run";

const CELL: &str = "/cell";
const COMMAND: &str = "/command";

/// What `aer run` exits with when the time was over, as `timeout` does.
const TIMED_OUT: u8 = 124;

/// What `aer run` exits with when it failed itself, the command could not be executed, or was not
/// found; the numbers that `env` and container engines use.
const FAILED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

pub(crate) fn command(api: &Api, in_full: bool) -> Command {
    let command = Command::new(NAME)
        .about("Runs a command in a new cell, shows its output, and frees the cell");
    if !in_full {
        return command;
    }
    command
        .long_about(
            "Runs a command in a new cell, shows its output, and frees the cell.\n\nExits as the command did, with 128 + N if signal N ended it; with 125 if aer itself failed, 126 if the command cannot be executed, 127 if there is no such command. Ctrl-C stops the command and frees the cell (exit code 130); once more does so at once. --timeout bounds the run of the command (exit code 124).",
        )
        .after_help("Example: aer run --memory-max 64MiB --cpu-max 50ms web -- sh -c 'echo hello'")
        .arg(Arg::new(CELL).required(true).value_name("CELL").help("The name of the new cell"))
        .args(limits(api))
        .arg(
            Arg::new(COMMAND)
                .required(true)
                .last(true)
                .num_args(1..)
                .value_name("COMMAND")
                .help("The program and its arguments; there is no shell unless it is one"),
        )
}

/// The flags of `cell allocate` and `cell start`, by their short names.
fn limits(api: &Api) -> Vec<Arg> {
    let Ok(rpcs) = plan::Rpcs::of(api) else { return Vec::new() };
    let mut taken: BTreeSet<String> = settings::taken();
    let mut arguments = Vec::new();
    for fields in [plan::cell_fields(&rpcs), plan::executable_fields(&rpcs)] {
        let fields: Vec<_> = fields.into_iter().map(|field| field.shortened(&taken)).collect();
        arguments.extend(derive::positional_and_flag_arguments(&fields, &taken));
        taken.extend(fields.into_iter().map(|field| field.long));
    }
    arguments
}

pub(crate) async fn execute(
    api: &Api,
    matches: &ArgMatches,
    settings: &Settings,
) -> Result<ExitCode, Failure> {
    let plan = Plan::from_matches(api, matches)?;
    let (node, _) = settings.single_target(NAME)?;
    let failed = |failure: Failure| failure.exiting(FAILED);
    let client = Client::connect(&node).await.map_err(|error| failed(error.into()))?;
    Session::new(client, plan, settings.timeout).run().await
}
