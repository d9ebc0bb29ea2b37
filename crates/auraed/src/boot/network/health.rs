//! What of the network does not work, kept by subject so that one interface's recovery does not hide
//! another's failure.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use crate::status::Status;

const PHASE: &str = "network";

/// The failures of the network; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Health {
    status: Status,
    failures: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Health {
    pub(super) fn new(status: Status) -> Self {
        Self { status, failures: Arc::default() }
    }

    /// The subject (an interface) does not work, for this reason.
    pub(super) fn failed(&self, subject: &str, reason: String) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.get(subject) == Some(&reason) {
            return;
        }
        let known = failures.insert(subject.to_owned(), reason.clone()).is_some();
        if known {
            self.publish(&failures);
        } else {
            self.status.degrade(PHASE, format!("{subject}: {reason}"));
        }
    }

    /// The subject works.
    pub(super) fn works(&self, subject: &str) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.remove(subject).is_some() {
            tracing::info!(subject, "the network has recovered");
            self.publish(&failures);
        }
    }

    /// Records how an attempt went.
    pub(super) fn record<E: Error>(&self, subject: &str, result: Result<(), E>) {
        match result {
            Ok(()) => self.works(subject),
            Err(error) => self.failed(subject, crate::reply::text(&error)),
        }
    }

    fn publish(&self, failures: &BTreeMap<String, String>) {
        self.status.recover(PHASE);
        for (subject, reason) in failures {
            self.status.degrade(PHASE, format!("{subject}: {reason}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(status: &Status) -> Vec<String> {
        status.degraded().into_iter().map(|degraded| degraded.message).collect()
    }

    #[test]
    fn one_recovery_does_not_hide_another_failure() {
        let status = Status::default();
        let health = Health::new(status.clone());
        health.failed("eth0", "no carrier".into());
        health.failed("eth1", "no carrier".into());
        health.failed("eth1", "no carrier".into());
        assert_eq!(messages(&status), ["eth0: no carrier", "eth1: no carrier"]);
        health.works("eth0");
        assert_eq!(messages(&status), ["eth1: no carrier"]);
        health.failed("eth1", "no answer".into());
        assert_eq!(messages(&status), ["eth1: no answer"]);
        health.works("eth1");
        assert_eq!(messages(&status), Vec::<String>::new());
    }
}
