//! Cargo's test programs: built together, run one by one, counted by what they print.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::tally::Tally;
use crate::build::cargo;
use crate::tools;
use crate::workspace::Workspace;

/// The package whose tests boot nodes.
const VM_TESTS: &str = "vm-tests";

/// A test program.
#[derive(Debug)]
pub(super) struct Suite {
    /// The directory of its package, in which it is run, as cargo does.
    package: PathBuf,
    /// The name of the library, program or test file.
    target: String,
    executable: PathBuf,
}

impl Suite {
    /// Whether it boots nodes.
    pub(super) fn needs_nodes(&self) -> bool {
        self.package.ends_with(VM_TESTS)
    }

    fn name(&self) -> String {
        let package = self.package.file_name().unwrap_or_default().to_string_lossy();
        format!("{package}::{}", self.target)
    }
}

/// All test programs of the workspace.
#[derive(Debug)]
pub(super) struct Suites {
    suites: Vec<Suite>,
}

impl Suites {
    /// Builds what is not built yet.
    pub(super) fn build(workspace: &Workspace) -> Result<Self> {
        let mut command = cargo(workspace, &["test", "--release", "--locked", "--workspace"]);
        command
            .args(["--no-run", "--message-format=json-render-diagnostics"])
            .stderr(Stdio::inherit());
        let shown = tools::shown(&command);
        let output = command.output().with_context(|| format!("failed to run `{shown}`"))?;
        if !output.status.success() {
            bail!("`{shown}` failed: {}", output.status);
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(Self { suites: text.lines().filter_map(parse_artifact).collect() })
    }

    /// Runs some of them.
    pub(super) fn run(&self, tally: &mut Tally, which: impl Fn(&Suite) -> bool) -> Result<()> {
        for suite in self.suites.iter().filter(|suite| which(suite)) {
            println!("\n-- {}", suite.name());
            let mut command = Command::new(&suite.executable);
            command.current_dir(&suite.package).env("CARGO_MANIFEST_DIR", &suite.package);
            run_and_count(command, &suite.name(), tally)?;
        }
        Ok(())
    }
}

/// Runs the examples in the documentation.
pub(super) fn run_documentation(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    println!("\n-- documentation");
    let command = cargo(
        workspace,
        &["test", "--release", "--locked", "--workspace", "--doc", "--no-fail-fast"],
    );
    run_and_count(command, "documentation", tally)
}

/// A test program in a line of cargo's messages.
fn parse_artifact(line: &str) -> Option<Suite> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    Some(Suite {
        package: Path::new(message["manifest_path"].as_str()?).parent()?.to_owned(),
        target: message["target"]["name"].as_str()?.to_owned(),
        executable: message["executable"].as_str()?.into(),
    })
}

/// Runs a test program, shows what it says, counts what it reports.
fn run_and_count(mut command: Command, name: &str, tally: &mut Tally) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to run {name}"))?;
    let stdout = child.stdout.take().context("a pipe was asked for")?;
    let mut report = Report::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.with_context(|| format!("failed to read from {name}"))?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        report.read(&line);
    }
    let status = child.wait().with_context(|| format!("failed to wait for {name}"))?;
    let failed = report.failed.len();
    tally.count(
        report.passed,
        report.failed.iter().map(|test| format!("{name}::{test}")).collect(),
        report.ignored.iter().map(|(test, why)| (format!("{name}::{test}"), why.clone())).collect(),
    );
    if !report.whole || (failed == 0 && !status.success()) {
        tally.fail(name, &format!("it ended with {status} before it could report all its tests"));
    }
    Ok(())
}

/// What a test program printed, added up over its parts (documentation has a part per crate).
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    passed: usize,
    failed: Vec<String>,
    ignored: Vec<(String, String)>,
    /// Every part that began (`running N tests`) has ended (`test result:`).
    whole: bool,
}

impl Report {
    fn read(&mut self, line: &str) {
        if line.starts_with("running ") {
            self.whole = false;
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            self.whole = true;
            self.passed += count(counts, "passed");
        } else if let Some((name, came_of_it)) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        {
            self.read_test(name, came_of_it);
        }
    }

    fn read_test(&mut self, name: &str, came_of_it: &str) {
        if came_of_it.starts_with("FAILED") {
            self.failed.push(name.to_owned());
        } else if let Some(why) = came_of_it.strip_prefix("ignored") {
            let why = why.trim_start_matches(", ");
            let why = if why.is_empty() { "no reason given" } else { why };
            self.ignored.push((name.to_owned(), why.to_owned()));
        }
    }
}

/// `12` for `passed` in `ok. 12 passed; 0 failed; …`.
fn count(counts: &str, what: &str) -> usize {
    counts
        .split([';', '.'])
        .filter_map(|part| part.trim().strip_suffix(what))
        .find_map(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Report {
        let mut report = Report::default();
        text.lines().for_each(|line| report.read(line));
        report
    }

    #[test]
    fn passed_failed_and_ignored_tests_are_told_apart() {
        let report = read(
            "running 4 tests\ntest a ... ok\ntest b::c ... FAILED\ntest d ... ignored, needs a disk\ntest e ... ok\n\ntest result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n",
        );
        assert_eq!(report.passed, 2);
        assert_eq!(report.failed, ["b::c"]);
        assert_eq!(report.ignored, [("d".to_owned(), "needs a disk".to_owned())]);
        assert!(report.whole);
    }

    #[test]
    fn a_program_that_dies_is_not_whole() {
        assert!(!read("running 2 tests\ntest a ... ok\n").whole);
        assert!(!read("").whole);
    }

    #[test]
    fn the_parts_of_the_documentation_add_up() {
        let part =
            "running 1 test\ntest x ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored\n";
        assert_eq!(read(&part.repeat(3)).passed, 3);
    }

    #[test]
    fn test_programs_are_found_in_cargos_messages() {
        let line = r#"{"reason":"compiler-artifact","manifest_path":"/w/vm-tests/Cargo.toml","target":{"name":"limits"},"profile":{"test":true},"executable":"/w/target/limits-1"}"#;
        let suite = parse_artifact(line).expect("it is one");
        assert!(suite.needs_nodes());
        assert_eq!(suite.name(), "vm-tests::limits");
        assert!(parse_artifact(&line.replace("\"test\":true", "\"test\":false")).is_none());
        assert!(parse_artifact("warning: something else").is_none());
    }
}
