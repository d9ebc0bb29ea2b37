//! A record while its call goes on.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use aurae_authz::{Action, Principal};
use aurae_model::ZonePath;
use tonic::Code;

use super::entry::{cut_action, cut_owned, cut_shared};
use super::handle::unix_nanos_now;
use super::writer::Slot;
use super::{Audit, Decision, Entry, Unrecordable};

/// What is found out about a call while it goes on, for its record.
#[derive(Debug, Default)]
pub struct Verdict {
    denied: OnceLock<()>,
    resource: OnceLock<Cow<'static, str>>,
    rule: OnceLock<Arc<str>>,
}

impl Verdict {
    /// The call is denied.
    pub fn deny(&self) {
        let _ = self.denied.set(());
    }

    /// The call is for this resource. The first word counts.
    pub fn set_resource(&self, resource: Cow<'static, str>) {
        let _ = self.resource.set(cut_owned(resource));
    }

    /// These policies decided. The first word counts.
    pub fn set_rule(&self, rule: &Arc<str>) {
        let _ = self.rule.set(cut_shared(rule));
    }
}

/// A call whose record is open. Dropped while open, it says that the client cancelled.
#[derive(Debug)]
pub struct Record {
    audit: Audit,
    slot: Option<Slot>,
    verdict: Verdict,
    call: Option<Call>,
}

/// What is known when a call comes.
#[derive(Debug)]
struct Call {
    request: u64,
    principal: Principal,
    peer: Arc<str>,
    action: Action,
    zone: Option<ZonePath>,
    came: u64,
    opened: Instant,
}

impl Record {
    /// Opens the record of a call.
    #[must_use]
    pub fn open(
        audit: &Audit,
        principal: Principal,
        peer: Arc<str>,
        action: Action,
        zone: Option<ZonePath>,
    ) -> Self {
        let call = Call {
            request: audit.next_request(),
            principal,
            peer,
            action: cut_action(action),
            zone,
            came: unix_nanos_now(),
            opened: Instant::now(),
        };
        Self { audit: audit.clone(), slot: None, verdict: Verdict::default(), call: Some(call) }
    }

    /// Makes sure that the record can be written, where that is required.
    ///
    /// # Errors
    /// It cannot: the call must not be done.
    pub fn reserve(&mut self) -> Result<(), Unrecordable> {
        self.slot = self.audit.reserve()?;
        Ok(())
    }

    /// What is found out about the call later.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The call has ended like this. Only the first end counts.
    pub fn close(&mut self, code: Code) {
        let Some(call) = self.call.take() else { return };
        let Verdict { denied, resource, rule } = std::mem::take(&mut self.verdict);
        let zone = || call.zone.map(|zone| cut_owned(zone.to_string().into()));
        let entry = Entry {
            sequence: 0,
            unix_nanos: call.came,
            request: call.request,
            principal: Some(call.principal),
            peer: call.peer,
            action: Some(call.action),
            resource: resource.into_inner().or_else(zone),
            decision: if denied.get().is_some() { Decision::Denied } else { Decision::Allowed },
            rule: rule.into_inner(),
            code,
            duration_us: u64::try_from(call.opened.elapsed().as_micros()).unwrap_or(u64::MAX),
            reason: None,
            omitted: 0,
        };
        self.audit.push(entry, self.slot.take());
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.close(Code::Cancelled);
    }
}
