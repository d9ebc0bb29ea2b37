//! What went wrong, what to do next, and the exit code.

use std::io;
use std::process::ExitCode;

use aurae_client::{ConfigError, ConnectError, report};
use tonic::{Code, Status};

use crate::output;

/// What a usage error exits with, as clap does.
pub(crate) const USAGE: u8 = 2;

/// What a process exits with whose reader went away, as a shell shows a death by SIGPIPE.
const BROKEN_PIPE: u8 = 141;

/// Why a command did not work.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// The gRPC status code, where a call failed.
    pub(crate) status: Option<Code>,
    pub(crate) exit: u8,
    /// There was no connection: it is worth a look where the address came from.
    pub(crate) no_connection: bool,
    /// Nothing is said about it.
    quiet: bool,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            status: None,
            exit: 1,
            no_connection: false,
            quiet: false,
        }
    }

    /// A command line that is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(message).exiting(USAGE)
    }

    /// Everything that is to be said was said.
    pub(crate) fn silent(exit: u8) -> Self {
        Self { quiet: true, ..Self::new("").exiting(exit) }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Without the hint that its status code has.
    pub(crate) fn without_hint(self) -> Self {
        Self { hint: None, ..self }
    }

    pub(crate) fn exiting(self, exit: u8) -> Self {
        Self { exit, ..self }
    }

    /// Puts what was being done before the message.
    pub(crate) fn during(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// A call that failed; the status was explained by the client.
    pub(crate) fn from_status(status: &Status) -> Self {
        let message = match status.message() {
            "" => status.code().description().to_owned(),
            message => message.to_owned(),
        };
        let source = std::error::Error::source(status);
        let connect = source.and_then(|source| source.downcast_ref::<ConnectError>());
        let hint = match connect {
            Some(connect) => Some(connect.hint()),
            None => code_hint(status.code()),
        };
        let no_connection = connect.is_some();
        Self { hint, no_connection, status: Some(status.code()), ..Self::new(message) }
    }

    /// Says it on standard error and answers the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.quiet {
            output::complain(&self.text());
        }
        ExitCode::from(self.exit)
    }

    /// What is said about it.
    pub(crate) fn text(&self) -> String {
        let code = self.status.map(|code| format!(" [{}]", code_name(code))).unwrap_or_default();
        let hint = self.hint.as_ref().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
        format!("error: {}{code}\n{hint}", self.message)
    }
}

fn code_hint(code: Code) -> Option<String> {
    let hint = match code {
        Code::Unimplemented => {
            "that daemon cannot do it: `aer discovery discover` shows its version, `aer --version` ours"
        }
        Code::DeadlineExceeded => "`--timeout` gives it more time",
        Code::PermissionDenied | Code::Unauthenticated => {
            "`aer pki show CLIENT.crt` shows who we are to the node"
        }
        Code::AlreadyExists => "use another name, or free or stop what has it",
        Code::NotFound => {
            "`aer cell list` shows the cells, `aer cell inspect CELL` the executables of one"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// `NOT_FOUND`, as gRPC writes it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let failure = Self::new(report(&error)).hint(error.hint());
        Self { status: Some(Code::Unavailable), no_connection: true, ..failure }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(report(&error))
    }
}

/// Writing to standard output or standard error failed.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(BROKEN_PIPE),
            _ => Self::new(format!("failed to write the output: {error}")),
        }
    }
}
