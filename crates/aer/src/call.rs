//! Calls of the API, on one node or on many, and what is said about their answers.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use aurae_client::resume::{Place, Resuming, place_of};
use aurae_client::{Client, FAN_OUT, NodeName, Patience, fan_out};
use bytes::Bytes;
use clap::ArgMatches;
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::api::Rpc;
use crate::derive;
use crate::failure::{Failure, code_name};
use crate::output::{self, Chunk, Style};
use crate::render::{self, lines::Lines};
use crate::settings::{Output, Settings, Targets};

/// The RPCs that change nothing: they are called again when the node's daemon is replaced, or comes back
/// after it was killed. The others may have been begun.
const READS: [&str; 6] = ["Check", "Discover", "Info", "Inspect", "List", "Wait"];

/// How answers are said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answers {
    output: Output,
    timeout: Option<Duration>,
    timestamps: bool,
}

impl Answers {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self { output: settings.output, timeout: settings.timeout, timestamps: false }
    }

    /// Puts the time before every line of an executable's output.
    pub(crate) fn with_timestamps(self, timestamps: bool) -> Self {
        Self { timestamps, ..self }
    }
}

/// Runs the command of an RPC.
pub(crate) async fn execute(
    rpc: &Rpc,
    matches: &ArgMatches,
    settings: &Settings,
) -> Result<ExitCode, Failure> {
    let mut request = DynamicMessage::new(rpc.method.input());
    derive::fill(&mut request, &derive::fields(&rpc.method.input()), matches)?;
    ask(rpc, &request, settings, &Answers::new(settings)).await
}

/// Calls an RPC on the nodes that are meant.
pub(crate) async fn ask(
    rpc: &Rpc,
    request: &DynamicMessage,
    settings: &Settings,
    answers: &Answers,
) -> Result<ExitCode, Failure> {
    if rpc.method.is_client_streaming() {
        return Err(Failure::usage(format!(
            "{} takes a stream, which no arguments make",
            rpc.path()
        )));
    }
    let targets = settings.targets()?;
    if rpc.confirm && !settings.yes {
        confirm(rpc, &targets)?;
    }
    let request = Bytes::from(request.encode_to_vec());
    match rpc.method.is_server_streaming() {
        true => ask_stream(rpc, request, targets, answers).await,
        false => ask_unary(rpc, request, targets, answers).await,
    }
}

/// Asks the person at the terminal, where there is one.
fn confirm(rpc: &Rpc, targets: &Targets) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(());
    }
    let names: Vec<_> = targets.nodes.iter().map(|node| node.name.as_str()).collect();
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{} {}? [y/N] ", rpc.name, names.join(", "))?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new("nothing was done").hint("`--yes` answers beforehand")),
    }
}

