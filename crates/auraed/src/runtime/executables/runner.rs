//! The task that owns one executable until it has ended for good.

use std::future::pending;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aurae_kernel::process::{self, Exit};
use aurae_kernel::{Errno, Error};
use aurae_model::{Executable, StopPolicy};
use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::attach::Attachable;
use super::launch::{Launcher, Run};
use super::restarts::Restarts;
use super::state::{Outcome, Phase, Status};
use crate::runtime::cgroup::KILL_AGAIN;
use crate::runtime::changes::{ExecutableNews, News, Reason};
use crate::runtime::freezer::Passage;
use crate::runtime::logs::{Channel, LineSplitter, LogRing};
use crate::runtime::stdio::{READ_CHUNK, Source};

/// Read from an output whose tree is gone, at most: somebody outside the tree may hold the other end,
/// and go on writing.
const MAX_REST: usize = 1 << 20;

/// A line that has not ended is shown to readers when nothing followed for so long: a prompt.
const QUIET: Duration = Duration::from_millis(50);

/// How a run ended whose program could not be executed: as a shell tells it.
const NOT_EXECUTED: Exit = Exit::Code(127);

/// What an executable is told to do.
#[derive(Debug)]
pub(super) enum Command {
    /// End, with so much time between the stop signal and SIGKILL; `None`: the executable's own. A
    /// second stop can only shorten it.
    Stop { grace: Option<Duration> },
    /// Take a signal.
    Signal { signal: Signal, tree: bool, reply: oneshot::Sender<aurae_kernel::Result<()>> },
}

/// All that belongs to an executable that has not ended, but for its run.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) name: Arc<str>,
    pub(super) launcher: Arc<Launcher>,
    pub(super) again: Option<Again>,
    pub(super) stop: StopPolicy,
    pub(super) logs: LogRing,
    pub(super) status: watch::Sender<Status>,
    pub(super) commands: mpsc::Receiver<Command>,
}

/// What an executable is started again with. One that never is keeps nothing.
#[derive(Debug)]
pub(super) struct Again {
    executable: Executable,
    restarts: Restarts,
}

impl Again {
    pub(super) fn of(executable: &Executable) -> Option<Self> {
        let restarts = Restarts::new(executable.restart?);
        Some(Self { executable: executable.clone(), restarts })
    }
}

/// A run that has ended.
struct Ended {
    outcome: Outcome,
    ran: Duration,
    /// It was told to stop.
    stopped: bool,
    /// Why it was not executed; `None`: it was.
    reason: Option<Reason>,
}

/// What moves a run.
enum Event {
    Exited(Option<Exit>),
    Empty,
    Commanded(Command),
    GraceOver,
    Read,
    Quiet,
}

impl Runner {
    /// Runs until no process of the tree is left, and none will be; publishes each step.
    pub(super) async fn run(mut self, first: Run) {
        let mut ended = self.attend(first).await;
        self.tell_end(&mut ended);
        while let Some(pause) = self.pause_after(&ended) {
            // Beyond what a clock can say it is not shown right, and still waited for.
            let next_start = SystemTime::now();
            let next_start = next_start.checked_add(pause).unwrap_or(next_start);
            self.move_to(Phase::Restarting { last: ended.outcome, next_start });
            let Some(passage) = self.back_off(pause).await else { break };
            ended = self.run_again(passage).await;
            self.tell_end(&mut ended);
        }
        self.logs.close();
        self.move_to(Phase::Ended(ended.outcome));
    }

    /// The pause before the next run; `None`: there is none.
    fn pause_after(&mut self, ended: &Ended) -> Option<Duration> {
        let again = self.again.as_mut().filter(|_| !ended.stopped)?;
        again.restarts.after(&ended.outcome, ended.ran)
    }

    /// Waits until the next run may start; `None`: it was told to stop.
    async fn back_off(&mut self, pause: Duration) -> Option<Passage> {
        let launcher = Arc::clone(&self.launcher);
        let mut passage = std::pin::pin!(async {
            tokio::time::sleep(pause).await;
            launcher.freezer.passage().await
        });
        loop {
            let command = tokio::select! {
                passage = &mut passage => return Some(passage),
                Some(command) = self.commands.recv() => command,
            };
            match command {
                Command::Stop { .. } => return None,
                // The caller may have gone away.
                Command::Signal { reply, .. } => {
                    drop(reply.send(Err(Error::new("send a signal", Errno::SRCH))));
                }
            }
        }
    }

    /// A start that fails is a run that failed at once; the reason is told where its output is.
    async fn run_again(&mut self, passage: Passage) -> Ended {
        self.status.send_modify(|status| status.restarts = status.restarts.saturating_add(1));
        let launched = match &self.again {
            Some(again) => self.launcher.launch(&again.executable, passage),
            None => return not_executed(None),
        };
        match launched {
            Ok(run) => {
                let start = run.start.clone();
                self.status.send_modify(|status| {
                    status.run = start;
                    status.phase = Phase::Running;
                });
                self.tell(ExecutableNews::Restarted);
                self.attend(run).await
            }
            Err(error) => {
                let reason = crate::reply::text(&error);
                let line = format!("auraed: {reason}");
                self.logs.push(Channel::Stderr, line.as_bytes(), false);
                not_executed(Some(Reason::new(&reason)))
            }
        }
    }

