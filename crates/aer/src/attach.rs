//! `aer attach`: our terminal as that of an executable.

use std::process::ExitCode;

use aurae_client::{Client, MAX_MESSAGE_BYTES};
use aurae_proto::cells::cell_service_attach_request::Message as To;
use aurae_proto::cells::cell_service_attach_response::Message as From;
use aurae_proto::cells::cell_service_client::CellServiceClient;
use aurae_proto::cells::{
    AttachStart, CellServiceAttachRequest, CellServiceAttachResponse, StdinEnd,
};
use clap::{Arg, ArgAction, ArgMatches, Command};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::failure::Failure;
use crate::output::Chunk;
use crate::session::{
    self, Answers, DEFAULT_KEYS, FAILED, FromNode, Keys, Options, Signals, ToNode,
};
use crate::settings::Settings;

pub(crate) const NAME: &str = "attach";

const GOES_ON: &str = "the executable goes on while the node's daemon is replaced or away: `aer attach` again shows what it writes from then on, `aer logs` what it wrote meanwhile";

const CELL: &str = "cell";
const EXECUTABLE: &str = "executable";
const KEYS: &str = "detach-keys";
const NO_STDIN: &str = "no-stdin";

pub(crate) fn command() -> Command {
    Command::new(NAME)
        .about("Connects us to an executable that was started with an input or a terminal")
        .long_about(
            "Connects us to an executable that was started with an input or a terminal, until it ends or the detach keys are typed.\n\nExits as the executable did, with 128 + N if signal N ended it; with 0 if we left; with 125 if aer itself failed. Without a terminal on the node Ctrl-C is passed on, and a second one leaves. The end of our input is the end of the executable's.",
        )
        .arg(
            Arg::new(CELL)
                .required(true)
                .value_name("CELL")
                .help("The cell it is in; `web/api` is one in a cell, `.` the node itself"),
        )
        .arg(Arg::new(EXECUTABLE).required(true).value_name("EXECUTABLE").help("Its name"))
        .arg(
            Arg::new(KEYS)
                .long(KEYS)
                .value_name("KEYS")
                .default_value(DEFAULT_KEYS)
                .value_parser(|text: &str| text.parse::<Keys>())
                .help("The keys that leave it to itself"),
        )
        .arg(
            Arg::new(NO_STDIN)
                .long(NO_STDIN)
                .action(ArgAction::SetTrue)
                .help("Only shows what it writes"),
        )
}

pub(crate) async fn execute(
    matches: &ArgMatches,
    settings: &Settings,
) -> Result<ExitCode, Failure> {
    let cell = matches.get_one::<String>(CELL).map(String::as_str).unwrap_or_default();
    let node = session::target(settings, NAME, cell)?;
    let client = Client::connect(&node).await;
    let client = client.map_err(|error| Failure::from(error).exiting(FAILED))?;
    let mut signals = Signals::new()?;
    let (to_node, said) = session::to_node();
    let call = begin(&client, matches, settings, said);
    let answers = signals.unless_told(call).await?;
    let options = Options {
        stdin: !matches.get_flag(NO_STDIN),
        keys: matches.get_one::<Keys>(KEYS).cloned(),
        timeout: settings.timeout,
        when_away: GOES_ON,
    };
    let end = session::take_part(&client, answers, to_node, signals, options).await;
    Ok(session::exit_code(&end?, "executable"))
}

async fn begin(
    client: &Client,
    matches: &ArgMatches,
    settings: &Settings,
    said: mpsc::Receiver<ToNode>,
) -> Result<Answers, Failure> {
    let word = |id| matches.get_one::<String>(id).cloned().unwrap_or_default();
    let wire = |message| CellServiceAttachRequest { message: Some(message) };
    let start = wire(To::Start(AttachStart { executable_name: word(EXECUTABLE) }));
    let said = ReceiverStream::new(said).map(move |message| wire(to_wire(message)));
    let messages = tokio_stream::once(start).chain(said);
    let mut cells =
        CellServiceClient::new(client.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let answer = cells.attach(session::request(messages, settings)).await;
    let answers =
        answer.map_err(|status| Failure::from_status(&client.explain(status)).exiting(FAILED))?;
    Ok(Box::pin(answers.into_inner().filter_map(from_wire)))
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
    answer: Result<CellServiceAttachResponse, Status>,
) -> Option<Result<FromNode, Status>> {
    let message = match answer {
        Ok(answer) => answer.message?,
        Err(status) => return Some(Err(status)),
    };
    Some(Ok(match message {
        From::Attached(attached) => FromNode::Begun { terminal: attached.terminal },
        From::Stdout(bytes) => FromNode::Output(Chunk::stdout(bytes)),
        From::Stderr(bytes) => FromNode::Output(Chunk::stderr(bytes)),
        From::MissedBytes(bytes) => FromNode::Missed(bytes),
        From::ExitStatus(status) => FromNode::Ended(status),
    }))
}
