//! What reads the bytes of strangers first, for those who attack it on purpose: the fuzz targets. No part of
//! the daemon's interface.

use std::sync::Arc;
use std::time::Duration;

use aurae_authz::{Permit, Policies, Principal};
use aurae_model::CellPath;
use bytes::Bytes;
use http::{HeaderMap, Request};
use tonic::Status;
use tonic::body::Body;

use super::peek::Begun;
use super::{Refused, decide};
use crate::audit::{Audit, Record};
use crate::reply;
use crate::server::MAX_REQUEST_BYTES_PER_PRINCIPAL;
use crate::share::Memory;

/// How long a message may take: a machine that stands still for a minute is no client that is slow.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// The first message of a body, and the body as it came.
///
/// # Errors
/// The message is refused.
pub async fn first_message(body: Body) -> Result<(Option<Bytes>, Body), Refused> {
    let memory = Memory::new(MAX_REQUEST_BYTES_PER_PRINCIPAL);
    let headers = HeaderMap::new();
    let mut begun = Begun::new(&headers, body, &memory).within(PATIENCE);
    begun.first(|| Ok(())).await?;
    Ok((begun.message(), begun.into_stream()))
}

/// The decision over a request, and the request as it came.
///
/// # Errors
/// It is denied, or refused.
pub async fn decision(
    policies: &Arc<Policies>,
    principal: &Principal,
    zone: Option<&CellPath>,
    request: Request<Body>,
) -> Result<(Permit, Request<Body>), Status> {
    let path = request.uri().path();
    let Some(method) = policies.contract().method(path) else {
        return Err(reply::status(&Refused::NoSuchMethod(path.to_owned())));
    };
    let memory = Memory::new(MAX_REQUEST_BYTES_PER_PRINCIPAL);
    let (who, action) = (principal.clone(), method.asked());
    let record = Record::open(&Audit::none(), None, who, "nowhere".into(), action, None);
    let ((parts, body), bounds) = (request.into_parts(), (&memory, &record));
    let decided =
        decide::decide(policies, method, principal, zone, &parts.headers, body, bounds).await;
    decided.map(|(permit, body)| (permit, Request::from_parts(parts, body)))
}
