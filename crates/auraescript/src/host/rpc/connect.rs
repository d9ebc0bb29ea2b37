//! Connections.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use aurae_client::{Client, Config, ConfigError, report};
use rquickjs::{Ctx, IntoJs as _, Object, Promise, Value};

use super::super::State;
use super::{Open, lock};
use crate::event_loop::Settle;

/// The configuration that a script means, or that the command line named.
fn config(state: &State, explicit: Option<String>) -> Result<Config, ConfigError> {
    let explicit = explicit.map(PathBuf::from).or_else(|| state.settings.config.clone());
    Config::find(explicit.as_deref())
}

pub(super) fn connect<'js>(
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
pub(super) fn node_names<'js>(
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