    /// Looks after a run until no process of its tree is left.
    async fn attend(&mut self, mut run: Run) -> Ended {
        let begun = Instant::now();
        let mut stdout = Pump::new(Channel::Stdout, run.start.attachable.clone());
        let mut stderr = Pump::new(Channel::Stderr, run.start.attachable.clone());
        let mut exited: Option<(Exit, SystemTime, Duration)> = None;
        let mut stopped = false;
        let mut kill_at: Option<Instant> = None;
        let mut flush_at: Option<Instant> = None;
        loop {
            let event = tokio::select! {
                exit = &mut run.exit, if exited.is_none() => Event::Exited(exit.ok()),
                _ = run.leaf.watched.empty(), if exited.is_some() => Event::Empty,
                Some(command) = self.commands.recv() => Event::Commanded(command),
                () = sleep_until(kill_at) => Event::GraceOver,
                () = sleep_until(flush_at) => Event::Quiet,
                () = stdout.pump(&run.stdio.stdout, &self.logs) => Event::Read,
                () = stderr.pump(&run.stdio.stderr, &self.logs) => Event::Read,
            };
            match event {
                Event::Exited(exit) => {
                    exited =
                        Some((exit.unwrap_or(UNKNOWN_END), SystemTime::now(), begun.elapsed()));
                    // While it is being stopped, the rest of its tree has its grace period too.
                    if kill_at.is_none() {
                        run.kill();
                        kill_at = Some(Instant::now() + KILL_AGAIN);
                    }
                }
                Event::Empty => break,
                Event::Commanded(Command::Stop { grace }) => {
                    let grace = grace.unwrap_or(self.stop.grace);
                    let deadline = Instant::now() + grace;
                    kill_at = Some(kill_at.map_or(deadline, |earlier| earlier.min(deadline)));
                    stopped = true;
                    self.move_to(Phase::Stopping);
                    run.stop(self.stop.signal, grace);
                }
                Event::Commanded(Command::Signal { signal, tree, reply }) => {
                    // The caller may have gone away.
                    let _ = reply.send(run.signal(signal, tree));
                }
                Event::GraceOver => {
                    run.kill();
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
        stdout.finish(&run.stdio.stdout, &self.logs);
        stderr.finish(&run.stdio.stderr, &self.logs);
        let oom_killed = run.leaf.oom_killed();
        let (exit, ended, ran) =
            exited.unwrap_or_else(|| (UNKNOWN_END, SystemTime::now(), begun.elapsed()));
        let outcome = Outcome { exit, oom_killed, ended };
        if let Some(attachable) = &run.start.attachable {
            attachable.close(outcome);
        }
        Ended { outcome, ran, stopped, reason: None }
    }

    fn move_to(&self, phase: Phase) {
        self.status.send_modify(|status| status.phase = phase);
    }

    /// Tells how a run ended, before anybody can know it otherwise.
    fn tell_end(&self, ended: &mut Ended) {
        let (outcome, reason) = (ended.outcome, ended.reason.take());
        if outcome.oom_killed {
            self.tell(ExecutableNews::OomKilled);
        }
        self.tell(ExecutableNews::Ended { outcome, reason });
    }

    /// Tells what happened to the run that it is in, or the last one.
    pub(super) fn tell(&self, news: ExecutableNews) {
        let pid = self.status.borrow().run.pid;
        self.launcher.changes.push(News::Executable(Arc::clone(&self.name), pid, news));
    }
}

/// An unknown end can only mean that this daemon no longer reaps.
const UNKNOWN_END: Exit = Exit::Signal(Signal::KILL.as_raw());

fn not_executed(reason: Option<Reason>) -> Ended {
    let outcome = Outcome { exit: NOT_EXECUTED, oom_killed: false, ended: SystemTime::now() };
    Ended { outcome, ran: Duration::ZERO, stopped: false, reason }
}

impl Run {
    fn stop(&self, signal: Signal, grace: Duration) {
        if grace.is_zero() {
            self.kill();
        } else if let Err(error) = self.leaf.terminate(signal) {
            tracing::warn!(error = %crate::reply::text(&error), "a tree was not told to stop");
        }
    }

    fn kill(&self) {
        if let Err(error) = self.leaf.cgroup.kill() {
            tracing::error!(error = %crate::reply::text(&error), "a tree was not killed");
        }
    }

    fn signal(&self, signal: Signal, tree: bool) -> aurae_kernel::Result<()> {
        if tree {
            self.leaf.signal(signal)
        } else {
            process::signal_pidfd(self.pidfd.as_fd(), signal)
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
}

/// Moves bytes from an output to the log, and to those who are attached.
struct Pump {
    channel: Channel,
    attachable: Option<Arc<Attachable>>,
    splitter: LineSplitter,
    open: bool,
}

impl Pump {
    fn new(channel: Channel, attachable: Option<Arc<Attachable>>) -> Self {
        Self { channel, attachable, splitter: LineSplitter::default(), open: true }
    }

    /// Takes what is there, once something is; never answers once the output has ended.
    async fn pump(&mut self, output: &Source, logs: &LogRing) {
        if !self.open || output.readable().await.is_err() {
            return pending().await;
        }
        self.take(output, logs);
    }

    /// Reads once.
    fn take(&mut self, output: &Source, logs: &LogRing) {
        let mut chunk = [0; READ_CHUNK];
        match output.try_read(&mut chunk) {
            Ok(0) => self.open = false,
            Ok(count) => self.log(chunk.get(..count).unwrap_or_default(), logs),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::warn!(%error, "an executable's output cannot be read any more");
                self.open = false;
            }
        }
    }

    /// Takes the rest of an output that nobody of the tree writes to any more. It asks the kernel, not
    /// the runtime, which may not have heard yet that there is a rest.
    fn finish(&mut self, output: &Source, logs: &LogRing) {
        let mut chunk = [0; READ_CHUNK];
        let mut rest = 0;
        while rest < MAX_REST
            && let Ok(count @ 1..) = output.read_now(&mut chunk)
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
        if let Some(attachable) = &self.attachable {
            attachable.show(self.channel, bytes);
        }
        self.splitter.push(bytes, |line, partial| logs.push(self.channel, line, partial));
    }
}
