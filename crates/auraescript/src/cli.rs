//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::engine::DEFAULT_MEMORY_LIMIT_MIB;

/// Runs TypeScript that drives Aurae nodes.
#[derive(Debug, Parser)]
#[command(
    name = "auraescript",
    bin_name = "auraescript",
    version,
    about = "Runs TypeScript that drives Aurae nodes",
    after_help = "`auraescript FILE` is short for `auraescript run FILE`, so that a script can begin with\n`#!/usr/bin/env auraescript`.",
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a script
    Run(Run),
    /// Type-check a script with TypeScript's `tsc`, where there is one
    Check(Check),
    /// Write the declarations of what scripts can import, and a tsconfig.json, for editors
    Types(Types),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The client configuration
    #[arg(long, value_name = "FILE", env = "AURAE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The node that `connect()` means when the script names none
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// An import map: {"imports": {"name": "./file.ts"}}
    #[arg(long, value_name = "FILE")]
    pub(crate) import_map: Option<PathBuf>,
    /// How much memory the script may use, in MiB
    #[arg(long, value_name = "MIB", default_value_t = DEFAULT_MEMORY_LIMIT_MIB)]
    pub(crate) memory_limit: usize,
    /// Run this code instead of a file
    #[arg(short = 'e', long = "eval", value_name = "CODE")]
    pub(crate) code: Option<String>,
    /// The script (`-`: standard input) and its arguments
    #[arg(
        value_name = "FILE",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required_unless_present = "code"
    )]
    pub(crate) script: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// TypeScript's compiler. Unset: `node_modules/.bin/tsc` beside the script or above it, else
    /// `tsc` on the PATH
    #[arg(long, value_name = "FILE")]
    pub(crate) tsc: Option<PathBuf>,
    /// The scripts
    #[arg(value_name = "FILE", required = true)]
    pub(crate) scripts: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Types {
    /// The directory to write to
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

/// Words that are commands; anything else that stands first is a script.
const COMMANDS: [&str; 4] = ["run", "check", "types", "help"];

/// Options of the program itself; others that stand first are those of `run`.
const OWN_OPTIONS: [&str; 4] = ["-h", "--help", "-V", "--version"];

/// Puts `run` before what is not a command, as in `auraescript FILE`.
pub(crate) fn with_command(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let first = arguments.get(1).and_then(|first| first.to_str());
    let is_own =
        first.is_some_and(|first| COMMANDS.contains(&first) || OWN_OPTIONS.contains(&first));
    if arguments.len() > 1 && !is_own {
        arguments.insert(1, "run".into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str]) -> Run {
        let arguments = ["auraescript"].iter().chain(words).map(OsString::from).collect();
        match Cli::try_parse_from(with_command(arguments)).unwrap().command {
            Command::Run(run) => run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_is_run() {
        assert_eq!(run(&["x.ts"]).script, ["x.ts"]);
        assert_eq!(run(&["run", "x.ts"]).script, ["x.ts"]);
        assert_eq!(run(&["--node", "n", "x.ts"]).node.as_deref(), Some("n"));
    }

    #[test]
    fn what_follows_the_script_is_the_scripts() {
        let run = run(&["x.ts", "--node", "n", "-e", "--", "run"]);
        assert_eq!(run.script, ["x.ts", "--node", "n", "-e", "--", "run"]);
        assert_eq!(run.node, None);
    }

    #[test]
    fn code_takes_arguments_too() {
        let run = run(&["-e", "1", "a", "-b"]);
        assert_eq!(run.code.as_deref(), Some("1"));
        assert_eq!(run.script, ["a", "-b"]);
    }
}
