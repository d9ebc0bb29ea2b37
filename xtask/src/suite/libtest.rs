//! Cargo's test programs: built together, run one by one, counted by what they print.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use super::tally::Tally;
use crate::build::cargo;
use crate::tools;
use crate::workspace::Workspace;

/// The package whose tests boot nodes.
const VM_TESTS: &str = "vm-tests";
/// The longest that a test program may take: the tests that boot nodes need 10 minutes under emulation
/// on two cores.
const TIME_LIMIT: Duration = Duration::from_secs(40 * 60);

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

/// Runs a test program, shows what it says, counts what it reports. One that hangs is ended after
/// [`TIME_LIMIT`], so that what came before it is counted, and what comes after it is run.
fn run_and_count(mut command: Command, name: &str, tally: &mut Tally) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("failed to run {name}"))?;
    let stdout = child.stdout.take().context("a pipe was asked for")?;
    let (over, report) = (Mutex::new(false), &mut Report::default());
    let changed = Condvar::new();
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let status = std::thread::scope(|scope| {
        scope.spawn(|| kill_unless_over(&over, &changed, TIME_LIMIT, group));
        let outcome = read_report(stdout, report).and_then(|()| Ok(child.wait()?));
        *over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
        outcome
    });
    let status =
        status.with_context(|| format!("failed to read from {name}, or to wait for it"))?;
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

/// Shows what a test program says, and reads it, until nobody can say more.
fn read_report(stdout: ChildStdout, report: &mut Report) -> Result<()> {
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        report.read(&line);
    }
    Ok(())
}

/// Kills a process group when the time is over, unless `over` was set before.
fn kill_unless_over(over: &Mutex<bool>, changed: &Condvar, limit: Duration, group: Option<Pid>) {
    let guard = over.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = changed.wait_timeout_while(guard, limit, |over| !*over);
    let (over, _) = waited.unwrap_or_else(PoisonError::into_inner);
    if let (false, Some(group)) = (*over, group) {
        println!("it was ended after {} minutes", limit.as_secs() / 60);
        // It may have ended in this very moment.
        let _ = kill_process_group(group, Signal::KILL);
    }
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
    fn a_program_that_hangs_is_ended_with_all_that_it_started() {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 1000 & sleep 1000; echo never"])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("it starts");
        let group = Pid::from_raw(child.id().try_into().expect("a pid"));
        kill_unless_over(&Mutex::new(false), &Condvar::new(), Duration::ZERO, group);
        let mut said = String::new();
        let mut stdout = child.stdout.take().expect("a pipe");
        std::io::Read::read_to_string(&mut stdout, &mut said).expect("its end");
        assert_eq!(said, "");
        assert!(!child.wait().expect("it ended").success());
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
