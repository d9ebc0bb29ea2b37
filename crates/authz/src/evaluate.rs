//! What policies find of a question, put together of two parts.
//!
//! ```text
//! policies whose scope lets the question in ─┬ do not look at the request ──▶ Findings, kept
//!                                            └ look at it ──▶ Findings, anew for each request
//!                                                                     both ──▶ Decision
//! ```
//!
//! **Invariant**: the parts are evaluated as Cedar evaluates the whole. Whether a policy is satisfied
//! depends on the question alone, never on other policies; a scope that does not let the question in is a
//! condition that is false; and a `forbid` of either part goes before a `permit` of either.

use std::sync::Arc;

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision as Verdict, Policy, PolicyId, PolicySet,
    Request, ResourceConstraint, Response,
};
use prost_reflect::DynamicMessage;

use crate::contract::Method;
use crate::entities::{Kin, Spoken};
use crate::policies::{Decision, Rule};

/// A policy of a set.
pub(crate) struct Held {
    pub(crate) rule: Arc<Rule>,
    policy: Policy,
    resource: ResourceConstraint,
    looks: Looks,
}

/// What a policy looks at, beside who asks for what.
#[derive(Clone, Copy)]
pub(crate) struct Looks {
    pub(crate) request: bool,
    /// At more of it than its kind.
    pub(crate) resource: bool,
}

impl Held {
    /// The policy at this place of its set.
    pub(crate) fn new(place: usize, policy: &Policy, rule: Arc<Rule>, looks: Looks) -> Self {
        Self {
            rule,
            policy: policy.new_id(PolicyId::new(place.to_string())),
            resource: policy.resource_constraint(),
            looks,
        }
    }

    /// Whether its scope lets a question in; its conditions may still not hold.
    fn lets_in(&self, question: &Spoken) -> bool {
        self.is_for(&question.principal, &question.action)
            && question.resource.fits_resource(&self.resource)
    }

    /// Whether it could permit something, by its scope without the resource.
    pub(crate) fn could_permit(&self, principal: &Kin, action: &Kin) -> bool {
        !self.rule.forbids && self.is_for(principal, action)
    }

    /// Whether it looks at the resource, where its scope lets these in.
    pub(crate) fn looks_at_resource(&self, principal: &Kin, action: &Kin) -> bool {
        self.looks.resource && self.is_for(principal, action)
    }

    fn is_for(&self, principal: &Kin, action: &Kin) -> bool {
        action.fits_action(&self.rule.action) && principal.fits_principal(&self.rule.principal)
    }
}

/// What can be said of a question before its request is looked at.
pub(crate) struct Applicable {
    /// What holds whatever the request says.
    findings: Findings,
    /// `None`: nothing looks at the request, so this is decided.
    looking: Option<Looking>,
    /// The decision where nothing looks at the request.
    decision: Arc<Decision>,
}

/// What is needed to look at a request.
struct Looking {
    policies: PolicySet,
    question: Spoken,
}

impl Applicable {
    /// Evaluates what does not look at the request.
    pub(crate) fn new(held: &[Held], question: Result<Spoken, String>) -> Self {
        let parts = question.and_then(|question| {
            let (looking, blind): (Vec<_>, Vec<_>) = held
                .iter()
                .filter(|held| held.lets_in(&question))
                .partition(|held| held.looks.request);
            let findings = evaluate(held, &set(blind)?, &question, Context::empty())?;
            let looking = match looking.is_empty() {
                true => None,
                false => Some(Looking { policies: set(looking)?, question }),
            };
            Ok((findings, looking))
        });
        // What cannot be asked is denied.
        let (findings, looking) = parts.unwrap_or_else(|error| (Findings::failed(error), None));
        let decision = Arc::new(findings.clone().decide(held));
        Self { findings, looking, decision }
    }

