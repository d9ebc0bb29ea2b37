//! A bound on how many of a principal's futures are polled, or wait to be polled, at a time.
//!
//! ```text
//! Idle ──woken──▶ Called ──polled──▶ Running ──▶ Idle, or Waiting where it was woken meanwhile
//!   └─no place──▶ Waiting ──its turn──▶ Called
//! ```
//!
//! A runtime's queue is first in, first out, over all tasks: who has a thousand tasks that are always
//! ready makes everybody wait for a thousand polls. Here the futures of one principal queue among
//! themselves, and only so many of them as the lane has places are tasks that the runtime has to run. So
//! nobody else waits for more than those.
//!
//! A future that is called has to be polled, or dropped: its place is kept meanwhile. The runtime does so,
//! and `select!`, as long as it is polled itself.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use pin_project_lite::pin_project;

/// So many polls may follow on each other at once, where the future is ready again after one: in the first a
/// request is read and answered, in the second the answer is written.
const POLLS: usize = 2;

/// A queue of futures. Clones are the same lane; a lane in which nothing is ready costs nothing.
#[derive(Clone, Debug)]
pub struct Lane {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// Places that nobody has.
    free: usize,
    /// In the order in which they were woken. Those that are gone are passed over.
    waiting: VecDeque<Arc<Member>>,
}

/// A future's place in the order of things.
#[derive(Debug)]
struct Member {
    lane: Arc<Mutex<State>>,
    /// Locked while the lane is, or alone.
    own: Mutex<Own>,
}

#[derive(Debug)]
struct Own {
    phase: Phase,
    /// The task that polls it.
    task: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing happened that it waits for.
    Idle,
    /// It is ready, and waits for a place.
    Waiting,
    /// It has a place, and its task was woken.
    Called,
    /// It has a place and is polled.
    Running,
    /// The same, and it was woken meanwhile.
    RunningAgain,
    /// It has ended, or was dropped.
    Gone,
}

/// Nothing panics with a lock held; if it did, what is inside would still be whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lane {
    /// A lane with so many places, at least one.
    #[must_use]
    pub fn new(places: usize) -> Self {
        let state = State { free: places.max(1), waiting: VecDeque::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The future, polled only when it has a place.
    pub fn wrap<F: Future>(&self, future: F) -> InLane<F> {
        let own = Mutex::new(Own { phase: Phase::Idle, task: None });
        let member = Arc::new(Member { lane: Arc::clone(&self.state), own });
        InLane { future, waker: Waker::from(Arc::clone(&member)), seat: Seat(member) }
    }
}

impl State {
    /// Gives a place that became free to whoever is next; the task to wake, if it is any.
    fn pass_on(&mut self) -> Option<Waker> {
        while let Some(next) = self.waiting.pop_front() {
            let mut own = lock(&next.own);
            if own.phase == Phase::Waiting {
                own.phase = Phase::Called;
                return own.task.clone();
            }
        }
        self.free += 1;
        None
    }
}

impl Member {
    /// Whether there is a place; else it waits for one.
    fn enter(self: &Arc<Self>, lane: &mut State) -> bool {
        if lane.free > 0 {
            lane.free -= 1;
            return true;
        }
        lane.waiting.push_back(Arc::clone(self));
        false
    }

    /// Something happened that its future waits for.
    fn ready(self: &Arc<Self>) {
        let task = {
            let mut lane = lock(&self.lane);
            let mut own = lock(&self.own);
            match own.phase {
                Phase::Idle if self.enter(&mut lane) => {
                    own.phase = Phase::Called;
                    own.task.clone()
                }
                Phase::Idle => {
                    own.phase = Phase::Waiting;
                    None
                }
                Phase::Running => {
                    own.phase = Phase::RunningAgain;
                    None
                }
                Phase::Waiting | Phase::Called | Phase::RunningAgain | Phase::Gone => None,
            }
        };
        wake(task);
    }

    /// The task polls: whether the future is to be polled.
    fn begin(self: &Arc<Self>, context: &Context<'_>) -> bool {
        let mut lane = lock(&self.lane);
        let mut own = lock(&self.own);
        if !own.task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            own.task = Some(context.waker().clone());
        }
        own.phase = match own.phase {
            Phase::Called => Phase::Running,
            // Its first poll, or its task was woken by something beside it.
            Phase::Idle if self.enter(&mut lane) => Phase::Running,
            Phase::Idle => Phase::Waiting,
            other => other,
        };
        own.phase == Phase::Running
    }

    /// After a poll: whether it was woken meanwhile, and so is to be polled again.
    fn again(&self) -> bool {
        let mut own = lock(&self.own);
        let again = own.phase == Phase::RunningAgain;
        if again {
            own.phase = Phase::Running;
        }
        again
    }

    /// It gives up what it has: `next` says what it becomes.
    fn end(self: &Arc<Self>, next: impl FnOnce(Phase) -> Phase) {
        let task = {
            let mut lane = lock(&self.lane);
            let before = {
                let mut own = lock(&self.own);
                let before = std::mem::replace(&mut own.phase, Phase::Gone);
                own.phase = next(before);
                if own.phase == Phase::Waiting {
                    lane.waiting.push_back(Arc::clone(self));
                }
                if own.phase == Phase::Gone {
                    // Whoever still could wake the future keeps no task alive.
                    own.task = None;
                }
                before
            };
            match before {
                Phase::Called | Phase::Running | Phase::RunningAgain => lane.pass_on(),
                Phase::Idle | Phase::Waiting | Phase::Gone => None,
            }
        };
        wake(task);
    }
}

