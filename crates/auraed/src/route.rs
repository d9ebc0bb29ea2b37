//! From a request to the zone that answers it.
//!
//! ```text
//! no aurae-zone                 ──▶ Api::call, here
//! aurae-zone: cells/a           ──▶ the daemon of cell a, as an HTTP/2 stream
//! aurae-zone: cells/a/cells/b   ──▶ the same, which passes it on as cells/b
//! ```
//!
//! What is passed on is not looked into: messages, trailers, back pressure and the end of either side
//! go through. The principal goes with it; a zone believes it, as nobody but its parent can tell it.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use aurae_authz::{Permit, Principal};
use aurae_model::{CellPath, Invalid, ZonePath};
use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use hyper::body::{Frame, Incoming, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tower::Service;

use crate::reply;
use crate::runtime::cells::{Cells, Connection, Room, Zone};
use crate::service::Api;

/// The request metadata that addresses a zone.
const ZONE: HeaderName = HeaderName::from_static(ZonePath::METADATA);
/// The request metadata with which a daemon tells its zone who asks.
const PRINCIPAL: HeaderName = HeaderName::from_static(PRINCIPAL_NAME);
const PRINCIPAL_NAME: &str = "aurae-principal";

/// `aurae-zone` addresses no zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadZone {
    /// It is malformed.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The daemon has no zones.
    #[error("this daemon has no cells: it could not get a cgroup; NodeService/Info tells why")]
    NoZones,
}

/// The daemon above named somebody in a way that this one does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the daemon above speaks for somebody that this version does not know; free the cell and allocate it again"
)]
pub struct UnknownPrincipal;

/// A zone's daemon ended while it answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the daemon of cell {cell} is gone: {reason}")]
pub struct ZoneLost {
    cell: CellPath,
    reason: String,
}

/// Where requests go. Clones are the same.
#[derive(Clone, Debug)]
pub struct Route {
    api: Api,
    /// `None` where the daemon has no place for any.
    cells: Option<Cells>,
}

impl Route {
    /// To the services of `api`, and to the zones of `cells`.
    #[must_use]
    pub fn new(api: Api, cells: Option<Cells>) -> Self {
        Self { api, cells }
    }

    /// Answers a request, here or in the zone that it addresses.
    pub async fn call(&self, permit: Permit, request: Request<Body>) -> Response<Body> {
        let path = match zone(request.headers()) {
            Ok(None) => return self.api.call(permit, request).await,
            Ok(Some(path)) => path,
            Err(error) => return reply::status(&error).into_http(),
        };
        let Some(cells) = &self.cells else {
            return reply::status(&BadZone::NoZones).into_http();
        };
        let permit = match permit.into_zone(path.cells().clone()) {
            Ok(permit) => permit,
            Err(denied) => return reply::status(&denied).into_http(),
        };
        let reached = cells.reach(permit.resource()).map_err(|error| reply::status(&error));
        let room = |zone: Zone| zone.room().map(|room| (zone, room)).map_err(|e| reply::status(&e));
        match reached.and_then(room) {
            // Apart, so that what is answered here has no room for it.
            Ok((zone, room)) => Box::pin(pass_on(permit.principal(), zone, room, request)).await,
            Err(status) => status.into_http(),
        }
    }
}

/// The zone that a request addresses.
///
/// # Errors
/// The path is malformed.
pub fn zone(headers: &HeaderMap) -> Result<Option<ZonePath>, BadZone> {
    let Some(value) = headers.get(&ZONE) else { return Ok(None) };
    // What is no text is no path either.
    Ok(Some(ZonePath::parse(&String::from_utf8_lossy(value.as_bytes()))?))
}

/// Who asks, as the daemon above told it; that daemon itself where it told nobody.
///
/// # Errors
/// It told something that is not understood.
pub fn principal(headers: &HeaderMap) -> Result<Principal, UnknownPrincipal> {
    let Some(value) = headers.get(&PRINCIPAL) else { return Ok(Principal::parent()) };
    value.to_str().ok().and_then(Principal::decode).ok_or(UnknownPrincipal)
}

/// A message to a zone's daemon, and whoever it is sent for.
pub fn request<T>(principal: &Principal, zone: &Zone, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let metadata = request.metadata_mut();
    if let Ok(value) = MetadataValue::try_from(principal.encode()) {
        metadata.insert(PRINCIPAL_NAME, value);
    }
    if let Some(rest) = zone.rest()
        && let Ok(value) = MetadataValue::try_from(ZonePath::from(rest.clone()).to_string())
    {
        metadata.insert(ZonePath::METADATA, value);
    }
    request
}

async fn pass_on(
    principal: &Principal,
    zone: Zone,
    room: Room,
    mut request: Request<Body>,
) -> Response<Body> {
    let headers = request.headers_mut();
    headers.remove(&ZONE);
    headers.remove(&PRINCIPAL);
    let rest = zone.rest().map(|rest| ZonePath::from(rest.clone()).to_string());
    for (name, value) in [(PRINCIPAL, Some(principal.encode())), (ZONE, rest)] {
        // Both are visible ASCII.
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    *request.uri_mut() = inside(request.uri());
    let failed = Failed::default();
    let request =
        request.map(|body| Body::new(WithoutEmptyFrames { body, failed: failed.clone() }));
    match send(zone.connection(), request).await {
        Ok(response) => {
            response.map(|body| Body::new(PassedOn { body, zone, failed, room: Some(room) }))
        }
        Err(error) => failed.or_lost(&zone, &error).into_http(),
    }
}

async fn send(
    mut connection: Connection,
    request: Request<Body>,
) -> Result<Response<Incoming>, hyper::Error> {
    std::future::poll_fn(|context| connection.poll_ready(context)).await?;
    connection.call(request).await
}

/// The same method of a zone: HTTP/2 wants a scheme and an authority, which mean nothing there.
fn inside(uri: &Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(Authority::from_static("zone"));
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

fn lost(zone: &Zone, error: &hyper::Error) -> ZoneLost {
    ZoneLost { cell: zone.path(), reason: reply::text(error) }
}

/// What went wrong with a request on its way through, which ends its stream. Clones are the same.
#[derive(Clone, Default)]
struct Failed(Arc<OnceLock<Status>>);

impl Failed {
    /// That, or else the zone is lost.
    fn or_lost(&self, zone: &Zone, error: &hyper::Error) -> Status {
        self.0.get().cloned().unwrap_or_else(|| reply::status(&lost(zone, error)))
    }
}

/// A request's body on its way through. An empty frame says nothing, and HTTP/2 implementations end a
/// connection on which there are many: a caller could end the one that all share.
struct WithoutEmptyFrames {
    body: Body,
    failed: Failed,
}

impl hyper::body::Body for WithoutEmptyFrames {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
            if let Some(Err(status)) = &frame {
                let _ = self.failed.0.set(status.clone());
            }
            let is_empty = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(Bytes::is_empty);
            if !matches!(&frame, Some(Ok(frame)) if is_empty(frame)) {
                return Poll::Ready(frame);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer on its way through. It takes up a zone's stream while it is open.
struct PassedOn {
    body: Incoming,
    zone: Zone,
    failed: Failed,
    /// `None` once it has ended.
    room: Option<Room>,
}

impl hyper::body::Body for PassedOn {
    type Data = Bytes;
    type Error = Status;

    /// A zone that is lost on the way ends the answer with a status, as gRPC has it.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.room.is_none() {
            return Poll::Ready(None);
        }
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(error)) => {
                self.room = None;
                Some(reply::trailers(&self.failed.or_lost(&self.zone, &error)))
            }
            None => {
                self.room = None;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.room.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
