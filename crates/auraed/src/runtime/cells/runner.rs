//! The task that owns one cell until it is gone.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::process::Exit;
use aurae_kernel::seqpacket::{Line, Message};
use aurae_model::CellName;
use prost::Message as _;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::handle::Cells;
use crate::runtime::cgroup::Watched;
use crate::runtime::reaper::ExitReceiver;
use crate::zone::protocol::{Event, Report, Shutdown};

/// What a zone's daemon has beyond the grace period of its executables before it is killed.
const MARGIN: Duration = Duration::from_secs(5);

/// Of the processes that a zone has started, so many are known by number; the oldest is forgotten
/// first.
const MAX_PIDS: usize = 1024;

/// How long a process's number is waited for: it was sent before the answer that made us ask.
const PID_TIMEOUT: Duration = Duration::from_secs(2);

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

/// All that belongs to a cell.
pub(super) struct Runner {
    pub(super) cells: Cells,
    pub(super) name: CellName,
    pub(super) cgroup: Cgroup,
    pub(super) watched: Watched,
    pub(super) line: AsyncFd<Line>,
    pub(super) exit: ExitReceiver,
    pub(super) pids: Pids,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) commands: mpsc::Receiver<Command>,
}

impl Runner {
    /// Runs until the cell was freed, or nobody can free it any more (the daemon ends).
    pub(super) async fn run(mut self) {
        let mut alive = true;
        loop {
            tokio::select! {
                exit = &mut self.exit, if alive => {
                    alive = false;
                    self.fail(exit.ok()).await;
                }
                command = self.commands.recv() => match command {
                    Some(Command::Free { grace, reply }) => {
                        self.free(&mut alive, grace, reply).await;
                        if matches!(*self.phase.borrow(), Phase::Gone) {
                            return;
                        }
                    }
                    None => return,
                },
                message = next(&self.line), if alive => self.note(&message),
            }
        }
    }

    fn note(&self, message: &Message) {
        let event = Report::decode(message.bytes.as_slice()).map(|report| report.event);
        match (event, message.process) {
            (Ok(Some(Event::Started(inside))), Some(process)) => {
                self.pids.learn(inside, process.as_raw_nonzero().get());
            }
            _ => tracing::warn!(cell = %self.name, "a zone sent a message that is not understood"),
        }
    }

    /// The daemon ended by itself: what it looked after must not go on without it.
    async fn fail(&self, exit: Option<Exit>) {
        let reason = match exit {
            Some(Exit::Code(code)) => format!("it exited with code {code}"),
            Some(Exit::Signal(signal)) => format!("signal {signal} ended it"),
            None => "its end was not told".to_owned(),
        };
        tracing::error!(cell = %self.name, reason, "a cell's daemon is gone; the cell is killed");
        self.phase.send_replace(Phase::Failed(reason));
        if let Err(error) = self.watched.kill(&self.cgroup).await {
            tracing::error!(cell = %self.name, error = crate::reply::text(&error), "a failed cell was not killed");
        }
    }

    /// Frees the cell; if something of it is left, it is a failed cell, to be freed again.
    async fn free(&mut self, alive: &mut bool, grace: Duration, reply: Reply) {
        self.phase.send_replace(Phase::Freeing);
        let mut replies = vec![reply];
        if *alive {
            self.end_daemon(grace, &mut replies).await;
            *alive = false;
        }
        let removed = self.remove().await.map_err(|error| crate::reply::text(&error));
        match &removed {
            Ok(()) => {
                self.cells.forget(&self.name);
                self.phase.send_replace(Phase::Gone);
            }
            Err(reason) => {
                tracing::error!(cell = %self.name, reason, "a cell's cgroup is left");
                self.phase.send_replace(Phase::Failed(reason.clone()));
            }
        }
        for reply in replies {
            // The caller may have gone away.
            let _ = reply.send(removed.clone());
        }
    }

    /// Tells the zone's daemon to end, and waits for it, in bounds. What is not in time is killed by
    /// [`Self::remove`].
    async fn end_daemon(&mut self, grace: Duration, replies: &mut Vec<Reply>) {
        if self.line.get_ref().send(&Shutdown::encode(grace), None).is_err() {
            return;
        }
        let mut deadline = Instant::now() + grace + MARGIN;
        loop {
            tokio::select! {
                _ = &mut self.exit => return,
                () = tokio::time::sleep_until(deadline) => return,
                Some(Command::Free { grace, reply }) = self.commands.recv() => {
                    replies.push(reply);
                    // A zone that takes no order any more is killed at the deadline.
                    let _ = self.line.get_ref().send(&Shutdown::encode(grace), None);
                    deadline = deadline.min(Instant::now() + grace + MARGIN);
                }
            }
        }
    }

    async fn remove(&self) -> aurae_kernel::Result<()> {
        self.watched.kill(&self.cgroup).await?;
        let shared = &self.cells.shared;
        shared.reaper.reap();
        // A workload decides how many cgroups there are.
        tokio::task::block_in_place(|| shared.settings.cgroup.remove_child(self.name.as_str()))
    }
}

type Reply = oneshot::Sender<Result<(), String>>;

/// The next message of a zone; never answers once the line has ended.
async fn next(line: &AsyncFd<Line>) -> Message {
    loop {
        let Ok(mut guard) = line.readable().await else { return pending().await };
        match line.get_ref().receive() {
            Ok(Some(message)) => return message,
            Err(error) if error.errno == aurae_kernel::Errno::AGAIN => guard.clear_ready(),
            Ok(None) | Err(_) => return pending().await,
        }
    }
}

/// The numbers of a zone's processes, as the zone and as this daemon has them. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Pids {
    known: Arc<Mutex<Known>>,
    learned: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Known {
    outside: BTreeMap<i32, i32>,
    order: VecDeque<i32>,
}

impl Pids {
    fn learn(&self, inside: i32, outside: i32) {
        let mut known = self.lock();
        if known.outside.insert(inside, outside).is_some() {
            known.order.retain(|other| *other != inside);
        }
        known.order.push_back(inside);
        while known.order.len() > MAX_PIDS {
            if let Some(oldest) = known.order.pop_front() {
                known.outside.remove(&oldest);
            }
        }
        drop(known);
        self.learned.send_replace(());
    }

    /// This daemon's number for the zone's `inside`, if it is known.
    pub(super) fn known(&self, inside: i32) -> Option<i32> {
        self.lock().outside.get(&inside).copied()
    }

    /// The zone's number for this daemon's `outside`, if it is known.
    pub(super) fn inside(&self, outside: i32) -> Option<i32> {
        let known = self.lock();
        known.outside.iter().find_map(|(inside, other)| (*other == outside).then_some(*inside))
    }

    /// As [`Self::known`], and waits a while for it.
    pub(super) async fn outside(&self, inside: i32) -> Option<i32> {
        let mut learned = self.learned.subscribe();
        let told = async {
            loop {
                if let Some(outside) = self.known(inside) {
                    return Some(outside);
                }
                learned.changed().await.ok()?;
            }
        };
        tokio::time::timeout(PID_TIMEOUT, told).await.ok().flatten()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
