//! `CopyIn` and `CopyOut`: between the wire and a copy's own thread.

use aurae_copy::{Copied, Item, Reading, Step, Writing};
use aurae_proto::cells as wire;
use aurae_proto::cells::cell_service_copy_out_response::Message;
use futures_util::stream;
use tonic::{Request, Response, Status, Streaming};

use crate::admit;
use crate::reply;
use crate::runtime::copies;
use crate::service::Answers;

/// Writes what comes until all is there. Where the caller goes away before, the copy goes with it.
pub(super) async fn copy_in(
    mut request: Request<Streaming<wire::CellServiceCopyInRequest>>,
) -> Result<Response<wire::CellServiceCopyInResponse>, Status> {
    let _permit = admit::on_node(&mut request).map_err(|error| reply::status(&error))?;
    let mut messages = request.into_inner();
    let first = messages.message().await?.and_then(|message| message.message);
    let target = admit::copy::target(first).map_err(|error| reply::status(&error))?;
    let room = copies::room().map_err(|error| reply::status(&error))?;
    let mut writing = Writing::start(target.directory, target.ownership, room)
        .map_err(|error| reply::status(&error))?;
    if let Err(status) = forward(&mut messages, &mut writing).await {
        // Answered when nothing half is left.
        writing.abandon().await;
        return Err(status);
    }
    let written = writing.finish().await;
    let Copied { entries, bytes } = written.map_err(|error| reply::status(&error))?;
    Ok(Response::new(wire::CellServiceCopyInResponse { entries, bytes }))
}

async fn forward(
    messages: &mut Streaming<wire::CellServiceCopyInRequest>,
    writing: &mut Writing,
) -> Result<(), Status> {
    while let Some(step) = next_step(messages, writing).await? {
        writing.step(step).await.map_err(|error| reply::status(&error))?;
    }
    Ok(())
}

/// What the caller sends next, unless the copy fails before it does.
async fn next_step(
    messages: &mut Streaming<wire::CellServiceCopyInRequest>,
    writing: &mut Writing,
) -> Result<Option<Step>, Status> {
    let message = tokio::select! {
        message = messages.message() => message?,
        error = writing.failure() => return Err(reply::status(&error)),
    };
    let step = message.map(|message| admit::copy::step(message.message)).transpose();
    step.map_err(|error| reply::status(&error))
}

/// Reads as fast as the caller takes what is read.
pub(super) fn copy_out(
    request: Request<wire::CellServiceCopyOutRequest>,
) -> Result<Response<Answers<wire::CellServiceCopyOutResponse>>, Status> {
    let (_permit, source) = admit::copy::source(request).map_err(|error| reply::status(&error))?;
    let room = copies::room().map_err(|error| reply::status(&error))?;
    let reading = Reading::start(source, None, room).map_err(|error| reply::status(&error))?;
    let answers = stream::try_unfold(reading, |mut reading| async {
        match reading.next().await {
            Ok(item) => Ok(item.map(|item| (answer(item), reading))),
            Err(error) => Err(reply::status(&error)),
        }
    });
    Ok(Response::new(Box::pin(answers)))
}

fn answer(item: Item) -> wire::CellServiceCopyOutResponse {
    let message = match item {
        Item::Entry(entry) => Message::Entry(entry.into()),
        Item::Data(bytes) => Message::Data(bytes),
        Item::Skipped { path, reason } => Message::Skipped(wire::CopySkipped {
            path: path.as_bytes().into(),
            reason: reason.to_owned(),
        }),
    };
    wire::CellServiceCopyOutResponse { message: Some(message) }
}
