//! Streams of messages, in both directions.

use std::sync::{Arc, Mutex};

use aurae_client::Client;
use bytes::Bytes;
use rquickjs::{Ctx, IntoJs as _, Object, Promise, TypedArray};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status, Streaming};

use super::super::{State, text};
use super::wire::{End, Request, pairs, refused};
use super::{Open, lock, started};
use crate::event_loop::Settle;

/// How many messages of a client's stream may wait to be sent; `send` waits when there are more.
const SEND_QUEUE: usize = 16;

/// A stream that is open, or being opened.
pub(super) struct Stream {
    client: Client,
    /// Unset until the node has answered.
    messages: Option<Arc<tokio::sync::Mutex<Streaming<Bytes>>>>,
    /// Unset when the script has said all it has to say.
    requests: Option<mpsc::Sender<Bytes>>,
    deadline: Option<Instant>,
    /// The operation that waits for the next message.
    receiving: Option<u64>,
}

/// Opens a stream.
pub(super) fn stream<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    call: Request,
) -> rquickjs::Result<Object<'js>> {
    let client = state.calls.client(ctx, call.connection)?;
    let message = call.message(ctx)?;
    let metadata = call.metadata(ctx)?;
    let (sender, receiver) = mpsc::channel(SEND_QUEUE);
    let entry = Stream {
        client: client.clone(),
        messages: None,
        requests: message.is_none().then_some(sender),
        deadline: call.timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
        receiving: None,
    };

    let open = state.calls.open.clone();
    // The operation's number is the stream's, and it is known only when the operation was started.
    let (tell_id, id) = tokio::sync::oneshot::channel();
    let opening = async move {
        let Request { path, timeout, .. } = call;
        let result = match message {
            Some(message) => client.server_streaming(&path, message, metadata, timeout).await,
            None => client.streaming(&path, ReceiverStream::new(receiver), metadata, timeout).await,
        };
        match (result, id.await) {
            (Ok(response), Ok(id)) => opened(open, id, response),
            (Ok(_), Err(_)) => refused(Status::cancelled("the script has ended")),
            (Err(status), _) => refused(status),
        }
    };
    let (id, promise) = state.event_loop.start(ctx, opening)?;
    state.calls.open().streams.insert(id, entry);
    let _ = tell_id.send(id);
    started(ctx, (id, promise))
}

fn opened(open: Arc<Mutex<Open>>, id: u64, response: Response<Streaming<Bytes>>) -> Settle {
    Box::new(move |ctx| {
        let (metadata, messages, _) = response.into_parts();
        if let Some(stream) = lock(&open).streams.get_mut(&id) {
            stream.messages = Some(Arc::new(tokio::sync::Mutex::new(messages)));
        }
        let end = End::success(ctx, &MetadataMap::new())?;
        end.set("header", pairs(&metadata))?;
        Ok(end.into_value())
    })
}

/// Sends a message of a client's stream. False: the call is over.
pub(super) fn send<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    id: u64,
    message: &str,
) -> rquickjs::Result<Promise<'js>> {
    let message = Bytes::from(text::bytes(ctx, message)?);
    let requests = state.calls.open().streams.get(&id).and_then(|stream| stream.requests.clone());
    let sending = async move {
        let sent = match requests {
            Some(requests) => requests.send(message).await.is_ok(),
            None => false,
        };
        let settle: Settle = Box::new(move |ctx| sent.into_js(ctx));
        settle
    };
    Ok(state.event_loop.start(ctx, sending)?.1)
}

/// Receives the next message: its bytes, or how the call ended.
pub(super) fn next<'js>(ctx: &Ctx<'js>, state: &State, id: u64) -> rquickjs::Result<Promise<'js>> {
    // Not the sender of requests: while somebody has one, the node waits for more.
    let stream = state.calls.open().streams.get(&id).and_then(|stream| {
        Some((stream.client.clone(), stream.messages.clone()?, stream.deadline))
    });
    let receiving = async move {
        let Some((client, messages, deadline)) = stream else {
            return refused(Status::cancelled("the call was cancelled"));
        };
        let mut messages = messages.lock().await;
        let message = match deadline {
            Some(deadline) => {
                tokio::time::timeout_at(deadline, messages.message()).await.unwrap_or_else(|_| {
                    Err(Status::deadline_exceeded("the time for the call is over"))
                })
            }
            None => messages.message().await,
        };
        match message {
            Ok(Some(message)) => {
                let settle: Settle = Box::new(move |ctx| {
                    Ok(TypedArray::<u8>::new(ctx.clone(), message)?.into_value())
                });
                settle
            }
            Ok(None) => {
                let trailers = messages.trailers().await.ok().flatten().unwrap_or_default();
                Box::new(move |ctx| Ok(End::success(ctx, &trailers)?.into_value()))
            }
            Err(status) => refused(client.explain(status)),
        }
    };
    let (operation, promise) = state.event_loop.start(ctx, receiving)?;
    if let Some(stream) = state.calls.open().streams.get_mut(&id) {
        stream.receiving = Some(operation);
    }
    Ok(promise)
}

/// Says that no more messages follow.
pub(super) fn close_send(state: &State, id: u64) {
    if let Some(stream) = state.calls.open().streams.get_mut(&id) {
        stream.requests = None;
    }
}

/// Ends a call, wherever it stands. One that has ended is not an error.
pub(super) fn cancel(state: &State, id: u64) {
    state.event_loop.abort(id);
    let stream = state.calls.open().streams.remove(&id);
    if let Some(receiving) = stream.and_then(|stream| stream.receiving) {
        state.event_loop.abort(receiving);
    }
}
