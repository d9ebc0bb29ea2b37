//! The one place that reaps children: those the daemon started, and orphans that were given to it.
//!
//! `waitpid` for any child is the only way to reap an orphan, and it takes the children that somebody
//! waits for too. So nobody else waits: who starts a process is told its end from here.
//!
//! A child may end, and be reaped, before its start could be recorded. While a start is under way the
//! ends of unknown children are therefore kept; the start looks there first.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aurae_kernel::process::{Exit, has_ended, reap_any, signal_group};
use aurae_kernel::signals;
use aurae_kernel::spawn::{Child, Spawn, SpawnError};
use rustix::process::{Pid, Signal};
use tokio::sync::oneshot;

/// Tells the end of one process. An error means that the daemon no longer reaps.
pub type ExitReceiver = oneshot::Receiver<Exit>;

/// A handle to the reaper; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Reaper {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<Pid, oneshot::Sender<Exit>>,
    /// Starts under way.
    starting: usize,
    /// Ends of unknown children since the first of those starts.
    unclaimed: HashMap<Pid, Exit>,
    /// How many want that nobody is reaped now.
    holds: usize,
}

/// While there is one, no process is reaped, so that each keeps its number.
#[derive(Debug)]
pub struct Hold {
    reaper: Reaper,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.reaper.lock();
        state.holds -= 1;
        drop(state);
        self.reaper.reap();
    }
}

impl Reaper {
    /// Starts to reap, on the current runtime, until that ends.
    ///
    /// # Errors
    /// SIGCHLD cannot be listened to.
    pub fn start() -> aurae_kernel::Result<Self> {
        let reaper = Self::default();
        let mut children = signals::listen(Signal::CHILD.as_raw())?;
        let of_task = reaper.clone();
        tokio::spawn(async move {
            loop {
                of_task.reap();
                children.recv().await;
            }
        });
        Ok(reaper)
    }

    /// Starts a process whose end is told. It blocks until the program was executed.
    ///
    /// # Errors
    /// The step that the kernel refused; there is no process then.
    pub fn spawn(&self, spawn: &Spawn<'_>) -> Result<(Child, ExitReceiver), SpawnError> {
        self.lock().starting += 1;
        let started = spawn.start();
        let mut state = self.lock();
        state.starting -= 1;
        let outcome = started.map(|child| {
            let (sender, receiver) = oneshot::channel();
            match state.unclaimed.remove(&child.pid) {
                // The number may have belonged to an orphan before: the pidfd knows.
                Some(exit) if has_ended(child.pidfd.as_fd()) => {
                    // The receiver is in this very scope.
                    let _ = sender.send(exit);
                }
                _ => {
                    state.waiting.insert(child.pid, sender);
                }
            }
            (child, receiver)
        });
        if state.starting == 0 {
            state.unclaimed = HashMap::new();
        }
        outcome
    }

    /// Sends a signal to the process group that a process leads which was started here. One that was
    /// not reaped yet keeps its number.
    ///
    /// # Errors
    /// `ESRCH` when it was reaped, or what else the kernel says.
    pub fn signal_group(&self, leader: Pid, signal: Signal) -> aurae_kernel::Result<()> {
        let state = self.lock();
        if !state.waiting.contains_key(&leader) {
            return Err(aurae_kernel::Error::new("send a signal", aurae_kernel::Errno::SRCH));
        }
        signal_group(leader, signal)
    }

    /// Keeps every process that ends from being reaped, until what it answers is dropped.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.lock().holds += 1;
        Hold { reaper: self.clone() }
    }

    /// Reaps every child that has ended by now, unless somebody holds it off.
    pub fn reap(&self) {
        let mut state = self.lock();
        while state.holds == 0 {
            match reap_any() {
                Ok(Some((pid, exit))) => match state.waiting.remove(&pid) {
                    // Nobody may want to know any more.
                    Some(sender) => drop(sender.send(exit)),
                    None if state.starting > 0 => drop(state.unclaimed.insert(pid, exit)),
                    None => {}
                },
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "reaping failed");
                    return;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
