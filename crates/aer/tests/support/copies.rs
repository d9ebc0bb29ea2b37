//! Copies in and out of a made-up node: its files are those of this machine, and one source lies.

use aurae_copy::{Item, Ownership, Reading, Writing, parse_entry};
use aurae_proto::cells::cell_service_copy_in_request::Message as In;
use aurae_proto::cells::cell_service_copy_out_response::Message as Out;
use aurae_proto::cells::*;
use futures_util::StreamExt as _;
use tokio_stream::iter;
use tonic::codegen::BoxStream;
use tonic::{Status, Streaming};

/// What a hostile node sends for `/hostile/N`, N entries of it.
fn hostile() -> Vec<CopyEntry> {
    let entry = |path: &[u8], kind| CopyEntry {
        path: path.into(),
        kind: Some(kind),
        ..CopyEntry::default()
    };
    let link = |target: &[u8]| copy_entry::Kind::Symlink(target.into());
    vec![
        entry(b"1", link(b"..")),
        entry(b"1/escaped", copy_entry::Kind::File(0)),
        entry(b"../escaped", copy_entry::Kind::File(0)),
        entry(b"/tmp/escaped", copy_entry::Kind::File(0)),
        entry(b".bashrc", copy_entry::Kind::File(0)),
    ]
}

/// The hostile entry of that number alone, after the first, a link.
fn lies(number: usize) -> BoxStream<CellServiceCopyOutResponse> {
    let entries = hostile();
    let told = [entries[0].clone(), entries[number].clone()];
    let message = |entry| Ok(CellServiceCopyOutResponse { message: Some(Out::Entry(entry)) });
    Box::pin(iter(told.map(message)))
}

pub(crate) fn copy_out(path: &str) -> BoxStream<CellServiceCopyOutResponse> {
    if let Some(number) = path.strip_prefix("/hostile/") {
        return lies(number.parse().unwrap());
    }
    let reading = Reading::start(path.into(), None, ()).unwrap();
    Box::pin(futures_util::stream::try_unfold(reading, |mut reading| async {
        let item = reading.next().await.map_err(|error| Status::not_found(error.to_string()))?;
        let message = item.map(|item| match item {
            Item::Entry(entry) => Out::Entry(entry.into()),
            Item::Data(bytes) => Out::Data(bytes),
            Item::Skipped { path, reason } => Out::Skipped(CopySkipped {
                path: path.as_bytes().into(),
                reason: reason.to_owned(),
            }),
        });
        Ok(message.map(|message| (CellServiceCopyOutResponse { message: Some(message) }, reading)))
    }))
}

pub(crate) async fn copy_in(
    mut messages: Streaming<CellServiceCopyInRequest>,
) -> Result<CellServiceCopyInResponse, Status> {
    let Some(In::Start(start)) = messages.message().await?.unwrap().message else {
        return Err(Status::failed_precondition("no start"));
    };
    if !std::fs::metadata(&start.directory).is_ok_and(|data| data.is_dir()) {
        return Err(Status::not_found(format!("{} is no directory", start.directory)));
    }
    let mut writing = Writing::start(start.directory.into(), Ownership::Own, ()).unwrap();
    while let Some(message) = messages.next().await {
        let step = match message?.message.unwrap() {
            In::Entry(entry) => aurae_copy::Step::Entry(parse_entry(entry).unwrap()),
            In::Data(data) => aurae_copy::Step::Data(data),
            In::Start(_) => return Err(Status::failed_precondition("start again")),
        };
        let written = writing.step(step).await;
        written.map_err(|error| Status::already_exists(error.to_string()))?;
    }
    let copied = writing.finish().await;
    let copied = copied.map_err(|error| Status::already_exists(error.to_string()))?;
    Ok(CellServiceCopyInResponse { entries: copied.entries, bytes: copied.bytes })
}
