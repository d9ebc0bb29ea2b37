//! What reads the bytes of strangers first, for those who attack it on purpose: the fuzz targets. No part of
//! the daemon's interface.

use std::sync::Arc;

use aurae_authz::{Permit, Policies, Principal};
use aurae_model::CellPath;
use bytes::Bytes;
use http::Request;
use tonic::Status;
use tonic::body::Body;

use super::peek::Begun;
use super::{Refused, decide};
use crate::audit::Verdict;

/// The first message of a body, and the body as it came.
///
/// # Errors
/// The message is refused.
pub async fn first_message(body: Body) -> Result<(Option<Bytes>, Body), Refused> {
    let begun = Begun::of(body).await?;
    Ok((begun.message(), begun.into_body()))
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
    decide::decide(policies, principal, zone, request, &Verdict::default()).await
}
