//! The thread that writes records to the disk. Who makes one does not wait for it, unless the file is to say that
//! a call was begun before it is done.
//!
//! ```text
//! records, QUEUE of them ──▶ thread ── append ──▶ file
//!                              └─ failed: degraded; dropped and counted, or, where records are required, tried
//!                                         again; what waits to be begun is refused
//! ```
//!
//! Where records are required, the file gets those of all calls that were let in, whatever comes. So more than
//! QUEUE may wait once the disk takes no more: those of the calls that are open then, which takes less memory
//! than the calls did. Open calls have no place in the queue, so nobody can fill it with them.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::file::Target;
use super::{Entry, Tally, Unrecordable};
use crate::reply;
use crate::status::Status;

/// So many records may wait for the disk before calls are refused, or records are lost: those of four principals
/// that take all they may. One that waits takes some 300 bytes, which the ring in memory has of the last ones
/// already.
const QUEUE: usize = 4 * QUEUE_OF_ONE;
/// So many of them may be of one principal: a fifth of a second of all that one client can make the daemon do.
const QUEUE_OF_ONE: usize = 16 << 10;
/// What is written at once, in bytes: the kernel is asked seldom, and a rotation wastes little.
const BATCH: usize = 64 << 10;
/// What was written survives the machine after so long: an `fdatasync` each record would be a disk's
/// whole work.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// The pause before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The phase of the daemon's health.
pub(super) const PHASE: &str = "audit";

/// The way to the disk.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) required: bool,
    sender: Mutex<Sender<Item>>,
    state: Arc<State>,
}

