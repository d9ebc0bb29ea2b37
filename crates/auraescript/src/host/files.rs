//! Arguments, environment, files, and the way out.

use std::io::Write as _;

use rquickjs::function::Func;
use rquickjs::{Ctx, Object};

use super::State;
use crate::throw;

pub(super) fn install(host: &Object<'_>, state: &State) -> rquickjs::Result<()> {
    let ctx = host.ctx();
    host.set("args", state.settings.arguments.clone())?;
    let environment = Object::new(ctx.clone())?;
    for (name, value) in std::env::vars_os() {
        environment.set(name.to_string_lossy().as_ref(), value.to_string_lossy().as_ref())?;
    }
    host.set("env", environment)?;
    host.set("exit", Func::from(exit))?;
    host.set("readTextFile", Func::from(read))?;
    host.set("writeTextFile", Func::from(write))
}

/// Ends the process here and now: nothing of the script runs after it.
fn exit(code: i32) {
    let _ = std::io::stdout().flush();
    std::process::exit(code);
}

fn read(ctx: Ctx<'_>, path: String) -> rquickjs::Result<String> {
    std::fs::read_to_string(&path)
        .map_err(|error| throw::error(&ctx, "Error", &format!("failed to read {path}: {error}")))
}

fn write(ctx: Ctx<'_>, path: String, text: String) -> rquickjs::Result<()> {
    std::fs::write(&path, text)
        .map_err(|error| throw::error(&ctx, "Error", &format!("failed to write {path}: {error}")))
}
