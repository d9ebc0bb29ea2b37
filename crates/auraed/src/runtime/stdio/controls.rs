//! What can be done to a running process from outside.

use aurae_kernel::{Error, Result, process, terminal};
use aurae_model::TerminalSize;
use bytes::Bytes;
use rustix::process::{Pid, Signal};
use tokio::sync::mpsc;

use super::Shared;
use super::feeder::Message;
use crate::runtime::reaper::Reaper;

/// Something for a running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Bytes for its input.
    Bytes(Bytes),
    /// Its input ends.
    End,
    /// Its terminal has another size.
    Resize(TerminalSize),
    /// A signal for the process group in the foreground of its terminal, or, without one, for its
    /// own.
    Signal(Signal),
}

/// A way to a running process; clones share it.
#[derive(Clone, Debug)]
pub struct Controls {
    pub(super) input: Option<mpsc::Sender<Message>>,
    pub(super) terminal: Option<Shared>,
    pub(super) reaper: Reaper,
    pub(super) pid: Pid,
}

impl Controls {
    /// Whether there is a terminal.
    #[must_use]
    pub fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Whether there is an input.
    #[must_use]
    pub fn has_input(&self) -> bool {
        self.input.is_some()
    }

    /// Hands it to the process. Bytes wait until those before them were written. What the process can
    /// no longer take, because it has ended or closed its input, is dropped.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn apply(&self, input: Input) -> Result<()> {
        match input {
            Input::Bytes(bytes) => self.feed(Message::Bytes(bytes)).await,
            Input::End => self.feed(Message::End).await,
            Input::Resize(size) => return self.resize(size),
            Input::Signal(signal) => return self.signal(signal),
        }
        Ok(())
    }

    async fn feed(&self, message: Message) {
        if let Some(input) = &self.input {
            // The feeder ends with the input.
            let _ = input.send(message).await;
        }
    }

    fn resize(&self, size: TerminalSize) -> Result<()> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        terminal::resize(terminal.get_ref(), size.rows(), size.columns())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let foreground = match &self.terminal {
            Some(terminal) => terminal::foreground(terminal.get_ref())?,
            None => None,
        };
        let sent = match foreground {
            Some(group) => process::signal_group(group, signal),
            None => self.reaper.signal_group(self.pid, signal),
        };
        match sent {
            Err(Error { errno: aurae_kernel::Errno::SRCH, .. }) => Ok(()),
            sent => sent,
        }
    }
}
