//! Work that blocks, on a thread of its own.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Does what may block for long, and answers what came of it; `None` if it panicked.
///
/// In a cell the kernel may refuse a thread (`pids.max`), where tokio's own would panic. Then the work
/// is done here, and the daemon waits for it.
pub async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    let work = Arc::new(Mutex::new(Some(move || {
        // Nobody may wait any more.
        let _ = sender.send(work());
    })));
    let of_thread = Arc::clone(&work);
    if std::thread::Builder::new().spawn(move || perform(&of_thread)).is_err() {
        perform(&work);
    }
    drop(work);
    receiver.await.ok()
}

/// Does the work, unless it was done.
fn perform(work: &Mutex<Option<impl FnOnce()>>) {
    let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(work) = work {
        work();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_elsewhere_and_a_panic_is_told() {
        let here = std::thread::current().id();
        let there = on_thread(|| std::thread::current().id()).await;
        assert!(there.is_some_and(|there| there != here));
        assert_eq!(on_thread(|| -> u8 { panic!("for the test") }).await, None);
    }
}
