//! The decision over a request at the node, before anything else sees it.
//!
//! ```text
//! method + zone path + first message ──▶ object, context ──▶ Policies ──▶ Permit, and the body as it came
//! ```
//!
//! The first message is read only where it matters: where it names the resource, or a policy looks at it. It is
//! waited for in any case, but who may not is told so before where it does not matter, or where no message could matter
//! and the principal has much kept.

use std::sync::Arc;

use aurae_authz::{Denied, Method, Permit, Policies, Principal, Question};
use aurae_model::CellPath;
use bytes::Bytes;
use http::HeaderMap;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tonic::Status;
use tonic::body::Body;

use super::peek::{Arriving, Begun};
use super::{Refused, unrecorded};
use crate::audit::{Record, Verdict};
use crate::reply;
use crate::share::Memory;

/// Decides over a request with these headers and this body, lets the call in, and gives the body back for whoever
/// answers it. What has to be kept of it meanwhile counts as `memory`.
pub(super) async fn decide<B: Arriving>(
    policies: &Arc<Policies>,
    method: &Method,
    principal: &Principal,
    zone: Option<&CellPath>,
    headers: &HeaderMap,
    body: B,
    (memory, record): (&Memory, &Record),
) -> Result<(Permit, Body), Status> {
    let refused = |refused: Refused| match &refused {
        Refused::Exceeded(exceeded) => reply::status_to_retry(&refused, exceeded.pause()),
        _ => reply::status(&refused),
    };
    let ask = |message: Option<&DynamicMessage>| {
        let (object, verdict) = (&method.object(zone, message), record.verdict());
        verdict.set_resource(object.name());
        ask(policies, Question { principal, method, object, request: message }, verdict)
    };
    let to_look_at = to_look_at(policies, method);
    let known = to_look_at.is_none().then(|| ask(None)).transpose()?;
    let mut begun = Begun::new(headers, body, memory);
    begun.first(|| policies.rule_out(principal, method)).await.map_err(refused)?;
    let permit = match (known, to_look_at) {
        (Some(permit), _) => permit,
        (None, descriptor) => {
            let message = descriptor.zip(begun.message());
            let message = message.map(|(descriptor, bytes)| decode(descriptor, bytes));
            ask(message.transpose().map_err(refused)?.as_ref())?
        }
    };
    if !method.streams_requests() {
        begun.ended().await.map_err(refused)?;
    }
    record.let_in(Some(method.access())).await.map_err(|error| unrecorded(&error))?;
    let body = match method.streams_requests() {
        true => begun.into_stream(),
        false => begun.into_body(),
    };
    Ok((permit, body))
}

fn ask(
    policies: &Arc<Policies>,
    question: Question<'_>,
    verdict: &Verdict,
) -> Result<Permit, Status> {
    let decided = policies.authorize(question);
    let rule = decided.as_ref().map_or_else(Denied::rule, Permit::rule);
    if let Some(rule) = rule {
        verdict.set_rule(rule.text());
    }
    decided.map_err(|denied| reply::status(&denied))
}

/// The request, where the decision needs it.
fn to_look_at<'a>(policies: &Policies, method: &'a Method) -> Option<&'a MessageDescriptor> {
    let needs_it = method.names_resource() || policies.looks_at_request(method);
    method.request().filter(|request| needs_it && request.fields().len() > 0)
}

/// A request that cannot be read is not decided over as if it said nothing.
fn decode(descriptor: &MessageDescriptor, bytes: Bytes) -> Result<DynamicMessage, Refused> {
    DynamicMessage::decode(descriptor.clone(), bytes)
        .map_err(|error| Refused::Malformed(error.to_string()))
}