/// What the thread and those who make records share.
#[derive(Debug)]
struct State {
    /// Why the last write failed.
    failure: Mutex<Option<String>>,
    /// How many records wait.
    waiting: AtomicUsize,
    lost: AtomicU64,
    /// The bytes of records that went with the oldest file.
    rotated: AtomicU64,
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

/// A record that waits, as long as it does.
struct Waiting {
    state: Arc<State>,
    tally: Option<Arc<Tally>>,
}

impl Waiting {
    /// One more; whether that is within the bounds.
    fn new(state: &Arc<State>, tally: Option<Arc<Tally>>) -> (Self, bool) {
        let all = state.waiting.fetch_add(1, Ordering::Relaxed);
        let of_one =
            tally.as_ref().map_or(0, |tally| tally.waiting().fetch_add(1, Ordering::Relaxed));
        let waiting = Self { state: Arc::clone(state), tally };
        (waiting, all < QUEUE && of_one < QUEUE_OF_ONE)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.state.waiting.fetch_sub(1, Ordering::Relaxed);
        if let Some(tally) = &self.tally {
            tally.waiting().fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Whoever waits until the file says that a call was begun, or why it does not.
type Begun = oneshot::Sender<Result<(), String>>;

enum Item {
    Record(Arc<Entry>, Waiting),
    /// Before its call is done.
    Begun(Box<Entry>, Waiting, Begun),
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
        let state = Arc::new(State {
            failure: Mutex::new(None),
            waiting: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            rotated: AtomicU64::new(0),
            status,
        });
        let shared = Arc::clone(&state);
        let backlog = VecDeque::new();
        let thread = Thread { receiver, backlog, target, required, state: shared, synced: None };
        std::thread::Builder::new().name("audit".into()).spawn(move || thread.run())?;
        Ok(Self { path, required, sender: Mutex::new(sender), state })
    }

    /// Whether a record that is to be made can be written, where records are required.
    pub(super) fn reserve(&self, tally: Option<&Tally>) -> Result<(), Unrecordable> {
        if !self.required {
            return Ok(());
        }
        if let Some(reason) = lock(&self.state.failure).clone() {
            return Err(Unrecordable::Disk(reason));
        }
        if self.state.waiting.load(Ordering::Relaxed) >= QUEUE {
            return Err(Unrecordable::Full(QUEUE));
        }
        match tally.map_or(0, |tally| tally.waiting().load(Ordering::Relaxed)) {
            0..QUEUE_OF_ONE => Ok(()),
            _ => Err(Unrecordable::FullForYou(QUEUE_OF_ONE)),
        }
    }

    /// Hands a record on. Where there is no room it is lost, unless it is owed and records are required.
    pub(super) fn record(&self, entry: Arc<Entry>, tally: Option<Arc<Tally>>, owed: bool) {
        let (waiting, has_room) = Waiting::new(&self.state, tally);
        let is_taken = has_room || owed && self.required;
        if !is_taken || lock(&self.sender).send(Item::Record(entry, waiting)).is_err() {
            self.state.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Hands on that a call was begun, and answers who tells when the file says so.
    pub(super) fn begin(
        &self,
        entry: Entry,
        tally: Option<Arc<Tally>>,
    ) -> Result<oneshot::Receiver<Result<(), String>>, Unrecordable> {
        let (waiting, has_room) = Waiting::new(&self.state, tally);
        if !has_room {
            return Err(Unrecordable::Full(QUEUE));
        }
        let (done, begun) = oneshot::channel();
        // Where it cannot be sent it is dropped, and that is told.
        let _ = lock(&self.sender).send(Item::Begun(Box::new(entry), waiting, done));
        Ok(begun)
    }

    /// The file could not be opened.
    pub(super) fn failed(&self, reason: String) {
        self.state.failed(reason);
    }

    /// How many records are not in the file.
    pub(super) fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::Relaxed)
    }

    /// How many bytes of records went with the oldest file.
    pub(super) fn rotated(&self) -> u64 {
        self.state.rotated.load(Ordering::Relaxed)
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
    /// What was received while the disk took nothing.
    backlog: VecDeque<Item>,
    target: T,
    required: bool,
    state: Arc<State>,
    /// When what was written last was synced; `None`: all of it is.
    synced: Option<Instant>,
}

/// What is written at once.
#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    records: Vec<Waiting>,
    /// The lines of calls that were begun, and who waits for them.
    begun: Vec<(Range<usize>, Waiting, Begun)>,
    flushes: Vec<oneshot::Sender<()>>,
}

impl Batch {
    fn add(&mut self, item: Item) {
        match item {
            Item::Record(entry, waiting) => {
                entry.write_line(&mut self.lines);
                self.records.push(waiting);
            }
            // Who has given up meanwhile does nothing.
            Item::Begun(_, _, done) if done.is_closed() => {}
            Item::Begun(entry, waiting, done) => {
                let start = self.lines.len();
                entry.write_begun(&mut self.lines);
                self.begun.push((start..self.lines.len(), waiting, done));
            }
            Item::Flush(done) => self.flushes.push(done),
        }
    }

    /// Takes out what is only said before it is done: it will not be.
    fn refuse_begun(&mut self, reason: &str) {
        for (line, _waiting, done) in self.begun.drain(..).rev() {
            self.lines.drain(line);
            let _ = done.send(Err(reason.to_owned()));
        }
    }
}

impl<T: Target> Thread<T> {
    fn run(mut self) {
        loop {
            let next = match self.backlog.pop_front() {
                Some(item) => Ok(item),
                None => self.receiver.recv_timeout(SYNC_INTERVAL),
            };
            match next {
                Ok(item) => self.take(item),
                Err(RecvTimeoutError::Timeout) => self.sync(),
                Err(RecvTimeoutError::Disconnected) => return self.sync(),
            }
        }
    }

    /// Writes a record and those that wait behind it.
    fn take(&mut self, first: Item) {
        let mut batch = Batch::default();
        let mut next = Some(first);
        while let Some(item) = next {
            batch.add(item);
            let more = batch.lines.len() < BATCH && batch.flushes.is_empty();
            let received = || self.backlog.pop_front().or_else(|| self.receiver.try_recv().ok());
            next = more.then(received).flatten();
        }
        self.write(&mut batch);
        let is_due = self.synced.is_some_and(|synced| synced.elapsed() >= SYNC_INTERVAL);
        if is_due || !batch.flushes.is_empty() {
            self.sync();
        }
        // Nobody may wait any more.
        for done in batch.flushes {
            let _ = done.send(());
        }
    }

    fn write(&mut self, batch: &mut Batch) {
        while !batch.lines.is_empty() {
            let error = match self.target.append(&batch.lines) {
                Ok(()) => return self.written(batch),
                Err(error) => reply::text(&error),
            };
            self.state.failed(error.clone());
            batch.refuse_begun(&error);
            if !self.required {
                self.state.lost.fetch_add(batch.records.len() as u64, Ordering::Relaxed);
                return;
            }
            self.refuse_begun(&error);
            if !batch.lines.is_empty() {
                std::thread::sleep(RETRY);
            }
        }
    }

    fn written(&mut self, batch: &mut Batch) {
        self.state.succeeded();
        self.state.rotated.fetch_add(self.target.dropped(), Ordering::Relaxed);
        self.synced.get_or_insert_with(Instant::now);
        for (_, _waiting, done) in batch.begun.drain(..) {
            let _ = done.send(Ok(()));
        }
    }

    /// Refuses what came to be begun since. Records wait.
    fn refuse_begun(&mut self, reason: &str) {
        for item in self.receiver.try_iter() {
            match item {
                Item::Begun(_, _waiting, done) => drop(done.send(Err(reason.to_owned()))),
                item => self.backlog.push_back(item),
            }
        }
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
        writer.record(Arc::new(entry(1)), None, true);
        writer.flush().await;
        assert_eq!((disk.lines(), writer.lost()), (1, 0));
        disk.full.store(true, Ordering::Relaxed);
        for sequence in [2, 3] {
            writer.reserve(None).unwrap();
            writer.record(Arc::new(entry(sequence)), None, true);
            writer.flush().await;
        }
        assert_eq!((disk.lines(), writer.lost()), (1, 2));
        let degraded = status.degraded();
        assert_eq!(degraded.len(), 1, "it is said once: {degraded:?}");
        assert_eq!(degraded[0].phase, PHASE);
        disk.full.store(false, Ordering::Relaxed);
        writer.record(Arc::new(entry(4)), None, true);
        writer.flush().await;
        assert_eq!((disk.lines(), writer.lost()), (2, 2));
        assert!(status.degraded().is_empty());
    }

    #[tokio::test]
    async fn where_records_are_required_what_ran_is_written_later_and_nothing_else_runs() {
        let (writer, disk, status) = writer(true);
        disk.full.store(true, Ordering::Relaxed);
        writer.reserve(None).unwrap();
        writer.record(Arc::new(entry(1)), None, true);
        // The failure is there once the thread has tried.
        let refused = loop {
            match writer.reserve(None) {
                Err(refused) => break refused,
                Ok(()) => tokio::task::yield_now().await,
            }
        };
        assert!(matches!(refused, Unrecordable::Disk(reason) if reason.contains("No space")));
        disk.full.store(false, Ordering::Relaxed);
        writer.flush().await;
        assert_eq!((disk.lines(), writer.lost()), (1, 0));
        assert_eq!(writer.reserve(None), Ok(()));
        assert!(status.degraded().is_empty());
    }

    #[tokio::test]
    async fn one_principal_fills_its_own_part_of_the_queue_and_what_is_owed_waits_beyond_it() {
        let (writer, disk, _) = writer(true);
        let [alice, bob] = [(); 2].map(|()| Arc::new(Tally::default()));
        {
            // A disk that takes its time.
            let _busy = lock(&disk.written);
            let record = |owed| {
                let tally = Some(Arc::clone(&alice));
                writer.record(Arc::new(entry(1)), tally, owed);
            };
            // A batch is taken out of the queue, and counts until it is written.
            (0..QUEUE_OF_ONE).for_each(|_| record(false));
            let refused = writer.reserve(Some(alice.as_ref()));
            assert_eq!(refused, Err(Unrecordable::FullForYou(QUEUE_OF_ONE)));
            assert_eq!(writer.reserve(Some(bob.as_ref())), Ok(()));
            record(false);
            assert_eq!(writer.lost(), 1);
            record(true);
            assert_eq!(writer.lost(), 1, "what was let in is not lost");
        }
        writer.flush().await;
        assert_eq!(disk.lines(), QUEUE_OF_ONE + 1);
        assert_eq!(writer.reserve(Some(alice.as_ref())), Ok(()));
    }

    #[tokio::test]
    async fn what_is_begun_is_in_the_file_by_then_or_is_refused_and_never_there() {
        let (writer, disk, _) = writer(true);
        writer.begin(entry(1), None).unwrap().await.unwrap().unwrap();
        assert_eq!(disk.lines(), 1);
        disk.full.store(true, Ordering::Relaxed);
        // The second comes while the first record is tried again.
        writer.record(Arc::new(entry(2)), None, true);
        for sequence in [3, 4] {
            let begun = writer.begin(entry(sequence), None).unwrap();
            let refused = begun.await.unwrap().unwrap_err();
            assert!(refused.contains("No space"), "{refused}");
        }
        disk.full.store(false, Ordering::Relaxed);
        writer.flush().await;
        let written = String::from_utf8(lock(&disk.written).clone()).unwrap();
        let told: Vec<_> = written.lines().map(|line| line.contains("\"begun\":true")).collect();
        assert_eq!(told, [true, false], "{written}");
    }

    #[tokio::test]
    async fn what_waits_to_be_begun_has_the_bounds_of_records_and_who_gave_up_has_no_line() {
        let (writer, disk, _) = writer(true);
        let alice = Arc::new(Tally::default());
        {
            // A disk that takes its time.
            let _busy = lock(&disk.written);
            let begin = || writer.begin(entry(1), Some(Arc::clone(&alice)));
            let _given_up: Vec<_> = (0..QUEUE_OF_ONE).map(|_| begin().unwrap()).collect();
            assert!(matches!(begin(), Err(Unrecordable::Full(_))));
        }
        writer.flush().await;
        // Those that the thread had taken by then are there.
        assert!(disk.lines() < QUEUE_OF_ONE, "{}", disk.lines());
        assert_eq!(alice.waiting().load(Ordering::Relaxed), 0);
    }
}
