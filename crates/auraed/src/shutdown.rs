//! How the daemon is told to end: one request, from a signal or the API, seen by all who listen.
//!
//! ```text
//! Running ──request(intent)──▶ Ending(intent)        the first request decides; later ones join it
//! ```

use std::sync::Arc;

use tokio::sync::watch;

/// What is to happen when the daemon has ended its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// The process exits (a daemon beside another init).
    Exit,
    /// The machine is switched off.
    PowerOff,
    /// The machine starts again.
    Reboot,
}

/// A handle to the daemon's end; clones share it.
#[derive(Clone, Debug)]
pub struct Shutdown {
    sender: Arc<watch::Sender<Option<Intent>>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { sender: Arc::new(watch::Sender::new(None)) }
    }
}

impl Shutdown {
    /// Asks for the end. The first request decides the intent; answers the intent that holds.
    pub fn request(&self, intent: Intent) -> Intent {
        let mut holds = intent;
        self.sender.send_if_modified(|state| match *state {
            Some(earlier) => {
                holds = earlier;
                false
            }
            None => {
                *state = Some(intent);
                true
            }
        });
        holds
    }

    /// The intent, once the end was asked for.
    #[must_use]
    pub fn requested(&self) -> Option<Intent> {
        *self.sender.borrow()
    }

    /// Waits until the end is asked for.
    pub async fn wait(&self) -> Intent {
        let mut receiver = self.sender.subscribe();
        loop {
            if let Some(intent) = *receiver.borrow_and_update() {
                return intent;
            }
            if receiver.changed().await.is_err() {
                // Unreachable while `self` holds the sender; waiting on is the safe reading.
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_request_decides() {
        let shutdown = Shutdown::default();
        assert_eq!(shutdown.requested(), None);
        assert_eq!(shutdown.request(Intent::Reboot), Intent::Reboot);
        assert_eq!(shutdown.request(Intent::PowerOff), Intent::Reboot);
        assert_eq!(shutdown.wait().await, Intent::Reboot);
    }
}
