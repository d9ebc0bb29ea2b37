//! `aer logs`: what an executable wrote, byte for byte.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use prost_reflect::{DynamicMessage, Value};

use crate::api::Api;
use crate::call::{self, Answers};
use crate::failure::Failure;
use crate::settings::Settings;
use crate::units;

pub(crate) const NAME: &str = "logs";

const CELL: &str = "cell";
const EXECUTABLE: &str = "executable";
const FOLLOW: &str = "follow";
const TAIL: &str = "tail";
const SINCE: &str = "since";
const TIMESTAMPS: &str = "timestamps";
const STREAM: &str = "stream";

pub(crate) fn command() -> Command {
    Command::new(NAME)
        .about("Prints what an executable wrote, to the outputs it wrote it to")
        .arg(Arg::new(CELL).required(true).value_name("CELL").help("The cell it is in"))
        .arg(Arg::new(EXECUTABLE).required(true).value_name("EXECUTABLE").help("Its name"))
        .arg(
            Arg::new(FOLLOW)
                .short('f')
                .long(FOLLOW)
                .action(ArgAction::SetTrue)
                .help("Goes on with what comes until the executable ends"),
        )
        .arg(
            Arg::new(TAIL)
                .short('n')
                .long(TAIL)
                .value_name("NUMBER")
                .value_parser(clap::value_parser!(u32))
                .help("Starts with the last so many lines that were kept"),
        )
        .arg(
            Arg::new(SINCE)
                .long(SINCE)
                .value_name("TIME")
                .value_parser(|text: &str| units::parse_time(text, std::time::SystemTime::now()))
                .help("Leaves out what is older: `2026-11-22T15:04:05Z`, or `5m` for five minutes ago"),
        )
        .arg(
            Arg::new(TIMESTAMPS)
                .short('t')
                .long(TIMESTAMPS)
                .action(ArgAction::SetTrue)
                .help("Puts the time before every line"),
        )
        .arg(
            Arg::new(STREAM)
                .long(STREAM)
                .value_name("STREAM")
                .value_parser(["stdout", "stderr"])
                .help("Only what was written there"),
        )
}

pub(crate) async fn execute(
    api: &Api,
    matches: &ArgMatches,
    settings: &Settings,
) -> Result<ExitCode, Failure> {
    let rpc = api.rpc("aurae.observe.v0.ObserveService", "GetExecutableLogs")?;
    let mut request = DynamicMessage::new(rpc.method.input());
    for (name, value) in values(matches) {
        request
            .try_set_field_by_name(name, value)
            .map_err(|error| Failure::new(format!("field {name}: {error}")))?;
    }
    if let Some(since) = matches.get_one::<time::OffsetDateTime>(SINCE) {
        set_since(&mut request, since)?;
    }
    let answers = Answers::new(settings).with_timestamps(matches.get_flag(TIMESTAMPS));
    call::ask(&rpc, &request, settings, &answers).await
}

fn values(matches: &ArgMatches) -> Vec<(&'static str, Value)> {
    let text = |id| matches.get_one::<String>(id).cloned().map(Value::String);
    let tail = matches.get_one::<u32>(TAIL).copied().map(Value::U32);
    let channel = matches.get_one::<String>(STREAM).map(|stream| match stream.as_str() {
        "stdout" => Value::EnumNumber(aurae_proto::observe::LogChannelType::Stdout.into()),
        _ => Value::EnumNumber(aurae_proto::observe::LogChannelType::Stderr.into()),
    });
    let all = [
        ("cell_name", text(CELL)),
        ("executable_name", text(EXECUTABLE)),
        ("follow", Some(Value::Bool(matches.get_flag(FOLLOW)))),
        ("tail", tail),
        ("channel_type", channel),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn set_since(request: &mut DynamicMessage, since: &time::OffsetDateTime) -> Result<(), Failure> {
    let nanos = i32::try_from(since.nanosecond()).unwrap_or_default();
    let fields = [("seconds", Value::I64(since.unix_timestamp())), ("nanos", Value::I32(nanos))];
    let field = request.get_field_by_name_mut("since").and_then(Value::as_message_mut);
    let Some(timestamp) = field else {
        return Err(Failure::new("field since is no time"));
    };
    for (name, value) in fields {
        timestamp
            .try_set_field_by_name(name, value)
            .map_err(|error| Failure::new(format!("field since.{name}: {error}")))?;
    }
    Ok(())
}
