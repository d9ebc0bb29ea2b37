//! The daemon above, as its zone sees it: a line that may be lost, and another one that takes its place.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aurae_kernel::Errno;
use aurae_kernel::seqpacket::Line;
use rustix::process::Pid;
use tokio::sync::watch;

use super::outbox::Outbox;
use super::protocol::{Event, Known, Numbered, report};
use crate::runtime::reaper::{Hold, Reaper};
use crate::runtime::since_boot;

/// Of the processes whose numbers were told, so many are remembered; the oldest is forgotten first.
const MAX_KNOWN: usize = 1024;

/// So many processes may wait for their numbers, for as long as there is no parent; one more gets none.
const MAX_WAITING: usize = 4096;

/// How long a process's numbers are waited for. Meanwhile no process is reaped, as the daemons above
/// can only number one that is still there.
pub const NUMBERS_TIMEOUT: Duration = Duration::from_secs(2);

/// How the daemons above number a process: the parent first, the node last. `None` until it is told.
pub type Numbers = watch::Receiver<Option<Arc<[i32]>>>;

/// A handle to the parent; clones share it.
#[derive(Clone, Debug)]
pub struct Parent {
    reaper: Reaper,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` while there is no parent.
    line: Option<Outbox>,
    waiting: BTreeMap<i32, Waiting>,
    known: VecDeque<Told>,
}

/// A process whose numbers were told.
#[derive(Debug)]
struct Told {
    pid: i32,
    outer: Arc<[i32]>,
    /// When, in nanoseconds since the machine was started.
    since: u64,
}

/// A process whose numbers were not told yet: they come, at the latest, from the next parent.
#[derive(Debug)]
struct Waiting {
    numbers: watch::Sender<Option<Arc<[i32]>>>,
    /// Only for a while: then the process may end and be forgotten.
    hold: Option<Hold>,
}

impl Parent {
    /// The parent at the other end of `line`.
    #[must_use]
    pub fn new(line: Arc<Line>, reaper: Reaper) -> Self {
        let parent = Self { reaper, state: Arc::default() };
        parent.lock().line = Some(parent.outbox(line));
        parent
    }

    /// What is said on `line`. A process that ends before that has no number to be told.
    fn outbox(&self, line: Arc<Line>) -> Outbox {
        let state = Arc::downgrade(&self.state);
        Outbox::new(line, move |process| {
            let Some(state) = state.upgrade() else { return };
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.waiting.remove(&process.as_raw_nonzero().get());
        })
    }

    /// Tells the parent of a process that was just started, by this daemon or below it. To be called
    /// before that process can be reaped.
    #[must_use]
    pub fn announce(&self, process: Pid) -> Numbers {
        let pid = process.as_raw_nonzero().get();
        let (numbers, told) = watch::channel(None);
        let mut state = self.lock();
        state.known.retain(|told| told.pid != pid);
        if state.waiting.len() >= MAX_WAITING {
            return told;
        }
        let hold = state.line.clone().and_then(|line| self.tell(&line, process));
        let is_told = hold.is_some();
        state.waiting.insert(pid, Waiting { numbers, hold });
        drop(state);
        if is_told {
            let (parent, mut until) = (self.clone(), told.clone());
            tokio::spawn(async move {
                let told = until.wait_for(Option::is_some);
                if tokio::time::timeout(NUMBERS_TIMEOUT, told).await.is_err() {
                    parent.let_go(pid);
                }
            });
        }
        told
    }

    /// Asks the parent for the numbers of a process, which is held until they come.
    fn tell(&self, line: &Outbox, process: Pid) -> Option<Hold> {
        let started = report(Event::Started(process.as_raw_nonzero().get()));
        match line.send(started, Some(process)) {
            Ok(()) => Some(self.reaper.hold()),
            Err(error) => {
                tracing::debug!(%error, "the parent was not told of a process");
                None
            }
        }
    }

    fn let_go(&self, pid: i32) {
        let hold = self.lock().waiting.get_mut(&pid).and_then(|waiting| waiting.hold.take());
        drop(hold);
    }

    /// Takes the numbers that the parent has told.
    pub fn numbered(&self, Numbered { pid, outer, .. }: Numbered) {
        let outer: Arc<[i32]> = outer.into();
        let mut state = self.lock();
        if let Some(waiting) = state.waiting.remove(&pid) {
            waiting.numbers.send_replace(Some(Arc::clone(&outer)));
        }
        let since = u64::try_from(since_boot().as_nanos()).unwrap_or(u64::MAX);
        state.known.push_back(Told { pid, outer, since });
        if state.known.len() > MAX_KNOWN {
            state.known.pop_front();
        }
    }

    /// The parent is gone: nothing will be told until there is another.
    pub(super) fn lost(&self) {
        let mut state = self.lock();
        state.line = None;
        state.waiting.values_mut().for_each(|waiting| drop(waiting.hold.take()));
    }

    /// There is another parent: it is told what the one before knew, and asked what that one did not
    /// tell. A process that has ended meanwhile has no number there.
    pub(super) fn found(&self, line: Arc<Line>) {
        let line = self.outbox(line);
        let mut state = self.lock();
        state.waiting.retain(|pid, _| {
            let started = report(Event::Started(*pid));
            let told = Pid::from_raw(*pid).map(|process| line.send(started, Some(process)));
            told.is_some_and(|told| !told.is_err_and(|error| error.errno == Errno::SRCH))
        });
        let known = state.known.iter();
        let known: Vec<Numbered> = known
            .map(|told| Numbered { pid: told.pid, outer: told.outer.to_vec(), since: told.since })
            .collect();
        for processes in known.chunks(Known::MAX) {
            let known = Known { processes: processes.to_vec() };
            if let Err(error) = line.send(report(Event::Known(known)), None) {
                tracing::warn!(%error, "the new parent was not told of all processes");
                break;
            }
        }
        state.line = Some(line);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
