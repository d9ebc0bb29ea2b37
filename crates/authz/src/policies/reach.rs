//! Which cells policies decide over: whether somebody may see, or ask, all that is in a cell, and whatever
//! comes to be there.
//!
//! Policies are looked at, not asked about every cell: there may be none yet. What cannot be told of a policy
//! without asking it counts against the caller.

use std::sync::{Arc, LazyLock};

use aurae_model::CellPath;
use cedar_policy::{EntityTypeName, EntityUid, Policy, ResourceConstraint};

use super::{Decision, Policies, Question, Rule, has, is_for, is_of_who_asks};
use crate::contract::{Method, SIGHT};
use crate::evaluate::Held;
use crate::resource::is_in;
use crate::{Object, Principal};

/// A cell; whether it exists does not matter.
static ANY_CELL: LazyLock<Option<CellPath>> = LazyLock::new(|| CellPath::parse("any", "cell").ok());

/// Which cells a policy decides over, where its principal and its action fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// None.
    Never,
    /// All, and the node.
    All,
    /// All, and not the node.
    Cells,
    /// That at a path, and those inside it.
    In(Object),
    /// That at a path.
    Only(Object),
    /// Some, as its conditions say.
    Some,
}

impl Policies {
    /// Whether `principal` may know of a cell (`None`: of the node's own zone).
    #[must_use]
    pub fn sees(&self, principal: &Principal, cell: Option<&CellPath>) -> bool {
        self.sight(principal, cell).is_some_and(|decision| decision.allowed)
    }

    fn sight(&self, principal: &Principal, cell: Option<&CellPath>) -> Option<Arc<Decision>> {
        let method = self.contract.action(SIGHT)?;
        let object = Object::Zone(cell.cloned());
        Some(self.decide(Question { principal, method, object: &object, request: None }))
    }

    /// Whether `principal` may know of every cell that is, or could come to be, in `cell` (`None`: on the node).
    #[must_use]
    pub fn sees_all_in(&self, principal: &Principal, cell: Option<&CellPath>) -> bool {
        self.contract.action(SIGHT).is_some_and(|method| self.allows_in(principal, method, cell))
    }

    /// Whether `principal` may do what is about cells to `cell` (`None`: to the node) and to every cell that is,
    /// or could come to be, in it, whatever the request says. It is so where a rule allows it that looks at no
    /// more than who asks, and no rule could forbid a part of it.
    pub(crate) fn allows_in(
        &self,
        principal: &Principal,
        method: &Method,
        cell: Option<&CellPath>,
    ) -> bool {
        let decide = |cell: Option<&CellPath>| {
            let object = &Object::Zone(cell.cloned());
            self.decide(Question { principal, method, object, request: None })
        };
        let decision = decide(cell);
        let broad = |rule: &Arc<Rule>| match (&rule.reach, cell) {
            (Reach::All, _) | (Reach::Cells, Some(_)) => true,
            (Reach::In(around), Some(cell)) => {
                around.cell().is_none_or(|around| is_in(cell, around))
            }
            // What is around the node is the node.
            (Reach::In(_), None) => true,
            (Reach::Cells, None) | (Reach::Never | Reach::Only(_) | Reach::Some, _) => false,
        };
        // Where a rule forbids all of a cell, it is not allowed there.
        let carves = |rule: &Arc<Rule>| match &rule.reach {
            Reach::Never | Reach::All => false,
            Reach::Cells if cell.is_some() => false,
            // Any cell will do: which one it is makes no difference to it.
            Reach::Cells => ANY_CELL.as_ref().is_none_or(|any| {
                decide(Some(any)).rules.iter().any(|deciding| Arc::ptr_eq(deciding, rule))
            }),
            Reach::In(inner) | Reach::Only(inner) => inner.cell().is_some_and(|inner| {
                cell.is_none_or(|cell| is_in(inner, cell)) && !decide(Some(inner)).allowed
            }),
            Reach::Some => self.vocabulary.may_match(&rule.principal, principal),
        };
        let could_forbid =
            |Held { rule, .. }: &Held| rule.forbids && is_for(&rule.action, method) && carves(rule);
        decision.allowed && decision.rules.iter().any(broad) && !self.held.iter().any(could_forbid)
    }
}

/// Which cells a policy decides over.
pub(super) fn reach(policy: &Policy) -> Reach {
    if !looks_at_principal_alone(policy) {
        return Reach::Some;
    }
    let object = |uid: &EntityUid| Object::parse(uid.id().unescaped()).ok();
    let is_cell = |kind: &EntityTypeName| kind.to_string() == "Cell";
    match policy.resource_constraint() {
        ResourceConstraint::Any => Reach::All,
        ResourceConstraint::Is(kind) if is_cell(&kind) => Reach::Cells,
        ResourceConstraint::In(uid) => object(&uid).map_or(Reach::Never, Reach::In),
        ResourceConstraint::IsIn(kind, uid) if is_cell(&kind) => match object(&uid) {
            Some(Object::Zone(None)) => Reach::Cells,
            around => around.map_or(Reach::Never, Reach::In),
        },
        ResourceConstraint::Eq(uid) => object(&uid).map_or(Reach::Never, Reach::Only),
        ResourceConstraint::Is(_) | ResourceConstraint::IsIn(..) => Reach::Never,
    }
}

/// Whether the conditions of a policy look at no more than who asks, so that they hold for all cells or for
/// none. What a policy says of another entity depends on what the question is about, too.
fn looks_at_principal_alone(policy: &Policy) -> bool {
    let beyond = |node: &serde_json::Map<String, serde_json::Value>| {
        let variable = node.get("Var").is_some_and(|name| name != "principal");
        let entity = node.get("__entity").is_some_and(|it| !is_of_who_asks(&it["type"]));
        variable || entity
    };
    policy.to_json().is_ok_and(|json| !has(&json["conditions"], &beyond))
}
