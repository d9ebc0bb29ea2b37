//! The task that owns one cell until it is gone.

use std::future::pending;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::process::Exit;
use aurae_kernel::seqpacket::{Line, Message};
use aurae_model::CellPath;
use prost::Message as _;
use rustix::process::{Pid, Signal};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::DAEMON_LEAF;
use super::adopt::{enter_in_time, is_gone};
use super::connection::Reached;
use super::handle::Cells;
use super::notes::Standing;
use super::pids::{Inside, Pids};
use crate::reply::text;
use crate::runtime::cgroup::{KILL_TIMEOUT, Watched, signal_all, survivors};
use crate::runtime::changes::{CellNews, News, Reason};
use crate::runtime::reaper::ExitReceiver;
use crate::runtime::since_boot;
use crate::zone::line::receive;
use crate::zone::outbox::Outbox;
use crate::zone::protocol::{Command as Order, Event, Numbered, Report, order, shutdown};

/// What a zone's daemon has beyond the grace period of its executables before it is killed.
const MARGIN: Duration = Duration::from_secs(5);

/// The pauses before the daemon of a cell that was not reached is asked again: they double from the first
/// to the last. Descriptors may have run out, or the zone may be held up by its limits.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// What a cell is doing.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Its daemon answers.
    Live,
    /// It runs, as an earlier daemon left it, and its own daemon has not let this one in, for this reason.
    /// It is tried again and again; only who frees the cell ends it.
    Unreachable(String),
    /// Its daemon ended, and what was left in the cell was killed.
    Failed(String),
    /// It is being freed.
    Freeing,
    /// It is gone.
    Gone,
}

/// What a cell is told to do.
#[derive(Debug)]
pub(super) enum Command {
    /// End, with so much time for its executables. A second order can only shorten it. The answer is
    /// the reason why something is left.
    Free { grace: Duration, reply: Reply },
}

/// A cell's daemon that has not ended.
pub(super) struct Daemon {
    pub(super) line: Arc<AsyncFd<Line>>,
    pub(super) outbox: Outbox,
    pub(super) end: End,
}

impl Daemon {
    /// The daemon at the other end of `line`.
    pub(super) fn new(line: AsyncFd<Line>, end: End) -> Self {
        let line = Arc::new(line);
        let outbox = Outbox::new(Arc::<AsyncFd<Line>>::clone(&line), |_| {});
        Self { line, outbox, end }
    }
}

/// How the end of a cell's daemon is told.
pub(super) enum End {
    /// This daemon started it, and reaps it.
    Child(ExitReceiver),
    /// An earlier one did: the pidfd tells that it has ended, and nobody how.
    Adopted(AsyncFd<OwnedFd>),
}

impl End {
    /// Waits for it. Can be dropped and called again until it has answered.
    async fn wait(&mut self) -> Option<Exit> {
        match self {
            Self::Child(exit) => exit.await.ok(),
            Self::Adopted(pidfd) => {
                // An error means that the runtime ends.
                if pidfd.readable().await.is_err() {
                    pending::<()>().await;
                }
                None
            }
        }
    }
}

/// All that belongs to a cell.
pub(super) struct Runner {
    pub(super) cells: Cells,
    pub(super) path: CellPath,
    pub(super) cgroup: Cgroup,
    pub(super) watched: Watched,
    /// `None` once it has ended.
    pub(super) daemon: Option<Daemon>,
    /// Set when its daemon is reached.
    pub(super) reached: Arc<OnceLock<Reached>>,
    pub(super) pids: Pids,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) commands: mpsc::Receiver<Command>,
}

/// What moves the runner.
enum Move {
    Ended(Option<Exit>),
    Commanded(Option<Command>),
    Told(Message),
    Entered(aurae_kernel::Result<(Reached, Daemon)>),
}

