//! The signals that we are sent, for what runs on the node.

use aurae_kernel::signals::{Listener, listen};
use rustix::process::Signal;
use tokio::sync::mpsc;

use super::{FAILED, ToNode, of_signal, size};
use crate::failure::Failure;

/// Signals that are caught.
pub(crate) struct Signals {
    deadly: Deadly,
    window_change: Listener,
}

/// Those that end a program that does not catch them.
struct Deadly {
    interrupt: Listener,
    terminate: Listener,
    hangup: Listener,
    quit: Listener,
}

impl Signals {
    /// Catches them from now on.
    pub(crate) fn new() -> Result<Self, Failure> {
        let catch = |signal: Signal| {
            listen(signal.as_raw()).map_err(|error| {
                Failure::new(format!("failed to catch signals: {error}")).exiting(FAILED)
            })
        };
        Ok(Self {
            deadly: Deadly {
                interrupt: catch(Signal::INT)?,
                terminate: catch(Signal::TERM)?,
                hangup: catch(Signal::HUP)?,
                quit: catch(Signal::QUIT)?,
            },
            window_change: catch(Signal::WINCH)?,
        })
    }

    /// Does something before which no signal can be passed on: one ends it.
    pub(crate) async fn unless_told<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            done = work => done,
            signal = self.deadly.next() => Err(Failure::silent(of_signal(signal))),
        }
    }

    /// Passes signals and sizes on, and answers with the signal that tells us to leave: the second
    /// one, or the first where a terminal is raw, since then it is not meant for the other end.
    pub(super) async fn pass_on(
        &mut self,
        to_node: &mpsc::Sender<ToNode>,
        raw: bool,
        remote: bool,
    ) -> i32 {
        let (mut passed, mut resized) = (false, false);
        loop {
            tokio::select! {
                () = self.window_change.recv(), if remote => resized = true,
                // Only the last size counts, and when there is room for it.
                room = to_node.reserve(), if resized => {
                    resized = false;
                    // When the node takes no more, it says why itself.
                    let _ = room.map(|room| room.send(ToNode::Resize(size())));
                }
                number = self.deadly.next() => {
                    // One that cannot be passed on, since the node takes no input, counts too.
                    if raw || passed || to_node.try_send(ToNode::Signal(number)).is_err() {
                        return number;
                    }
                    passed = true;
                }
            }
        }
    }
}

impl Deadly {
    /// The number of the next one.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            () = self.interrupt.recv() => Signal::INT,
            () = self.terminate.recv() => Signal::TERM,
            () = self.hangup.recv() => Signal::HUP,
            () = self.quit.recv() => Signal::QUIT,
        }
        .as_raw()
    }
}
