//! The script runtime beside others.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::contest::{Contest, Rounds, seconds};
use crate::process::run;
use crate::report::{Figure, Unit};

/// The programs that run scripts, and the scripts.
pub(crate) struct Scripts<'a> {
    pub(crate) aurae: &'a Path,
    pub(crate) deno: &'a Path,
    pub(crate) node: &'a Path,
    pub(crate) config: &'a Path,
    pub(crate) hello: &'a Path,
    pub(crate) calls: &'a Path,
}

const OURS: &str = "auraescript";

/// `hello`, and a script of a hundred calls to a node.
pub(crate) fn scripts(scripts: &Scripts<'_>, rounds: Rounds) -> Result<Vec<Figure>> {
    let hello = Figure::new(
        "script-hello",
        "A script that says hello",
        Unit::Seconds,
        "TypeScript, from start to exit, on the host.",
    )
    .share(OURS, 1.0 / 3.0, "deno");
    let calls = Figure::new(
        "script-calls",
        "A script of a hundred calls",
        Unit::Seconds,
        "A hundred times Discover, one after the other, on a node that runs in a virtual machine on the same host; from start to exit. The same script and the same package under all three.",
    );
    let mut figures = Vec::new();
    for (mut figure, script) in [(hello, scripts.hello), (calls, scripts.calls)] {
        let mut contest = Contest::default();
        let command = |program: PathBuf, arguments: &'static [&'static str]| {
            move || {
                let mut command = Command::new(&program);
                command.args(arguments).arg(script).env("AURAE_CONFIG", scripts.config);
                seconds(|| run(&mut command))
            }
        };
        contest.ours(OURS, command(scripts.aurae.to_owned(), &["auraescript"]));
        contest.peer(
            "deno",
            command(scripts.deno.to_owned(), &["run", "--quiet", "--no-check", "--allow-all"]),
        );
        contest.peer("node", command(scripts.node.to_owned(), &["--no-warnings"]));
        figure.sides = contest.run(rounds);
        figures.push(figure);
    }
    Ok(figures)
}
