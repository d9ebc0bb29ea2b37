//! Who may do what: a [`Principal`] asks for an [`Action`] on a [`Resource`], and gets a [`Permit`] or is
//! [`Denied`].
//!
//! ```text
//! node   Policies::authorize(principal, RPC, object, request) ──▶ Permit     made by the gate
//! zone   authorize_inside(principal, action)                  ──▶ Permit
//!                                                                  │ narrow(resource)
//!                                                                  ▼
//!                                                                Permit<Resource>   what a service takes
//! ```
//!
//! At the node, [`Policies`] decide: Cedar, over the RPCs of the [`Contract`], with the request as the
//! context. Everything is denied that no policy allows. A zone has no policies: what the node sends it was
//! decided over there.
//!
//! **Invariant**: nothing else makes a permit, so code that takes one cannot be reached without. No I/O,
//! no clock: a decision depends on its arguments alone.

#![forbid(unsafe_code)]

mod context;
mod contract;
mod entities;
mod evaluate;
mod permit;
mod policies;
mod principal;
mod problem;
mod resource;
mod schema;

pub use contract::{Access, Contract, ContractError, Method, SIGHT};
pub use permit::{Denied, Granted, Permit, authorize_inside};
pub use policies::{BUILT_IN, Checker, Decision, Policies, Question, Rule};
pub use principal::{Form, Principal, Role};
pub use problem::{PolicyErrors, Problem};
pub use resource::{Executable, Node, Object, Resource};
pub use schema::schema;

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

#[cfg(test)]
mod tests;
