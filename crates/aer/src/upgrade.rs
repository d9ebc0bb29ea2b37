//! `aer node upgrade`: another version of the daemon takes over, and tells so itself.
//!
//! ```text
//! send the file ─ received ─ checked ─ taking over ─┬─ Info: another start, no reason ─ done
//!                                └─ --check: done   └─ Info: another start, and why ─── rolled back
//! ```

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use aurae_client::{Client, Node};
use aurae_proto::node::node_service_client::NodeServiceClient;
use aurae_proto::node::upgrade_request::Message;
use aurae_proto::node::{
    InfoRequest, InfoResponse, UpgradePhase, UpgradeRequest, UpgradeResponse, UpgradeStart,
};
use bytes::Bytes;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use prost::Message as _;
use ring::digest::{SHA256, digest};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

use crate::api::Rpc;
use crate::failure::Failure;
use crate::output;
use crate::settings::{Output, Settings};
use crate::units;

/// The RPC that this stands for.
const METHOD: &str = "aurae.node.v0.NodeService.Upgrade";

const FILE: &str = "/file";
const CHECK: &str = "/check";

/// The most that a daemon takes, and takes at once: `UpgradeStart.size`, `UpgradeRequest.data`.
const MAX_SIZE: u64 = 256 << 20;
const PIECE: usize = 256 << 10;

/// A daemon has 10 seconds to get ready, and the one before as long again to take back over.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked whether it is there.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether `rpc` is the one that this stands for.
pub(crate) fn is_for(rpc: &Rpc) -> bool {
    rpc.method.full_name() == METHOD
}

/// Gives the command of the RPC its arguments.
pub(crate) fn complete(command: Command) -> Command {
    command
        .arg(
            Arg::new(FILE)
                .required(true)
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("The new version: an `aurae` or `auraed` for the node's machine"),
        )
        .arg(
            Arg::new(CHECK)
                .long("check")
                .action(ArgAction::SetTrue)
                .help("Only checks the file on the node"),
        )
        .after_help("It answers once the new version is ready; exits with 1 if that was not to be, and the version before runs.")
}

pub(crate) async fn execute(
    rpc: &Rpc,
    matches: &ArgMatches,
    settings: &Settings,
) -> Result<ExitCode, Failure> {
    let path: &Path = matches.get_one::<PathBuf>(FILE).map_or(Path::new(""), PathBuf::as_path);
    let file = read(path)?;
    let (node, _) = settings.single_target("node upgrade")?;
    let client = Client::connect(&node).await?;
    let before = info(&client).await.map_err(|status| Failure::from_status(&status))?;
    let check_only = matches.get_flag(CHECK);
    let (method, messages) = (rpc.path(), messages(file, check_only));
    let sent = client.streaming(&method, messages, MetadataMap::new(), settings.timeout);
    let answers = sent.await.map_err(|status| Failure::from_status(&status))?.into_inner();
    let last = follow(&client, answers, settings.output).await?;
    if check_only {
        return Ok(ExitCode::SUCCESS);
    }
    let after = await_takeover(&node, &before).await?;
    conclude(&last, &after, settings.output)
}

fn read(path: &Path) -> Result<Bytes, Failure> {
    let failed = |error| Failure::new(format!("failed to read {}: {error}", path.display()));
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_SIZE {
        return Err(Failure::new(format!(
            "{} has {}; a daemon has at most {}",
            path.display(),
            units::format_bytes(size),
            units::format_bytes(MAX_SIZE)
        )));
    }
    std::fs::read(path).map(Bytes::from).map_err(failed)
}

