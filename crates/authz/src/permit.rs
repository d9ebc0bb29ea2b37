//! Permits and denials.

use std::fmt;
use std::sync::Arc;

use aurae_model::{CellPath, ExecutableName};
use prost_reflect::DynamicMessage;

use crate::policies::{Policies, Question, Rule};
use crate::{Access, Action, Form, Method, Object, Principal, Resource};

/// What a permit that was not narrowed yet was given for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted(Scope);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Scope {
    /// The daemon above decided: whatever the request names.
    Anything,
    /// The zone that answers, and its executables.
    Own,
    /// What the policies decided over.
    On(Object),
}

/// Proof that a principal may do an action, on a resource once it is narrowed.
#[derive(Clone, Debug)]
pub struct Permit<R = Granted> {
    principal: Principal,
    action: Action,
    resource: R,
    /// Who decided, and can tell what else the principal may see; `None`: everything.
    policies: Option<Arc<Policies>>,
    rule: Option<Arc<Rule>>,
}

/// A principal may not do what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    principal: Principal,
    /// The action's name, or the method's path where there are no policies.
    action: String,
    object: Option<Box<Object>>,
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    /// No rule allows it.
    NoRule,
    /// A rule forbids it.
    Forbidden(Arc<Rule>),
    /// An executable asked for more than to read its own zone.
    Workload,
    /// It may not know that there is such a cell.
    HiddenCell(CellPath),
    /// Nor that there is such an executable.
    HiddenExecutable(ExecutableName),
    /// It may not know of all that a zone would tell.
    Partial,
    /// What it is about is not named, and it may not ask for all of what that could be.
    Unnamed,
    /// It may not know of all that would be told, and nothing of that can be left out.
    Whole,
    /// What was decided over is not what is to be done.
    Mismatch(Box<Object>),
}

