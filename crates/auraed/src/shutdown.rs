//! How the daemon is told to end: one request, from a signal or the API, seen by all who listen.
//!
//! ```text
//! Running ──request(intent)──▶ Ending(intent)        the first request decides; later ones join it
//!    └─────request(Replace)──▶ Replacing ──request(intent)──▶ Ending(intent)
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
    /// Another version of the daemon takes over; nothing else ends. Any other intent goes before.
    Replace,
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
            Some(earlier) if earlier != Intent::Replace => {
                holds = earlier;
                false
            }
            _ => {
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
        self.wait_for(|_| true).await
    }

    /// Waits until an end is asked for that is more than another version's taking over.
    pub async fn wait_for_end(&self) -> Intent {
        self.wait_for(|intent| intent != Intent::Replace).await
    }

    /// Waits until another version is to take over.
    pub async fn wait_for_replacement(&self) {
        self.wait_for(|intent| intent == Intent::Replace).await;
    }

    async fn wait_for(&self, wanted: impl Fn(Intent) -> bool) -> Intent {
        let mut receiver = self.sender.subscribe();
        loop {
            let intent = *receiver.borrow_and_update();
            if let Some(intent) = intent.filter(|intent| wanted(*intent)) {
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

    #[tokio::test]
    async fn an_end_goes_before_a_replacement_and_not_the_other_way_round() {
        let shutdown = Shutdown::default();
        shutdown.request(Intent::Replace);
        shutdown.wait_for_replacement().await;
        assert_eq!(shutdown.request(Intent::PowerOff), Intent::PowerOff);
        assert_eq!(shutdown.request(Intent::Replace), Intent::PowerOff);
        assert_eq!(shutdown.wait_for_end().await, Intent::PowerOff);
    }
}
