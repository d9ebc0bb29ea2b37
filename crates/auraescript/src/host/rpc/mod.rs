//! Calls: the script encodes and decodes messages, this moves their bytes.
//! `sdk/typescript/src/platform/host.ts` is the other side, and says what each function takes.
//!
//! A call's promise is not rejected: how a call ended is a value, and the SDK makes the error of it.

mod connect;
mod stream;
mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aurae_client::Client;
use rquickjs::function::{Func, Opt};
use rquickjs::{Ctx, Object, Promise, TypedArray};
use tonic::metadata::MetadataMap;

use super::State;
use crate::event_loop::Settle;
use crate::throw;
use stream::Stream;
use wire::{End, Request, pairs, refused};

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

/// Defines the functions.
pub(super) fn install(host: &Object<'_>, state: &State) -> rquickjs::Result<()> {
    let on = state.clone();
    host.set(
        "connect",
        Func::from(move |ctx, node: Opt<Option<String>>, config: Opt<Option<String>>| {
            connect::connect(&ctx, &on, node.0.flatten(), config.0.flatten())
        }),
    )?;
    let on = state.clone();
    let disconnect = move |id: f64| {
        on.calls.open().clients.remove(&(id as u64));
    };
    host.set("disconnect", Func::from(disconnect))?;
    let on = state.clone();
    host.set(
        "nodeNames",
        Func::from(move |ctx, config: Opt<Option<String>>| {
            connect::node_names(&ctx, &on, config.0.flatten())
        }),
    )?;
    let on = state.clone();
    host.set("unary", Func::from(move |ctx, call| unary(&ctx, &on, call)))?;
    let on = state.clone();
    host.set("stream", Func::from(move |ctx, call| stream::stream(&ctx, &on, call)))?;
    let on = state.clone();
    host.set(
        "send",
        Func::from(move |ctx, id: f64, message: String| {
            stream::send(&ctx, &on, id as u64, &message)
        }),
    )?;
    let on = state.clone();
    host.set("closeSend", Func::from(move |id: f64| stream::close_send(&on, id as u64)))?;
    let on = state.clone();
    host.set("next", Func::from(move |ctx, id: f64| stream::next(&ctx, &on, id as u64)))?;
    let on = state.clone();
    host.set("cancel", Func::from(move |id: f64| stream::cancel(&on, id as u64)))
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

/// A call's number and its promise.
fn started<'js>(
    ctx: &Ctx<'js>,
    (id, promise): (u64, Promise<'js>),
) -> rquickjs::Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("id", id as f64)?;
    object.set("promise", promise)?;
    Ok(object)
}
