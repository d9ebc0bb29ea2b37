//! The log that those who record and those who read share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aurae_authz::{Action, Principal};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::Code;

use super::entry::cut_owned;
use super::file::{FileError, LogFile, Target};
use super::ring::{Cursor, MAX_BYTES, Ring, Seen, Start};
use super::writer::Writer;
use super::{Decision, Entry, Settings, Tally, Unrecordable};
use crate::share::Bucket;
use crate::status::Status;

/// So many may read the log at once: each is woken by every call.
const MAX_READERS: usize = 64;
/// How long a disk may take to say that a call was begun; a call is not to hang with it.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(10);
/// So many refused connections are recorded at once: more than one who has a wrong certificate makes.
const REFUSALS_AT_ONCE: u32 = 500;
/// So many more a second: a refused connection costs a stranger little, and must not push out what others did. It
/// takes more than a day to push 64 MiB out of the file.
const REFUSALS_PER_SECOND: u32 = 2;

/// Too many read already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_READERS} read the audit log already; end some")]
pub struct TooManyReaders;

/// The log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The thread that writes it.
    #[error("failed to start the thread that writes the audit log")]
    Thread(#[source] std::io::Error),
}

/// How the log stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// How many records there were.
    pub records: u64,
    /// How many of them are not in the file.
    pub lost: u64,
    /// How many refused connections and calls have no record.
    pub omitted: u64,
    /// How many bytes of records went with the oldest file.
    pub rotated: u64,
    /// The file.
    pub file: Option<PathBuf>,
    /// Whether calls are refused that cannot be written there.
    pub required: bool,
}

/// The audit log. Clones share it.
#[derive(Clone, Debug)]
pub struct Audit {
    /// `None` in a zone, which keeps no records.
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    readers: Arc<Semaphore>,
    requests: AtomicU64,
    refusals: Bucket,
    /// Refused connections and calls without a record, in all.
    omitted: AtomicU64,
    writer: Option<Writer>,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    closed: bool,
    /// Refused connections without a record, since the last that has one.
    omitted: u64,
}

