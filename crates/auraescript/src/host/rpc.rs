//! Calls: the script encodes and decodes messages, this moves their bytes.
//! `sdk/typescript/src/platform/host.ts` is the other side, and says what each function takes.
//!
//! A call's promise is not rejected: how a call ended is a value, and the SDK makes the error of it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aurae_client::{Client, Config, ConfigError, report};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use rquickjs::function::{Func, Opt};
use rquickjs::{Ctx, IntoJs as _, Object, Promise, TypedArray, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Response, Status, Streaming};

use super::{State, text};
use crate::event_loop::Settle;
use crate::throw;

/// How many messages of a client's stream may wait to be sent; `send` waits when there are more.
const SEND_QUEUE: usize = 16;

/// Where gRPC carries an error's details.
const DETAILS: &str = "grpc-status-details-bin";

/// Connections and streams that are open.
#[derive(Default)]
pub(crate) struct Calls {
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    clients: HashMap<u64, Client>,
    next_client: u64,
    streams: HashMap<u64, Stream>,
}

#[derive(Clone)]
struct Stream {
    client: Client,
    /// Unset until the node has answered.
    messages: Option<Arc<tokio::sync::Mutex<Streaming<Bytes>>>>,
    /// Unset when the script has said all it has to say.
    requests: Option<mpsc::Sender<Bytes>>,
    deadline: Option<Instant>,
    /// The operation that waits for the next message.
    receiving: Option<u64>,
}

impl Calls {
    fn open(&self) -> MutexGuard<'_, Open> {
        lock(&self.open)
    }

    fn client(&self, ctx: &Ctx<'_>, id: u64) -> rquickjs::Result<Client> {
        self.open().clients.get(&id).cloned().ok_or_else(|| {
            throw::error(ctx, "Error", "the connection to the node was closed by this script")
        })
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn install(host: &Object<'_>, state: &State) -> rquickjs::Result<()> {
    let on = |state: &State| state.clone();

    let state_ = on(state);
    host.set(
        "connect",
        Func::from(move |ctx, node: Opt<Option<String>>, config: Opt<Option<String>>| {
            connect(&ctx, &state_, node.0.flatten(), config.0.flatten())
        }),
    )?;
    let state_ = on(state);
    let disconnect = move |id: f64| {
        state_.calls.open().clients.remove(&(id as u64));
    };
    host.set("disconnect", Func::from(disconnect))?;
    let state_ = on(state);
    host.set(
        "nodeNames",
        Func::from(move |ctx, config: Opt<Option<String>>| {
            node_names(&ctx, &state_, config.0.flatten())
        }),
    )?;
    let state_ = on(state);
    host.set("unary", Func::from(move |ctx, call| unary(&ctx, &state_, call)))?;
    let state_ = on(state);
    host.set("stream", Func::from(move |ctx, call| stream(&ctx, &state_, call)))?;
    let state_ = on(state);
    let send_ = move |ctx, id: f64, message: String| send(&ctx, &state_, id as u64, &message);
    host.set("send", Func::from(send_))?;
    let state_ = on(state);
    let close = move |id: f64| {
        if let Some(stream) = state_.calls.open().streams.get_mut(&(id as u64)) {
            stream.requests = None;
        }
    };
    host.set("closeSend", Func::from(close))?;
    let state_ = on(state);
    host.set("next", Func::from(move |ctx, id: f64| next(&ctx, &state_, id as u64)))?;
    let state_ = on(state);
    host.set("cancel", Func::from(move |id: f64| cancel(&state_, id as u64)))
}

/// The configuration that a script means, or that the command line named.
fn config(state: &State, explicit: Option<String>) -> Result<Config, ConfigError> {
    let explicit = explicit.map(PathBuf::from).or_else(|| state.settings.config.clone());
    Config::find(explicit.as_deref())
}

fn connect<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    node: Option<String>,
    path: Option<String>,
) -> rquickjs::Result<Promise<'js>> {
    let node = node.or_else(|| state.settings.node.clone());
    let chosen = config(state, path).and_then(|config| match node {
        Some(name) => config.node(&name),
        None => config.default_node(),
    });
    let open = state.calls.open.clone();
    let connecting = async move {
        let node = match chosen {
            Ok(node) => node,
            Err(error) => return failure("config", report(&error)),
        };
        match Client::connect(&node).await {
            Ok(client) => connected(open, client),
            Err(error) => {
                failure("connect", format!("{}\n  help: {}", report(&error), error.hint()))
            }
        }
    };
    Ok(state.event_loop.start(ctx, connecting)?.1)
}

fn connected(open: Arc<Mutex<Open>>, client: Client) -> Settle {
    Box::new(move |ctx| {
        let object = Object::new(ctx.clone())?;
        object.set("name", client.node().as_str())?;
        let mut open = lock(&open);
        let id = open.next_client;
        open.next_client += 1;
        open.clients.insert(id, client);
        object.set("id", id as f64)?;
        Ok(object.into_value())
    })
}

fn failure(kind: &'static str, message: String) -> Settle {
    Box::new(move |ctx| {
        let object = Object::new(ctx.clone())?;
        object.set("kind", kind)?;
        object.set("error", message)?;
        Ok(object.into_value())
    })
}

/// The nodes' names, or, as a string, why there are none.
fn node_names<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    path: Option<String>,
) -> rquickjs::Result<Value<'js>> {
    match config(state, path).and_then(|config| config.all_nodes()) {
        Ok(nodes) => {
            let names: Vec<String> = nodes.iter().map(|node| node.name.to_string()).collect();
            names.into_js(ctx)
        }
        Err(error) => report(&error).into_js(ctx),
    }
}