impl Denied {
    /// Whether the caller is told that what it asked for does not exist.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        matches!(self.reason, Reason::HiddenCell(_) | Reason::HiddenExecutable(_))
    }

    /// Whether it is a mistake of the daemon, and not of the caller.
    #[must_use]
    pub fn is_bug(&self) -> bool {
        matches!(self.reason, Reason::Mismatch(_))
    }

    /// The rule that forbids it, where one does.
    #[must_use]
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        match &self.reason {
            Reason::Forbidden(rule) => Some(rule),
            _ => None,
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { principal, action, object, reason } = self;
        match reason {
            // The words of whoever looks for what is not there.
            Reason::HiddenCell(cell) => return write!(formatter, "cell {cell} does not exist"),
            Reason::HiddenExecutable(name) => {
                return write!(formatter, "executable {name} does not exist");
            }
            _ => write!(formatter, "{principal} may not call {action}")?,
        }
        if let Some(object) = object {
            write!(formatter, " on {object}")?;
        }
        match (reason, object) {
            (Reason::Forbidden(rule), _) if rule.id.is_some() => {
                write!(formatter, ": the rule {} forbids it", rule.id.as_deref().unwrap_or_default())
            }
            (Reason::Forbidden(_), _) => formatter.write_str(": a rule forbids it"),
            (Reason::NoRule, Some(object)) => write!(
                formatter,
                ": no rule allows it (see `aer auth whoami` and `aer auth can-i {action} {object}`)"
            ),
            (Reason::NoRule, None) => {
                formatter.write_str(" on anything: no rule allows it (see `aer auth whoami`)")
            }
            (Reason::Partial, _) => formatter.write_str(
                ": it would tell of cells what the caller may not know; ask the node itself, which leaves that out",
            ),
            (Reason::Unnamed, _) => formatter.write_str(
                ": whose it is shows only there, and the caller may not ask for all that is there; an RPC that names the executable may be allowed",
            ),
            (Reason::Whole, _) => formatter.write_str(
                ": it tells of all cells, some of which the caller may not see, and cannot leave them out",
            ),
            (Reason::Mismatch(other), _) => {
                write!(formatter, ": it was allowed on {other}; this is a bug of the daemon, please report it")
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Denied {}

/// What only reads, and only what belongs to the zone that answers. (`GetSubProcessStream` may lead to a
/// zone inside.) Zones have no descriptors to read it from: that would cost each of them memory.
pub(crate) const READS: [&str; 12] = [
    "/aurae.cells.v0.CellService/Inspect",
    "/aurae.cells.v0.CellService/List",
    "/aurae.cells.v0.CellService/Wait",
    "/aurae.cells.v0.CellService/Watch",
    "/aurae.discovery.v0.DiscoveryService/Discover",
    "/aurae.node.v0.NodeService/Info",
    "/aurae.observe.v0.ObserveService/GetAuraeDaemonLogStream",
    "/aurae.observe.v0.ObserveService/GetExecutableLogs",
    "/aurae.observe.v0.ObserveService/GetPosixSignalsStream",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
];

/// Decides in a zone, which has no policies: whoever the daemon above speaks for was decided over there,
/// and may do what was asked; an executable may read the zone that it runs in.
///
/// # Errors
/// It may not.
pub fn authorize_inside(principal: &Principal, action: Action) -> Result<Permit, Denied> {
    let scope = match principal.form() {
        Form::Executable if !READS.contains(&action.as_str()) => {
            return Err(Denied {
                principal: principal.clone(),
                action: action.to_string(),
                object: None,
                reason: Reason::Workload,
            });
        }
        Form::Executable => Scope::Own,
        _ => Scope::Anything,
    };
    let resource = Granted(scope);
    Ok(Permit { principal: principal.clone(), action, resource, policies: None, rule: None })
}

impl Policies {
    /// Decides at the node.
    ///
    /// # Errors
    /// No rule allows it, or one forbids it; in words that do not tell a caller of what it may not see.
    pub fn authorize(self: &Arc<Self>, question: Question<'_>) -> Result<Permit, Denied> {
        let Question { principal, method, object, .. } = question;
        let decision = self.decide(question);
        let denied = |reason| Denied {
            principal: principal.clone(),
            action: method.action().to_owned(),
            object: Some(Box::new(object.clone())),
            reason,
        };
        if !decision.allowed {
            let told = match decision.rules.first() {
                Some(rule) => Reason::Forbidden(Arc::clone(rule)),
                None => Reason::NoRule,
            };
            return Err(denied(self.hidden(principal, method, object).unwrap_or(told)));
        }
        if let Some(reason) = self.untold(principal, method, object) {
            return Err(denied(reason));
        }
        Ok(Permit {
            principal: principal.clone(),
            action: method.asked(),
            resource: Granted(Scope::On(object.clone())),
            policies: Some(Arc::clone(self)),
            rule: decision.rules.first().map(Arc::clone),
        })
    }

    /// Why what a rule allows is denied all the same: the answer would tell of what the caller may not know of.
    fn untold(&self, principal: &Principal, method: &Method, object: &Object) -> Option<Reason> {
        let cell = object.cell();
        if method.access() == Access::Own {
            // Everybody may ask that, and would learn whether there is such a zone.
            return self.first_hidden(principal, cell?).map(Reason::HiddenCell);
        }
        if method.tells_all() && !self.sees_all_in(principal, cell) {
            return Some(Reason::Whole);
        }
        // The node leaves out what the caller may not see, and decides over what it finds.
        let inside = method.tells_inside() && cell.is_some();
        let allowed = || !method.finds_later() || self.allows_in(principal, method, cell);
        let told = if method.finds_later() { Reason::Unnamed } else { Reason::Partial };
        (inside && !(self.sees_all_in(principal, cell) && allowed())).then_some(told)
    }

    /// Denies what no rule could allow, whatever the request says, before it is read.
    ///
    /// # Errors
    /// No rule could allow it; in words that tell of no resource.
    pub fn rule_out(&self, principal: &Principal, method: &Method) -> Result<(), Denied> {
        if self.could_permit(principal, method) {
            return Ok(());
        }
        Err(Denied {
            principal: principal.clone(),
            action: method.action().to_owned(),
            object: None,
            reason: Reason::NoRule,
        })
    }

    /// What the caller may not know of. Who makes something knows of it; what is around may be hidden.
    fn hidden(&self, principal: &Principal, method: &Method, object: &Object) -> Option<Reason> {
        let cell = match object {
            Object::Zone(Some(cell)) if method.makes() => cell.split_last().0,
            object => object.cell().cloned(),
        };
        if let Some(cell) = cell {
            return self.first_hidden(principal, &cell).map(Reason::HiddenCell);
        }
        match object {
            Object::Executable(executable) if !method.makes() && !self.sees(principal, None) => {
                Some(Reason::HiddenExecutable(executable.name.clone()))
            }
            _ => None,
        }
    }

    /// The outermost cell on the path that the caller may not know of, where it may not know of the last.
    /// That is the one that would be missing if none was there.
    fn first_hidden(&self, principal: &Principal, cell: &CellPath) -> Option<CellPath> {
        if self.sees(principal, Some(cell)) {
            return None;
        }
        let mut first = cell.clone();
        while let Some(around) = first.split_last().0 {
            if self.sees(principal, Some(&around)) {
                break;
            }
            first = around;
        }
        Some(first)
    }
}

impl Permit {
    /// Checks that the permit holds for `resource`.
    ///
    /// # Errors
    /// It does not.
    pub fn narrow<R: Resource>(self, resource: R) -> Result<Permit<R>, Denied> {
        let object = resource.object();
        let reason = match &self.resource.0 {
            Scope::Anything => None,
            Scope::Own => object.cell().map(|_| Reason::Workload),
            Scope::On(granted) if *granted == object => None,
            Scope::On(granted) => Some(Reason::Mismatch(Box::new(granted.clone()))),
        };
        self.checked(resource, object, reason)
    }

    /// Checks that the request may go on to the zone of a cell.
    ///
    /// # Errors
    /// It may not.
    pub fn into_zone(self, cell: CellPath) -> Result<Permit<CellPath>, Denied> {
        let reason = match &self.resource.0 {
            Scope::Anything => None,
            Scope::Own => Some(Reason::Workload),
            Scope::On(granted) if granted.is_in(&cell) => None,
            Scope::On(granted) => Some(Reason::Mismatch(Box::new(granted.clone()))),
        };
        let object = cell.object();
        self.checked(cell, object, reason)
    }

    fn checked<R>(
        self,
        resource: R,
        object: Object,
        reason: Option<Reason>,
    ) -> Result<Permit<R>, Denied> {
        let Self { principal, action, policies, rule, .. } = self;
        if let Some(reason) = reason {
            let action = action.to_string();
            return Err(Denied { principal, action, object: Some(Box::new(object)), reason });
        }
        Ok(Permit { principal, action, resource, policies, rule })
    }
}

impl<R> Permit<R> {
    /// Who asks.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What for.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// On what.
    pub fn resource(&self) -> &R {
        &self.resource
    }

    /// The rule that allowed it; `None` in a zone.
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        self.rule.as_ref()
    }

    /// The policies that allowed it; `None` in a zone.
    pub fn policies(&self) -> Option<&Arc<Policies>> {
        self.policies.as_ref()
    }

    /// Whether the caller may know of a cell; `None`: of what the zone that answers runs itself.
    pub fn sees(&self, cell: Option<&CellPath>) -> bool {
        let policies = self.policies.as_ref();
        policies.is_none_or(|policies| policies.sees(&self.principal, cell))
    }

    /// Whether the caller may know of a cell and of all that is, or could come to be, in it.
    pub fn sees_all_in(&self, cell: &CellPath) -> bool {
        let policies = self.policies.as_ref();
        policies.is_none_or(|policies| policies.sees_all_in(&self.principal, Some(cell)))
    }

    /// Checks that the caller may do the same to what was found only now. `request` is the message that it was
    /// allowed over.
    ///
    /// # Errors
    /// It may not.
    pub fn holds_on(&self, found: &Object, request: &[u8]) -> Result<(), Denied> {
        let Some(policies) = &self.policies else { return Ok(()) };
        let denied = || Denied {
            principal: self.principal.clone(),
            action: self.action.to_string(),
            object: Some(Box::new(found.clone())),
            reason: Reason::NoRule,
        };
        let method = policies.contract().method(self.action.as_str()).ok_or_else(denied)?;
        let request = method.request().map(|it| DynamicMessage::decode(it.clone(), request));
        // What cannot be read was not allowed either.
        let request = request.transpose().map_err(|_| denied())?;
        let (principal, request) = (&self.principal, request.as_ref());
        policies.authorize(Question { principal, method, object: found, request }).map(drop)
    }

    /// Uses the permit up and gives out what it was for.
    pub fn into_resource(self) -> R {
        self.resource
    }
}
