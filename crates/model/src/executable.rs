//! What is to be run in a cell.

use std::time::Duration;

use rustix::process::Signal;

use crate::{ExecutableName, RestartPolicy, Security, TerminalSize};

/// A program to run, valid.
#[derive(Clone, Debug)]
pub struct Executable {
    /// Its name in the cell.
    pub name: ExecutableName,
    /// What to execute.
    pub program: Program,
    /// For people.
    pub description: String,
    /// The environment beyond `PATH`; neither names nor values have NUL, names have no `=`.
    pub env: Vec<(String, String)>,
    /// The directory to start in, absolute.
    pub working_directory: String,
    /// How many bytes of output are kept; `None`: the daemon's setting.
    pub log_capacity: Option<usize>,
    /// The user to run as; `None`: the daemon's own.
    pub uid: Option<u32>,
    /// The group to run as; `None`: the daemon's own.
    pub gid: Option<u32>,
    /// Whether it is started again when it has ended; `None`: never.
    pub restart: Option<RestartPolicy>,
    /// How it is stopped.
    pub stop: StopPolicy,
    /// It has an input that somebody may write to.
    pub stdin: bool,
    /// It has a terminal of this size.
    pub terminal: Option<TerminalSize>,
    /// What it may do of what the kernel can do.
    pub security: Security,
}

/// How an executable is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopPolicy {
    /// What asks it to end.
    pub signal: Signal,
    /// How long it has between that signal and SIGKILL.
    pub grace: Duration,
}

/// A program to run for as long as somebody waits for it, valid.
#[derive(Clone, Debug)]
pub struct Command {
    /// The program (a path, or a name to look up in `PATH`) and its arguments; never empty.
    pub arguments: Vec<String>,
    /// As that of an [`Executable`].
    pub env: Vec<(String, String)>,
    /// The directory to start in, absolute.
    pub working_directory: String,
    /// The user to run as; `None`: the daemon's own.
    pub uid: Option<u32>,
    /// The group to run as; `None`: the daemon's own.
    pub gid: Option<u32>,
    /// It has an input.
    pub stdin: bool,
    /// It has a terminal of this size.
    pub terminal: Option<TerminalSize>,
    /// What it may do of what the kernel can do.
    pub security: Security,
}

/// What to execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A command line for `/bin/sh -c`.
    Shell(String),
    /// The program (a path, or a name to look up in `PATH`) and its arguments; never empty.
    Arguments(Vec<String>),
}

impl Program {
    /// The argument vector, `argv[0]` first.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        match self {
            Self::Shell(command) => vec!["/bin/sh".into(), "-c".into(), command.clone()],
            Self::Arguments(arguments) => arguments.clone(),
        }
    }
}