/// The messages, made as they are sent; a terminal is shown how far that is.
fn messages(
    file: Bytes,
    check_only: bool,
) -> impl tokio_stream::Stream<Item = Bytes> + Send + 'static {
    let size = file.len();
    let sha256 = digest(&SHA256, &file).as_ref().to_vec();
    let start = Message::Start(UpgradeStart { size: size as u64, sha256, check_only });
    let pieces = (0..size).step_by(PIECE).map(move |from| {
        show_progress(from, size);
        Message::Data(file.slice(from..size.min(from + PIECE)))
    });
    let messages = std::iter::once(start).chain(pieces);
    tokio_stream::iter(
        messages.map(|message| UpgradeRequest { message: Some(message) }.encode_to_vec().into()),
    )
}

fn show_progress(sent: usize, size: usize) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let percent = sent.saturating_mul(100) / size.max(1);
        // A terminal that is gone is told nothing.
        let _ = write!(stderr, "\r\x1b[Ksending: {percent} %");
    }
}

fn clear_progress() {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[K");
    }
}

/// Tells each phase, and answers the last one.
async fn follow(
    client: &Client,
    mut answers: Streaming<Bytes>,
    format: Output,
) -> Result<UpgradeResponse, Failure> {
    let mut last = UpgradeResponse::default();
    clear_progress();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                last = UpgradeResponse::decode(answer).map_err(|error| {
                    Failure::new(format!("the node's answer cannot be decoded: {error}"))
                })?;
                output::print(&phase_text(&last, format))?;
            }
            Ok(None) => return Ok(last),
            // The connection ends in that phase.
            Err(_) if last.phase() == UpgradePhase::TakingOver => return Ok(last),
            Err(status) => return Err(Failure::from_status(&client.explain(status))),
        }
    }
}

fn phase_text(answer: &UpgradeResponse, format: Output) -> String {
    let UpgradeResponse { from_version, to_version, .. } = answer;
    match (format, answer.phase()) {
        (Output::Json, phase) => {
            let phase = phase.as_str_name();
            let json = serde_json::json!({
                "phase": phase, "fromVersion": from_version, "toVersion": to_version,
            });
            format!("{json}\n")
        }
        (Output::Text, UpgradePhase::Received) => "received\n".to_owned(),
        (Output::Text, UpgradePhase::Checked) => {
            format!("checked: version {} gets ready here\n", output::printable(to_version))
        }
        (Output::Text, UpgradePhase::TakingOver) => "taking over\n".to_owned(),
        (Output::Text, UpgradePhase::Unspecified) => String::new(),
    }
}

async fn info(client: &Client) -> Result<InfoResponse, Status> {
    let mut node = NodeServiceClient::new(client.channel());
    let asked = tokio::time::timeout(LOOK_TIMEOUT, node.info(InfoRequest {})).await;
    let answer = asked.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
    answer.map(tonic::Response::into_inner).map_err(|status| client.explain(status))
}

/// Waits until the daemon that answers is not the one that did before.
async fn await_takeover(node: &Node, before: &InfoResponse) -> Result<InfoResponse, Failure> {
    let start = Instant::now();
    loop {
        if let Ok(client) = Client::connect(node).await
            && let Ok(after) = info(&client).await
            && after.daemon_start_time != before.daemon_start_time
        {
            return Ok(after);
        }
        if start.elapsed() > TAKEOVER_TIMEOUT {
            let waited = TAKEOVER_TIMEOUT.as_secs();
            let failure = Failure::new(format!("no daemon took over within {waited} s"));
            return Err(failure.hint("`aer node info` tells which one runs"));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn conclude(
    last: &UpgradeResponse,
    after: &InfoResponse,
    format: Output,
) -> Result<ExitCode, Failure> {
    let outcome = after.last_upgrade.clone().unwrap_or_default();
    if !outcome.rolled_back.is_empty() {
        let message = format!(
            "version {} did not get ready, and version {} took back over: {}",
            output::printable(&outcome.to_version),
            output::printable(&after.version),
            output::printable(&outcome.rolled_back)
        );
        return Err(Failure::new(message).hint("nothing that the node runs was touched"));
    }
    if format == Output::Text {
        output::print(&format!(
            "version {} took over from version {}\n",
            output::printable(&after.version),
            output::printable(&last.from_version)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
