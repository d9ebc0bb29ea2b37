//! `aer exec`: a command in a running cell, as if it ran here.

use std::process::ExitCode;

use aurae_client::{Client, MAX_MESSAGE_BYTES};
use aurae_proto::cells::cell_service_client::CellServiceClient;
use aurae_proto::cells::cell_service_exec_request::Message as To;
use aurae_proto::cells::cell_service_exec_response::Message as From;
use aurae_proto::cells::{
    CellServiceExecRequest, CellServiceExecResponse, ExecStart, Security, StdinEnd,
};
use clap::{Arg, ArgAction, ArgMatches, Command};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::api::Api;
use crate::derive::{self, Field};
use crate::failure::Failure;
use crate::output::Chunk;
use crate::session::{self, Answers, FAILED, FromNode, Options, Signals, ToNode};
use crate::settings::{self, Settings};

pub(crate) const NAME: &str = "exec";

/// The command belongs to its call, and to its daemon's line to us.
const ENDED_WITH_CALL: &str = "a command of `aer exec` belongs to its call, and was killed with it; what `aer run` and `aer cell start` start goes on while the node's daemon is replaced or away";

const CELL: &str = "cell";
const COMMAND: &str = "command";
const INTERACTIVE: &str = "interactive";
const TERMINAL: &str = "tty";
const USER: &str = "user";
const ENV: &str = "env";
const DIRECTORY: &str = "workdir";

/// The message whose fields the security flags are.
const START: &str = "aurae.cells.v0.ExecStart";
const SECURITY: &str = "security.";

/// What `aer exec` exits with when the command cannot be executed, or was not found; the numbers of
/// `aer run`.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

pub(crate) fn command(api: &Api, in_full: bool) -> Command {
    let command = Command::new(NAME).about("Runs a command in a running cell, as if it ran here");
    if !in_full {
        return command;
    }
    let flag = |name: &'static str, short, help: &'static str| {
        Arg::new(name).short(short).long(name).action(ArgAction::SetTrue).help(help)
    };
    command
        .long_about(
            "Runs a command in a running cell, as if it ran here.\n\nExits as the command did, with 128 + N if signal N ended it; with 125 if aer itself failed, 126 if the command cannot be executed, 127 if there is no such command or cell. Ctrl-C is passed on; without a terminal on the node a second one leaves, which kills the command. --timeout bounds the run of the command (exit code 124).",
        )
        .after_help("Example: aer exec -it web -- sh")
        .arg(
            Arg::new(CELL)
                .required(true)
                .value_name("CELL")
                .help("The cell; `web/api` is one in a cell, `.` the node itself"),
        )
        .arg(flag(INTERACTIVE, 'i', "Gives it our input"))
        .arg(flag(TERMINAL, 't', "Gives it a terminal"))
        .arg(
            Arg::new(USER)
                .short('u')
                .long(USER)
                .value_name("UID[:GID]")
                .value_parser(parse_user)
                .help("The user to run as, and the group"),
        )
        .arg(
            Arg::new(ENV)
                .short('e')
                .long(ENV)
                .action(ArgAction::Append)
                .value_name("NAME=VALUE")
                .value_parser(parse_variable)
                .help("A variable of its environment; several times: each"),
        )
        .arg(
            Arg::new(DIRECTORY)
                .short('w')
                .long(DIRECTORY)
                .value_name("DIRECTORY")
                .help("The directory to start in; default: `/`"),
        )
        .args(security_flags(api))
        .arg(
            Arg::new(COMMAND)
                .required(true)
                .last(true)
                .num_args(1..)
                .value_name("COMMAND")
                .help("The program and its arguments; there is no shell unless it is one"),
        )
}

/// The flags of `ExecStart.security`, as those of `cell start` are.
fn security_flags(api: &Api) -> Vec<Arg> {
    derive::positional_and_flag_arguments(&security_fields(api), &settings::taken())
}

fn security_fields(api: &Api) -> Vec<Field> {
    let Some(start) = api.message(START) else { return Vec::new() };
    let fields = derive::fields(&start).into_iter();
    fields.filter(|field| field.id().starts_with(SECURITY)).collect()
}

/// A user, and perhaps a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: Option<u32>,
}

fn parse_user(text: &str) -> Result<User, String> {
    let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no number"));
    match text.split_once(':') {
        Some((uid, gid)) => Ok(User { uid: number(uid)?, gid: Some(number(gid)?) }),
        None => Ok(User { uid: number(text)?, gid: None }),
    }
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not NAME=VALUE")),
    }
}

