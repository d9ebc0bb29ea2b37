//! Output.

use std::io::{ErrorKind, Write as _, stderr, stdout};

use rquickjs::Object;
use rquickjs::function::Func;

use super::State;

/// What a shell reports for a program that SIGPIPE ended: nobody reads our output any more.
const BROKEN_PIPE: i32 = 128 + 13;

pub(super) fn install(host: &Object<'_>, state: &State) -> rquickjs::Result<()> {
    host.set("print", Func::from(|text: String| print(&text)))?;
    host.set("printError", Func::from(|text: String| print_error(&text)))?;
    let sources = state.sources.clone();
    host.set("mapStack", Func::from(move |stack: String| sources.map_stack(&stack)))
}

/// Writes a line to standard output.
fn print(text: &str) {
    if let Err(error) = writeln!(stdout().lock(), "{text}")
        && error.kind() == ErrorKind::BrokenPipe
    {
        std::process::exit(BROKEN_PIPE);
    }
}

/// Writes a line to standard error. Where that fails there is nobody left to tell.
fn print_error(text: &str) {
    let _ = writeln!(stderr().lock(), "{text}");
}
