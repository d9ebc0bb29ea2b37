//! The daemon above, as its zone sees it: a line that may be lost, and another one that takes its place.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aurae_kernel::seqpacket::Line;
use rustix::process::Pid;
use tokio::sync::watch;

use super::protocol::{Event, Known, Numbered, report};
use crate::runtime::reaper::{Hold, Reaper};

/// Of the processes whose numbers were told, so many are remembered; the oldest is forgotten first.
const MAX_KNOWN: usize = 1024;

/// How long a process's numbers are waited for. Meanwhile no process is reaped, as the daemons above
/// can only number one that is still there.
pub const NUMBERS_TIMEOUT: Duration = Duration::from_secs(2);

/// How the daemons above number a process: the parent first, the node last. `None` until it is told;
/// for good where it is not told in time.
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
    line: Option<Arc<Line>>,
    waiting: BTreeMap<i32, Waiting>,
    known: VecDeque<(i32, Arc<[i32]>)>,
}

#[derive(Debug)]
struct Waiting {
    numbers: watch::Sender<Option<Arc<[i32]>>>,
    _hold: Hold,
}

impl Parent {
    /// The parent at the other end of `line`.
    #[must_use]
    pub fn new(line: Arc<Line>, reaper: Reaper) -> Self {
        let state = State { line: Some(line), ..State::default() };
        Self { reaper, state: Arc::new(Mutex::new(state)) }
    }

    /// Tells the parent of a process that was just started, by this daemon or below it. To be called
    /// before that process can be reaped.
    #[must_use]
    pub fn announce(&self, process: Pid) -> Numbers {
        let pid = process.as_raw_nonzero().get();
        let (numbers, told) = watch::channel(None);
        let mut state = self.lock();
        let Some(line) = state.line.clone() else { return told };
        state.known.retain(|(other, _)| *other != pid);
        if let Err(error) = line.send(&report(Event::Started(pid)), Some(process)) {
            tracing::warn!(%error, "the parent was not told of a process");
            return told;
        }
        state.waiting.insert(pid, Waiting { numbers, _hold: self.reaper.hold() });
        drop(state);
        let (parent, mut until) = (self.clone(), told.clone());
        tokio::spawn(async move {
            let told = until.wait_for(Option::is_some);
            if tokio::time::timeout(NUMBERS_TIMEOUT, told).await.is_err() {
                parent.lock().waiting.remove(&pid);
            }
        });
        told
    }

    /// Takes the numbers that the parent has told.
    pub fn numbered(&self, Numbered { pid, outer }: Numbered) {
        let outer: Arc<[i32]> = outer.into();
        let mut state = self.lock();
        if let Some(waiting) = state.waiting.remove(&pid) {
            waiting.numbers.send_replace(Some(Arc::clone(&outer)));
        }
        state.known.push_back((pid, outer));
        if state.known.len() > MAX_KNOWN {
            state.known.pop_front();
        }
    }

    /// The parent is gone: nothing will be told.
    pub(super) fn lost(&self) {
        let mut state = self.lock();
        state.line = None;
        state.waiting.clear();
    }

    /// There is another parent: it is told what the one before knew.
    pub(super) fn found(&self, line: Arc<Line>) {
        let mut state = self.lock();
        state.waiting.clear();
        let known = state.known.iter();
        let known: Vec<Numbered> =
            known.map(|(pid, outer)| Numbered { pid: *pid, outer: outer.to_vec() }).collect();
        for processes in known.chunks(Known::MAX) {
            let known = Known { processes: processes.to_vec() };
            if let Err(error) = line.send(&report(Event::Known(known)), None) {
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