    /// Decides over a request. `None` is as good as one in which nothing is set.
    pub(crate) fn decide(
        &self,
        held: &[Held],
        method: &Method,
        request: Option<&DynamicMessage>,
    ) -> Arc<Decision> {
        let Some(Looking { policies, question }) = &self.looking else {
            return Arc::clone(&self.decision);
        };
        let found = context(method, request)
            .and_then(|context| evaluate(held, policies, question, context));
        Arc::new(match found {
            Ok(found) => self.findings.clone().and(found).decide(held),
            Err(error) => Findings::failed(error).decide(held),
        })
    }
}

fn set<'a>(held: impl IntoIterator<Item = &'a Held>) -> Result<PolicySet, String> {
    let policies = held.into_iter().map(|held| held.policy.clone());
    PolicySet::from_policies(policies).map_err(|error| error.to_string())
}

fn context(method: &Method, request: Option<&DynamicMessage>) -> Result<Context, String> {
    match (request, method.request()) {
        (Some(request), _) => method.record().context(request),
        (None, Some(descriptor)) => {
            method.record().context(&DynamicMessage::new(descriptor.clone()))
        }
        (None, None) => Ok(Context::empty()),
    }
}

fn evaluate(
    held: &[Held],
    policies: &PolicySet,
    question: &Spoken,
    context: Context,
) -> Result<Findings, String> {
    if policies.is_empty() {
        return Ok(Findings::default());
    }
    let names = [&question.principal, &question.action, &question.resource];
    let [principal, action, resource] = names.map(|kin| kin.name.clone());
    let request = Request::new(principal, action, resource, context, None)
        .map_err(|error| error.to_string())?;
    let answer = Authorizer::new().is_authorized(&request, policies, &question.entities);
    Ok(Findings::of(held, &answer))
}

/// What policies were found to say. Numbers are places in their set.
#[derive(Clone, Debug, Default)]
struct Findings {
    /// Those that permit; not all where one forbids.
    permits: Vec<usize>,
    /// Those that forbid, or could not be evaluated and would.
    forbids: Vec<usize>,
    /// Why some could not be evaluated.
    errors: Vec<String>,
}

impl Findings {
    fn failed(error: String) -> Self {
        Self { errors: vec![error], ..Self::default() }
    }

    fn of(held: &[Held], answer: &Response) -> Self {
        let place = |id: &PolicyId| AsRef::<str>::as_ref(id).parse::<usize>().ok();
        let mut found = Self::default();
        // Cedar names those that forbid, or else those that permit.
        match answer.decision() {
            Verdict::Allow => &mut found.permits,
            Verdict::Deny => &mut found.forbids,
        }
        .extend(answer.diagnostics().reason().filter_map(place));
        for AuthorizationError::PolicyEvaluationError(error) in answer.diagnostics().errors() {
            let Some((place, it)) =
                place(error.policy_id()).and_then(|place| Some((place, held.get(place)?)))
            else {
                continue;
            };
            found.errors.push(format!("{}: {}", it.rule, error.inner()));
            // Cedar would pass over it, and a caller could choose numbers with which that happens.
            if it.rule.forbids {
                found.forbids.push(place);
            }
        }
        found
    }

    /// What two parts of a set find together.
    fn and(mut self, other: Self) -> Self {
        self.permits.extend(other.permits);
        self.forbids.extend(other.forbids);
        self.errors.extend(other.errors);
        self
    }

    fn decide(mut self, held: &[Held]) -> Decision {
        let allowed = self.forbids.is_empty() && !self.permits.is_empty();
        let mut deciding = if self.forbids.is_empty() { self.permits } else { self.forbids };
        deciding.sort_unstable();
        self.errors.sort_unstable();
        let rules = deciding.into_iter().filter_map(|place| held.get(place));
        Decision {
            allowed,
            rules: rules.map(|held| Arc::clone(&held.rule)).collect(),
            errors: self.errors,
        }
    }
}

#[cfg(test)]
mod tests;
