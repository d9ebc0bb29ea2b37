//! Those who are attached to a running executable: its input, and the output that comes.
//!
//! Each has a queue of its own, bounded in bytes. One that is behind loses output and is told how much;
//! the executable and the others do not wait for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aurae_model::ExecutableName;
use bytes::Bytes;
use tokio::sync::Notify;

use super::handle::NoSuchExecutable;
use super::state::Outcome;
use crate::runtime::logs::Channel;
use crate::runtime::stdio::Controls;

/// So many may be attached to one executable.
const MAX_ATTACHED: usize = 16;

/// Output that waits for one of them, in bytes: some screens full. What comes beyond is lost to it.
const MAX_QUEUED: usize = 64 << 10;

/// Pieces of output that wait for one of them: each costs some bytes of book-keeping.
const MAX_PIECES: usize = 256;

/// Why nobody was attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no such executable.
    #[error(transparent)]
    Missing(#[from] NoSuchExecutable),
    /// It has ended.
    #[error("executable {0} does not run")]
    Ended(ExecutableName),
    /// It has `/dev/null` for its input.
    #[error(
        "executable {0} was started without an input; start it with `stdin` or a `terminal`, or follow its log"
    )]
    NoInput(ExecutableName),
    /// Too many are attached.
    #[error("nobody more can attach to executable {0}: {MAX_ATTACHED} are attached")]
    TooMany(ExecutableName),
}

/// What one who is attached is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Output, as it was written.
    Output(Channel, Bytes),
    /// So many bytes of output that did not fit the queue.
    Missed(u64),
    /// The executable ended; nothing comes after it.
    Ended(Outcome),
}

/// An attachment to an executable. The executable goes on when it is dropped.
#[derive(Debug)]
pub struct Attachment {
    /// What can be done to the executable.
    pub controls: Controls,
    /// What it writes from now on.
    pub viewer: Viewer,
}

/// One run of an executable, for those who attach to it.
#[derive(Debug)]
pub(super) struct Attachable {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` once the run has ended: what it held is not kept with what is remembered of it.
    controls: Option<Controls>,
    queues: Vec<Arc<Queue>>,
}

impl Attachable {
    pub(super) fn new(controls: Controls) -> Self {
        Self { state: Mutex::new(State { controls: Some(controls), queues: Vec::new() }) }
    }

    pub(super) fn attach(
        self: Arc<Self>,
        name: &ExecutableName,
    ) -> Result<Attachment, AttachError> {
        let queue = Arc::new(Queue::default());
        let mut state = self.lock();
        let Some(controls) = state.controls.clone() else {
            return Err(AttachError::Ended(name.clone()));
        };
        if state.queues.len() >= MAX_ATTACHED {
            return Err(AttachError::TooMany(name.clone()));
        }
        state.queues.push(Arc::clone(&queue));
        drop(state);
        Ok(Attachment { controls, viewer: Viewer { of: self, queue } })
    }

    /// Shows output to all who are attached. Never waits.
    pub(super) fn show(&self, channel: Channel, bytes: &[u8]) {
        let state = self.lock();
        if state.queues.is_empty() {
            return;
        }
        let bytes = Bytes::copy_from_slice(bytes);
        state.queues.iter().for_each(|queue| queue.push(channel, &bytes));
    }

    /// Tells all how the run ended.
    pub(super) fn close(&self, outcome: Outcome) {
        let mut state = self.lock();
        state.controls = None;
        state.queues.iter().for_each(|queue| queue.end(outcome));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The output side of an attachment.
#[derive(Debug)]
pub struct Viewer {
    of: Arc<Attachable>,
    queue: Arc<Queue>,
}

impl Viewer {
    /// What comes next; `None` after the end, or when the daemon stops watching the executable.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Shown> {
        loop {
            let changed = self.queue.changed.notified();
            {
                let mut waiting = self.queue.lock();
                if let Some(shown) = waiting.take() {
                    return Some(shown);
                }
                if waiting.finished {
                    return None;
                }
            }
            changed.await;
        }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.of.lock().queues.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
    }
}

/// What waits for one who is attached.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Told whenever something comes; there is one reader.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    pieces: VecDeque<(Channel, Bytes)>,
    /// The bytes of those pieces.
    bytes: usize,
    /// What was lost after them.
    missed: u64,
    ended: Option<Outcome>,
    finished: bool,
}

impl Queue {
    fn push(&self, channel: Channel, bytes: &Bytes) {
        let mut waiting = self.lock();
        let fits = waiting.bytes + bytes.len() <= MAX_QUEUED && waiting.pieces.len() < MAX_PIECES;
        // What was lost is told where it is missing: nothing goes behind it before it was.
        if fits && waiting.missed == 0 {
            waiting.bytes += bytes.len();
            waiting.pieces.push_back((channel, bytes.clone()));
        } else {
            waiting.missed += bytes.len() as u64;
        }
        drop(waiting);
        self.changed.notify_one();
    }

    fn end(&self, outcome: Outcome) {
        self.lock().ended = Some(outcome);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn take(&mut self) -> Option<Shown> {
        if let Some((channel, bytes)) = self.pieces.pop_front() {
            self.bytes -= bytes.len();
            return Some(Shown::Output(channel, bytes));
        }
        if self.missed > 0 {
            return Some(Shown::Missed(std::mem::take(&mut self.missed)));
        }
        let outcome = self.ended.take()?;
        self.finished = true;
        Some(Shown::Ended(outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &Queue, bytes: &'static [u8]) {
        queue.push(Channel::Stdout, &Bytes::from_static(bytes));
    }

    fn output(bytes: &'static [u8]) -> Option<Shown> {
        Some(Shown::Output(Channel::Stdout, Bytes::from_static(bytes)))
    }

    #[test]
    fn who_is_behind_is_told_how_much_is_missing_and_where() {
        static HALF: [u8; MAX_QUEUED / 2] = [7; MAX_QUEUED / 2];
        let queue = Queue::default();
        push(&queue, &HALF);
        push(&queue, &HALF);
        push(&queue, b"lost");
        assert_eq!(queue.lock().take(), output(&HALF));
        push(&queue, b"lost too");
        assert_eq!(queue.lock().take(), output(&HALF));
        assert_eq!(queue.lock().take(), Some(Shown::Missed(12)));
        push(&queue, b"here again");
        assert_eq!(queue.lock().take(), output(b"here again"));
        assert_eq!(queue.lock().take(), None);
    }

    #[test]
    fn small_pieces_are_bounded_too() {
        let queue = Queue::default();
        for _ in 0..=MAX_PIECES {
            push(&queue, b"x");
        }
        assert_eq!(queue.lock().pieces.len(), MAX_PIECES);
        assert_eq!(queue.lock().missed, 1);
    }
}
