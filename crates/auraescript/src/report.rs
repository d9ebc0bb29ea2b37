//! What a script's author sees when it fails.

use std::cell::RefCell;
use std::rc::Rc;

use rquickjs::{Ctx, Function, Object, Persistent, Symbol, Value};

use crate::host::State;
use crate::throw;

/// What the engine says when there is no memory.
pub(crate) const OUT_OF_MEMORY: &str = "out of memory";

/// Rejected promises that nobody has handled yet.
#[derive(Default)]
pub(crate) struct Rejections {
    open: RefCell<Vec<(Persistent<Value<'static>>, Persistent<Value<'static>>)>>,
}

impl Rejections {
    /// What the engine tells of rejections, and of those that were handled after all.
    pub(crate) fn tracker(self: Rc<Self>) -> rquickjs::runtime::RejectionTracker {
        Box::new(move |ctx, promise, reason, is_handled| {
            let mut open = self.open.borrow_mut();
            if is_handled {
                open.retain(|(each, _)| {
                    each.clone().restore(&ctx).map_or(true, |each| each != promise)
                });
            } else {
                let entry = (Persistent::save(&ctx, promise), Persistent::save(&ctx, reason));
                open.push(entry);
            }
        })
    }

    /// The first rejection that nobody handled: the promise and the reason.
    pub(crate) fn take<'js>(&self, ctx: &Ctx<'js>) -> Option<(Value<'js>, Value<'js>)> {
        let (promise, reason) = self.open.borrow_mut().drain(..).next()?;
        Some((promise.restore(ctx).ok()?, reason.restore(ctx).ok()?))
    }
}

/// The value behind an error of the engine.
pub(crate) fn thrown<'js>(ctx: &Ctx<'js>, error: &rquickjs::Error) -> Value<'js> {
    if error.is_exception() {
        return ctx.catch();
    }
    throw::make(ctx, "Error", &error.to_string())
        .unwrap_or_else(|_| Value::new_undefined(ctx.clone()))
}

/// Reports what nobody caught: the error, the line it comes from, the stack.
pub(crate) fn uncaught<'js>(ctx: &Ctx<'js>, state: &State, value: &Value<'js>, promise: bool) {
    let shown = inspect(ctx, value).unwrap_or_else(|| plain(value));
    let promise = if promise { " (in promise)" } else { "" };
    eprintln!("error: Uncaught{promise} {shown}");
    let stack = stack(value).map(|stack| state.sources.map_stack(&stack));
    if let Some(frame) = stack.and_then(|stack| state.sources.frame_of(&stack)) {
        eprintln!("{frame}");
    }
    if let Some(hint) = hint(state, value) {
        eprintln!("  help: {hint}");
    }
}

/// Reports that Ctrl-C has ended the script, and where it stood if it was running: `thrown` is what
/// the engine ended it with.
pub(crate) fn interrupted<'js>(ctx: &Ctx<'js>, state: &State, thrown: Option<Value<'js>>) {
    let thrown = thrown.unwrap_or_else(|| ctx.catch());
    let stack = stack(&thrown).map(|stack| state.sources.map_stack(&stack));
    match stack.as_deref().map(str::trim_end).filter(|stack| !stack.is_empty()) {
        Some(stack) => eprintln!("interrupted\n{stack}"),
        None => eprintln!("interrupted"),
    }
}

/// Reports a script that waits for what cannot come.
pub(crate) fn never_settles(name: &str) {
    eprintln!(
        "error: {name} waits at its top level for a promise that nothing will settle: no timer is set and no call is open"
    );
}

/// As `console.log` shows it.
fn inspect<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Option<String> {
    let shown = try_inspect(ctx, value);
    if shown.is_err() {
        // What went wrong while showing an error is not what is to be shown.
        ctx.catch();
    }
    shown.ok()
}

fn try_inspect<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> rquickjs::Result<String> {
    let key = ctx.eval::<Symbol<'js>, _>(r#"Symbol.for("aurae.host")"#)?;
    let host: Object<'js> = ctx.globals().get(key)?;
    let console: Object<'js> = host.get::<_, Function<'js>>("use")?.call(("console",))?;
    console.get::<_, Function<'js>>("inspect")?.call((value.clone(),))
}

fn plain(value: &Value<'_>) -> String {
    value.as_exception().map_or_else(|| format!("{value:?}"), ToString::to_string)
}

fn stack(value: &Value<'_>) -> Option<String> {
    value.as_exception()?.stack()
}

fn hint(state: &State, value: &Value<'_>) -> Option<String> {
    let message = value.as_exception()?.message()?;
    (message == OUT_OF_MEMORY).then(|| {
        format!(
            "a script may use {} MiB; --memory-limit changes that",
            state.settings.memory_limit_mib
        )
    })
}