async fn ask_unary(
    rpc: &Rpc,
    request: Bytes,
    targets: Targets,
    answers: &Answers,
) -> Result<ExitCode, Failure> {
    let call = async |client: Client| -> Result<Bytes, Failure> {
        let answer = call_again(&client, rpc, request.clone(), answers.timeout).await;
        answer.map_err(|status| explain(rpc, &status))
    };
    let results = fan_out(targets.nodes, call).await;
    let kind = rpc.method.output();
    if !targets.labelled {
        for (_, result) in results {
            let answer = result.map_err(|failure| with_origin(failure, &targets.config))?;
            output::print(&unary_text(&kind, answer, answers.output)?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut failed = false;
    for (node, result) in results {
        failed |= result.is_err();
        say_of_node(&node, &kind, result, answers.output)?;
    }
    if failed { Err(Failure::silent(1)) } else { Ok(ExitCode::SUCCESS) }
}

/// Calls a unary RPC: again, within the time, where that is safe and worth it.
async fn call_again(
    client: &Client,
    rpc: &Rpc,
    request: Bytes,
    timeout: Option<Duration>,
) -> Result<Bytes, Status> {
    let (path, is_read) = (rpc.path(), READS.contains(&rpc.method.name()));
    let deadline = deadline(timeout);
    let mut patience = Patience::default();
    loop {
        let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
        let answer = client.unary(&path, request.clone(), MetadataMap::new(), left).await;
        match answer {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) if is_read => bounded(deadline, patience.wait(status)).await?,
            Err(status) => return Err(status),
        }
    }
}

fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}

fn explain(rpc: &Rpc, status: &Status) -> Failure {
    let failure = Failure::from_status(status);
    // The hint is about cells and what is in them.
    let about_cells = ["aurae.cells.v0", "aurae.observe.v0"];
    let package = rpc.method.parent_service().package_name().to_owned();
    match status.code() {
        Code::NotFound if !about_cells.contains(&package.as_str()) => failure.without_hint(),
        _ => failure,
    }
}

/// Says where the address came from, if nobody was there.
fn with_origin(failure: Failure, config: &Path) -> Failure {
    match &failure.hint {
        Some(hint) if failure.no_connection => {
            let hint = format!("{hint}\n      (configuration: {})", config.display());
            failure.hint(hint)
        }
        _ => failure,
    }
}

fn decode(kind: &MessageDescriptor, message: Bytes) -> Result<DynamicMessage, Failure> {
    DynamicMessage::decode(kind.clone(), message)
        .map_err(|error| Failure::new(format!("the node's answer cannot be decoded: {error}")))
}

/// Protobuf's JSON, every field there.
fn to_json(message: &DynamicMessage) -> Result<serde_json::Value, Failure> {
    let options = SerializeOptions::new().skip_default_fields(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| {
        Failure::new(format!("the node's answer cannot be written as JSON: {error}"))
    })
}

fn unary_text(kind: &MessageDescriptor, answer: Bytes, output: Output) -> Result<String, Failure> {
    let message = decode(kind, answer)?;
    match output {
        Output::Json => Ok(format!("{}\n", to_json(&message)?)),
        Output::Text => Ok(render::message(&message, Style::of_stdout())),
    }
}

/// Says what came of a call on one of several nodes.
fn say_of_node(
    node: &NodeName,
    kind: &MessageDescriptor,
    result: Result<Bytes, Failure>,
    output: Output,
) -> Result<(), Failure> {
    match (output, result) {
        (Output::Json, result) => {
            let result = result.and_then(|answer| to_json(&decode(kind, answer)?));
            output::print(&format!("{}\n", labelled_json(node, result)))?;
        }
        (Output::Text, Ok(answer)) => {
            let style = Style::of_stdout();
            let text = render::message(&decode(kind, answer)?, style);
            let text = if text.is_empty() { "done\n".to_owned() } else { text };
            let header = style.strong(&format!("{node}:"));
            let lines = text.lines().map(|line| format!("  {line}\n"));
            output::print(&format!("{header}\n{}", lines.collect::<String>()))?;
        }
        (Output::Text, Err(failure)) => output::complain(&failure.during(node.as_str()).text()),
    }
    Ok(())
}

fn labelled_json(node: &NodeName, result: Result<serde_json::Value, Failure>) -> serde_json::Value {
    match result {
        Ok(response) => serde_json::json!({ "node": node.as_str(), "response": response }),
        Err(failure) => {
            let code = code_name(failure.status.unwrap_or(Code::Unknown));
            let error = serde_json::json!({ "code": code, "message": failure.message });
            serde_json::json!({ "node": node.as_str(), "error": error })
        }
    }
}

async fn ask_stream(
    rpc: &Rpc,
    request: Bytes,
    targets: Targets,
    answers: &Answers,
) -> Result<ExitCode, Failure> {
    if targets.nodes.len() > FAN_OUT {
        return Err(Failure::usage(format!(
            "streams are read from at most {FAN_OUT} nodes at once"
        )));
    }
    let labelled = targets.labelled;
    let follow = async |client: Client| -> Result<(), Failure> {
        let stream = Following { rpc, client: &client, answers, labelled };
        stream.follow(request.clone()).await
    };
    let results = fan_out(targets.nodes, follow).await;
    let mut failed = false;
    for (node, result) in results {
        let Err(failure) = result else { continue };
        if !labelled {
            return Err(with_origin(failure, &targets.config));
        }
        failed = true;
        match answers.output {
            Output::Json => output::print(&format!("{}\n", labelled_json(&node, Err(failure))))?,
            Output::Text => output::complain(&failure.during(node.as_str()).text()),
        }
    }
    if failed { Err(Failure::silent(1)) } else { Ok(ExitCode::SUCCESS) }
}

/// A stream of one node.
struct Following<'a> {
    rpc: &'a Rpc,
    client: &'a Client,
    answers: &'a Answers,
    labelled: bool,
}

impl Following<'_> {
    async fn follow(&self, request: Bytes) -> Result<(), Failure> {
        let (path, timeout) = (self.rpc.path(), self.answers.timeout);
        let deadline = deadline(timeout);
        let place = place_of(&path, request)
            .map_err(|error| Failure::new(format!("the request cannot be decoded: {error}")))?;
        let mut stream = self.client.resuming(&path, place, timeout);
        let node = self.labelled.then(|| self.client.node().to_string());
        let mut lines = Lines::new(node, self.answers.timestamps);
        let mut interruptions = 0;
        loop {
            let next = bounded(deadline, stream.message()).await;
            let next = next.map_err(|status| explain(self.rpc, &status))?;
            self.warn(&stream, &mut interruptions);
            let Some(message) = next else { return Ok(()) };
            output::write(self.chunks(&mut lines, message)?).await?;
        }
    }

    /// Says what may be missing since the stream was asked for again.
    fn warn(&self, stream: &Resuming<Box<dyn Place>>, interruptions: &mut u32) {
        let said = std::mem::replace(interruptions, stream.interruptions());
        if let Some(caveat) = stream.place().caveat().filter(|_| said != *interruptions) {
            let node = self.labelled.then(|| format!("{}: ", self.client.node()));
            output::complain(&format!("{}note: {caveat}\n", node.unwrap_or_default()));
        }
    }

    fn chunks(&self, lines: &mut Lines, message: Bytes) -> Result<Vec<Chunk>, Failure> {
        let kind = self.rpc.method.output();
        match self.answers.output {
            Output::Text => lines.chunks(&kind, message),
            Output::Json => {
                let json = to_json(&decode(&kind, message)?)?;
                let json = match self.labelled {
                    true => labelled_json(self.client.node(), Ok(json)),
                    false => json,
                };
                Ok(vec![Chunk::stdout(format!("{json}\n"))])
            }
        }
    }
}

async fn bounded<T>(
    deadline: Option<Instant>,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let Some(deadline) = deadline else { return call.await };
    tokio::time::timeout_at(deadline, call)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("the time for the call is over")))
}
