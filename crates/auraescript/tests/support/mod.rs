//! Running scripts, and looking at what they did.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// What a script did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// It succeeded, wrote this to standard output and nothing to standard error.
    #[track_caller]
    pub(crate) fn prints(&self, stdout: &str) {
        let Outcome { code, stdout: actual, stderr } = self;
        assert_eq!((*code, stderr.as_str(), actual.as_str()), (0, "", stdout));
    }

    /// It failed with exit code 1 and wrote this to standard error.
    #[track_caller]
    pub(crate) fn fails_with(&self, stderr: &str) {
        assert_eq!((self.stderr.as_str(), self.code), (stderr, 1), "stdout: {}", self.stdout);
    }
}

/// A directory with scripts in it. In what they print, its path is `DIR`.
pub(crate) struct Scripts {
    directory: tempfile::TempDir,
}

impl Scripts {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self { directory }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap()
    }

    /// `auraescript` in the directory, without the caller's configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = auraescript(arguments);
        command.current_dir(self.path());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        self.outcome(&mut self.command(arguments))
    }

    /// Runs a command and answers what it did.
    pub(crate) fn outcome(&self, command: &mut Command) -> Outcome {
        outcome(command, &self.path())
    }
}

/// Runs one script, `main.ts`.
pub(crate) fn run(text: &str) -> Outcome {
    Scripts::new(&[("main.ts", text)]).run(&["main.ts"])
}

/// Runs a script from standard input.
pub(crate) fn run_stdin(text: &str) -> Outcome {
    let scripts = Scripts::new(&[]);
    let mut command = scripts.command(&["-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    read(child.wait_with_output().unwrap(), &scripts.path())
}

/// `auraescript`, without the caller's configuration.
pub(crate) fn auraescript(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auraescript"));
    command.args(arguments).env_remove("AURAE_CONFIG").env("HOME", "/nonexistent");
    command
}

/// Far longer than any script here takes; then it is killed, and the test fails.
const LONG: Duration = Duration::from_secs(120);

pub(crate) fn outcome(command: &mut Command, directory: &Path) -> Outcome {
    let child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let (ended, watched) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if watched.recv_timeout(LONG) == Err(RecvTimeoutError::Timeout) {
            // It may have ended just now.
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    watch.join().unwrap();
    read(output, directory)
}

fn read(output: std::process::Output, directory: &Path) -> Outcome {
    let text =
        |bytes| String::from_utf8(bytes).unwrap().replace(directory.to_str().unwrap(), "DIR");
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}
