//! Streams for people: a line for every item.

use aurae_proto::audit::StreamResponse;
use aurae_proto::cells::CellServiceWatchResponse;
use aurae_proto::observe::{GetExecutableLogsResponse, LogChannelType, LogEntry};
use bytes::Bytes;
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage, Value};

use super::{audit, changes, in_file_order, scalar};
use crate::failure::Failure;
use crate::output::{Chunk, printable};
use crate::units;

/// How the lines of a stream are written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines {
    /// The node that every line is to name.
    pub(crate) node: Option<String>,
    /// Whether an executable's lines have their time before them.
    pub(crate) timestamps: bool,
    /// Whether a message came before.
    begun: bool,
    /// How many records a node said that its file does not have.
    lost: u64,
}

impl Lines {
    pub(crate) fn new(node: Option<String>, timestamps: bool) -> Self {
        Self { node, timestamps, begun: false, lost: 0 }
    }

    /// What a message of a stream says.
    pub(crate) fn chunks(
        &mut self,
        kind: &MessageDescriptor,
        message: Bytes,
    ) -> Result<Vec<Chunk>, Failure> {
        let undecodable =
            |error| Failure::new(format!("the node's answer cannot be decoded: {error}"));
        if kind.full_name() == "aurae.observe.v0.GetExecutableLogsResponse" {
            let logs = GetExecutableLogsResponse::decode(message).map_err(undecodable)?;
            return Ok(self.log_chunks(&logs));
        }
        if kind.full_name() == "aurae.cells.v0.CellServiceWatchResponse" {
            let change = CellServiceWatchResponse::decode(message).map_err(undecodable)?;
            return Ok(self.change_chunks(&change));
        }
        if kind.full_name() == "aurae.audit.v0.StreamResponse" {
            let seen = StreamResponse::decode(message).map_err(undecodable)?;
            return Ok(self.audit_chunks(&seen));
        }
        let message = DynamicMessage::decode(kind.clone(), message).map_err(undecodable)?;
        let chunk = match (kind.full_name(), log_item(&message)) {
            ("aurae.node.v0.KernelLogResponse", _) => {
                self.line(false, &columns(&message, &["unix_nanos", "message"]))
            }
            (_, Some(item)) => self.log_item(&item),
            (_, None) => self.line(false, &all_columns(&message)),
        };
        Ok(vec![chunk])
    }

    /// An executable's output, byte for byte unless lines have something before them.
    pub(crate) fn log_chunks(&mut self, logs: &GetExecutableLogsResponse) -> Vec<Chunk> {
        let missed = (logs.missed_entries > 0).then(|| self.missed(logs));
        self.begun = true;
        missed.into_iter().chain(logs.entries.iter().map(|entry| self.entry(entry))).collect()
    }

    fn change_chunks(&self, change: &CellServiceWatchResponse) -> Vec<Chunk> {
        let missed = (change.missed > 0).then(|| {
            let changes = if change.missed == 1 { "change is" } else { "changes are" };
            let note =
                format!("note: {} {changes} missing here: we read too slowly", change.missed);
            self.line(true, &note)
        });
        missed.into_iter().chain([self.line(false, &changes::line(change))]).collect()
    }

    fn audit_chunks(&mut self, seen: &StreamResponse) -> Vec<Chunk> {
        let record = seen.record.clone().unwrap_or_default();
        let records = |count: u64| if count == 1 { "record is" } else { "records are" };
        let missed = (seen.missed > 0).then(|| {
            let why = match self.begun {
                true => "we read too slowly",
                false => "they were not kept any more",
            };
            format!("note: {} {} missing here: {why}", seen.missed, records(seen.missed))
        });
        let omitted = (record.omitted > 0).then(|| {
            let what = match record.action.is_empty() {
                true => "connections were refused and",
                false => "calls of this caller were refused, or only asked about it, and",
            };
            format!("note: {} more {what} have no record", record.omitted)
        });
        let lost = (seen.lost > self.lost)
            .then(|| format!("note: {} {} not in the node's file", seen.lost, records(seen.lost)));
        (self.begun, self.lost) = (true, seen.lost);
        let notes = [missed, omitted, lost].into_iter().flatten();
        let notes: Vec<_> = notes.map(|note| self.line(true, &note)).collect();
        notes.into_iter().chain([self.line(false, &audit::line(&record))]).collect()
    }

    fn missed(&self, logs: &GetExecutableLogsResponse) -> Chunk {
        let why = match self.begun {
            true => "we read too slowly",
            false => "they were not kept any more",
        };
        let size = units::format_bytes(logs.missed_bytes);
        let lines = if logs.missed_entries == 1 { "line is" } else { "lines are" };
        let note = format!("note: {} {lines} missing here ({size}): {why}", logs.missed_entries);
        Chunk { to_stderr: true, ..self.line(true, &note) }
    }

    fn entry(&self, entry: &LogEntry) -> Chunk {
        let to_stderr = entry.channel_type() == LogChannelType::Stderr;
        let mut bytes = Vec::with_capacity(entry.data.len() + 1);
        let prefixed = self.node.is_some() || self.timestamps;
        if let Some(node) = &self.node {
            bytes.extend(format!("{node}: ").as_bytes());
        }
        if self.timestamps {
            let time = units::format_time(i128::from(entry.unix_nanos));
            bytes.extend(format!("{} ", time.unwrap_or_default()).as_bytes());
        }
        bytes.extend(&entry.data);
        // A line that goes on in the next entry gets its own end where that one has a prefix.
        if !entry.partial || prefixed {
            bytes.push(b'\n');
        }
        Chunk { to_stderr, bytes }
    }

    fn log_item(&self, item: &DynamicMessage) -> Chunk {
        let text = |name: &str| {
            item.get_field_by_name(name)
                .and_then(|value| value.as_str().map(printable))
                .unwrap_or_default()
        };
        self.line(text("channel").ends_with("::stderr"), &text("line"))
    }

    fn line(&self, to_stderr: bool, text: &str) -> Chunk {
        let line = match &self.node {
            Some(node) => format!("{node}: {text}\n"),
            None => format!("{text}\n"),
        };
        if to_stderr { Chunk::stderr(line) } else { Chunk::stdout(line) }
    }
}

/// The log item of a message that has one.
fn log_item(message: &DynamicMessage) -> Option<DynamicMessage> {
    let item = message.get_field_by_name("item")?;
    let item = item.as_message()?;
    (item.descriptor().full_name() == "aurae.observe.v0.LogItem").then(|| item.clone())
}

fn columns(message: &DynamicMessage, names: &[&str]) -> String {
    let descriptor = message.descriptor();
    let fields = names.iter().filter_map(|name| descriptor.get_field_by_name(name));
    let texts = fields.map(|field| scalar::text(&field, &message.get_field(&field)));
    texts.collect::<Vec<_>>().join("  ")
}

/// The values of all fields, those of messages inside included.
fn all_columns(message: &DynamicMessage) -> String {
    let fields = in_file_order(&message.descriptor());
    let texts = fields.iter().map(|field| match message.get_field(field).as_ref() {
        Value::Message(inner) if super::is_structure(field) => all_columns(inner),
        value => scalar::text(field, value),
    });
    texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("  ")
}
