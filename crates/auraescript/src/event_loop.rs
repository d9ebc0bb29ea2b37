//! The event loop of a script: what it waits for, and what is done when that comes.
//!
//! JavaScript runs on one thread, and only there. Work that waits (calls, mostly) runs on the I/O
//! runtime of the main thread, and its end is sent here as a [`Completion`]. The loop ends when
//! nothing is left to wait for: no timer, no operation.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rquickjs::{Ctx, Function, Persistent, Promise, Value};
use tokio::task::AbortHandle;

/// Makes the value that a promise is resolved with, on the script's thread. An error is thrown into
/// the script.
pub(crate) type Settle = Box<dyn for<'js> FnOnce(&Ctx<'js>) -> rquickjs::Result<Value<'js>> + Send>;

/// What comes from other threads.
pub(crate) enum Event {
    /// An operation has ended.
    Completion { operation: u64, settle: Settle },
    /// Ctrl-C.
    Interrupt,
}

/// What a script waits for.
pub(crate) struct EventLoop {
    timers: RefCell<BTreeMap<(Instant, u64), Timer>>,
    deadlines: RefCell<HashMap<u64, Instant>>,
    operations: RefCell<HashMap<u64, Operation>>,
    next_id: Cell<u64>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    io: tokio::runtime::Handle,
}

struct Timer {
    callback: Persistent<Function<'static>>,
    /// The interval, of one that repeats.
    every: Option<Duration>,
    /// Whether the script goes on for it. Time limits of calls do not keep a script alive.
    referenced: bool,
}

struct Operation {
    resolve: Persistent<Function<'static>>,
    reject: Persistent<Function<'static>>,
    abort: AbortHandle,
}

/// What is to be done next.
pub(crate) enum Step {
    /// Call a timer's function.
    Timer(Persistent<Function<'static>>),
    /// Settle an operation's promise.
    Settle {
        resolve: Persistent<Function<'static>>,
        reject: Persistent<Function<'static>>,
        settle: Settle,
    },
    /// Ctrl-C.
    Interrupt,
    /// Nothing is left to wait for.
    Done,
}

/// The shortest interval of a repeating timer, as in browsers and Node: no busy loop.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

impl EventLoop {
    pub(crate) fn new(io: tokio::runtime::Handle) -> Self {
        let (sender, events) = channel();
        Self {
            timers: RefCell::default(),
            deadlines: RefCell::default(),
            operations: RefCell::default(),
            next_id: Cell::new(1),
            events,
            sender,
            io,
        }
    }

    /// Where other threads report.
    pub(crate) fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// Starts a timer.
    pub(crate) fn set_timer<'js>(
        &self,
        callback: Function<'js>,
        delay: Duration,
        repeats: bool,
        referenced: bool,
    ) -> u64 {
        let id = self.id();
        let timer = Timer {
            callback: Persistent::save(&callback.ctx().clone(), callback),
            every: repeats.then(|| delay.max(MIN_INTERVAL)),
            referenced,
        };
        self.insert(id, Instant::now() + delay, timer);
        id
    }

    /// Stops a timer; one that is over is not an error.
    pub(crate) fn clear_timer(&self, id: u64) {
        if let Some(deadline) = self.deadlines.borrow_mut().remove(&id) {
            self.timers.borrow_mut().remove(&(deadline, id));
        }
    }

    /// Starts an operation. The promise is settled with what the future makes.
    pub(crate) fn start<'js>(
        &self,
        ctx: &Ctx<'js>,
        future: impl Future<Output = Settle> + Send + 'static,
    ) -> rquickjs::Result<(u64, Promise<'js>)> {
        let (promise, resolve, reject) = ctx.promise()?;
        let id = self.id();
        let sender = self.sender.clone();
        let task = self.io.spawn(async move {
            let settle = future.await;
            // The script may be gone.
            let _ = sender.send(Event::Completion { operation: id, settle });
        });
        let operation = Operation {
            resolve: Persistent::save(ctx, resolve),
            reject: Persistent::save(ctx, reject),
            abort: task.abort_handle(),
        };
        self.operations.borrow_mut().insert(id, operation);
        Ok((id, promise))
    }

    /// Ends an operation; its promise stays as it is.
    pub(crate) fn abort(&self, id: u64) {
        if let Some(operation) = self.operations.borrow_mut().remove(&id) {
            operation.abort.abort();
        }
    }

    /// Waits for what is next.
    pub(crate) fn next(&self) -> Step {
        loop {
            if let Some(callback) = self.due() {
                return Step::Timer(callback);
            }
            let Some(event) = self.wait() else {
                continue;
            };
            match event {
                None => return Step::Done,
                Some(Event::Interrupt) => return Step::Interrupt,
                Some(Event::Completion { operation, settle }) => {
                    // One that was aborted may have ended before it noticed.
                    if let Some(Operation { resolve, reject, .. }) =
                        self.operations.borrow_mut().remove(&operation)
                    {
                        return Step::Settle { resolve, reject, settle };
                    }
                }
            }
        }
    }

    /// Waits for an event or the next timer. The outer `None`: a timer is due. The inner: nothing
    /// is left to wait for.
    fn wait(&self) -> Option<Option<Event>> {
        let referenced = self.timers.borrow().values().any(|timer| timer.referenced);
        if self.operations.borrow().is_empty() && !referenced {
            return Some(self.events.try_recv().ok());
        }
        let first = self.timers.borrow().keys().next().map(|(deadline, _)| *deadline);
        match first {
            // The sender is our own: it does not go away.
            None => Some(self.events.recv().ok()),
            Some(deadline) => {
                match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(event) => Some(Some(event)),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => Some(None),
                }
            }
        }
    }

    /// The function of a timer whose time has come.
    fn due(&self) -> Option<Persistent<Function<'static>>> {
        let (deadline, id) = self.timers.borrow().keys().next().copied()?;
        if deadline > Instant::now() {
            return None;
        }
        let timer = self.timers.borrow_mut().remove(&(deadline, id))?;
        self.deadlines.borrow_mut().remove(&id);
        let callback = timer.callback.clone();
        if let Some(every) = timer.every {
            self.insert(id, Instant::now() + every, timer);
        }
        Some(callback)
    }

    fn insert(&self, id: u64, deadline: Instant, timer: Timer) {
        self.timers.borrow_mut().insert((deadline, id), timer);
        self.deadlines.borrow_mut().insert(id, deadline);
    }

    fn id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        id
    }
}