impl Audit {
    /// A log that keeps nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { shared: None }
    }

    /// A log in memory.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::of(0, None)
    }

    /// The log of a daemon. Failures that come later are told by `status`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn start(settings: &Settings, status: &Status) -> Result<Self, AuditError> {
        let Some(path) = settings.file.clone() else { return Ok(Self::in_memory()) };
        let mut file = LogFile::new(path.clone(), settings.size);
        let last = file.open()?;
        Self::with_target(path, settings.required, last, file, status)
    }

    /// The same where the file cannot be opened, for this reason: it is tried again with every record.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start_without_file(
        settings: &Settings,
        status: &Status,
        reason: String,
    ) -> Result<Self, AuditError> {
        let path = settings.file.clone().unwrap_or_default();
        let file = LogFile::new(path.clone(), settings.size);
        let audit = Self::with_target(path, settings.required, 0, file, status)?;
        if let Some(writer) = audit.shared.as_ref().and_then(|shared| shared.writer.as_ref()) {
            writer.failed(reason);
        }
        Ok(audit)
    }

    pub(super) fn with_target(
        path: PathBuf,
        required: bool,
        last: u64,
        target: impl Target,
        status: &Status,
    ) -> Result<Self, AuditError> {
        let writer = Writer::start(path, required, target, status.clone());
        Ok(Self::of(last, Some(writer.map_err(AuditError::Thread)?)))
    }

    fn of(last: u64, writer: Option<Writer>) -> Self {
        let ring = Ring::after(last, MAX_BYTES);
        let shared = Shared {
            state: Mutex::new(State { ring, closed: false, omitted: 0 }),
            changed: Notify::new(),
            readers: Arc::new(Semaphore::new(MAX_READERS)),
            requests: AtomicU64::new(0),
            refusals: Bucket::with_burst(REFUSALS_PER_SECOND, REFUSALS_AT_ONCE),
            omitted: AtomicU64::new(0),
            writer,
        };
        Self { shared: Some(Arc::new(shared)) }
    }

    pub(super) fn next_request(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.requests.fetch_add(1, Ordering::Relaxed))
    }

    fn writer(&self) -> Option<&Writer> {
        self.shared.as_ref()?.writer.as_ref()
    }

    /// Whether any records are kept.
    pub(super) fn is_kept(&self) -> bool {
        self.shared.is_some()
    }

    /// Whether a call must not be done that the file does not have.
    pub(super) fn is_required(&self) -> bool {
        self.writer().is_some_and(|writer| writer.required)
    }

    pub(super) fn reserve(&self, tally: Option<&Tally>) -> Result<(), Unrecordable> {
        self.writer().map_or(Ok(()), |writer| writer.reserve(tally))
    }

    /// Counts a call that has no record.
    pub(super) fn omit(&self) {
        if let Some(shared) = &self.shared {
            shared.omitted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until the file says that a call was begun. Memory does not: it is gone with the daemon, and the record
    /// of the call's end comes there.
    pub(super) async fn begin(
        &self,
        mut entry: Entry,
        tally: Option<Arc<Tally>>,
    ) -> Result<(), Unrecordable> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let Some(writer) = &shared.writer else { return Ok(()) };
        let begun = {
            let mut state = shared.lock();
            entry.sequence = state.ring.number(unix_nanos_now());
            // With the lock held, so that the numbers in the file grow.
            writer.begin(entry, tally)?
        };
        match timeout(BEGIN_TIMEOUT, begun).await {
            Ok(Ok(written)) => written.map_err(Unrecordable::Disk),
            Ok(Err(_)) => Err(Unrecordable::Disk("the thread that writes it has ended".into())),
            Err(_) => {
                let seconds = BEGIN_TIMEOUT.as_secs();
                Err(Unrecordable::Disk(format!("the disk did not take it within {seconds} s")))
            }
        }
    }

    /// Takes a record, which the file is owed or gets if there is room. Waits for nobody.
    pub(super) fn push(&self, mut entry: Entry, tally: Option<Arc<Tally>>, owed: bool) {
        let Some(shared) = &self.shared else { return };
        if let Some(tally) = &tally {
            entry.omitted = tally.omitted();
        }
        log(&entry);
        {
            let mut state = shared.lock();
            let entry = state.ring.push(unix_nanos_now(), entry);
            // With the lock held, so that the file has the ring's order.
            if let Some(writer) = &shared.writer {
                writer.record(entry, tally, owed);
            }
        }
        shared.changed.notify_waiters();
    }

    /// Records a connection that was refused, unless there were too many just now; whether it did.
    pub fn refused(&self, principal: Option<Principal>, peer: &str, reason: &str) -> bool {
        let Some(shared) = &self.shared else { return false };
        if shared.refusals.take(Instant::now()).is_err() {
            shared.omitted.fetch_add(1, Ordering::Relaxed);
            shared.lock().omitted += 1;
            return false;
        }
        let omitted = std::mem::take(&mut shared.lock().omitted);
        let entry = Entry {
            sequence: 0,
            unix_nanos: unix_nanos_now(),
            request: 0,
            principal,
            peer: peer.into(),
            action: None,
            resource: None,
            decision: Decision::Denied,
            rule: None,
            code: Code::Unauthenticated,
            duration_us: 0,
            reason: Some(cut_owned(reason.to_owned().into()).into_owned()),
            omitted,
        };
        self.push(entry, None, false);
        true
    }

    /// How the log stands; `None` where none is kept.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        let shared = self.shared.as_ref()?;
        let writer = shared.writer.as_ref();
        Some(Standing {
            records: shared.lock().ring.count(),
            lost: writer.map_or(0, Writer::lost),
            omitted: shared.omitted.load(Ordering::Relaxed),
            rotated: writer.map_or(0, Writer::rotated),
            file: writer.map(|writer| writer.path.clone()),
            required: writer.is_some_and(|writer| writer.required),
        })
    }

    /// A new reader; `None` where no log is kept.
    ///
    /// # Errors
    /// There are too many.
    pub fn reader(&self, start: Start, follow: bool) -> Result<Option<Reader>, TooManyReaders> {
        let Some(shared) = self.shared.clone() else { return Ok(None) };
        let room = Arc::clone(&shared.readers).try_acquire_owned().map_err(|_| TooManyReaders)?;
        let cursor = shared.lock().ring.start(start, follow);
        Ok(Some(Reader { shared, cursor, follow, _room: room }))
    }

    /// Says that readers need not wait for more: the daemon ends.
    pub fn close(&self) {
        let Some(shared) = &self.shared else { return };
        shared.lock().closed = true;
        shared.changed.notify_waiters();
    }

    /// Waits until the file has what was recorded, at most `timeout`.
    pub async fn flush(&self, timeout: Duration) {
        if let Some(writer) = self.writer()
            && tokio::time::timeout(timeout, writer.flush()).await.is_err()
        {
            tracing::error!("the last records of the audit log were not written in time");
        }
    }
}

impl Shared {
    /// No code panics with the lock held; if it did, the records would still be whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the log at its own pace.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    cursor: Cursor,
    follow: bool,
    _room: OwnedSemaphorePermit,
}

impl Reader {
    /// The next record, and how many are not in the file; waits where it follows. `None`: there will be
    /// no more.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<(Seen, u64)> {
        // A clone, so that waiting does not borrow the reader.
        let shared = Arc::clone(&self.shared);
        loop {
            let mut changed = std::pin::pin!(shared.changed.notified());
            // Before looking, so that a push between looking and waiting is not lost.
            changed.as_mut().enable();
            let closed = {
                let state = shared.lock();
                if let Some(seen) = state.ring.read(&mut self.cursor) {
                    return Some((seen, shared.writer.as_ref().map_or(0, Writer::lost)));
                }
                state.closed
            };
            if closed || !self.follow {
                return None;
            }
            changed.await;
        }
    }
}

/// The record as a line of the daemon's own log, which shows it only where debugging output was asked for.
fn log(entry: &Entry) {
    tracing::debug!(
        target: "audit",
        request = entry.request,
        principal = entry.principal.as_ref().map(Principal::name),
        form = entry.principal.as_ref().map(|principal| principal.form().as_str()),
        peer = &*entry.peer,
        action = entry.action.as_ref().map(Action::as_str),
        resource = entry.resource.as_deref(),
        decision = entry.decision.as_str(),
        rule = entry.rule.as_deref(),
        status = ?entry.code,
        duration_us = entry.duration_us,
        reason = entry.reason.as_deref(),
        omitted = entry.omitted,
    );
}

/// Nanoseconds since the epoch; a clock before it, or after the year 2554, reads as the bound.
pub(super) fn unix_nanos_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
