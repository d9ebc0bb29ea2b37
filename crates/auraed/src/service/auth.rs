//! `aurae.auth.v0`: who the caller is, and what the policies say.

use std::sync::{Arc, OnceLock};

use aurae_authz::{Form, Node, Permit, Principal, Question, Rule};
use aurae_proto::auth as wire;
use aurae_proto::auth::auth_service_server::{AuthService, AuthServiceServer};
use aurae_proto::auth::policy_service_server::{PolicyService, PolicyServiceServer};
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use crate::admit::auth::Asked;
use crate::gate::CertificateExpiry;
use crate::server::{MAX_MESSAGE_BYTES, Tls};
use crate::{admit, reply};

/// Which trust domains are not the node's own. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct TrustDomains(Arc<OnceLock<Tls>>);

impl TrustDomains {
    /// What the server believes decides. It is there before the first client, and a second one changes nothing.
    pub fn are_of(&self, tls: &Tls) {
        let _ = self.0.set(tls.clone());
    }

    /// A principal that is only named, as policies would see it if it called.
    fn seen(&self, principal: Principal) -> Principal {
        match self.0.get() {
            Some(tls) => tls.seen(principal),
            None => principal,
        }
    }
}

/// Both services. What else they tell of comes with the permit.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    domains: TrustDomains,
}

