//! The task that owns one cell until it is gone.

use std::future::pending;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::process::Exit;
use aurae_kernel::seqpacket::{Line, Message};
use aurae_model::CellPath;
use prost::Message as _;
use rustix::process::Pid;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::handle::Cells;
use super::notes::Standing;
use super::pids::{Inside, Pids};
use crate::reply::text;
use crate::runtime::cgroup::Watched;
use crate::runtime::changes::{CellNews, News, Reason};
use crate::runtime::reaper::ExitReceiver;
use crate::runtime::since_boot;
use crate::zone::line::receive;
use crate::zone::protocol::{Command as Order, Event, Numbered, Report, order, shutdown};

/// What a zone's daemon has beyond the grace period of its executables before it is killed.
const MARGIN: Duration = Duration::from_secs(5);

/// What a cell is doing.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Its daemon answers.
    Live,
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
    pub(super) end: End,
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
    pub(super) pids: Pids,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) commands: mpsc::Receiver<Command>,
}

/// What moves the runner.
enum Move {
    Ended(Option<Exit>),
    Commanded(Option<Command>),
    Told(Message),
}

impl Runner {
    /// Runs until the cell was freed, or nobody can free it any more (the daemon ends).
    pub(super) async fn run(mut self) {
        loop {
            let moved = tokio::select! {
                moved = heard(&mut self.daemon) => moved,
                command = self.commands.recv() => Move::Commanded(command),
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
        let Some(line) = self.daemon.as_ref().map(|daemon| Arc::clone(&daemon.line)) else {
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
        if let Err(error) = self.watched.kill(&self.cgroup).await {
            tracing::error!(cell = %self.path, error = text(&error), "a failed cell was not killed");
        }
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
        self.stand(&Standing::Freeing);
        self.phase.send_replace(Phase::Freeing);
        let mut replies = vec![reply];
        if let Some(daemon) = self.daemon.take() {
            self.end_daemon(daemon, grace, &mut replies).await;
        }
        let removed = self.remove().await.map_err(|error| text(&error));
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
            let _ = reply.send(removed.clone());
        }
    }

    /// Tells the zone's daemon to end, and waits for it, in bounds. What is not in time is killed by
    /// [`Self::remove`].
    async fn end_daemon(&mut self, mut daemon: Daemon, grace: Duration, replies: &mut Vec<Reply>) {
        let line = daemon.line.get_ref();
        if line.send(&shutdown(grace), None).is_err() {
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
                    let _ = line.send(&shutdown(grace), None);
                    deadline = deadline.min(Instant::now() + grace + MARGIN);
                }
            }
        }
    }

    async fn remove(&self) -> aurae_kernel::Result<()> {
        self.watched.kill(&self.cgroup).await?;
        self.cells.remove_cgroup(self.path.split_last().1).await
    }
}

type Reply = oneshot::Sender<Result<(), String>>;

/// The next of a daemon; never answers where there is none.
async fn heard(daemon: &mut Option<Daemon>) -> Move {
    let Some(Daemon { line, end }) = daemon else { return pending().await };
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

fn tell(line: &AsyncFd<Line>, pid: i32, outer: Vec<i32>) {
    let numbered = order(Order::Numbered(Numbered { pid, outer, since: 0 }));
    if let Err(error) = line.get_ref().send(&numbered, None) {
        tracing::debug!(%error, "a zone was not told the numbers of a process");
    }
}
