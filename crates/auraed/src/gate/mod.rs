//! Who asks, whether they may, and the record that they did.
//!
//! ```text
//! connection  peer certificate ──▶ Principal                         once
//! request     Principal × method × what the request names ──▶ Permit ──▶ let in ──▶ Api::call
//!                                                └─ PERMISSION_DENIED, or NOT_FOUND
//!             audit record: opened here, closed with the trailers
//! ```
//!
//! What a principal may take before it is let in needs no right, so it is bounded: its calls
//! ([`share`](crate::share)), the memory and the time of what it sends (`peek`), and the records that are made
//! of it ([`Record::refuse`]).

mod audit;
mod deadline;
mod decide;
#[doc(hidden)]
pub mod edge;
mod identity;
mod peek;
mod replaced;

pub use audit::AuditedBody;
pub use identity::{CertificateExpiry, Identity, UnreadableCertificate, identity_of_certificate};

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use aurae_authz::{Action, Denied, Method, Permit, Policies, Principal, authorize_inside};
use aurae_model::ZonePath;
use futures_util::FutureExt;
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;

use crate::audit::{Audit, Record, Unrecordable};
use crate::policy::PolicyStore;
use crate::reply;
use crate::route::{self, Route};
use crate::server::{MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES_INSIDE};
use crate::share::{Call, Exceeded, Guest, Memory};
use crate::shutdown::Shutdown;
use audit::attach;
use peek::{Arriving, Begun};

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
    #[error("the first message of the request did not come in {} s", peek::FIRST_MESSAGE_TIMEOUT.as_secs())]
    Slow,
    /// The request did not end.
    #[error("the request has one message, and was not ended in {} s", peek::FIRST_MESSAGE_TIMEOUT.as_secs())]
    Unended,
    /// More than one message came where there is one.
    #[error("the request has more than the one message that it may have")]
    SecondMessage,
    /// Too much would have to be kept of what no rule could allow.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// It would have to be kept until it is whole, and too much is.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
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
}

/// The only way to the API. Clones share the audit log.
#[derive(Clone, Debug)]
pub struct Gate {
    route: Route,
    shutdown: Shutdown,
    audit: Audit,
    /// `None` in a zone: what the daemon above sends was decided over there.
    policies: Option<PolicyStore>,
}

impl Gate {
    /// A zone's gate before `route` that records what comes in `audit`. Answers that are under way when
    /// another version of the daemon is to take over are ended.
    #[must_use]
    pub fn new(route: Route, shutdown: Shutdown, audit: Audit) -> Self {
        Self { route, shutdown, audit, policies: None }
    }

    /// The same gate, where policies decide.
    #[must_use]
    pub fn with_policies(self, policies: PolicyStore) -> Self {
        Self { policies: Some(policies), ..self }
    }

    /// The gate for one connection: its peer is known, and has a share unless it is of a zone, and an expiry
    /// where it has shown a certificate.
    #[must_use]
    pub fn admit(
        &self,
        principal: Principal,
        peer: String,
        guest: Option<Guest>,
        expiry: Option<CertificateExpiry>,
    ) -> Admitted {
        let (gate, peer) = (self.clone(), peer.into());
        let memory = guest.as_ref().map(|guest| guest.memory().clone());
        let memory = memory.unwrap_or_else(|| Memory::new(MAX_REQUEST_BYTES_INSIDE));
        Admitted(Arc::new(Peer { gate, principal, peer, guest, memory, expiry, believed: false }))
    }

    /// The gate for the connection to the daemon above, which says itself who asks.
    #[must_use]
    pub fn admit_parent(&self) -> Admitted {
        let (gate, principal, peer) = (self.clone(), Principal::parent(), "parent".into());
        // It has waited for what it sends itself.
        let (guest, memory, expiry) = (None, Memory::new(0), None);
        Admitted(Arc::new(Peer { gate, principal, peer, guest, memory, expiry, believed: true }))
    }
}

/// A connection whose peer is known. Clones are the same.
#[derive(Clone, Debug)]
pub struct Admitted(Arc<Peer>);

#[derive(Debug)]
struct Peer {
    gate: Gate,
    principal: Principal,
    peer: Arc<str>,
    guest: Option<Guest>,
    /// What its requests may hold until they are whole.
    memory: Memory,
    /// That of the certificate that the peer has shown.
    expiry: Option<CertificateExpiry>,
    /// Whether the peer is believed when it says for whom it asks.
    believed: bool,
}

/// What a request asks for.
struct Asked<'a> {
    /// `None` in a zone.
    policies: Option<&'a Arc<Policies>>,
    /// `None` in a zone, and of what is not in the contract.
    method: Option<&'a Method>,
    principal: &'a Principal,
    action: Action,
}

