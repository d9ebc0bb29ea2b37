//! The thread that writes records to the disk. Nobody who makes one waits for it.
//!
//! ```text
//! records ── slots, QUEUE of them ──▶ thread ── append ──▶ file
//!                                       └─ failed: degraded; dropped and counted,
//!                                                  or, where records are required, tried again
//! ```

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::file::Target;
use super::{Entry, Unrecordable};
use crate::reply;
use crate::status::Status;

/// So many records may wait for the disk, or be open where records are required. One that waits takes
/// some 300 bytes, which the ring in memory mostly has already.
const QUEUE: usize = 16 << 10;
/// What is written at once, in bytes: the kernel is asked seldom, and a rotation wastes little.
const BATCH: usize = 64 << 10;
/// What was written survives the machine after so long: an `fdatasync` each record would be a disk's
/// whole work.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// The pause before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The phase of the daemon's health.
pub(super) const PHASE: &str = "audit";

/// Room for a record.
pub(super) type Slot = OwnedSemaphorePermit;

/// The way to the disk.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) required: bool,
    slots: Arc<Semaphore>,
    sender: Mutex<Sender<Item>>,
    state: Arc<State>,
}

/// What the thread and those who make records share.
#[derive(Debug)]
struct State {
    /// Why the last write failed.
    failure: Mutex<Option<String>>,
    lost: AtomicU64,
    status: Status,
}

impl State {
    /// Says it once, until a write succeeds.
    fn failed(&self, reason: String) {
        if lock(&self.failure).replace(reason.clone()).is_none() {
            self.status.degrade(PHASE, reason);
        }
    }

    fn succeeded(&self) {
        if lock(&self.failure).take().is_some() {
            let lost = self.lost.load(Ordering::Relaxed);
            tracing::info!(lost, "the audit log is written again");
            self.status.recover(PHASE);
        }
    }
}

enum Item {
    Record(Arc<Entry>, Slot),
    /// Everything before it is to be on the disk.
    Flush(oneshot::Sender<()>),
}

impl Writer {
    /// Starts the thread. What fails is told by `status`.
    pub(super) fn start(
        path: PathBuf,
        required: bool,
        target: impl Target,
        status: Status,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        let failure = Mutex::new(None);
        let state = Arc::new(State { failure, lost: AtomicU64::new(0), status });
        let shared = Arc::clone(&state);
        let thread = Thread { receiver, target, required, state: shared, synced: None };
        std::thread::Builder::new().name("audit".into()).spawn(move || thread.run())?;
        let slots = Arc::new(Semaphore::new(QUEUE));
        Ok(Self { path, required, slots, sender: Mutex::new(sender), state })
    }

    /// Room for a record that is to be made, where records are required.
    pub(super) fn reserve(&self) -> Result<Option<Slot>, Unrecordable> {
        if !self.required {
            return Ok(None);
        }
        if let Some(reason) = lock(&self.state.failure).clone() {
            return Err(Unrecordable::Disk(reason));
        }
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        slot.map(Some).map_err(|_| Unrecordable::Full(QUEUE))
    }

    /// Hands a record on; it is lost where there is no room.
    pub(super) fn record(&self, entry: Arc<Entry>, slot: Option<Slot>) {
        let slot = slot.or_else(|| Arc::clone(&self.slots).try_acquire_owned().ok());
        let sent =
            slot.is_some_and(|slot| lock(&self.sender).send(Item::Record(entry, slot)).is_ok());
        if !sent {
            self.state.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The file could not be opened.
    pub(super) fn failed(&self, reason: String) {
        self.state.failed(reason);
    }

    /// How many records are not in the file.
    pub(super) fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::Relaxed)
    }

    /// Waits until what was handed on is on the disk.
    pub(super) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if lock(&self.sender).send(Item::Flush(done)).is_ok() {
            let _ = flushed.await;
        }
    }
}

/// Nothing panics with a lock held; if it did, what is inside would still be whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Thread<T> {
    receiver: Receiver<Item>,
    target: T,
    required: bool,
    state: Arc<State>,
    /// When what was written last was synced; `None`: all of it is.
    synced: Option<Instant>,
}

impl<T: Target> Thread<T> {
    fn run(mut self) {
        loop {
            match self.receiver.recv_timeout(SYNC_INTERVAL) {
                Ok(item) => self.take(item),
                Err(RecvTimeoutError::Timeout) => self.sync(),
                Err(RecvTimeoutError::Disconnected) => return self.sync(),
            }
        }
    }

