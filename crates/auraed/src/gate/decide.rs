//! The decision over a request at the node, before anything else sees it.
//!
//! ```text
//! method + zone path + first message ──▶ object, context ──▶ Policies ──▶ Permit, and the body as it came
//! ```
//!
//! The first message is read only where it matters: where it names the resource, or a policy looks at it.

use std::sync::Arc;

use aurae_authz::{Denied, Method, Permit, Policies, Principal, Question};
use aurae_model::CellPath;
use http::Request;
use prost_reflect::DynamicMessage;
use tonic::Status;
use tonic::body::Body;

use super::{Refused, peek};
use crate::audit::Verdict;
use crate::reply;

/// Decides, and gives the request back for whoever answers it.
pub(super) async fn decide(
    policies: &Arc<Policies>,
    principal: &Principal,
    zone: Option<&CellPath>,
    request: Request<Body>,
    verdict: &Verdict,
) -> Result<(Permit, Request<Body>), Status> {
    let refused = |refused: Refused| reply::status(&refused);
    let path = request.uri().path();
    let Some(method) = policies.contract().method(path) else {
        return Err(refused(Refused::NoSuchMethod(path.to_owned())));
    };
    let (message, request) = first_message(policies, method, request).await.map_err(refused)?;
    let object = &method.object(zone, message.as_ref());
    verdict.set_resource(object.name());
    let question = Question { principal, method, object, request: message.as_ref() };
    let decided = policies.authorize(question);
    let rule = decided.as_ref().map_or_else(Denied::rule, Permit::rule);
    if let Some(rule) = rule {
        verdict.set_rule(rule.text());
    }
    Ok((decided.map_err(|denied| reply::status(&denied))?, request))
}

/// The first message, where the decision needs it.
async fn first_message(
    policies: &Policies,
    method: &Method,
    request: Request<Body>,
) -> Result<(Option<DynamicMessage>, Request<Body>), Refused> {
    let needs_it = method.names_resource() || policies.looks_at_request(method);
    let descriptor = method.request().filter(|request| needs_it && request.fields().len() > 0);
    let Some(descriptor) = descriptor else { return Ok((None, request)) };
    let (parts, body) = request.into_parts();
    let (message, body) = peek::first_message(body).await?;
    let decode = |bytes| {
        // A request that cannot be read is not decided over as if it said nothing.
        DynamicMessage::decode(descriptor.clone(), bytes)
            .map_err(|error| Refused::Malformed(error.to_string()))
    };
    Ok((message.map(decode).transpose()?, Request::from_parts(parts, body)))
}
