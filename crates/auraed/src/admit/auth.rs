//! Requests of `aurae.auth.v0`.

use std::sync::Arc;

use aurae_authz::{Form, Method, Node, Object, Permit, Policies, Principal};
use aurae_model::Invalid;
use aurae_proto::auth::{CanIRequest, ExplainRequest, PrincipalForm};
use prost_reflect::DynamicMessage;
use tonic::Request;

use super::{Admission, on_node};
use crate::reply::Unsupported;

/// What is asked about.
#[derive(Debug)]
pub struct Asked {
    /// The permit to ask.
    pub permit: Permit<Node>,
    /// Who would do it.
    pub principal: Principal,
    /// What.
    pub method: Arc<Method>,
    /// To what.
    pub object: Object,
    /// With which request.
    pub request: Option<DynamicMessage>,
    /// Those that hold.
    pub policies: Arc<Policies>,
}

/// The policies of a node; a zone has none.
///
/// # Errors
/// The daemon is a zone's.
pub fn policies(permit: &Permit<Node>) -> Result<Arc<Policies>, Unsupported> {
    let what = "a zone's own authorization";
    let instead = "the node decides: ask it, without a zone";
    permit.policies().map(Arc::clone).ok_or(Unsupported { what, instead })
}

/// `CanI`.
///
/// # Errors
/// The field that breaks a rule, or no permit.
pub fn can_i(mut request: Request<CanIRequest>) -> Result<Asked, Admission> {
    let permit = on_node(&mut request)?;
    let policies = policies(&permit)?;
    let wire = request.into_inner();
    let (method, object) = asked(&policies, &wire.action, wire.resource.as_deref())?;
    let principal = permit.principal().clone();
    Ok(Asked { permit, principal, method, object, request: None, policies })
}

/// `Explain`.
///
/// # Errors
/// The field that breaks a rule, or no permit.
pub fn explain(mut request: Request<ExplainRequest>) -> Result<Asked, Admission> {
    let permit = on_node(&mut request)?;
    let policies = policies(&permit)?;
    let wire = request.into_inner();
    let principal = principal(&wire)?;
    let (method, object) = asked(&policies, &wire.action, wire.resource.as_deref())?;
    let request = wire.request.map(|json| read(&method, &json)).transpose()?;
    Ok(Asked { permit, principal, method, object, request, policies })
}

fn principal(wire: &ExplainRequest) -> Result<Principal, Admission> {
    let form = match PrincipalForm::try_from(wire.form) {
        Err(_) => return Err(Admission::UnknownValue { field: "form", value: wire.form }),
        Ok(PrincipalForm::Unspecified) if wire.principal.starts_with("spiffe://") => Form::Spiffe,
        Ok(PrincipalForm::Unspecified | PrincipalForm::CommonName) => Form::CommonName,
        Ok(PrincipalForm::Spiffe) => Form::Spiffe,
        Ok(PrincipalForm::Dns) => Form::Dns,
        Ok(PrincipalForm::Serial) => Form::Serial,
    };
    if wire.principal.is_empty() {
        return Err(Invalid::required("principal").into());
    }
    let named = Principal::named(form, &wire.principal);
    Ok(named.ok_or_else(|| Invalid::new("principal", "Must be a SPIFFE ID"))?)
}

fn asked(
    policies: &Policies,
    action: &str,
    resource: Option<&str>,
) -> Result<(Arc<Method>, Object), Invalid> {
    if action.is_empty() {
        return Err(Invalid::required("action"));
    }
    let method = policies.contract().action(action).ok_or_else(|| {
        Invalid::new("action", "There is no such action; one is `cells.Start`, `node.Info`")
    })?;
    let object = resource.map_or(Ok(Object::Zone(None)), Object::parse)?;
    let is_executable = matches!(object, Object::Executable(_));
    let rule = match (method.is_of_executable(), is_executable) {
        (true, false) => "This action is about an executable: `cells/web/executables/nginx`",
        (false, true) => "This action is about a cell, `cells/web`, or `node`",
        _ => return Ok((Arc::clone(method), object)),
    };
    Err(Invalid::new("resource", rule))
}

fn read(method: &Method, json: &str) -> Result<DynamicMessage, Invalid> {
    let bad = |reason: String| Invalid::new("request", reason);
    let descriptor = method.request().cloned();
    let descriptor = descriptor.ok_or_else(|| bad("No rule can look at this one".into()))?;
    let mut reader = serde_json::Deserializer::from_str(json);
    let message = DynamicMessage::deserialize(descriptor, &mut reader);
    let message = message.map_err(|error| bad(error.to_string()))?;
    reader.end().map_err(|error| bad(error.to_string()))?;
    Ok(message)
}
