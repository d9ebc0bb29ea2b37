//! `aer exec` and `aer attach`: our input, outputs, terminal and signals as those of something that runs
//! on a node.
//!
//! ```text
//!             typed, size, signals
//!   here ───────────────────────────▶ node      until it ended, or we leave
//!        ◀───────────────────────────
//!             outputs, how it ended
//! ```
//! Our terminal is raw while we are connected, and only if there is one at both ends of it: what is
//! typed then goes to the node key by key, Ctrl-C too. Every way out restores it.

mod input;
mod keys;
mod signals;
mod terminal;

pub(crate) use keys::{DEFAULT_KEYS, Keys};
pub(crate) use signals::Signals;
pub(crate) use terminal::size;

use std::io::IsTerminal;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use aurae_client::{Client, Node, ZonePath, is_interruption};
use aurae_proto::cells::exit_status::Reason;
use aurae_proto::cells::{ExitStatus, TerminalSize};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use crate::failure::Failure;
use crate::output::{self, Chunk};
use crate::settings::Settings;
use crate::units;
use keys::Detector;
use terminal::RawMode;

/// What is added to a signal's number in an exit code.
const SIGNAL_EXIT_BASE: i32 = 128;

/// What these commands exit with when the time was over, as `timeout` does.
const TIMED_OUT: u8 = 124;

/// What they exit with when they failed themselves, as `aer run` does.
pub(crate) const FAILED: u8 = 125;

/// Messages to the node that wait to be sent.
const TO_NODE_QUEUE: usize = 2;

/// What is said to the node.
#[derive(Debug, Clone)]
pub(crate) enum ToNode {
    Stdin(Bytes),
    StdinEnd,
    Resize(TerminalSize),
    Signal(i32),
}

/// What the node says.
#[derive(Debug, Clone)]
pub(crate) enum FromNode {
    /// It began; whether there is a terminal on the node.
    Begun {
        terminal: bool,
    },
    Output(Chunk),
    Missed(u64),
    Ended(ExitStatus),
}

/// What the node says, one after the other.
pub(crate) type Answers = Pin<Box<dyn Stream<Item = Result<FromNode, Status>>>>;

/// How to take part.
pub(crate) struct Options {
    /// Our input goes to the node.
    pub(crate) stdin: bool,
    /// These keys leave.
    pub(crate) keys: Option<Keys>,
    pub(crate) timeout: Option<Duration>,
    /// What became of what ran there when the node's daemon went away, and what to do.
    pub(crate) when_away: &'static str,
}

/// How it came to an end.
pub(crate) enum End {
    Exited(ExitStatus),
    /// The keys were typed.
    Left,
    /// A signal told us to leave.
    Told(i32),
    TimedOut,
}

/// Where a queue for the node begins and ends.
pub(crate) fn to_node() -> (mpsc::Sender<ToNode>, mpsc::Receiver<ToNode>) {
    mpsc::channel(TO_NODE_QUEUE)
}

/// Takes part until the end.
pub(crate) async fn take_part(
    client: &Client,
    mut answers: Answers,
    to_node: mpsc::Sender<ToNode>,
    mut signals: Signals,
    options: Options,
) -> Result<End, Failure> {
    let deadline = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let first = signals.unless_told(next(client, &mut answers, &options)).await?;
    let Some(FromNode::Begun { terminal: remote }) = first else { return Err(unfinished()) };
    let raw = remote && options.stdin && terminal::is_at_both_ends();
    // Dropped at the end of this function, whatever ends it.
    let _terminal = if raw { Some(RawMode::enter()?) } else { None };
    if remote {
        // It may have changed since it was told.
        let _ = to_node.send(ToNode::Resize(size())).await;
    }
    tokio::select! {
        ended = show(client, &mut answers, raw, &options) => ended.map(End::Exited),
        left = send_input(&to_node, &options) => left,
        signal = signals.pass_on(&to_node, raw, remote) => Ok(End::Told(signal)),
        () = reached(deadline) => Ok(End::TimedOut),
    }
}