impl Runner {
    /// Runs until the cell was freed, or nobody can free it any more (the daemon ends).
    pub(super) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let is_unreachable = self.is_unreachable();
            let moved = tokio::select! {
                moved = heard(&mut self.daemon) => moved,
                command = self.commands.recv() => Move::Commanded(command),
                entered = enter_after(pause, &self.cgroup), if is_unreachable => {
                    Move::Entered(entered)
                }
            };
            match moved {
                Move::Ended(exit) => {
                    self.daemon = None;
                    self.fail(exit).await;
                }
                Move::Commanded(Some(Command::Free { grace, reply })) => {
                    self.free(grace, reply).await;
                    if matches!(*self.phase.borrow(), Phase::Gone) {
                        return;
                    }
                }
                Move::Commanded(None) => return,
                Move::Told(message) => self.note(&message),
                Move::Entered(entered) => {
                    self.entered(entered).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    fn is_unreachable(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Unreachable(_))
    }

    /// Its daemon was asked once more to let this one in.
    async fn entered(&mut self, entered: aurae_kernel::Result<(Reached, Daemon)>) {
        match entered {
            Ok((reached, daemon)) => {
                // Nobody else sets it.
                let _ = self.reached.set(reached);
                self.daemon = Some(daemon);
                self.phase.send_replace(Phase::Live);
                tracing::info!(cell = %self.path, "found a cell again");
                self.tell(CellNews::Found);
                self.cells.changed();
            }
            Err(error) if is_gone(&error) => {
                self.fail(None).await;
                self.cells.changed();
            }
            Err(error) => {
                let reason = text(&error);
                tracing::warn!(cell = %self.path, reason, "a cell is not reached yet");
                self.phase.send_replace(Phase::Unreachable(reason));
            }
        }
    }

    fn note(&self, message: &Message) {
        let event = Report::decode(message.bytes.as_slice()).map(|report| report.event);
        match (event, message.process) {
            (Ok(Some(Event::Started(inside))), Some(process)) => self.number(inside, process),
            (Ok(Some(Event::Known(known))), _) => {
                for Numbered { pid, outer, since } in known.processes {
                    if let Some(own) = outer.first() {
                        self.pids.learn(*own, Inside { since: Duration::from_nanos(since), pid });
                    }
                }
            }
            _ => {
                tracing::warn!(cell = %self.path, "a zone sent a message that is not understood");
            }
        }
    }

    /// Tells the zone how this daemon, and those above it, number a process that it started.
    fn number(&self, inside: i32, process: Pid) {
        let own = process.as_raw_nonzero().get();
        self.pids.learn(own, Inside { since: since_boot(), pid: inside });
        let Some(line) = self.daemon.as_ref().map(|daemon| daemon.outbox.clone()) else {
            return;
        };
        let Some(parent) = &self.cells.shared.settings.parent else {
            return tell(&line, inside, vec![own]);
        };
        let mut numbers = parent.announce(process);
        tokio::spawn(async move {
            // At the latest when there is another daemon above, or the process has ended by then.
            let Ok(above) = numbers.wait_for(Option::is_some).await else { return };
            let above = above.as_deref().unwrap_or_default();
            tell(&line, inside, [&[own], above].concat());
        });
    }

    /// The daemon ended by itself: what it looked after must not go on without it.
    async fn fail(&self, exit: Option<Exit>) {
        let reason = match exit {
            Some(Exit::Code(code)) => format!("it exited with code {code}"),
            Some(Exit::Signal(signal)) => format!("signal {signal} ended it"),
            None => "it ended, and nobody was told how".to_owned(),
        };
        tracing::error!(cell = %self.path, reason, "a cell's daemon is gone; the cell is killed");
        self.failed(reason);
        let killed = tokio::time::timeout(KILL_TIMEOUT, self.watched.kill(&self.cgroup)).await;
        let error = match killed {
            Ok(Ok(())) => return,
            Ok(Err(error)) => text(&error),
            Err(_) => survivors(&self.cgroup),
        };
        tracing::error!(cell = %self.path, error, "a failed cell was not killed");
    }

    fn failed(&self, reason: String) {
        self.stand(&Standing::Failed(reason.clone()));
        self.phase.send_replace(Phase::Failed(reason.clone()));
        self.tell(CellNews::Failed(Reason::new(&reason)));
    }

    /// Tells what happened to the cell, once its phase says so.
    fn tell(&self, news: CellNews) {
        self.cells.changes().push(News::Cell(self.path.split_last().1.clone(), news));
    }

    fn stand(&self, standing: &Standing) {
        if let Err(error) = standing.note(&self.cgroup) {
            tracing::error!(cell = %self.path, error = text(&error), "a cell's standing was not noted");
        }
    }

    /// Frees the cell; if something of it is left, it is a failed cell, to be freed again.
    async fn free(&mut self, grace: Duration, reply: Reply) {
        let is_unreachable = self.is_unreachable();
        self.stand(&Standing::Freeing);
        self.phase.send_replace(Phase::Freeing);
        let mut replies = vec![reply];
        if let Some(daemon) = self.daemon.take() {
            self.end_daemon(daemon, grace, &mut replies).await;
        } else if is_unreachable && !grace.is_zero() {
            self.end_unreachable(grace).await;
        }
        let removed = self.remove(&mut replies).await.map_err(|error| text(&error));
        match &removed {
            Ok(()) => {
                self.cells.forget(self.path.split_last().1);
                self.phase.send_replace(Phase::Gone);
                self.tell(CellNews::Freed);
            }
            Err(reason) => {
                tracing::error!(cell = %self.path, reason, "a cell's cgroup is left");
                self.failed(reason.clone());
                self.cells.changed();
            }
        }
        for reply in replies {
            // The caller may have gone away.
            let _ = reply.send(removed.clone().map_err(Unfreed::Refused));
        }
    }

    /// Tells the zone's daemon to end, and waits for it, in bounds. What is not in time is killed by
    /// [`Self::remove`].
    async fn end_daemon(&mut self, mut daemon: Daemon, grace: Duration, replies: &mut Vec<Reply>) {
        let line = daemon.outbox.clone();
        if line.send(shutdown(grace), None).is_err() {
            return;
        }
        let mut deadline = Instant::now() + grace + MARGIN;
        loop {
            tokio::select! {
                _ = daemon.end.wait() => return,
                () = tokio::time::sleep_until(deadline) => return,
                Some(Command::Free { grace, reply }) = self.commands.recv() => {
                    replies.push(reply);
                    // A zone that takes no order any more is killed at the deadline.
                    let _ = line.send(shutdown(grace), None);
                    deadline = deadline.min(Instant::now() + grace + MARGIN);
                }
            }
        }
    }

    /// As [`Self::end_daemon`], of a daemon that takes no orders but signals.
    async fn end_unreachable(&self, grace: Duration) {
        let leaf = self.cgroup.open_child(DAEMON_LEAF);
        if let Err(error) = leaf.and_then(|leaf| signal_all(&leaf, Signal::TERM)) {
            tracing::warn!(cell = %self.path, error = text(&error), "a cell's daemon was not told to end");
            return;
        }
        let deadline = grace.saturating_add(MARGIN);
        // What is not in time is killed.
        let _ = tokio::time::timeout(deadline, self.watched.empty()).await;
    }

    /// Kills what is left, and removes the cgroup. Who waits is told when a process does not die; it goes
    /// on without them.
    async fn remove(&mut self, replies: &mut Vec<Reply>) -> aurae_kernel::Result<()> {
        let Self { cells, path, cgroup, watched, commands, .. } = self;
        let mut killing = std::pin::pin!(watched.kill(cgroup));
        let mut deadline = Instant::now() + KILL_TIMEOUT;
        loop {
            tokio::select! {
                killed = &mut killing => break killed?,
                () = tokio::time::sleep_until(deadline), if !replies.is_empty() => {
                    let left = survivors(cgroup);
                    tracing::error!(cell = %path, left, "a cell is not freed yet");
                    for reply in replies.drain(..) {
                        // The caller may have gone away.
                        let _ = reply.send(Err(Unfreed::Undead(left.clone())));
                    }
                }
                Some(Command::Free { reply, .. }) = commands.recv() => {
                    if replies.is_empty() {
                        deadline = Instant::now() + KILL_TIMEOUT;
                    }
                    replies.push(reply);
                }
            }
        }
        cells.remove_cgroup(path.split_last().1).await
    }
}

/// Why a cell is not freed.
#[derive(Clone, Debug)]
pub(super) enum Unfreed {
    /// The kernel refused.
    Refused(String),
    /// These processes do not die. The cell is being freed still.
    Undead(String),
}

type Reply = oneshot::Sender<Result<(), Unfreed>>;

async fn enter_after(pause: Duration, cgroup: &Cgroup) -> aurae_kernel::Result<(Reached, Daemon)> {
    tokio::time::sleep(pause).await;
    enter_in_time(cgroup).await
}

/// The next of a daemon; never answers where there is none.
async fn heard(daemon: &mut Option<Daemon>) -> Move {
    let Some(Daemon { line, end, .. }) = daemon else { return pending().await };
    tokio::select! {
        exit = end.wait() => Move::Ended(exit),
        message = told(line) => Move::Told(message),
    }
}

/// The next message of a zone; never answers once the line has ended.
async fn told(line: &AsyncFd<Line>) -> Message {
    match receive(line).await {
        Ok(Some(message)) => message,
        Ok(None) | Err(_) => pending().await,
    }
}

fn tell(line: &Outbox, pid: i32, outer: Vec<i32>) {
    let numbered = order(Order::Numbered(Numbered { pid, outer, since: 0 }));
    if let Err(error) = line.send(numbered, None) {
        tracing::debug!(%error, "a zone was not told the numbers of a process");
    }
}