impl<'a> Asked<'a> {
    /// The name of a method of the contract is there already.
    fn new(policies: Option<&'a Arc<Policies>>, path: &str, principal: &'a Principal) -> Self {
        let method = policies.and_then(|policies| policies.contract().method(path));
        let action = method.map_or_else(|| Action::new(path), |method| method.asked());
        Self { policies, method: method.map(AsRef::as_ref), principal, action }
    }
}

/// What the caller is told where its call cannot be recorded.
fn unrecorded(error: &Unrecordable) -> Status {
    match error {
        Unrecordable::TooMany { pause } => reply::status_to_retry(error, *pause),
        _ => reply::status(error),
    }
}

impl Peer {
    /// The permit of a call that is let in, and the body of its request once that has come: its first message, and its
    /// end if it has no more.
    async fn let_in<B: Arriving>(
        &self,
        asked: Asked<'_>,
        zone: Option<&ZonePath>,
        parts: &Parts,
        body: B,
        record: &Record,
    ) -> Result<(Permit, Body), Status> {
        let Asked { policies, method, principal, action } = asked;
        let refused = |refused: Refused| reply::status(&refused);
        if let Some(policies) = policies {
            let path = || parts.uri.path().to_owned();
            let method = method.ok_or_else(|| refused(Refused::NoSuchMethod(path())))?;
            let (zone, bounds) = (zone.map(ZonePath::cells), (&self.memory, record));
            let headers = &parts.headers;
            return decide::decide(policies, method, principal, zone, headers, body, bounds).await;
        }
        let permit = authorize_inside(principal, action);
        let permit = permit.map_err(|denied| reply::status(&denied))?;
        let body = match self.believed {
            // It has waited for the message itself.
            true => Body::new(body),
            // What an executable may ask for has one message.
            false => {
                let mut begun = Begun::new(&parts.headers, body, &self.memory);
                begun.first(|| Ok(())).await.map_err(refused)?;
                begun.ended().await.map_err(refused)?;
                begun.into_body()
            }
        };
        Ok((permit, body))
    }

    async fn answer<B: Arriving>(
        self: Arc<Self>,
        mut request: Request<B>,
    ) -> Response<AuditedBody> {
        let policies = self.gate.policies.as_ref().map(PolicyStore::current);
        let named = match self.believed {
            true => route::principal(request.headers()),
            false => Ok(self.principal.clone()),
        };
        let principal = named.clone().unwrap_or_else(|_| Principal::parent());
        let asked = Asked::new(policies.as_ref(), request.uri().path(), &principal);
        let zone = route::zone(request.headers());
        // A bad path is told by the route.
        let told = zone.as_ref().ok().cloned().flatten();
        let (peer, gate) = (Arc::clone(&self.peer), &self.gate);
        let tally = self.guest.as_ref().map(|guest| Arc::clone(guest.tally()));
        let action = asked.action.clone();
        let mut record = Record::open(&gate.audit, tally, principal.clone(), peer, action, told);
        if let Some(expiry) = self.expiry {
            request.extensions_mut().insert(expiry);
        }
        let named = named.map_err(|error| reply::status(&error));
        let entered = match named.and_then(|_| self.enter(&mut record)) {
            Ok(entered) => entered,
            Err(status) => return attach(record, None, status.into_http()),
        };
        let call = async |request: Request<B>| {
            // What is large stays in one place: each future that it was moved into would make every call larger.
            let (parts, body) = request.into_parts();
            let zone = match &zone {
                Ok(zone) => zone.as_ref(),
                Err(error) => return reply::status(error).into_http(),
            };
            match self.let_in(asked, zone, &parts, body, &record).await {
                Ok((permit, body)) => {
                    gate.route.call(permit, Request::from_parts(parts, body)).await
                }
                // What is not recorded gets no answer: otherwise one could try without leaving a trace.
                Err(status) => match record.refuse() {
                    Ok(()) => status.into_http(),
                    Err(error) => unrecorded(&error).into_http(),
                },
            }
        };
        let response = {
            // In its place: it is large, and would be moved into what waits for it.
            let answer = pin!(deadline::bounded(request, call));
            replaced::interruptible(&gate.shutdown, answer).await
        };
        attach(record, entered, response)
    }

    /// Takes the call's place in its principal's share, where it can be recorded.
    fn enter(&self, record: &mut Record) -> Result<Option<Call>, Status> {
        record.reserve().map_err(|error| unrecorded(&error))?;
        let call = self.guest.as_ref().map(|guest| guest.enter()).transpose();
        call.map_err(|exceeded| reply::status_to_retry(&exceeded, exceeded.pause()))
    }
}

impl hyper::service::Service<Request<Incoming>> for Admitted {
    type Response = Response<AuditedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let peer = Arc::clone(&self.0);
        Box::pin(peer.answer(request).map(Ok))
    }
}

#[cfg(test)]
mod tests;