/// Shows what comes, and answers how it ended.
async fn show(
    client: &Client,
    answers: &mut Answers,
    raw: bool,
    options: &Options,
) -> Result<ExitStatus, Failure> {
    loop {
        match next(client, answers, options).await? {
            Some(FromNode::Output(chunk)) => output::write(vec![chunk]).await?,
            Some(FromNode::Missed(bytes)) => {
                let end = if raw { "\r\n" } else { "\n" };
                output::complain(&format!(
                    "note: {bytes} bytes are missing here: they came faster than they were read{end}"
                ));
            }
            Some(FromNode::Ended(status)) => return Ok(status),
            Some(FromNode::Begun { .. }) => {}
            // The end of the stream alone says nothing of how it ended, and is no success.
            None => return Err(unfinished()),
        }
    }
}

async fn next(
    client: &Client,
    answers: &mut Answers,
    options: &Options,
) -> Result<Option<FromNode>, Failure> {
    answers.next().await.transpose().map_err(|status| {
        let status = client.explain(status);
        let failure = Failure::from_status(&status).exiting(FAILED);
        match is_interruption(&status) {
            true => failure.hint(options.when_away),
            false => failure,
        }
    })
}

fn unfinished() -> Failure {
    Failure::new("the node does not say how it ended").exiting(FAILED)
}

/// Sends what comes through our input; answers when the keys were typed, and otherwise never.
async fn send_input(to_node: &mpsc::Sender<ToNode>, options: &Options) -> Result<End, Failure> {
    if !options.stdin {
        return std::future::pending().await;
    }
    let typed = std::io::stdin().is_terminal();
    let mut detector = options.keys.clone().filter(|_| typed).map(Detector::new);
    let mut input = input::read()?;
    // When the node takes no more, it says why itself.
    while let Some(bytes) = input.recv().await {
        let (bytes, left) = match &mut detector {
            Some(detector) => {
                let typed = detector.take(&bytes);
                (typed.bytes.into(), typed.detach)
            }
            None => (bytes, false),
        };
        if !bytes.is_empty() && to_node.send(ToNode::Stdin(bytes)).await.is_err() {
            break;
        }
        if left {
            return Ok(End::Left);
        }
    }
    let _ = to_node.send(ToNode::StdinEnd).await;
    std::future::pending().await
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Says how it ended, where the exit code does not, and answers that.
pub(crate) fn exit_code(end: &End, what: &str) -> ExitCode {
    match end {
        End::Exited(status) => {
            if status.oom_killed {
                output::complain(&format!(
                    "note: the OOM killer ended a process of the {what}: the memory limit was reached\n"
                ));
            }
            match status.reason {
                Some(Reason::Code(code)) => of_code(code).into(),
                Some(Reason::Signal(signal)) => {
                    let name = units::format_signal(i64::from(signal));
                    output::complain(&format!("note: the {what} was ended by {name}\n"));
                    of_signal(signal).into()
                }
                None => ExitCode::from(FAILED),
            }
        }
        End::Left => ExitCode::SUCCESS,
        End::Told(signal) => of_signal(*signal).into(),
        End::TimedOut => {
            output::complain(&format!("note: the time for the {what} is over\n"));
            ExitCode::from(TIMED_OUT)
        }
    }
}

fn of_code(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(FAILED)
}

fn of_signal(signal: i32) -> u8 {
    of_code(SIGNAL_EXIT_BASE.saturating_add(signal))
}

/// A call that begins within that time, or not at all.
pub(crate) fn request<T>(messages: T, settings: &Settings) -> tonic::Request<T> {
    let mut request = tonic::Request::new(messages);
    if let Some(timeout) = settings.timeout {
        request.set_timeout(timeout);
    }
    request
}

/// The node to connect to, and the zone of a cell on it: `web/api`, or in full `cells/web/cells/api`;
/// `.`, or nothing, is what `--zone` says, and otherwise the node itself.
pub(crate) fn target(settings: &Settings, command: &str, cell: &str) -> Result<Node, Failure> {
    let (mut node, _) = settings.single_target(command)?;
    if matches!(cell, "" | ".") {
        return Ok(node);
    }
    let within = node.zone.take().map(|zone| format!("{}/", zone.cells())).unwrap_or_default();
    let parse =
        |text: &str| ZonePath::parse_short(text).map_err(|error| Failure::usage(error.rule));
    let cell = parse(cell)?;
    node.zone = Some(parse(&format!("{within}{}", cell.cells()))?);
    Ok(node)
}
