//! A record while its call goes on.
//!
//! ```text
//! open ─┬─ let in ──────────────────▶ close: recorded
//!       │    └ tells about itself ─┐
//!       └─ not let in ─────────────┴▶ close: recorded, if its principal has not made too many; else counted
//! ```

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use aurae_authz::{Access, Action, Principal};
use aurae_model::ZonePath;
use tonic::Code;

use super::entry::{cut_action, cut_owned, cut_shared};
use super::handle::unix_nanos_now;
use super::tally::PAUSE;
use super::{Audit, Decision, Entry, Tally, Unrecordable};

/// What is found out about a call while it goes on, for its record.
#[derive(Debug, Default)]
pub struct Verdict {
    allowed: OnceLock<()>,
    /// The file may have a line that says that it was begun, so it has a record whatever comes.
    begun: OnceLock<()>,
    /// Whether there is room for the record of one who needs no right to make it. Unset: nobody has asked.
    room: OnceLock<bool>,
    resource: OnceLock<Cow<'static, str>>,
    rule: OnceLock<Arc<str>>,
}

impl Verdict {
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
    /// `None` of a caller that has no bound.
    tally: Option<Arc<Tally>>,
    /// The file gets the record whatever comes: where records are required, of a call that was not refused.
    owed: bool,
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
        tally: Option<Arc<Tally>>,
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
        let (audit, verdict) = (audit.clone(), Verdict::default());
        Self { audit, tally, owed: false, verdict, call: Some(call) }
    }

    /// Makes sure that the record can be written, where that is required.
    ///
    /// # Errors
    /// It cannot: the call must not be done.
    pub fn reserve(&mut self) -> Result<(), Unrecordable> {
        self.audit.reserve(self.tally.as_deref())?;
        self.owed = true;
        Ok(())
    }

    /// What is found out about the call later.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The call is let in, with what it can do (`None`: somebody else has decided, and records). Where records are
    /// required, the file says so of a call that changes something before this answers.
    ///
    /// # Errors
    /// It must not be done.
    pub async fn let_in(&self, access: Option<Access>) -> Result<(), Unrecordable> {
        match access {
            Some(Access::Own) => self.refuse()?,
            Some(Access::Operate | Access::Admin) if self.audit.is_required() => {
                if let Some(call) = &self.call {
                    let verdict = &self.verdict;
                    let (resource, rule) = (verdict.resource.get(), verdict.rule.get());
                    let mut entry = call.entry(resource.cloned(), rule.cloned());
                    entry.decision = Decision::Allowed;
                    let _ = verdict.begun.set(());
                    // Apart, so that calls that need it not have no room for it.
                    Box::pin(self.audit.begin(entry, self.tally.clone())).await?;
                }
            }
            _ => {}
        }
        let _ = self.verdict.allowed.set(());
        Ok(())
    }

    /// The call is not let in, or is one that anybody may make.
    ///
    /// # Errors
    /// There were too many of its principal: it has no record, and gets no other answer.
    pub fn refuse(&self) -> Result<(), Unrecordable> {
        let counts = self.audit.is_kept() && self.verdict.begun.get().is_none();
        let Some(tally) = self.tally.as_ref().filter(|_| counts) else { return Ok(()) };
        let has_room = *self.verdict.room.get_or_init(|| {
            let has_room = tally.take(Instant::now());
            if !has_room {
                self.audit.omit();
            }
            has_room
        });
        match has_room {
            true => Ok(()),
            false => Err(Unrecordable::TooMany { pause: PAUSE }),
        }
    }

    /// The call has ended like this. Only the first end counts.
    pub fn close(&mut self, code: Code) {
        let Some(call) = self.call.take() else { return };
        let allowed = self.verdict.allowed.get().is_some();
        if !allowed && self.refuse().is_err() {
            return;
        }
        let Verdict { resource, rule, .. } = std::mem::take(&mut self.verdict);
        let mut entry = call.entry(resource.into_inner(), rule.into_inner());
        if allowed {
            entry.decision = Decision::Allowed;
        }
        entry.code = code;
        entry.duration_us = u64::try_from(call.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.audit.push(entry, self.tally.take(), self.owed);
    }
}

impl Call {
    /// The record, as long as nothing is known of how the call ends.
    fn entry(&self, resource: Option<Cow<'static, str>>, rule: Option<Arc<str>>) -> Entry {
        let zone = || self.zone.as_ref().map(|zone| cut_owned(zone.to_string().into()));
        Entry {
            sequence: 0,
            unix_nanos: self.came,
            request: self.request,
            principal: Some(self.principal.clone()),
            peer: Arc::clone(&self.peer),
            action: Some(self.action.clone()),
            resource: resource.or_else(zone),
            decision: Decision::Denied,
            rule,
            code: Code::Unknown,
            duration_us: 0,
            reason: None,
            omitted: 0,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.close(Code::Cancelled);
    }
}
