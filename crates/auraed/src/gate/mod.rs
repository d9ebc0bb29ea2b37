//! Who asks, whether they may, and the record that they did.
//!
//! ```text
//! connection  peer certificate ──▶ Principal                         once
//! request     Principal × method × what the request names ──▶ Permit ──▶ Api::call
//!                                                └─ PERMISSION_DENIED, or NOT_FOUND
//!             audit record: opened here, closed with the trailers
//! ```

mod audit;
mod deadline;
mod decide;
mod identity;
mod peek;
mod replaced;

pub use audit::AuditedBody;
pub use identity::{Identity, UnreadableCertificate, identity_of_certificate};

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aurae_authz::{Action, Permit, Principal, authorize_inside};
use aurae_model::ZonePath;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;

use crate::policy::PolicyStore;
use crate::reply;
use crate::route::{self, Route};
use crate::server::MAX_MESSAGE_BYTES;
use crate::shutdown::Shutdown;
use audit::Record;
use peek::FIRST_MESSAGE_TIMEOUT;

/// A request that the gate turned away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The caller's deadline passed before the answer was there.
    #[error("the deadline that the caller set passed before the answer was there")]
    DeadlinePassed,
    /// Another version of the daemon takes over.
    #[error(
        "the daemon is being replaced by another version; what was asked for may have been done; look, and try again"
    )]
    Replaced,
    /// The `grpc-timeout` header is malformed.
    #[error("grpc-timeout {0:?} is not 1 to 8 digits and one of H, M, S, m, u, n")]
    BadDeadline(String),
    /// The contract does not have the method.
    #[error("this daemon has no method {0:?}; gRPC reflection lists those it has")]
    NoSuchMethod(String),
    /// The first message is compressed.
    #[error("the request is compressed, which this daemon does not take")]
    Compressed,
    /// The first message is longer than any may be.
    #[error("the request has a message of {0} bytes; the limit is: {MAX_MESSAGE_BYTES} bytes")]
    TooLong(usize),
    /// The first message is no message.
    #[error("the request cannot be read: {0}")]
    Malformed(String),
    /// The first message did not come.
    #[error("the request's first message did not come in {} s", FIRST_MESSAGE_TIMEOUT.as_secs())]
    NoFirstMessage,
}

/// The only way to the API. Clones share the numbering of requests.
#[derive(Clone, Debug)]
pub struct Gate {
    route: Route,
    shutdown: Shutdown,
    requests: Arc<AtomicU64>,
    /// `None` in a zone: what the daemon above sends was decided over there.
    policies: Option<PolicyStore>,
}

impl Gate {
    /// A zone's gate before `route`. Answers that are under way when another version of the daemon is to
    /// take over are ended.
    #[must_use]
    pub fn new(route: Route, shutdown: Shutdown) -> Self {
        Self { route, shutdown, requests: Arc::default(), policies: None }
    }

    /// The same gate, where policies decide.
    #[must_use]
    pub fn with_policies(self, policies: PolicyStore) -> Self {
        Self { policies: Some(policies), ..self }
    }

    /// The gate for one connection: its peer is known.
    #[must_use]
    pub fn admit(&self, principal: Principal, peer: String) -> Admitted {
        Admitted { gate: self.clone(), principal, peer: peer.into(), believed: false }
    }

    /// The gate for the connection to the daemon above, which says itself who asks.
    #[must_use]
    pub fn admit_parent(&self) -> Admitted {
        let (principal, peer) = (Principal::parent(), "parent".into());
        Admitted { gate: self.clone(), principal, peer, believed: true }
    }
}

/// A connection whose peer is known.
#[derive(Clone, Debug)]
pub struct Admitted {
    gate: Gate,
    principal: Principal,
    peer: Arc<str>,
    /// Whether the peer is believed when it says for whom it asks.
    believed: bool,
}

impl Gate {
    async fn decide(
        &self,
        principal: &Principal,
        action: Action,
        zone: Option<ZonePath>,
        request: Request<Body>,
    ) -> Result<(Permit, Request<Body>), Status> {
        let Some(policies) = &self.policies else {
            let permit = authorize_inside(principal, action);
            return Ok((permit.map_err(|denied| reply::status(&denied))?, request));
        };
        let zone = zone.as_ref().map(ZonePath::cells);
        decide::decide(&policies.current(), principal, zone, request).await
    }
}

impl Admitted {
    async fn answer<B>(self, request: Request<B>) -> Response<AuditedBody>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<tonic::codegen::StdError>,
    {
        let action = Action::new(request.uri().path());
        let number = self.gate.requests.fetch_add(1, Ordering::Relaxed);
        let principal = match self.believed {
            true => route::principal(request.headers()),
            false => Ok(self.principal),
        };
        let principal = match principal {
            Ok(principal) => principal,
            Err(error) => {
                let record = Record::open(number, Principal::parent(), self.peer, action, None);
                return record.attach(reply::status(&error).into_http());
            }
        };
        let zone = route::zone(request.headers());
        // A bad path is told by the route.
        let told = zone.as_ref().ok().cloned().flatten();
        let record = Record::open(number, principal.clone(), self.peer, action.clone(), told);
        let (gate, request) = (&self.gate, request.map(Body::new));
        let call = async |request| {
            let zone = zone.map_err(|error| reply::status(&error))?;
            let (permit, request) = gate.decide(&principal, action, zone, request).await?;
            Ok::<_, Status>(gate.route.call(permit, request).await)
        };
        let call = async |request| call(request).await.unwrap_or_else(Status::into_http);
        let answer = deadline::bounded(request, call);
        let response = replaced::interruptible(&gate.shutdown, answer).await;
        record.attach(response)
    }
}

impl hyper::service::Service<Request<Incoming>> for Admitted {
    type Response = Response<AuditedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let admitted = self.clone();
        Box::pin(async move { Ok(admitted.answer(request).await) })
    }
}

#[cfg(test)]
mod tests;
