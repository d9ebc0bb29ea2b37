//! The decision over a request at the node, before anything else sees it.
//!
//! ```text
//! method + zone path + first message ──▶ object, context ──▶ Policies ──▶ Permit, and the body as it came
//! ```
//!
//! The first message is read only where it matters: where it names the resource, or a policy looks at it. It is
//! waited for in any case, but who may not is told so before where it does not matter.

use std::sync::Arc;

use aurae_authz::{Denied, Method, Permit, Policies, Principal, Question};
use aurae_model::CellPath;
use bytes::Bytes;
use http::Request;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tonic::Status;
use tonic::body::Body;

use super::Refused;
use super::peek::{Arriving, Begun};
use crate::audit::Verdict;
use crate::reply;

/// Decides, and gives the request back for whoever answers it.
pub(super) async fn decide<B: Arriving>(
    policies: &Arc<Policies>,
    principal: &Principal,
    zone: Option<&CellPath>,
    request: Request<B>,
    verdict: &Verdict,
) -> Result<(Permit, Request<Body>), Status> {
    let refused = |refused: Refused| reply::status(&refused);
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let Some(method) = policies.contract().method(path) else {
        return Err(refused(Refused::NoSuchMethod(path.to_owned())));
    };
    let ask = |message: Option<&DynamicMessage>| {
        let object = &method.object(zone, message);
        verdict.set_resource(object.name());
        ask(policies, Question { principal, method, object, request: message }, verdict)
    };
    let (permit, begun) = match to_look_at(policies, method) {
        None => (ask(None)?, Begun::of(body).await.map_err(refused)?),
        Some(descriptor) => {
            let begun = Begun::of(body).await.map_err(refused)?;
            let message = begun.message().map(|bytes| decode(descriptor, bytes));
            (ask(message.transpose().map_err(refused)?.as_ref())?, begun)
        }
    };
    Ok((permit, Request::from_parts(parts, begun.into_body())))
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
