//! The command line: arguments → settings → commands.
//!
//! The commands of the API are derived from its descriptors at run time: a new field of a request
//! is a new flag, a new RPC a new command, with no line here. `run`, `exec`, `attach`, `logs`, `cp` and
//! `pki` are made by hand.

#![forbid(unsafe_code)]

mod api;
mod attach;
mod call;
mod commands;
mod cp;
mod derive;
mod descriptors;
mod exec;
mod failure;
mod interrupts;
mod logs;
mod manual;
mod output;
mod pki;
mod policy;
mod render;
mod run;
mod session;
mod settings;
mod units;
mod upgrade;

use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::process::ExitCode;

use clap::ArgMatches;
use clap::error::ErrorKind;

use crate::api::Api;
use crate::commands::Extent;
use crate::failure::{Failure, USAGE};
use crate::settings::Settings;

/// Runs the command line. `arguments[0]` is the program's name.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    match execute(&arguments) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn execute(arguments: &[OsString]) -> Result<ExitCode, Failure> {
    let extent = Extent::of(arguments);
    // It is there until the end, which takes it apart faster.
    let api = ManuallyDrop::new(Api::load_bare(|group| extent.needs(group))?);
    let matches = match commands::root(&api, &extent).try_get_matches_from(arguments) {
        Ok(matches) => return dispatch(&api, &matches),
        Err(error) if error.kind() == ErrorKind::DisplayVersion => Err(error),
        // Help lists all commands, and so do errors.
        Err(_) => {
            let extent = extent.with_all_names();
            match commands::root(&api, &extent).try_get_matches_from(arguments) {
                Err(error) if is_help(&error) => return help(arguments, &extent),
                matches => matches,
            }
        }
    };
    match matches {
        Ok(matches) => dispatch(&api, &matches),
        Err(error) => {
            error.print()?;
            Ok(ExitCode::from(error_code(&error)))
        }
    }
}

fn is_help(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

/// Prints the help that these arguments ask for; only now are the API's comments read.
fn help(arguments: &[OsString], extent: &Extent) -> Result<ExitCode, Failure> {
    let tree = commands::root(&Api::load()?, extent);
    match tree.try_get_matches_from(arguments) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            error.print()?;
            Ok(ExitCode::from(error_code(&error)))
        }
    }
}

/// Help and the version were asked for; everything else is a wrong command line.
fn error_code(error: &clap::Error) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
        _ => USAGE,
    }
}

fn dispatch(api: &Api, matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let Some((name, matches)) = matches.subcommand() else {
        return Err(Failure::usage("no command given").hint("`aer --help` lists them"));
    };
    match name {
        pki::NAME => pki::execute(matches, &Settings::from_matches(matches)),
        manual::COMPLETIONS => manual::completions(matches),
        manual::MAN => manual::man(matches),
        run::NAME => on_runtime(run::execute(api, matches, &Settings::from_matches(matches))),
        cp::NAME => on_runtime(cp::execute(matches, &Settings::from_matches(matches))),
        exec::NAME => on_runtime(exec::execute(api, matches, &Settings::from_matches(matches))),
        attach::NAME => on_runtime(attach::execute(matches, &Settings::from_matches(matches))),
        logs::NAME => on_runtime(logs::execute(api, matches, &Settings::from_matches(matches))),
        group => {
            if group == policy::GROUP
                && let Some(outcome) = policy::execute(matches)
            {
                return outcome;
            }
            let command = matches.subcommand();
            let found = command.and_then(|(command, matches)| {
                Some((commands::find_rpc(api, group, command)?, matches))
            });
            let Some((rpc, matches)) = found else {
                return Err(Failure::usage(format!("`{group}` has no such command")));
            };
            let settings = Settings::from_matches(matches);
            if upgrade::is_for(&rpc) {
                return on_runtime(upgrade::execute(&rpc, matches, &settings));
            }
            on_runtime(call::execute(&rpc, matches, &settings))
        }
    }
}

fn on_runtime(work: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("failed to start the runtime: {error}")))?;
    let outcome = runtime.block_on(work);
    // A write to an output that nobody reads any more is not waited for.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tree_tests;