pub(crate) async fn execute(
    api: &Api,
    matches: &ArgMatches,
    settings: &Settings,
) -> Result<ExitCode, Failure> {
    let cell = matches.get_one::<String>(CELL).map(String::as_str).unwrap_or_default();
    let node = session::target(settings, NAME, cell)?;
    let client = Client::connect(&node).await.map_err(|error| failed(error.into()))?;
    // Before the terminal's size is looked at: a change from then on is not missed.
    let mut signals = Signals::new()?;
    let (to_node, said) = session::to_node();
    let call = begin(&client, start(api, matches)?, settings, said);
    let answers = signals.unless_told(call).await?;
    let stdin = matches.get_flag(INTERACTIVE);
    let options =
        Options { stdin, keys: None, timeout: settings.timeout, when_away: ENDED_WITH_CALL };
    let end = session::take_part(&client, answers, to_node, signals, options).await;
    Ok(session::exit_code(&end?, "command"))
}

fn start(api: &Api, matches: &ArgMatches) -> Result<ExecStart, Failure> {
    let user = matches.get_one::<User>(USER);
    let words = matches.get_many::<String>(COMMAND).unwrap_or_default();
    let env = matches.get_many::<(String, String)>(ENV).unwrap_or_default();
    Ok(ExecStart {
        args: words.cloned().collect(),
        env: env.cloned().collect(),
        working_directory: matches.get_one::<String>(DIRECTORY).cloned().unwrap_or_default(),
        uid: user.map(|user| user.uid),
        gid: user.and_then(|user| user.gid),
        stdin: matches.get_flag(INTERACTIVE),
        terminal: matches.get_flag(TERMINAL).then(session::size),
        security: security(api, matches)?,
    })
}

/// What the security flags say; `None`: nothing.
fn security(api: &Api, matches: &ArgMatches) -> Result<Option<Box<Security>>, Failure> {
    let Some(start) = api.message(START) else { return Ok(None) };
    let mut start = DynamicMessage::new(start);
    derive::fill(&mut start, &security_fields(api), matches)?;
    let start = ExecStart::decode(start.encode_to_vec().as_slice());
    let start = start.map_err(|error| Failure::new(format!("the API's own message: {error}")))?;
    Ok(start.security)
}

async fn begin(
    client: &Client,
    start: ExecStart,
    settings: &Settings,
    said: mpsc::Receiver<ToNode>,
) -> Result<Answers, Failure> {
    let terminal = start.terminal.is_some();
    let wire = |message| CellServiceExecRequest { message: Some(message) };
    let said = ReceiverStream::new(said).map(move |message| wire(to_wire(message)));
    let messages = tokio_stream::once(wire(To::Start(start))).chain(said);
    let mut cells =
        CellServiceClient::new(client.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let answer = cells.exec(session::request(messages, settings)).await;
    let answers = answer.map_err(|status| refused(&client.explain(status)))?.into_inner();
    Ok(Box::pin(answers.filter_map(move |answer| from_wire(answer, terminal))))
}

fn to_wire(message: ToNode) -> To {
    match message {
        ToNode::Stdin(bytes) => To::Stdin(bytes),
        ToNode::StdinEnd => To::StdinEnd(StdinEnd {}),
        ToNode::Resize(size) => To::Resize(size),
        ToNode::Signal(signal) => To::Signal(signal),
    }
}

/// What this version does not know is left out.
fn from_wire(
    answer: Result<CellServiceExecResponse, Status>,
    terminal: bool,
) -> Option<Result<FromNode, Status>> {
    let message = match answer {
        Ok(answer) => answer.message?,
        Err(status) => return Some(Err(status)),
    };
    Some(Ok(match message {
        From::Started(_) => FromNode::Begun { terminal },
        From::Stdout(bytes) => FromNode::Output(Chunk::stdout(bytes)),
        From::Stderr(bytes) => FromNode::Output(Chunk::stderr(bytes)),
        From::ExitStatus(status) => FromNode::Ended(status),
    }))
}

fn refused(status: &Status) -> Failure {
    let failure = failed(Failure::from_status(status));
    match status.code() {
        Code::NotFound => failure.exiting(NOT_FOUND),
        Code::PermissionDenied => failure.without_hint().exiting(NOT_EXECUTABLE),
        _ => failure,
    }
}

fn failed(failure: Failure) -> Failure {
    failure.exiting(FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers() {
        assert_eq!(parse_user("7"), Ok(User { uid: 7, gid: None }));
        assert_eq!(parse_user("7:8"), Ok(User { uid: 7, gid: Some(8) }));
        for bad in ["", "root", "7:", ":8", "-1", "7:8:9"] {
            assert!(parse_user(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_variable_has_a_name() {
        assert_eq!(parse_variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert!(parse_variable("A").is_err() && parse_variable("=b").is_err());
    }
}
