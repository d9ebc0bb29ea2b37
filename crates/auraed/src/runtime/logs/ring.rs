//! The ring that writers and readers share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use super::store::{Batch, Channel, Cursor, Filter, Store};

/// Where a reader starts, what it sees, and whether it goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReaderOptions {
    /// Starts with the last so many kept lines. `None`: all that were kept.
    pub tail: Option<u32>,
    /// Leaves out what was pushed before this time, in nanoseconds since the epoch.
    pub since: Option<i64>,
    /// Only this output.
    pub channel: Option<Channel>,
    /// Goes on with what comes until the ring is closed.
    pub follow: bool,
}

/// What was written last, bounded in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct LogRing {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told of every push and of the end.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    store: Store,
    closed: bool,
}

impl Shared {
    /// No code panics with the lock held; if it did, the records would still be whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogRing {
    /// A ring that keeps up to `capacity` bytes, its book-keeping included; at least
    /// [`super::MIN_CAPACITY`]. Memory is taken as it fills.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let state = State { store: Store::new(capacity), closed: false };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }) }
    }

    /// Appends a line, or a part of one, with the present time. Never waits for a reader.
    pub fn push(&self, channel: Channel, data: &[u8], partial: bool) {
        self.push_at(unix_nanos_now(), channel, data, partial);
    }

    fn push_at(&self, unix_nanos: i64, channel: Channel, data: &[u8], partial: bool) {
        self.shared.lock().store.push(unix_nanos, channel, data, partial);
        self.shared.changed.notify_waiters();
    }

    /// Says that no more will come: readers end when they have read what there is.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_waiters();
    }

    /// The memory in use for what is kept, in bytes.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.shared.lock().store.allocated()
    }

    /// A new reader, independent of all others.
    #[must_use]
    pub fn reader(&self, options: ReaderOptions) -> Reader {
        let filter = Filter { channel: options.channel, since: options.since };
        let state = self.shared.lock();
        let cursor = match options.tail {
            Some(count) => state.store.tail(count, &filter),
            None => state.store.start(&filter),
        };
        let until = (!options.follow).then(|| state.store.end());
        drop(state);
        Reader { shared: Arc::clone(&self.shared), cursor, until, filter }
    }
}

/// Reads a ring at its own pace.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    cursor: Cursor,
    /// Where a reader that does not follow ends.
    until: Option<Cursor>,
    filter: Filter,
}

/// What a reader found.
enum Step {
    Batch(Batch),
    /// Nothing yet that this reader wants, but there is more to look at.
    More,
    Wait,
    End,
}

impl Reader {
    /// The next entries; waits for some if the reader follows. `None`: there will be no more.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Batch> {
        // A clone, so that waiting does not borrow the reader.
        let shared = Arc::clone(&self.shared);
        loop {
            let mut changed = std::pin::pin!(shared.changed.notified());
            // Before looking, so that a push between looking and waiting is not lost.
            changed.as_mut().enable();
            match self.step() {
                Step::Batch(batch) => return Some(batch),
                Step::More => tokio::task::yield_now().await,
                Step::Wait => changed.await,
                Step::End => return None,
            }
        }
    }

    fn step(&mut self) -> Step {
        let state = self.shared.lock();
        let until = self.until.as_ref();
        let batch = state.store.read(&mut self.cursor, until, &self.filter);
        if !batch.is_empty() {
            return Step::Batch(batch);
        }
        match state.store.is_exhausted(&self.cursor, until) {
            false => Step::More,
            true if state.closed || until.is_some() => Step::End,
            true => Step::Wait,
        }
    }
}

/// Nanoseconds since the epoch; a clock outside of what 64 bits hold reads as its bound.
fn unix_nanos_now() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
