//! What the engine lacks: the functions behind the globals and the embedded modules.
//!
//! They hang on one object under `Symbol.for("aurae.host")`. It is no boundary: a script may do what
//! the user may who runs it.

mod console;
mod crypto;
mod files;
mod rpc;
mod text;
mod timers;
mod url;

use std::rc::Rc;

use rquickjs::function::Func;
use rquickjs::{Ctx, Function, Object};

use crate::event_loop::EventLoop;
use crate::sources::Sources;

/// What host functions share.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) event_loop: Rc<EventLoop>,
    pub(crate) sources: Rc<Sources>,
    pub(crate) settings: Rc<crate::engine::Settings>,
    pub(crate) calls: Rc<rpc::Calls>,
}

/// The globals that are JavaScript: each file's are defined when the first of them is used.
const LAZY: [(&str, &str, &str); 6] = [
    ("console", "", include_str!("../js/console.js")),
    (
        "events",
        "Event EventTarget CustomEvent AbortController AbortSignal",
        include_str!("../js/events.js"),
    ),
    ("encoding", "TextEncoder TextDecoder", include_str!("../js/encoding.js")),
    ("url", "URL URLSearchParams", include_str!("../js/url.js")),
    ("headers", "Headers", include_str!("../js/headers.js")),
    ("values", "structuredClone crypto", include_str!("../js/values.js")),
];

/// Defines the globals.
pub(crate) fn install<'js>(ctx: &Ctx<'js>, state: &State) -> rquickjs::Result<()> {
    let host = Object::new(ctx.clone())?;
    console::install(&host, state)?;
    crypto::install(&host)?;
    files::install(&host, state)?;
    rpc::install(&host, state)?;
    text::install(&host)?;
    timers::install(&host, state)?;
    url::install(&host)?;
    host.set("load", Func::from(load))?;

    let names = Object::new(ctx.clone())?;
    for (file, globals, _) in LAZY {
        names.set(file, globals)?;
    }
    let bootstrap: Function<'js> = evaluate(ctx, "bootstrap", include_str!("../js/bootstrap.js"))?;
    bootstrap.call((host, names))
}

/// Evaluates one of the files of [`LAZY`]: a function that takes the host object.
fn load<'js>(ctx: Ctx<'js>, file: String) -> rquickjs::Result<Function<'js>> {
    let code = LAZY.iter().find(|(name, ..)| *name == file).map(|(.., code)| *code);
    evaluate(&ctx, &file, code.unwrap_or_default())
}

fn evaluate<'js>(ctx: &Ctx<'js>, file: &str, code: &str) -> rquickjs::Result<Function<'js>> {
    let mut options = rquickjs::context::EvalOptions::default();
    options.filename = Some(format!("aurae:{file}"));
    ctx.eval_with_options(code, options)
}
