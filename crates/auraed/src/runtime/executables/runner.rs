//! The task that owns one executable until it has ended.

use std::future::pending;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime};

use aurae_kernel::process::{self, Exit};
use rustix::process::Signal;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::handle::{Leaf, signal_tree, terminate};
use super::state::{Outcome, Phase};
use crate::runtime::cgroup::KILL_AGAIN;
use crate::runtime::logs::{Channel, LineSplitter, LogRing};
use crate::runtime::reaper::ExitReceiver;

/// Read from a pipe at once.
const READ_CHUNK: usize = 16 * 1024;

/// Read from a pipe whose tree is gone, at most: somebody outside the tree may hold the other end,
/// and go on writing.
const MAX_REST: usize = 1 << 20;

/// A line that has not ended is shown to readers when nothing followed for so long: a prompt.
const QUIET: Duration = Duration::from_millis(50);

/// What an executable is told to do.
#[derive(Debug)]
pub(super) enum Command {
    /// End, with so much time between SIGTERM and SIGKILL. A second stop can only shorten it.
    Stop { grace: Duration },
    /// Take a signal.
    Signal { signal: Signal, tree: bool, reply: oneshot::Sender<aurae_kernel::Result<()>> },
}

/// All that belongs to an executable that has not ended.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) leaf: Leaf,
    pub(super) pidfd: OwnedFd,
    pub(super) exit: ExitReceiver,
    pub(super) stdout: pipe::Receiver,
    pub(super) stderr: pipe::Receiver,
    pub(super) logs: LogRing,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) commands: mpsc::Receiver<Command>,
}

/// What moves the runner.
enum Event {
    Exited(Option<Exit>),
    Empty,
    Commanded(Command),
    GraceOver,
    Read,
    Quiet,
}

impl Runner {
    /// Runs until no process of the tree is left, and publishes how it ended.
    pub(super) async fn run(mut self) {
        let mut stdout = Pump::new(Channel::Stdout);
        let mut stderr = Pump::new(Channel::Stderr);
        let mut exited: Option<(Exit, SystemTime)> = None;
        let mut kill_at: Option<Instant> = None;
        let mut flush_at: Option<Instant> = None;
        loop {
            let event = tokio::select! {
                exit = &mut self.exit, if exited.is_none() => Event::Exited(exit.ok()),
                _ = self.leaf.watched.empty(), if exited.is_some() => Event::Empty,
                Some(command) = self.commands.recv() => Event::Commanded(command),
                () = sleep_until(kill_at) => Event::GraceOver,
                () = sleep_until(flush_at) => Event::Quiet,
                () = stdout.pump(&self.stdout, &self.logs) => Event::Read,
                () = stderr.pump(&self.stderr, &self.logs) => Event::Read,
            };
            match event {
                Event::Exited(exit) => {
                    // An unknown end can only mean that this daemon no longer reaps.
                    exited = Some((
                        exit.unwrap_or(Exit::Signal(Signal::KILL.as_raw())),
                        SystemTime::now(),
                    ));
                    // While it is being stopped, the rest of its tree has its grace period too.
                    if kill_at.is_none() {
                        self.kill();
                        kill_at = Some(Instant::now() + KILL_AGAIN);
                    }
                }
                Event::Empty => break,
                Event::Commanded(Command::Stop { grace }) => {
                    let deadline = Instant::now() + grace;
                    kill_at = Some(kill_at.map_or(deadline, |earlier| earlier.min(deadline)));
                    self.stop(grace);
                }
                Event::Commanded(Command::Signal { signal, tree, reply }) => {
                    // The caller may have gone away.
                    let _ = reply.send(self.signal(signal, tree));
                }
                Event::GraceOver => {
                    self.kill();
                    kill_at = Some(Instant::now() + KILL_AGAIN);
                }
                Event::Read => {
                    let begun = stdout.splitter.is_partial() || stderr.splitter.is_partial();
                    flush_at = begun.then(|| Instant::now() + QUIET);
                }
                Event::Quiet => {
                    stdout.flush(&self.logs);
                    stderr.flush(&self.logs);
                    flush_at = None;
                }
            }
        }
        stdout.finish(&self.stdout, &self.logs);
        stderr.finish(&self.stderr, &self.logs);
        self.logs.close();
        self.end(exited);
    }

    fn stop(&self, grace: Duration) {
        self.phase.send_replace(Phase::Stopping);
        if grace.is_zero() {
            self.kill();
        } else if let Err(error) = terminate(&self.leaf) {
            tracing::warn!(error = %crate::reply::text(&error), "SIGTERM was not sent to a tree");
        }
    }

    fn kill(&self) {
        if let Err(error) = self.leaf.cgroup.kill() {
            tracing::error!(error = %crate::reply::text(&error), "a tree was not killed");
        }
    }

    fn signal(&self, signal: Signal, tree: bool) -> aurae_kernel::Result<()> {
        if tree {
            signal_tree(&self.leaf, signal)
        } else {
            process::signal_pidfd(self.pidfd.as_fd(), signal)
        }
    }

    /// Removes the leaf, then lets everybody know.
    fn end(self, exited: Option<(Exit, SystemTime)>) {
        let oom_killed = self.leaf.oom_killed();
        drop(self.leaf);
        let (exit, ended) =
            exited.unwrap_or((Exit::Signal(Signal::KILL.as_raw()), SystemTime::now()));
        self.phase.send_replace(Phase::Ended(Outcome { exit, oom_killed, ended }));
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
}

/// Moves bytes from a pipe to the log.
struct Pump {
    channel: Channel,
    splitter: LineSplitter,
    open: bool,
}

impl Pump {
    fn new(channel: Channel) -> Self {
        Self { channel, splitter: LineSplitter::default(), open: true }
    }

    /// Takes what is there, once something is; never answers once the pipe has ended.
    async fn pump(&mut self, pipe: &pipe::Receiver, logs: &LogRing) {
        if !self.open || pipe.readable().await.is_err() {
            return pending().await;
        }
        self.take(pipe, logs);
    }

    /// Reads once.
    fn take(&mut self, pipe: &pipe::Receiver, logs: &LogRing) {
        let mut chunk = [0; READ_CHUNK];
        match pipe.try_read(&mut chunk) {
            Ok(0) => self.open = false,
            Ok(count) => self.log(chunk.get(..count).unwrap_or_default(), logs),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::warn!(%error, "an executable's output cannot be read any more");
                self.open = false;
            }
        }
    }

    /// Takes the rest of a pipe that nobody of the tree writes to any more. It asks the kernel, not
    /// the runtime, which may not have heard yet that there is a rest.
    fn finish(&mut self, pipe: &pipe::Receiver, logs: &LogRing) {
        let mut chunk = [0; READ_CHUNK];
        let mut rest = 0;
        while rest < MAX_REST
            && let Ok(count @ 1..) = rustix::io::read(pipe, &mut chunk)
        {
            self.log(chunk.get(..count).unwrap_or_default(), logs);
            rest += count;
        }
        self.flush(logs);
    }

    /// Gives out a line that has not ended.
    fn flush(&mut self, logs: &LogRing) {
        self.splitter.flush(|line, partial| logs.push(self.channel, line, partial));
    }

    fn log(&mut self, bytes: &[u8], logs: &LogRing) {
        self.splitter.push(bytes, |line, partial| logs.push(self.channel, line, partial));
    }
}
