//! `make fuzz`: every fuzz target under libFuzzer, one after the other, and a line for each at the end.
//!
//! What the fuzzer finds interesting is kept below `target/fuzz`, and is where the next run goes on. Only what
//! is meant to stay is in `fuzz/corpus`: the seeds, and the inputs that found something once.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::build::cargo;
use crate::debian;
use crate::tools;
use crate::workspace::Workspace;

/// The longest input, in bytes: longer ones find no more, and take longer.
const MAX_LENGTH: usize = 4096;
/// An input that takes longer is a finding, in seconds: none needs a tenth of one, but a busy machine may.
const TIMEOUT: u32 = 60;
/// An input for which more memory is used is a finding, in MiB.
const MAX_MEMORY: u32 = 2048;

/// Runs these targets, or all, for so many seconds each.
///
/// # Errors
/// When one has found something, or cannot be run.
pub fn run(workspace: &Workspace, targets: &[String], seconds: u64) -> Result<()> {
    let known = known(&workspace.root().join("fuzz/fuzz_targets"))?;
    if let Some(unknown) = targets.iter().find(|target| !known.contains(target)) {
        bail!("there is no target `{unknown}`: there are {}", known.join(", "));
    }
    debian::ensure(&[debian::C_COMPILER])?;
    if tools::find("cargo-fuzz").is_none() {
        tools::progress("installing cargo-fuzz");
        tools::run(&mut cargo(workspace, &["install", "--locked", "cargo-fuzz"]))?;
    }
    let mut summary = String::new();
    let mut found = 0;
    for target in known.iter().filter(|it| targets.is_empty() || targets.contains(it)) {
        let run = run_one(workspace, target, seconds)?;
        found += usize::from(!run.succeeded);
        summary.push_str(&format!("{target:12} {run}\n"));
    }
    print!("\n{summary}");
    match found {
        0 => Ok(()),
        some => bail!("{some} of them failed: the inputs are below fuzz/artifacts"),
    }
}

/// The targets, by the names of their programs.
fn known(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory)
        .with_context(|| format!("failed to list {}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("failed to list {}", directory.display()))?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn run_one(workspace: &Workspace, target: &str, seconds: u64) -> Result<Run> {
    let mut command = command(workspace, target, seconds)?;
    tools::progress(&format!("{target}, for {seconds} s"));
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to run `{}`", tools::shown(&command)))?;
    let mut run = Run::default();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n') {
            let line = line.context("failed to read what the fuzzer says")?;
            let line = String::from_utf8_lossy(&line);
            eprintln!("{line}");
            run.read(&line);
        }
    }
    run.succeeded = child.wait().context("failed to wait for the fuzzer")?.success();
    run.seconds = start.elapsed().as_secs();
    Ok(run)
}

/// On the stable toolchain: what is ours has no `unsafe` code, so a sanitizer would watch what others wrote alone,
/// at half the speed and with a nightly compiler. Dependencies are what ships, without their `cfg(fuzzing)`.
fn command(workspace: &Workspace, target: &str, seconds: u64) -> Result<Command> {
    let grown = workspace.grown_corpus(target);
    fs::create_dir_all(&grown).with_context(|| format!("failed to make {}", grown.display()))?;
    let fuzz = workspace.root().join("fuzz");
    let mut command = cargo(workspace, &["fuzz", "run", "--sanitizer", "none", "--no-cfg-fuzzing"]);
    command.arg(target).arg(grown).arg(fuzz.join("corpus").join(target)).arg("--");
    command.args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={MAX_LENGTH}"),
        format!("-timeout={TIMEOUT}"),
        format!("-rss_limit_mb={MAX_MEMORY}"),
        "-print_final_stats=1".to_owned(),
    ]);
    let dictionary = fuzz.join("dictionaries").join(target);
    if dictionary.exists() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    Ok(command)
}

/// What the fuzzer said of a run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Run {
    succeeded: bool,
    /// Building included.
    seconds: u64,
    executions: u64,
    /// Edges that were reached.
    coverage: u64,
}

impl Run {
    /// Reads a line, such as `#9 DONE cov: 5 ft: 6 …` and `stat::number_of_executed_units: 9`.
    fn read(&mut self, line: &str) {
        let number = |text: &str| text.split_whitespace().next()?.parse().ok();
        if let Some(coverage) = line.split_once(" cov: ").and_then(|(_, rest)| number(rest)) {
            self.coverage = coverage;
        }
        if let Some(rest) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = number(rest).unwrap_or_default();
        }
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { succeeded, seconds, executions, coverage } = self;
        let verdict = if *succeeded { "nothing found" } else { "FAILED" };
        write!(formatter, "{seconds:6} s {executions:12} executions {coverage:7} edges  {verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuzzers_last_numbers_count() {
        let mut run = Run::default();
        for line in [
            "#2\tINITED cov: 5 ft: 6 corp: 1/1b exec/s: 0 rss: 26Mb",
            "#900\tDONE   cov: 17 ft: 20 corp: 3/9b lim: 4 exec/s: 450 rss: 30Mb",
            "Done 900 runs in 2 second(s)",
            "stat::number_of_executed_units: 900",
            "stat::average_exec_per_sec:     450",
        ] {
            run.read(line);
        }
        assert_eq!(run, Run { executions: 900, coverage: 17, ..Run::default() });
    }
}
