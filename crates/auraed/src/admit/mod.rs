//! From a wire message to a valid request, and from a permit for a method to one for a resource.
//!
//! What comes out of here is never checked again.

pub mod audit;
pub mod auth;
pub mod cells;
pub mod copy;
pub mod life;
pub mod observe;
mod security;
pub mod session;
pub mod upgrade;
pub mod watch;

use aurae_authz::{Denied, Node, Permit};
use aurae_model::Invalid;
use tonic::Request;

use crate::reply::Unsupported;

/// Why a request is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Admission {
    /// A field breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A field has a value that this version of the API does not know.
    #[error("Field = {field}; {value} is not a known value")]
    UnknownValue {
        /// The field's path in the request.
        field: &'static str,
        /// The number that was sent.
        value: i32,
    },
    /// The principal may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The daemon has nothing to answer it with.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// It came around the gate.
    #[error(transparent)]
    NoPermit(#[from] NoPermit),
}

/// A request that did not come through the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request carries no permit; this is a bug of the daemon, please report it")]
pub struct NoPermit;

/// Takes the permit that the gate put beside the request.
///
/// # Errors
/// There is none: the request came around the gate.
pub fn permit<T>(request: &mut Request<T>) -> Result<Permit, NoPermit> {
    request.extensions_mut().remove::<Permit>().ok_or(NoPermit)
}

/// Takes the permit, for the daemon that answers.
///
/// # Errors
/// There is none, or it does not hold for the daemon.
pub fn on_node<T>(request: &mut Request<T>) -> Result<Permit<Node>, Admission> {
    Ok(permit(request)?.narrow(Node)?)
}
