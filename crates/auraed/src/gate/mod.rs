//! Who asks, whether they may, and the record that they did.
//!
//! ```text
//! connection  peer certificate ──▶ Principal                         once
//! request     Principal × method ──▶ Permit ──▶ Api::call            or PERMISSION_DENIED
//!             audit record: opened here, closed with the trailers
//! ```

mod audit;
mod deadline;
mod identity;
mod replaced;

pub use audit::AuditedBody;
pub use identity::{Identity, UnreadableCertificate, identity_of_certificate};

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aurae_authz::{Action, Principal, authorize};
use http::{Request, Response};
use hyper::body::Incoming;
use tonic::body::Body;

use crate::reply;
use crate::route::{self, Route};
use crate::shutdown::Shutdown;
use audit::Record;

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
}

/// The only way to the API. Clones share the numbering of requests.
#[derive(Clone, Debug)]
pub struct Gate {
    route: Route,
    shutdown: Shutdown,
    requests: Arc<AtomicU64>,
}

impl Gate {
    /// A gate before `route`. Answers that are under way when another version of the daemon is to
    /// take over are ended.
    #[must_use]
    pub fn new(route: Route, shutdown: Shutdown) -> Self {
        Self { route, shutdown, requests: Arc::default() }
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

impl Admitted {
    async fn answer(self, request: Request<Incoming>) -> Response<AuditedBody> {
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
        // A bad path is told by the route.
        let zone = route::zone(request.headers()).ok().flatten();
        let record = Record::open(number, principal.clone(), self.peer, action.clone(), zone);
        let response = match authorize(&principal, action) {
            Ok(permit) => {
                let request = request.map(Body::new);
                let call = |request| self.gate.route.call(permit, request);
                let answer = deadline::bounded(request, call);
                replaced::interruptible(&self.gate.shutdown, answer).await
            }
            Err(denied) => reply::status(&denied).into_http(),
        };
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
