//! Who may do what: a [`Principal`] asks for an [`Action`], and gets a [`Permit`] or is [`Denied`].
//!
//! ```text
//! authorize(principal, action) ──▶ Permit            method-level, made by the gate
//!                                    │ narrow(resource)
//!                                    ▼
//!                                  Permit<Resource>  what a service takes
//! ```
//!
//! **Invariant**: only [`authorize`] makes a permit, so code that takes one cannot be reached without.
//! No I/O, no clock: a decision depends on its arguments alone.
//!
//! For now everybody whom the node's certificate authority signed may do everything. An executable that
//! asks the zone it runs in may read that zone, and nothing else.

#![forbid(unsafe_code)]

mod principal;
mod resource;

pub use principal::{Form, Principal};
pub use resource::{Executable, Node, Resource};

use std::fmt;
use std::sync::Arc;

/// What is asked for: the path of a gRPC method, `/aurae.cells.v0.CellService/Start` for example.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Action(Arc<str>);

impl Action {
    /// The action of the method at `path`.
    #[must_use]
    pub fn new(path: &str) -> Self {
        Self(path.into())
    }

    /// The method's path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A permit that was not narrowed to a resource yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnyResource;

/// Proof that a principal may do an action, on a resource once it is narrowed.
#[derive(Clone, Debug)]
pub struct Permit<R = AnyResource> {
    principal: Principal,
    action: Action,
    resource: R,
}

/// A principal may not do what it asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{principal} may not call {action}{}", on(.resource.as_deref()))]
pub struct Denied {
    principal: Principal,
    action: Action,
    /// The resource's name, when the method as such is allowed.
    resource: Option<String>,
}

fn on(resource: Option<&str>) -> String {
    resource.map(|resource| format!(" on {resource}")).unwrap_or_default()
}

/// What only reads, and only what belongs to the zone that answers. (`GetSubProcessStream` may lead to a
/// zone inside.)
const READS: [&str; 12] = [
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

/// Decides whether `principal` may do `action` at all.
///
/// # Errors
/// It may not.
pub fn authorize(principal: &Principal, action: Action) -> Result<Permit, Denied> {
    if principal.form() == Form::Executable && !READS.contains(&action.as_str()) {
        return Err(Denied { principal: principal.clone(), action, resource: None });
    }
    Ok(Permit { principal: principal.clone(), action, resource: AnyResource })
}

impl Permit {
    /// Decides whether the permit holds for `resource`.
    ///
    /// # Errors
    /// It does not.
    pub fn narrow<R: Resource>(self, resource: R) -> Result<Permit<R>, Denied> {
        let Self { principal, action, resource: AnyResource } = self;
        if principal.form() == Form::Executable && !resource.is_own() {
            return Err(Denied { principal, action, resource: Some(resource.name()) });
        }
        Ok(Permit { principal, action, resource })
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

    /// Uses the permit up and gives out what it was for.
    pub fn into_resource(self) -> R {
        self.resource
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_says_who_may_do_what_on_what() {
        let principal = Principal::common_name("alice");
        let action = Action::new("/aurae.cells.v0.CellService/Start");
        let permit = authorize(&principal, action.clone()).unwrap().narrow(Node).unwrap();
        assert_eq!(permit.principal(), &principal);
        assert_eq!(permit.action(), &action);
        assert_eq!(permit.into_resource(), Node);
    }

    #[test]
    fn an_executable_reads_its_own_zone_and_does_nothing_else() {
        let executable = Principal::executable("executables/nginx");
        let inspect = || Action::new("/aurae.cells.v0.CellService/Inspect");
        let cell = aurae_model::CellPath::parse("inner", "f").unwrap();
        assert!(authorize(&executable, inspect()).unwrap().narrow(Node).is_ok());
        assert!(
            authorize(&executable, inspect()).unwrap().narrow(None::<_>.or(Some(cell))).is_err()
        );
        for action in ["Free", "Start", "Exec", "CopyOut", "Freeze", "Update", "Unheard"] {
            let action = Action::new(&format!("/aurae.cells.v0.CellService/{action}"));
            assert!(authorize(&executable, action.clone()).is_err(), "{action}");
        }
    }

    #[test]
    fn a_denial_names_all_three() {
        let mut denied = Denied {
            principal: Principal::common_name("alice"),
            action: Action::new("/a.B/C"),
            resource: None,
        };
        assert_eq!(denied.to_string(), "alice may not call /a.B/C");
        denied.resource = Some("cells/web".into());
        assert_eq!(denied.to_string(), "alice may not call /a.B/C on cells/web");
    }
}