impl Auth {
    /// The service that tells callers about themselves.
    #[must_use]
    pub fn service() -> AuthServiceServer<Self> {
        AuthServiceServer::new(Self::default()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The service that tells about the policies.
    #[must_use]
    pub fn policy_service(domains: TrustDomains) -> PolicyServiceServer<Self> {
        PolicyServiceServer::new(Self { domains }).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

fn who(permit: &Permit<Node>, expiry: Option<CertificateExpiry>) -> wire::WhoAmIResponse {
    let principal = permit.principal();
    wire::WhoAmIResponse {
        principal: principal.name().to_owned(),
        form: form(principal).into(),
        role: principal.role().map(|role| role.as_str().to_owned()).unwrap_or_default(),
        certificate_expiry: expiry.map(|CertificateExpiry(at)| Timestamp::from(at)),
    }
}

fn form(principal: &Principal) -> wire::PrincipalForm {
    match principal.form() {
        Form::Spiffe => wire::PrincipalForm::Spiffe,
        Form::Dns => wire::PrincipalForm::Dns,
        Form::CommonName => wire::PrincipalForm::CommonName,
        Form::Serial => wire::PrincipalForm::Serial,
        // They ask zones, which do not have this service.
        Form::Parent | Form::Executable => wire::PrincipalForm::Unspecified,
    }
}

fn question(asked: &Asked) -> Question<'_> {
    let Asked { principal, method, object, request, .. } = asked;
    Question { principal, method, object, request: request.as_ref() }
}

fn rule(rule: &Arc<Rule>) -> wire::PolicyRule {
    wire::PolicyRule {
        id: rule.id.clone().unwrap_or_default(),
        file: rule.file.clone(),
        line: u32::try_from(rule.line).unwrap_or(u32::MAX),
        annotations: rule.annotations.clone(),
    }
}

#[tonic::async_trait]
impl AuthService for Auth {
    async fn who_am_i(
        &self,
        mut request: Request<wire::WhoAmIRequest>,
    ) -> Result<Response<wire::WhoAmIResponse>, Status> {
        let permit = admit::on_node(&mut request).map_err(|error| reply::status(&error))?;
        let expiry = request.extensions().get::<CertificateExpiry>().copied();
        Ok(Response::new(who(&permit, expiry)))
    }

    async fn can_i(
        &self,
        request: Request<wire::CanIRequest>,
    ) -> Result<Response<wire::CanIResponse>, Status> {
        let asked = admit::auth::can_i(request).map_err(|error| reply::status(&error))?;
        let depends_on_request = asked.policies.looks_at_request(&asked.method);
        let (allowed, reason) = match asked.policies.authorize(question(&asked)) {
            Ok(permit) => (true, permit.rule().map(ToString::to_string).unwrap_or_default()),
            Err(denied) => (false, denied.to_string()),
        };
        Ok(Response::new(wire::CanIResponse { allowed, reason, depends_on_request }))
    }
}

#[tonic::async_trait]
impl PolicyService for Auth {
    async fn explain(
        &self,
        request: Request<wire::ExplainRequest>,
    ) -> Result<Response<wire::ExplainResponse>, Status> {
        let asked = admit::auth::explain(request).map_err(|error| reply::status(&error))?;
        let asked = Asked { principal: self.domains.seen(asked.principal), ..asked };
        let decision = asked.policies.decide(question(&asked));
        // As the gate does: what rules allow may be denied all the same.
        let denied = asked.policies.authorize(question(&asked)).err();
        Ok(Response::new(wire::ExplainResponse {
            allowed: denied.is_none(),
            rules: decision.rules.iter().map(rule).collect(),
            errors: decision.errors.clone(),
            reason: denied.map(|denied| denied.to_string()).unwrap_or_default(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use aurae_authz::{Contract, Object, Policies};
    use tonic::Code;

    use super::*;

    /// A request of an admin, where one rule looks at the request.
    fn request<T>(action: &str, message: T) -> Request<T> {
        let contract = Contract::parse(aurae_proto::BARE_FILE_DESCRIPTOR_SET).unwrap();
        let text = "@id(\"all\") permit (principal in Role::\"admin\", action, resource);\n\
             @id(\"isolated\") @why(\"hygiene\")\n\
             permit (principal in Role::\"operator\", action == Action::\"cells.Allocate\", resource)\n\
             when { context has cell.isolate_process && context.cell.isolate_process };\n\
             @id(\"read\") permit (principal in Role::\"reader\", action in Action::\"read\", resource);\n\
             forbid (principal in Role::\"reader\", action, resource in Cell::\"cells/web/cells/db\");";
        let policies = Policies::parse(Arc::new(contract), [("test.cedar", text)]).unwrap();
        let policies = Arc::new(policies);
        let principal = &Principal::named(Form::Spiffe, "spiffe://a/admin/x").unwrap();
        let method = policies.contract().action(action).unwrap();
        let object = &Object::Zone(None);
        let asked = Question { principal, method, object, request: None };
        let mut request = Request::new(message);
        request.extensions_mut().insert(policies.authorize(asked).unwrap());
        request
    }

    async fn can_i(action: &str, resource: Option<&str>) -> Result<wire::CanIResponse, Status> {
        let (action, resource) = (action.to_owned(), resource.map(str::to_owned));
        let message = wire::CanIRequest { action, resource };
        Auth::default().can_i(request("auth.CanI", message)).await.map(Response::into_inner)
    }

    async fn explain(json: Option<&str>) -> Result<wire::ExplainResponse, Status> {
        let message = wire::ExplainRequest {
            principal: "spiffe://a/operator/o".into(),
            action: "cells.Allocate".into(),
            resource: Some("cells/web".into()),
            request: json.map(str::to_owned),
            ..Default::default()
        };
        let request = request("auth.Explain", message);
        Auth::default().explain(request).await.map(Response::into_inner)
    }

    #[tokio::test]
    async fn a_caller_is_told_who_it_is() {
        let answer = Auth::default().who_am_i(request("auth.WhoAmI", wire::WhoAmIRequest {})).await;
        let answer = answer.unwrap().into_inner();
        assert_eq!(answer.principal, "spiffe://a/admin/x");
        assert_eq!((answer.form(), answer.role.as_str()), (wire::PrincipalForm::Spiffe, "admin"));
        assert_eq!(answer.certificate_expiry, None, "it showed no certificate");
        let mut asked = request("auth.WhoAmI", wire::WhoAmIRequest {});
        asked.extensions_mut().insert(CertificateExpiry(UNIX_EPOCH + Duration::from_secs(7)));
        let answer = Auth::default().who_am_i(asked).await.unwrap().into_inner();
        assert_eq!(answer.certificate_expiry, Some(Timestamp { seconds: 7, nanos: 0 }));
    }

    #[tokio::test]
    async fn a_caller_is_told_what_it_may_do_and_by_which_rule() {
        let answer = can_i("cells.Free", Some("cells/web")).await.unwrap();
        assert!(answer.allowed && !answer.depends_on_request);
        assert_eq!(answer.reason, "all (test.cedar:1)");
        assert!(can_i("cells.Allocate", Some("cells/web")).await.unwrap().depends_on_request);
        for (action, resource, field) in [
            ("", None, "action"),
            ("cells.Fly", None, "action"),
            ("cells.Start", Some("cells/web"), "resource"),
            ("cells.Free", Some("executables/x"), "resource"),
            ("cells.Free", Some("web"), "resource"),
        ] {
            let refused = can_i(action, resource).await.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition);
            assert!(refused.message().starts_with(&format!("Field = {field}; ")), "{refused}");
        }
    }

    #[tokio::test]
    async fn an_explanation_names_the_rule_that_decides_over_the_request() {
        let nothing = explain(None).await.unwrap();
        assert!(!nothing.allowed && nothing.rules.is_empty());
        assert!(nothing.reason.contains("no rule allows it"), "{}", nothing.reason);
        let isolated = explain(Some(r#"{"cell": {"isolateProcess": true}}"#)).await.unwrap();
        assert!(isolated.allowed && isolated.reason.is_empty());
        let rule = &isolated.rules[0];
        assert_eq!(
            (rule.id.as_str(), rule.file.as_str(), rule.line),
            ("isolated", "test.cedar", 2)
        );
        assert_eq!(rule.annotations["why"], "hygiene");
        let refused = explain(Some(r#"{"cel": 1}"#)).await.unwrap_err();
        assert!(refused.message().starts_with("Field = request; "), "{refused}");
    }

    /// `List` through a zone path is allowed by a rule, and would tell of a cell that the reader may not see.
    #[tokio::test]
    async fn an_explanation_says_what_the_gate_would() {
        let explain = async |resource: Option<&str>| {
            let message = wire::ExplainRequest {
                principal: "spiffe://a/reader/r".into(),
                action: "cells.List".into(),
                resource: resource.map(str::to_owned),
                ..Default::default()
            };
            let request = request("auth.Explain", message);
            Auth::default().explain(request).await.unwrap().into_inner()
        };
        assert!(explain(None).await.allowed);
        let partial = explain(Some("cells/web")).await;
        assert!(!partial.allowed && partial.reason.contains("ask the node itself"), "{partial:?}");
        assert_eq!(partial.rules[0].id, "read");
    }
}
