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
mod slow;

pub use audit::AuditedBody;
pub use identity::{Identity, UnreadableCertificate, identity_of_certificate};

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use aurae_authz::{Action, Principal, authorize};
use http::{Request, Response};
use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;

use crate::audit::{Audit, Record};
use crate::reply;
use crate::route::{self, Route};
use crate::share::{Call, Guest};
use crate::shutdown::Shutdown;
use audit::attach;
use slow::Timely;

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
    /// The request did not come.
    #[error("the first message of the request did not come in {} s", slow::FIRST_MESSAGE_TIMEOUT.as_secs())]
    Slow,
}

/// The only way to the API. Clones share the audit log.
#[derive(Clone, Debug)]
pub struct Gate {
    route: Route,
    shutdown: Shutdown,
    audit: Audit,
}

impl Gate {
    /// A gate before `route` that records what comes in `audit`. Answers that are under way when another version of the daemon is to
    /// take over are ended.
    #[must_use]
    pub fn new(route: Route, shutdown: Shutdown, audit: Audit) -> Self {
        Self { route, shutdown, audit }
    }

    /// The gate for one connection: its peer is known, and has a share unless it is of a zone.
    #[must_use]
    pub fn admit(&self, principal: Principal, peer: String, guest: Option<Guest>) -> Admitted {
        let guest = guest.map(Arc::new);
        Admitted { gate: self.clone(), principal, peer: peer.into(), guest, believed: false }
    }

    /// The gate for the connection to the daemon above, which says itself who asks.
    #[must_use]
    pub fn admit_parent(&self) -> Admitted {
        let (principal, peer) = (Principal::parent(), "parent".into());
        Admitted { gate: self.clone(), principal, peer, guest: None, believed: true }
    }
}

/// A connection whose peer is known.
#[derive(Clone, Debug)]
pub struct Admitted {
    gate: Gate,
    principal: Principal,
    peer: Arc<str>,
    guest: Option<Arc<Guest>>,
    /// Whether the peer is believed when it says for whom it asks.
    believed: bool,
}

impl Admitted {
    async fn answer(self, request: Request<Incoming>) -> Response<AuditedBody> {
        let action = Action::new(request.uri().path());
        let named = match self.believed {
            true => route::principal(request.headers()),
            false => Ok(self.principal.clone()),
        };
        let principal = named.clone().unwrap_or_else(|_| Principal::parent());
        // A bad path is told by the route.
        let zone = route::zone(request.headers()).ok().flatten();
        let (peer, audit) = (Arc::clone(&self.peer), &self.gate.audit);
        let mut record = Record::open(audit, principal.clone(), peer, action.clone(), zone);
        let named = named.map_err(|error| reply::status(&error));
        let entered = named.and_then(|_| self.enter(&mut record));
        let permitted = entered.and_then(|call| {
            let permit = authorize(&principal, action).map_err(|denied| reply::status(&denied))?;
            Ok((call, permit))
        });
        match permitted {
            Ok((entered, permit)) => {
                let mut request = request.map(|body| match self.believed {
                    true => Body::new(body),
                    false => Body::new(Timely::new(body)),
                });
                request.extensions_mut().insert(record.verdict().clone());
                let call = |request| self.gate.route.call(permit, request);
                let answer = deadline::bounded(request, call);
                let response = replaced::interruptible(&self.gate.shutdown, answer).await;
                attach(record, entered, response)
            }
            Err(status) => {
                record.verdict().deny();
                attach(record, None, status.into_http())
            }
        }
    }

    /// Takes the call's place in its principal's share, and in the audit log.
    fn enter(&self, record: &mut Record) -> Result<Option<Call>, Status> {
        record.reserve().map_err(|error| reply::status(&error))?;
        let call = self.guest.as_ref().map(|guest| guest.enter()).transpose();
        call.map_err(|exceeded| reply::status_to_retry(&exceeded, exceeded.pause()))
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
