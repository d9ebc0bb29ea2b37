//! Standard error, written by a thread of its own: a serial console takes milliseconds a line, and no
//! request shall wait for it.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Lines that may wait. When there are more, the newest are dropped and counted: the ring has them.
const MAX_WAITING: usize = 1024;

enum Message {
    Line(Box<[u8]>),
    /// Answered when everything before it was written.
    Flush(SyncSender<()>),
}

/// Standard error. Clones share the thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Console {
    lines: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Console {
    /// Starts the thread. Where that is not possible, nothing is shown.
    #[must_use]
    pub fn start() -> Self {
        let (lines, waiting) = sync_channel(MAX_WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        // Without the thread the channel is closed and lines go nowhere; the ring still has them.
        let _ = std::thread::Builder::new()
            .name("console".into())
            .spawn(move || show(&waiting, &counter));
        Self { lines, dropped }
    }

    /// Shows a line, without waiting.
    pub(super) fn write(&self, line: &[u8]) {
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Message::Line(line.into())) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything was shown, at most `timeout`.
    pub fn flush(&self, timeout: Duration) {
        let (done, wait) = sync_channel(1);
        if self.lines.try_send(Message::Flush(done)).is_ok() {
            // Out of time is as good as done: the process ends.
            let _ = wait.recv_timeout(timeout);
        }
    }
}

fn show(waiting: &Receiver<Message>, dropped: &AtomicU64) {
    let mut stderr = std::io::stderr();
    // A console that cannot be written to must not end anything.
    while let Ok(message) = waiting.recv() {
        match message {
            Message::Line(line) => {
                let _ = stderr.write_all(&line);
            }
            Message::Flush(done) => {
                let _ = done.send(());
            }
        }
        let dropped = dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let _ = writeln!(stderr, "({dropped} lines not shown: the console is too slow)");
        }
    }
}
