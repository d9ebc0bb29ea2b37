//! Work that blocks, on a thread of its own.
//!
//! ```text
//! on_thread ─ give ─┬─ a thread waits ────▶ it does it ─▶ waits for more, for a while
//!                   ├─ none does ─────────▶ one is made ──▲
//!                   └─ none can be made ──▶ done here
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// How long a thread waits for more work. To make one and to end it takes a good part of what it takes to start a
/// process; but in a zone it counts as one of the cell's processes.
const KEPT: Duration = Duration::from_millis(100);

type Work = Box<dyn FnOnce() + Send>;

/// **Invariant**: whenever the lock is free there is no more work than threads that wait.
struct Desk {
    waiting: usize,
    work: VecDeque<Work>,
}

static DESK: Mutex<Desk> = Mutex::new(Desk { waiting: 0, work: VecDeque::new() });
static ARRIVED: Condvar = Condvar::new();

/// Does what may block for long, and answers what came of it; `None` if it panicked.
///
/// In a cell the kernel may refuse a thread (`pids.max`), where tokio's own would panic. Then the work
/// is done here, and the daemon waits for it.
pub async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    give(Box::new(move || {
        // Nobody may wait any more.
        let _ = sender.send(work());
    }));
    receiver.await.ok()
}

fn give(work: Work) {
    let mut desk = desk();
    if desk.waiting > desk.work.len() {
        desk.work.push_back(work);
        drop(desk);
        ARRIVED.notify_one();
        return;
    }
    drop(desk);
    let work = Arc::new(Mutex::new(Some(work)));
    let of_thread = Arc::clone(&work);
    if std::thread::Builder::new().spawn(move || serve(&of_thread)).is_err() {
        perform(&work);
    }
}

/// The life of a thread. It ends with work that panics, too.
fn serve(first: &Mutex<Option<Work>>) {
    perform(first);
    while let Some(work) = next() {
        work();
    }
}

/// Does the work, unless it was done.
fn perform(work: &Mutex<Option<Work>>) {
    let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(work) = work {
        work();
    }
}

/// More work; `None` if none came.
fn next() -> Option<Work> {
    let mut desk = desk();
    desk.waiting += 1;
    let waited = ARRIVED.wait_timeout_while(desk, KEPT, |desk| desk.work.is_empty());
    let (mut desk, _) = waited.unwrap_or_else(PoisonError::into_inner);
    desk.waiting -= 1;
    desk.work.pop_front()
}

/// No work is done while it is locked.
fn desk() -> MutexGuard<'static, Desk> {
    DESK.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[tokio::test]
    async fn work_is_done_elsewhere_and_a_panic_is_told() {
        let here = std::thread::current().id();
        let there = on_thread(|| std::thread::current().id()).await;
        assert!(there.is_some_and(|there| there != here));
        assert_eq!(on_thread(|| -> u8 { panic!("for the test") }).await, None);
    }

    #[tokio::test]
    async fn work_that_waits_for_other_work_does_not_hold_it_up() {
        const MANY: usize = 20;
        let barrier = Arc::new(std::sync::Barrier::new(MANY));
        let all = (0..MANY).map(|_| {
            let barrier = Arc::clone(&barrier);
            on_thread(move || barrier.wait().is_leader())
        });
        let leaders = futures_util::future::join_all(all).await;
        assert_eq!(leaders.into_iter().filter(|leads| *leads == Some(true)).count(), 1);
    }

    #[tokio::test]
    async fn a_thread_does_more_than_one_thing() {
        const MANY: usize = 50;
        let mut threads = HashSet::new();
        for _ in 0..MANY {
            threads.insert(on_thread(|| std::thread::current().id()).await.unwrap());
        }
        assert!(threads.len() < MANY, "each was done by another");
    }
}