/// Outside of every lock: what is woken may run at once.
fn wake(task: Option<Waker>) {
    if let Some(task) = task {
        task.wake();
    }
}

impl Wake for Member {
    fn wake(self: Arc<Self>) {
        self.ready();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready();
    }
}

/// What a future has in its lane, given back when it is dropped.
#[derive(Debug)]
struct Seat(Arc<Member>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.end(|_| Phase::Gone);
    }
}

/// Gives the place back after a poll, also after one that panicked.
struct Turn<'m>(&'m Arc<Member>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.end(|phase| match phase {
            Phase::RunningAgain => Phase::Waiting,
            _ => Phase::Idle,
        });
    }
}

pin_project! {
    /// A future of a lane.
    #[derive(Debug)]
    pub struct InLane<F> {
        #[pin]
        future: F,
        waker: Waker,
        seat: Seat,
    }
}

impl<F> InLane<F> {
    /// The future itself.
    pub fn inner(self: Pin<&mut Self>) -> Pin<&mut F> {
        self.project().future
    }
}

impl<F: Future> Future for InLane<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let member = &this.seat.0;
        if !member.begin(context) {
            return Poll::Pending;
        }
        let _turn = Turn(member);
        let mut context = Context::from_waker(this.waker);
        for _ in 1..POLLS {
            let polled = this.future.as_mut().poll(&mut context);
            if polled.is_ready() || !member.again() {
                return polled;
            }
        }
        this.future.poll(&mut context)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::task::JoinSet;

    use super::*;

    /// How long a test waits for what has to come.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Is ready again at once. (tokio's own `yield_now` waits until the runtime has looked for events.)
    async fn turn() {
        let mut polled = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut polled, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    #[tokio::test]
    async fn a_busy_principal_delays_another_by_the_places_of_its_lane_only() {
        const BUSY: usize = 500;
        const PLACES: usize = 2;
        let (busy, quiet) = (Lane::new(PLACES), Lane::new(PLACES));
        let polls = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..BUSY {
            let polls = Arc::clone(&polls);
            tasks.spawn(busy.wrap(async move {
                loop {
                    polls.fetch_add(1, Ordering::Relaxed);
                    turn().await;
                }
            }));
        }
        while polls.load(Ordering::Relaxed) < 2 * BUSY {
            turn().await;
        }
        // A request of the other: it is woken, and polled, so many times.
        const TURNS: usize = 20;
        let (counted, before) = (Arc::clone(&polls), polls.load(Ordering::Relaxed));
        let served = tokio::spawn(quiet.wrap(async move {
            let start = counted.load(Ordering::Relaxed);
            for _ in 0..TURNS {
                turn().await;
            }
            (start, counted.load(Ordering::Relaxed))
        }));
        let (start, end) = served.await.unwrap();
        let (bound, came) = (PLACES * POLLS, start - before);
        assert!(came <= bound, "{came} polls of the busy one came before");
        assert!(end - start <= TURNS * bound, "{} polls of the busy one", end - start);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_wake_up_is_lost_and_no_more_run_than_there_are_places() {
        let (lane, running, most) = (Lane::new(2), AtomicUsize::new(0), AtomicUsize::new(0));
        let (running, most) = (Arc::new(running), Arc::new(most));
        let mut tasks = JoinSet::new();
        for task in 0..100_usize {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
            tasks.spawn(async move {
                for message in 0..200 {
                    sender.send(message).await.unwrap();
                }
            });
            tasks.spawn(lane.wrap(async move {
                while receiver.recv().await.is_some() {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::hint::black_box(task);
                    running.fetch_sub(1, Ordering::SeqCst);
                }
            }));
        }
        let all = async { while tasks.join_next().await.is_some_and(|ended| ended.is_ok()) {} };
        tokio::time::timeout(PATIENCE, all).await.expect("a wake-up was lost");
        assert!(tasks.is_empty());
        assert!(most.load(Ordering::SeqCst) <= 2);
        assert_eq!(lock(&lane.state).free, 2);
    }

    #[tokio::test]
    async fn a_panic_and_a_drop_give_their_places_back() {
        let lane = Lane::new(1);
        let mut failing = Box::pin(lane.wrap(async { panic!("for the test") }));
        let mut context = Context::from_waker(Waker::noop());
        let panicked =
            catch_unwind(AssertUnwindSafe(|| failing.as_mut().poll(&mut context).is_ready()));
        assert!(panicked.is_err());
        drop(failing);
        assert_eq!(lock(&lane.state).free, 1);

        // Called, and dropped before its task ran.
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let mut called = Box::pin(lane.wrap(receiver));
        assert!(called.as_mut().poll(&mut context).is_pending());
        sender.send(()).unwrap();
        assert_eq!(lock(&lane.state).free, 0);
        drop(called);
        assert_eq!(lock(&lane.state).free, 1);
        tokio::time::timeout(PATIENCE, lane.wrap(async {})).await.unwrap();
    }

    proptest! {
        /// Futures that are woken, polled and dropped in any order: whoever was woken is called in the
        /// end, and no place is lost.
        #[test]
        fn whoever_is_ready_gets_a_place(
            places in 1_usize..4,
            steps in proptest::collection::vec((0_usize..6, 0_u8..3), 0..200),
        ) {
            struct Ready(Arc<AtomicUsize>);
            impl Future for Ready {
                type Output = ();
                fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
                    self.0.fetch_add(1, Ordering::Relaxed);
                    Poll::Pending
                }
            }
            let lane = Lane::new(places);
            let mut context = Context::from_waker(Waker::noop());
            let mut members: Vec<_> = (0..6)
                .map(|_| {
                    let polls = Arc::new(AtomicUsize::new(0));
                    (polls.clone(), Some(Box::pin(lane.wrap(Ready(polls)))))
                })
                .collect();
            let mut woken = [false; 6];
            for (index, step) in steps {
                let (polls, member) = &mut members[index];
                let Some(future) = member else { continue };
                let before = polls.load(Ordering::Relaxed);
                match step {
                    0 => {
                        future.seat.0.ready();
                        woken[index] = true;
                    }
                    1 => drop(future.as_mut().poll(&mut context)),
                    _ => *member = None,
                }
                woken[index] &= polls.load(Ordering::Relaxed) == before && members[index].1.is_some();
            }
            // The runtime polls what is called until nothing is.
            for _ in 0..12 {
                for (index, (polls, member)) in members.iter_mut().enumerate() {
                    let Some(future) = member else { continue };
                    if lock(&future.seat.0.own).phase == Phase::Called {
                        let before = polls.load(Ordering::Relaxed);
                        let _ = future.as_mut().poll(&mut context);
                        prop_assert_eq!(polls.load(Ordering::Relaxed), before + 1);
                        woken[index] = false;
                    }
                }
            }
            prop_assert_eq!(woken, [false; 6]);
            drop(members);
            let state = lock(&lane.state);
            prop_assert_eq!(state.free, places);
        }
    }
}
