//! Whether the daemon's start succeeded: the phases that failed, kept for the API to tell.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// At most this many failures are kept: phases are a fixed table, so more means a loop gone wrong.
const MAX_DEGRADED: usize = 64;

/// A phase of the start that failed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// The phase, `mounts` for example.
    pub phase: Cow<'static, str>,
    /// What went wrong, naming the operation and the object.
    pub message: String,
}

/// The daemon's health; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Status {
    degraded: Arc<Mutex<Vec<Degraded>>>,
    certificate_expiry: Arc<Mutex<Option<SystemTime>>>,
}

impl Status {
    /// Records that a phase failed. The daemon goes on.
    pub fn degrade(&self, phase: &'static str, message: impl Into<String>) {
        let message = message.into();
        tracing::error!(phase, message, "a phase failed; going on without it");
        let mut degraded = self.degraded.lock().unwrap_or_else(PoisonError::into_inner);
        if degraded.len() < MAX_DEGRADED {
            degraded.push(Degraded { phase: phase.into(), message });
        }
    }

    /// Takes up a failure that an earlier version of the daemon recorded.
    pub fn take_up(&self, degraded: Degraded) {
        let mut all = self.degraded.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < MAX_DEGRADED {
            all.push(degraded);
        }
    }

    /// A phase that failed before has recovered: its failures are forgotten.
    pub fn recover(&self, phase: &'static str) {
        self.degraded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|degraded| degraded.phase != phase);
    }

    /// Records until when the node's certificate is valid.
    pub fn set_certificate_expiry(&self, expiry: SystemTime) {
        *self.certificate_expiry.lock().unwrap_or_else(PoisonError::into_inner) = Some(expiry);
    }

    /// Until when the node's certificate is valid, once there is one.
    #[must_use]
    pub fn certificate_expiry(&self) -> Option<SystemTime> {
        *self.certificate_expiry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The phases that failed, in the order in which they did.
    #[must_use]
    pub fn degraded(&self) -> Vec<Degraded> {
        self.degraded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
