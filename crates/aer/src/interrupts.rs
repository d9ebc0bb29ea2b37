//! The signals that end a command which has something to clean up.

use aurae_kernel::signals::{Listener, listen};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::failure::Failure;

/// What is added to a signal's number in an exit code.
pub(crate) const SIGNAL_EXIT_BASE: i32 = 128;

/// SIGINT, SIGTERM and SIGHUP, caught from now on.
pub(crate) struct Interrupts {
    interrupt: Listener,
    terminate: Listener,
    hangup: Listener,
}

impl Interrupts {
    pub(crate) fn new() -> Result<Self, Failure> {
        let catch = |signal: Signal| {
            listen(signal.as_raw())
                .map_err(|error| Failure::new(format!("failed to catch signals: {error}")))
        };
        Ok(Self {
            interrupt: catch(Signal::INT)?,
            terminate: catch(Signal::TERM)?,
            hangup: catch(Signal::HUP)?,
        })
    }

    /// The number of the next signal.
    pub(crate) async fn next(&mut self) -> i32 {
        tokio::select! {
            () = self.interrupt.recv() => Signal::INT,
            () = self.terminate.recv() => Signal::TERM,
            () = self.hangup.recv() => Signal::HUP,
        }
        .as_raw()
    }
}

/// Answers when the time is over, where there is one.
pub(crate) async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