/// The arguments of a call, as the SDK passes them.
struct Request {
    connection: u64,
    path: String,
    /// In base64. Unset where messages follow.
    message: Option<String>,
    header: Vec<String>,
    timeout: Option<Duration>,
}

impl<'js> rquickjs::FromJs<'js> for Request {
    fn from_js(ctx: &Ctx<'js>, value: Value<'js>) -> rquickjs::Result<Self> {
        let (connection, path, message, header, timeout): (f64, String, _, _, Option<f64>) = {
            let object = Object::from_js(ctx, value)?;
            (
                object.get("connection")?,
                object.get("path")?,
                object.get("message")?,
                object.get("header")?,
                object.get("timeoutMs")?,
            )
        };
        let timeout = timeout
            .map(|ms| Duration::try_from_secs_f64(ms.max(0.0) / 1000.0).unwrap_or(Duration::MAX))
            .filter(|timeout| *timeout < LONGEST_TIMEOUT);
        Ok(Self { connection: connection as u64, path, message, header, timeout })
    }
}

/// gRPC cannot say more, and nobody waits longer: such a call has no deadline.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(99_999_999);

impl Request {
    fn message(&self, ctx: &Ctx<'_>) -> rquickjs::Result<Option<Bytes>> {
        let message = self.message.as_deref();
        Ok(message.map(|message| text::bytes(ctx, message)).transpose()?.map(Bytes::from))
    }

    fn metadata(&self, ctx: &Ctx<'_>) -> rquickjs::Result<MetadataMap> {
        let mut headers = HeaderMap::new();
        for pair in self.header.chunks_exact(2) {
            let [name, value] = pair else { continue };
            let bad = |what: &dyn std::fmt::Display| {
                throw::error(ctx, "TypeError", &format!("the header `{name}` is not sent: {what}"))
            };
            headers.append(
                name.parse::<HeaderName>().map_err(|error| bad(&error))?,
                value.parse::<HeaderValue>().map_err(|error| bad(&error))?,
            );
        }
        Ok(MetadataMap::from_headers(headers))
    }
}

fn unary<'js>(ctx: &Ctx<'js>, state: &State, call: Request) -> rquickjs::Result<Object<'js>> {
    let client = state.calls.client(ctx, call.connection)?;
    let message = call.message(ctx)?.unwrap_or_default();
    let metadata = call.metadata(ctx)?;
    let calling = async move {
        let result = client.unary(&call.path, message, metadata, call.timeout).await;
        let settle: Settle = match result {
            Ok(response) => Box::new(|ctx| {
                // Trailers of a unary call are among its metadata.
                let (metadata, body, _) = response.into_parts();
                let end = End::success(ctx, &MetadataMap::new())?;
                end.set("header", pairs(&metadata))?;
                end.set("body", TypedArray::<u8>::new(ctx.clone(), body)?)?;
                Ok(end.into_value())
            }),
            Err(status) => refused(status),
        };
        settle
    };
    started(ctx, state.event_loop.start(ctx, calling)?)
}

fn stream<'js>(ctx: &Ctx<'js>, state: &State, call: Request) -> rquickjs::Result<Object<'js>> {
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
fn send<'js>(
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
fn next<'js>(ctx: &Ctx<'js>, state: &State, id: u64) -> rquickjs::Result<Promise<'js>> {
    let stream = state.calls.open().streams.get(&id).cloned();
    let receiving = async move {
        let Some(Stream { client, messages: Some(messages), deadline, .. }) = stream else {
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

/// Ends a call, wherever it stands. One that has ended is not an error.
fn cancel(state: &State, id: u64) {
    state.event_loop.abort(id);
    let stream = state.calls.open().streams.remove(&id);
    if let Some(receiving) = stream.and_then(|stream| stream.receiving) {
        state.event_loop.abort(receiving);
    }
}

fn started<'js>(
    ctx: &Ctx<'js>,
    (id, promise): (u64, Promise<'js>),
) -> rquickjs::Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("id", id as f64)?;
    object.set("promise", promise)?;
    Ok(object)
}

fn refused(status: Status) -> Settle {
    Box::new(move |ctx| Ok(End::of(ctx, &status)?.into_value()))
}

/// How a call ended, for the script.
struct End;

impl End {
    fn success<'js>(ctx: &Ctx<'js>, trailers: &MetadataMap) -> rquickjs::Result<Object<'js>> {
        Self::make(ctx, Code::Ok, "", pairs(trailers))
    }

    fn of<'js>(ctx: &Ctx<'js>, status: &Status) -> rquickjs::Result<Object<'js>> {
        let mut trailer = pairs(status.metadata());
        if !status.details().is_empty() {
            trailer.extend([DETAILS.to_owned(), STANDARD_NO_PAD.encode(status.details())]);
        }
        Self::make(ctx, status.code(), status.message(), trailer)
    }

    fn make<'js>(
        ctx: &Ctx<'js>,
        code: Code,
        message: &str,
        trailer: Vec<String>,
    ) -> rquickjs::Result<Object<'js>> {
        let object = Object::new(ctx.clone())?;
        object.set("code", i32::from(code))?;
        object.set("message", message)?;
        object.set("trailer", trailer)?;
        object.set("header", Vec::<String>::new())?;
        Ok(object)
    }
}

/// Metadata as names and values in turn. What is not text was not made by gRPC, and is left out.
fn pairs(metadata: &MetadataMap) -> Vec<String> {
    let headers = metadata.clone().into_headers();
    let mut pairs = Vec::with_capacity(headers.len() * 2);
    for (name, value) in &headers {
        if let Ok(value) = value.to_str() {
            pairs.extend([name.to_string(), value.to_owned()]);
        }
    }
    pairs
}
