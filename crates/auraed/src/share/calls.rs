//! A connection and the calls on it, polled as one task.
//!
//! ```text
//! connection ─ request ─▶ started ─▶ calls, polled after the connection
//!     ▲                                └─ answers ─▶ written when the connection is polled again
//!     └──────────────────────────────────┘
//! ```
//!
//! A task for each call would be handed from thread to thread, and its answer back: most calls are done in
//! less time than that takes. So a connection is what runs beside others, and its calls run one at a time,
//! none longer than until it has to wait. What was read at once is answered in one write.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use pin_project_lite::pin_project;

/// So many calls may end in one poll; others wait for the next. Each takes some ten microseconds, and whoever
/// else comes may have to wait for all of them.
const CALLS_AT_ONCE: usize = 32;

type Call = Pin<Box<dyn Future<Output = Result<(), Box<dyn Any + Send>>> + Send>>;

/// Where a connection puts the calls that it begins. Clones are the same.
#[derive(Clone, Default)]
pub struct Started(Arc<Mutex<Vec<Call>>>);

impl Started {
    /// Nothing panics with the lock held; if it did, what is inside would still be whole.
    fn calls(&self) -> MutexGuard<'_, Vec<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection, which was made with this, and what it begins.
    pub fn with<C>(self, connection: C) -> WithCalls<C> {
        WithCalls { connection, calls: Calls { started: self, open: FuturesUnordered::new() } }
    }
}

impl<F> hyper::rt::Executor<F> for Started
where
    F: Future<Output = ()> + Send + 'static,
{
    /// A call that panics ends alone, as a task would.
    fn execute(&self, call: F) {
        self.calls().push(Box::pin(AssertUnwindSafe(call).catch_unwind()));
    }
}

pin_project! {
    /// A connection and its calls. It ends with the connection: what is open then is dropped.
    pub struct WithCalls<C> {
        #[pin]
        connection: C,
        calls: Calls,
    }
}

struct Calls {
    started: Started,
    open: FuturesUnordered<Call>,
}

impl Drop for Calls {
    /// A call knows where others are put; those that were never polled would keep each other.
    fn drop(&mut self) {
        self.started.calls().clear();
    }
}

impl Calls {
    /// Polls those that can go on.
    fn poll(&mut self, context: &mut Context<'_>) {
        self.open.extend(self.started.calls().drain(..));
        for _ in 0..CALLS_AT_ONCE {
            // The hook has told of a panic.
            let Poll::Ready(Some(_)) = self.open.poll_next_unpin(context) else { return };
        }
        context.waker().wake_by_ref();
    }
}

impl<C> WithCalls<C> {
    /// The connection itself.
    pub fn connection(self: Pin<&mut Self>) -> Pin<&mut C> {
        self.project().connection
    }
}

impl<C: Future> Future for WithCalls<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.project();
        let ended = this.connection.poll(context);
        // Also at the end: what came with the last bytes is begun, and recorded.
        this.calls.poll(context);
        ended
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Waker;

    use hyper::rt::Executor;
    use tokio::sync::oneshot;

    use super::*;

    /// A connection that begins these calls, and ends when it is told to.
    fn connection(
        begin: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
        end: oneshot::Receiver<()>,
    ) -> WithCalls<impl Future<Output = ()> + Unpin> {
        let started = Started::default();
        let executor = started.clone();
        let connection = Box::pin(async move {
            for call in begin {
                executor.execute(call);
            }
            let _ = end.await;
        });
        started.with(connection)
    }

    #[tokio::test]
    async fn calls_go_on_beside_each_other_and_one_that_panics_ends_alone() {
        let (end, ended) = oneshot::channel();
        let (first, second) = (oneshot::channel::<()>(), oneshot::channel::<()>());
        let connection = connection(
            vec![
                Box::pin(async { drop(first.1.await) }),
                Box::pin(async { panic!("for the test") }),
                // Waits for what comes after it.
                Box::pin(async {
                    let _ = first.0.send(());
                    let _ = second.1.await;
                    let _ = end.send(());
                }),
                Box::pin(async { assert!(second.0.send(()).is_ok()) }),
            ],
            ended,
        );
        connection.await;
    }

    #[tokio::test]
    async fn calls_end_with_their_connection_also_those_that_never_ran() {
        struct Counted(Arc<AtomicUsize>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let dropped = Arc::new(AtomicUsize::new(0));
        let started = Started::default();
        let call = || {
            let (counted, executor) = (Counted(Arc::clone(&dropped)), started.clone());
            async move {
                let _kept = (counted, executor);
                std::future::pending::<()>().await;
            }
        };
        let connection = std::future::pending::<()>();
        started.execute(call());
        let mut both = Box::pin(started.clone().with(connection));
        let mut context = Context::from_waker(Waker::noop());
        assert!(both.as_mut().poll(&mut context).is_pending());
        started.execute(call());
        drop(both);
        assert_eq!(dropped.load(Ordering::SeqCst), 2);
    }
}