    /// Writes a record and those that wait behind it.
    fn take(&mut self, first: Item) {
        let (mut lines, mut slots, mut flushes) = (Vec::new(), Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(item) = next {
            match item {
                Item::Record(entry, slot) => {
                    entry.write_line(&mut lines);
                    slots.push(slot);
                }
                Item::Flush(done) => flushes.push(done),
            }
            let more = lines.len() < BATCH && flushes.is_empty();
            next = more.then(|| self.receiver.try_recv().ok()).flatten();
        }
        if !lines.is_empty() {
            self.write(&lines, slots.len() as u64);
        }
        let is_due = self.synced.is_some_and(|synced| synced.elapsed() >= SYNC_INTERVAL);
        if is_due || !flushes.is_empty() {
            self.sync();
        }
        // Nobody may wait any more.
        for done in flushes {
            let _ = done.send(());
        }
    }

    fn write(&mut self, lines: &[u8], count: u64) {
        loop {
            match self.target.append(lines) {
                Ok(()) => break self.state.succeeded(),
                Err(error) => self.state.failed(reply::text(&error)),
            }
            if !self.required {
                self.state.lost.fetch_add(count, Ordering::Relaxed);
                return;
            }
            std::thread::sleep(RETRY);
        }
        self.synced.get_or_insert_with(Instant::now);
    }

    fn sync(&mut self) {
        if self.synced.take().is_some()
            && let Err(error) = self.target.sync()
        {
            self.state.failed(reply::text(&error));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::AtomicBool;

    use super::super::entry::tests::entry;
    use super::super::file::{FileError, LogFile, MIN_SIZE};
    use super::*;

    /// A disk that can be full.
    #[derive(Clone, Debug, Default)]
    pub(in super::super) struct Disk {
        pub(in super::super) full: Arc<AtomicBool>,
        pub(in super::super) written: Arc<Mutex<Vec<u8>>>,
    }

    impl Target for Disk {
        fn append(&mut self, lines: &[u8]) -> Result<(), FileError> {
            if self.full.load(Ordering::Relaxed) {
                // The kernel's own word.
                return LogFile::new("/dev/full".into(), MIN_SIZE).append(lines);
            }
            lock(&self.written).extend(lines);
            Ok(())
        }

        fn sync(&mut self) -> Result<(), FileError> {
            Ok(())
        }
    }

    impl Disk {
        pub(in super::super) fn lines(&self) -> usize {
            lock(&self.written).iter().filter(|byte| **byte == b'\n').count()
        }
    }

    fn writer(required: bool) -> (Writer, Disk, Status) {
        let (disk, status) = (Disk::default(), Status::default());
        let writer = Writer::start("/a".into(), required, disk.clone(), status.clone()).unwrap();
        (writer, disk, status)
    }

    #[tokio::test]
    async fn a_full_disk_loses_records_and_says_how_many() {
        let (writer, disk, status) = writer(false);
        writer.record(Arc::new(entry(1)), None);
        writer.flush().await;
        assert_eq!((disk.lines(), writer.lost()), (1, 0));
        disk.full.store(true, Ordering::Relaxed);
        for sequence in [2, 3] {
            assert!(writer.reserve().unwrap().is_none());
            writer.record(Arc::new(entry(sequence)), None);
            writer.flush().await;
        }
        assert_eq!((disk.lines(), writer.lost()), (1, 2));
        let degraded = status.degraded();
        assert_eq!(degraded.len(), 1, "it is said once: {degraded:?}");
        assert_eq!(degraded[0].phase, PHASE);
        disk.full.store(false, Ordering::Relaxed);
        writer.record(Arc::new(entry(4)), None);
        writer.flush().await;
        assert_eq!((disk.lines(), writer.lost()), (2, 2));
        assert!(status.degraded().is_empty());
    }

    #[tokio::test]
    async fn where_records_are_required_what_ran_is_written_later_and_nothing_else_runs() {
        let (writer, disk, status) = writer(true);
        disk.full.store(true, Ordering::Relaxed);
        let slot = writer.reserve().unwrap();
        writer.record(Arc::new(entry(1)), slot);
        // The failure is there once the thread has tried.
        let refused = loop {
            match writer.reserve() {
                Err(refused) => break refused,
                Ok(_) => tokio::task::yield_now().await,
            }
        };
        assert!(matches!(refused, Unrecordable::Disk(reason) if reason.contains("No space")));
        disk.full.store(false, Ordering::Relaxed);
        writer.flush().await;
        assert_eq!((disk.lines(), writer.lost()), (1, 0));
        assert!(writer.reserve().unwrap().is_some());
        assert!(status.degraded().is_empty());
    }

    #[tokio::test]
    async fn where_records_are_required_each_open_call_has_room_for_its_record() {
        let (writer, ..) = writer(true);
        let slots: Vec<_> = (0..QUEUE).map(|_| writer.reserve().unwrap()).collect();
        assert!(matches!(writer.reserve(), Err(Unrecordable::Full(QUEUE))));
        drop(slots);
        assert!(writer.reserve().is_ok());
    }
}
