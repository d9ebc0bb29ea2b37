//! The ring that those who push and those who read share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::News;
use super::ring::{Cursor, Ring, Seen};

/// So many clients may watch a daemon at once: each has a stream to every zone inside.
const MAX_CLIENTS: usize = 64;

/// So many of a zone's executables may: a zone's own cannot be asked to end some.
const MAX_EXECUTABLES: usize = 8;

/// So many may watch for those who watch the daemon above, and those above it. As many as there may be
/// from every daemon above would be more than a zone has calls for.
const MAX_RELAYS: usize = 512;

/// Who watches. Each kind has room of its own, so that none can take that of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watcher {
    /// The daemon above, for somebody who watches that.
    Relay,
    /// A client of the node.
    Client,
    /// An executable of the zone.
    Executable,
}

impl Watcher {
    /// How many may be there at once.
    const fn most(self) -> usize {
        match self {
            Self::Relay => MAX_RELAYS,
            Self::Client => MAX_CLIENTS,
            Self::Executable => MAX_EXECUTABLES,
        }
    }
}

/// Too many of a kind watch already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} watch this daemon already; end some", .0.most())]
pub struct TooManyWatches(Watcher);

/// The last changes in a daemon's own zone. Clones share them. Memory is taken as they come.
#[derive(Clone, Debug)]
pub struct Changes {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told of every push and of the end.
    changed: Notify,
    rooms: Rooms,
}

/// Room for each kind of watcher.
#[derive(Debug)]
struct Rooms {
    relays: Arc<Semaphore>,
    clients: Arc<Semaphore>,
    executables: Arc<Semaphore>,
}

impl Default for Rooms {
    fn default() -> Self {
        let room = |watcher: Watcher| Arc::new(Semaphore::new(watcher.most()));
        Self {
            relays: room(Watcher::Relay),
            clients: room(Watcher::Client),
            executables: room(Watcher::Executable),
        }
    }
}

impl Rooms {
    fn of(&self, watcher: Watcher) -> &Arc<Semaphore> {
        match watcher {
            Watcher::Relay => &self.relays,
            Watcher::Client => &self.clients,
            Watcher::Executable => &self.executables,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    ring: Ring,
    closed: bool,
}

impl Shared {
    /// No code panics with the lock held; if it did, the changes would still be whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Changes {
    /// Of a zone that is new: there were none before.
    fn default() -> Self {
        Self::of(Ring::default())
    }
}

impl Changes {
    /// Of a daemon that was started anew: what came before is not known.
    #[must_use]
    pub fn anew() -> Self {
        Self::of(Ring::anew(unix_nanos_now()))
    }

    fn of(ring: Ring) -> Self {
        let state = Mutex::new(State { ring, closed: false });
        let (changed, rooms) = (Notify::new(), Rooms::default());
        Self { shared: Arc::new(Shared { state, changed, rooms }) }
    }

    /// Appends a change, with the present time. Never waits for a reader.
    pub fn push(&self, news: News) {
        self.shared.lock().ring.push(unix_nanos_now(), news);
        self.shared.changed.notify_waiters();
    }

    /// Says that no more will come: readers end when they have read what there is.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_waiters();
    }

    /// A number that is not less than that of any change up to now, and less than those to come.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.shared.lock().ring.newest(unix_nanos_now())
    }

    /// A new reader of what came after the number `after`; `None`: of all that is kept.
    ///
    /// # Errors
    /// There are too many of that kind.
    pub fn reader(&self, watcher: Watcher, after: Option<u64>) -> Result<Reader, TooManyWatches> {
        let room = Arc::clone(self.shared.rooms.of(watcher)).try_acquire_owned();
        let room = room.map_err(|_| TooManyWatches(watcher))?;
        let cursor = self.shared.lock().ring.start(after);
        Ok(Reader { shared: Arc::clone(&self.shared), cursor, _room: room })
    }
}

/// Reads the changes at its own pace.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    cursor: Cursor,
    _room: OwnedSemaphorePermit,
}

impl Reader {
    /// The next change; waits for it. `None`: there will be no more.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Seen> {
        // A clone, so that waiting does not borrow the reader.
        let shared = Arc::clone(&self.shared);
        loop {
            let mut changed = std::pin::pin!(shared.changed.notified());
            // Before looking, so that a push between looking and waiting is not lost.
            changed.as_mut().enable();
            let closed = {
                let state = shared.lock();
                if let Some(seen) = state.ring.read(&mut self.cursor) {
                    return Some(seen);
                }
                state.closed
            };
            if closed {
                return None;
            }
            changed.await;
        }
    }
}

/// Nanoseconds since the epoch; a clock before it, or after the year 2554, reads as the bound.
fn unix_nanos_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_waits_for_what_comes_and_ends_with_the_ring() {
        let changes = Changes::default();
        let mut reader = changes.reader(Watcher::Client, None).unwrap();
        let reading = tokio::spawn(async move { (reader.next().await, reader.next().await) });
        tokio::task::yield_now().await;
        changes.push(News::Resync);
        changes.close();
        let (first, end) = reading.await.unwrap();
        assert_eq!(first.unwrap().change.news, News::Resync);
        assert_eq!(end, None);
    }

    #[test]
    fn who_wants_only_what_comes_gets_no_more() {
        let changes = Changes::anew();
        changes.push(News::Resync);
        let newest = changes.newest();
        let state = changes.shared.lock();
        assert_eq!(state.ring.read(&mut state.ring.start(Some(newest))), None);
    }

    #[test]
    fn one_more_than_may_watch_is_refused_and_takes_no_room_of_another_kind() {
        let changes = Changes::default();
        let most = Watcher::Executable.most();
        let reader = || changes.reader(Watcher::Executable, None);
        let readers: Vec<_> = (0..most).map(|_| reader()).collect();
        assert!(readers.iter().all(Result::is_ok));
        assert_eq!(reader().unwrap_err(), TooManyWatches(Watcher::Executable));
        assert!(changes.reader(Watcher::Relay, None).is_ok());
        assert!(changes.reader(Watcher::Client, None).is_ok());
        drop(readers);
        assert!(reader().is_ok());
    }
}
