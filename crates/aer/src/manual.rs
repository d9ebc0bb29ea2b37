//! Shell completions and manual pages, made from the whole tree of commands.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::api::Api;
use crate::commands::{self, Extent};
use crate::failure::Failure;

pub(crate) const COMPLETIONS: &str = "completions";
pub(crate) const MAN: &str = "man";

const SHELL: &str = "shell";
const DIRECTORY: &str = "directory";

pub(crate) fn completions_command() -> Command {
    Command::new(COMPLETIONS)
        .about("Prints completions for a shell")
        .after_help("Example: aer completions bash > /etc/bash_completion.d/aer")
        .arg(Arg::new(SHELL).required(true).value_name("SHELL").value_parser(value_parser!(Shell)))
}

pub(crate) fn man_command() -> Command {
    Command::new(MAN)
        .about("Writes manual pages, one for each command")
        .after_help("Example: aer man /usr/local/share/man/man1")
        .arg(
            Arg::new(DIRECTORY)
                .required(true)
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Where to write them; made if it is not there"),
        )
}

pub(crate) fn completions(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let Some(shell) = matches.get_one::<Shell>(SHELL).copied() else {
        return Err(Failure::usage("no shell given"));
    };
    let mut tree = commands::root(&Api::load()?, &Extent::Full);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut tree, "aer", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let Some(directory) = matches.get_one::<PathBuf>(DIRECTORY) else {
        return Err(Failure::usage("no directory given"));
    };
    let tree = commands::root(&Api::load()?, &Extent::Full);
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(tree, directory))
        .map_err(|error| {
            Failure::new(format!(
                "failed to write manual pages to {}: {error}",
                directory.display()
            ))
        })?;
    Ok(ExitCode::SUCCESS)
}
