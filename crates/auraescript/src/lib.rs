//! `auraescript`: the TypeScript runtime.
//!
//! A script is transpiled ([`transpile`]), run by QuickJS-ng on a thread of its own ([`engine`]), and
//! talks to nodes with the same SDK that Node and Deno use: protobuf-es and connect-es run inside the
//! engine, and the host moves their bytes ([`host::rpc`]). What a script waits for is one place
//! ([`event_loop`]); what its author sees when it fails is another ([`report`]).

#![forbid(unsafe_code)]

mod check;
mod cli;
mod engine;
mod event_loop;
mod frame;
mod host;
mod modules;
mod report;
mod sources;
mod throw;
mod transpile;
mod types;

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command, Run};
use engine::{Script, Settings};
use modules::ImportMap;
use transpile::Language;

/// The entry. `arguments[0]` is the program's name.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(cli::with_command(arguments)) {
        Ok(cli) => cli,
        Err(error) => {
            // Where printing fails there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match cli.command {
        Command::Run(options) => run(options),
        Command::Check(options) => check::run(&options),
        Command::Types(options) => types::run(&options),
    };
    done.unwrap_or_else(|message| {
        eprintln!("error: {message}");
        ExitCode::FAILURE
    })
}

fn run(options: Run) -> Result<ExitCode, String> {
    let import_map = match &options.import_map {
        Some(path) => ImportMap::read(path)?,
        None => ImportMap::default(),
    };
    let (script, arguments) = match &options.code {
        Some(code) => (given("<eval>", code.clone())?, options.script.as_slice()),
        None => match options.script.split_first() {
            Some((file, arguments)) => (read(file)?, arguments),
            None => return Err("no script was named".to_owned()),
        },
    };
    let settings = Settings {
        arguments: arguments.iter().map(|each| each.to_string_lossy().into_owned()).collect(),
        config: options.config,
        node: options.node,
        memory_limit_mib: options.memory_limit,
    };
    Ok(engine::run(script, import_map, settings))
}

fn read(file: &OsStr) -> Result<Script, String> {
    if file == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| format!("failed to read the script from standard input: {error}"))?;
        return given("<stdin>", text);
    }
    let failed = |error| format!("failed to read the script {}: {error}", file.display());
    let path = Path::new(file);
    if file.as_encoded_bytes().starts_with(b"-") {
        return Err(format!(
            "{0} is not an option of `auraescript run`; a script of that name is ./{0}",
            file.display()
        ));
    }
    // What a symbolic link names is what relative imports are relative to.
    let path = path.canonicalize().map_err(failed)?;
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    let language = Language::of(&path);
    Ok(Script { name: path.to_string_lossy().into_owned(), text, language })
}

/// A script that is no file. Its imports are relative to the working directory.
fn given(name: &str, text: String) -> Result<Script, String> {
    let directory = std::env::current_dir()
        .map_err(|error| format!("failed to find the working directory: {error}"))?;
    let name = directory.join(name).to_string_lossy().into_owned();
    Ok(Script { name, text, language: Language::TypeScript })
}
