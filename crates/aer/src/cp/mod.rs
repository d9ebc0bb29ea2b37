//! `aer cp`: files and trees into a zone, and out of one.
//!
//! ```text
//! SRC…     CELL:/DST    into_zone: files here ── CopyIn ──▶ files there
//! CELL:/SRC…     DST    out_of_zone: files there ── CopyOut ──▶ files here
//! ```
//! The names are those of `cp -a`: into DST where that is a directory, else as DST. A file is there when
//! it is whole, whatever ends the command.

mod into_zone;
mod out_of_zone;
mod place;
mod progress;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use aurae_client::Client;
use aurae_copy::{CopyError, Ownership};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::failure::Failure;
use crate::interrupts::{self, Interrupts, SIGNAL_EXIT_BASE};
use crate::output;
use crate::settings::{Output, Settings};
use place::Plan;
use progress::Progress;

pub(crate) const NAME: &str = "cp";

const ARCHIVE: &str = "archive";
const PATHS: &str = "paths";

pub(crate) fn command() -> Command {
    Command::new(NAME)
        .about("Copies files and directories into a cell, or out of one")
        .override_usage("aer cp [OPTIONS] SRC... CELL:/DST\n       aer cp [OPTIONS] CELL:/SRC... DST")
        .long_about(
            "Copies files and directories into a cell, or out of one.\n\nDirectories are copied with all that is in them, links as links; permissions and times are kept. Into DST where that is a directory, else as DST, whose directory must exist. What is there is replaced, a directory added to; what is of another kind is an error. A cell may be a path, `web/api:/srv`; without a name, `:/srv`, the node (or what --zone names) is meant. A file here whose name has a colon is written with `./` before it.",
        )
        .after_help("Examples: aer cp ./site web:/srv/    aer cp web/api:/etc/hosts .")
        .arg(
            Arg::new(ARCHIVE)
                .short('a')
                .long(ARCHIVE)
                .action(ArgAction::SetTrue)
                .help("Keeps owners, and with them set-user-ID and set-group-ID bits; else all belongs to who writes"),
        )
        .arg(
            Arg::new(PATHS)
                .required(true)
                .num_args(2..)
                .value_name("PATH")
                .value_parser(value_parser!(OsString))
                .help("What to copy, and where to as the last"),
        )
}

/// What every copy of a command has.
struct Copy {
    client: Client,
    ownership: Ownership,
    progress: Progress,
    stops: Stops,
}

pub(crate) async fn execute(
    matches: &ArgMatches,
    settings: &Settings,
) -> Result<ExitCode, Failure> {
    let paths = matches.get_many::<OsString>(PATHS).unwrap_or_default();
    let plan = Plan::of(&paths.collect::<Vec<_>>())?;
    let (node, _) = settings.single_target(NAME)?;
    let plan = plan.seen_from(node.zone.as_ref())?;
    let archive = matches.get_flag(ARCHIVE);
    let mut copy = Copy {
        client: Client::connect(&node).await?,
        ownership: if archive { Ownership::Preserved } else { Ownership::Own },
        progress: Progress::new(),
        stops: Stops::new(settings.timeout)?,
    };
    let copied = match &plan {
        Plan::IntoZone { sources, target } => copy.all_into_zone(sources, target).await,
        Plan::OutOfZone { sources, target } => copy.all_out_of_zone(sources, target).await,
    };
    copy.progress.clear();
    copied?;
    if settings.output == Output::Json {
        let copied = copy.progress.copied();
        let said = serde_json::json!({ "entries": copied.entries, "bytes": copied.bytes });
        output::print(&format!("{said}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What ends a copy before it is whole.
struct Stops {
    interrupts: Interrupts,
    deadline: Option<Instant>,
}

impl Stops {
    fn new(timeout: Option<Duration>) -> Result<Self, Failure> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Ok(Self { interrupts: Interrupts::new()?, deadline })
    }

    /// A signal, or the end of the time.
    async fn next(&mut self) -> Failure {
        tokio::select! {
            signal = self.interrupts.next() => {
                let code = u8::try_from(SIGNAL_EXIT_BASE.saturating_add(signal));
                Failure::silent(code.unwrap_or(u8::MAX))
            }
            () = interrupts::reached(self.deadline) => {
                Failure::from_status(&Status::deadline_exceeded("the time for the copy is over"))
            }
        }
    }
}

/// What the zone said. The usual hints are about cells, and these are files.
fn refused(client: &Client, status: Status, what: &str) -> Failure {
    let failure = Failure::from_status(&client.explain(status)).during(what);
    match failure.status {
        Some(Code::NotFound | Code::AlreadyExists | Code::PermissionDenied) => {
            failure.without_hint()
        }
        _ => failure,
    }
}

/// What went wrong here.
fn failed(error: &CopyError, what: &str) -> Failure {
    Failure::new(aurae_client::report(error)).during(what)
}
