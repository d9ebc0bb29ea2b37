//! The gate before services that only say that they were reached.

use std::collections::BTreeSet;
use std::sync::Mutex;

use aurae_authz::Form;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use prost::Message;
use tonic::{Code, Status};

use super::*;
use crate::audit::Decision;
use crate::audit::tests::all;
use crate::service::Api;

/// What reached a service: the method's path, and the body.
type Reached = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

struct Fixture {
    gate: Gate,
    store: PolicyStore,
    audit: Audit,
    reached: Reached,
    _directory: tempfile::TempDir,
}

impl Fixture {
    /// A node with these policies; empty: the built-in ones.
    fn new(policies: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        if !policies.is_empty() {
            std::fs::write(directory.path().join("test.cedar"), policies).unwrap();
        }
        let store = PolicyStore::load(directory.path()).unwrap();
        let reached = Reached::default();
        let names: BTreeSet<String> =
            store.current().contract().actions().map(|method| service(method.path())).collect();
        let api = names.into_iter().fold(Api::default(), |api, name| {
            let reached = Arc::clone(&reached);
            let answer = move |request: Request<Body>| {
                let reached = Arc::clone(&reached);
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
                    reached.lock().unwrap().push((path, body));
                    Ok::<_, Infallible>(Status::ok("").into_http::<Body>())
                }
            };
            api.named(name.leak(), tower::service_fn(answer))
        });
        let audit = Audit::in_memory();
        let gate = Gate::new(Route::new(api, None), Shutdown::default(), audit.clone());
        let gate = gate.with_policies(store.clone());
        Self { gate, store, audit, reached, _directory: directory }
    }

    async fn ask(&self, who: &str, path: &str, message: &[u8]) -> Status {
        self.ask_in(None, who, path, message).await
    }

    /// Asks a zone.
    async fn ask_in(
        &self,
        zone: Option<&'static str>,
        who: &str,
        path: &str,
        message: &[u8],
    ) -> Status {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let frame = [&[0], length.as_slice(), message].concat();
        let mut request = Request::post(path).body(Full::new(Bytes::from(frame))).unwrap();
        if let Some(zone) = zone {
            let zone = http::HeaderValue::from_static(zone);
            request.headers_mut().insert(ZonePath::METADATA, zone);
        }
        let who = Principal::named(Form::Spiffe, &format!("spiffe://aurae.local/{who}")).unwrap();
        let response = self.gate.admit(who, "a test".into(), None, None).0.answer(request).await;
        Status::from_header_map(response.headers()).unwrap()
    }

    fn taken(&self) -> Vec<(String, Vec<u8>)> {
        std::mem::take(&mut self.reached.lock().unwrap())
    }
}

fn service(path: &str) -> String {
    path.split('/').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn who_is_denied_reaches_no_service_whatever_the_rpc() {
    let fixture = Fixture::new("permit (principal in Role::\"admin\", action, resource);");
    let policies = fixture.store.current();
    for method in policies.contract().actions() {
        let denied = fixture.ask("user/nobody", method.path(), &[]).await;
        let code = denied.code();
        assert!(matches!(code, Code::PermissionDenied | Code::NotFound), "{method:?}: {denied}");
        assert!(fixture.taken().is_empty(), "{method:?}");
        let allowed = fixture.ask("admin/alice", method.path(), &[]).await;
        assert_eq!(allowed.code(), Code::Ok, "{method:?}: {allowed}");
        assert_eq!(fixture.taken(), [(method.path().to_owned(), vec![0; 5])]);
    }
}

/// What the policies say of a call through a zone path, in the golden file, is what the gate does.
#[tokio::test]
async fn through_a_zone_path_the_gate_does_what_the_matrix_says() {
    let fixture = Fixture::new("");
    let policies = fixture.store.current();
    let golden = include_str!("../../../authz/src/matrix.golden");
    let lines = golden.lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for line in lines {
        let mut words = line.split_whitespace();
        let method = policies.contract().action(words.next().unwrap()).unwrap();
        // What makes something is decided by what is around it: so it says what.
        let message = match method.makes() && method.is_of_executable() {
            true => start_of_nginx(),
            false => Vec::new(),
        };
        let people = ["admin/a", "operator/o", "reader/r", "user/nobody"];
        for (who, word) in people.into_iter().zip(words) {
            let status = fixture.ask_in(Some("cells/web"), who, method.path(), &message).await;
            let (code, text) = match word.split_once('/').unwrap().1 {
                "-" => (Code::PermissionDenied, " may not call "),
                "0" => (Code::NotFound, "cell web does not exist"),
                // It goes on, and this node has no zones.
                _ => (Code::NotFound, "this daemon has no cells"),
            };
            assert_eq!(status.code(), code, "{method:?} by {who}: {status}");
            assert!(status.message().contains(text), "{method:?} by {who}: {status}");
            count += 1;
        }
    }
    assert_eq!(count, 4 * policies.contract().actions().count());
    assert!(fixture.taken().is_empty(), "the node has answered for the zone");
}

fn start_of_nginx() -> Vec<u8> {
    use aurae_proto::cells::{CellServiceStartRequest, Executable};
    let executable = Some(Executable { name: "nginx".into(), ..Default::default() });
    CellServiceStartRequest { executable, ..Default::default() }.encode_to_vec()
}

#[tokio::test]
async fn a_zone_path_into_what_is_hidden_is_told_as_what_is_not_there_whatever_the_rpc() {
    let fixture = Fixture::new(
        "permit (principal, action in [Action::\"read\", Action::\"self\"], resource);\
         forbid (principal, action in Action::\"read\", resource in Cell::\"cells/secret\");",
    );
    for method in fixture.store.current().contract().actions() {
        let denied = fixture.ask_in(Some("cells/secret"), "x", method.path(), &[]).await;
        // What makes a cell is decided by what is around it.
        if method.makes() {
            assert_eq!(denied.code(), Code::PermissionDenied, "{method:?}: {denied}");
            continue;
        }
        assert_eq!(denied.code(), Code::NotFound, "{method:?}: {denied}");
        assert_eq!(denied.message(), "cell secret does not exist", "{method:?}");
    }
    assert!(fixture.taken().is_empty());
}

#[tokio::test]
async fn the_record_names_the_resource_and_the_rule_and_tells_a_denial() {
    use aurae_proto::cells::CellServiceFreeRequest;
    let fixture = Fixture::new(
        "@id(\"admins\") permit (principal in Role::\"admin\", action, resource);\
         @id(\"keep\") forbid (principal, action == Action::\"cells.Free\", resource in Cell::\"cells/db\");",
    );
    let path = "/aurae.cells.v0.CellService/Free";
    let message = |name: &str| {
        CellServiceFreeRequest { cell_name: name.into(), grace_period: None }.encode_to_vec()
    };
    assert_eq!(fixture.ask("admin/alice", path, &message("web/api")).await.code(), Code::Ok);
    let denied = fixture.ask("admin/alice", path, &message("db")).await;
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied}");
    let records = all(&fixture.audit).await;
    let told: Vec<_> =
        records.iter().map(|record| (record.decision, record.resource.as_deref())).collect();
    let expected =
        [(Decision::Allowed, Some("cells/web/cells/api")), (Decision::Denied, Some("cells/db"))];
    assert_eq!(told, expected);
    for (record, rule) in records.iter().zip(["admins (", "keep ("]) {
        let told = record.rule.as_deref().unwrap();
        assert!(told.starts_with(rule) && told.ends_with("test.cedar:1)"), "{told}");
    }
}

#[tokio::test]
async fn a_method_that_is_not_in_the_contract_reaches_no_service() {
    let fixture = Fixture::new("");
    for path in ["/aurae.cells.v0.CellService/Unheard", "/a.B/C", "/", "/x"] {
        let refused = fixture.ask("admin/alice", path, &[]).await;
        assert_eq!(refused.code(), Code::Unimplemented, "{path}: {refused}");
    }
    assert!(fixture.taken().is_empty());
}

#[tokio::test]
async fn what_was_decided_over_is_what_the_service_gets() {
    use aurae_proto::cells::{Cell, CellServiceAllocateRequest, MemoryController};
    let fixture = Fixture::new(
        "permit (principal, action == Action::\"cells.Allocate\", resource in Cell::\"cells/web\")\
         when { context has cell.memory.max && context.cell.memory.max <= 1024 };\
         permit (principal, action == Action::\"cells.Inspect\", resource);",
    );
    let path = "/aurae.cells.v0.CellService/Allocate";
    let message = |name: &str, max| {
        let memory = Some(MemoryController { max: Some(max), ..Default::default() });
        let cell = Some(Cell { name: name.into(), memory, ..Default::default() });
        CellServiceAllocateRequest { cell }.encode_to_vec()
    };
    let small = message("web/api", 1024);
    assert_eq!(fixture.ask("x", path, &small).await.code(), Code::Ok);
    let [(_, body)] = fixture.taken().try_into().unwrap();
    assert_eq!(&body[5..], small);
    for (name, max) in [("web/api", 1025), ("webs", 1024), ("web/", 1024)] {
        let denied = fixture.ask("x", path, &message(name, max)).await;
        assert_eq!(denied.code(), Code::PermissionDenied, "{name} {max}: {denied}");
    }
    let garbage = fixture.ask("x", path, &[0xff; 9]).await;
    assert_eq!(garbage.code(), Code::Internal, "{garbage}");
    assert!(garbage.message().starts_with("the request cannot be read"), "{garbage}");
    assert!(fixture.taken().is_empty());
}

/// It is moved when it begins, and memory that is touched once costs more than what is done in it.
#[test]
fn a_call_under_way_is_small() {
    let gate = Gate::new(Route::new(Api::default(), None), Shutdown::default(), Audit::none());
    let request = Request::new(Full::new(Bytes::new()));
    let size = size_of_val(&gate.admit_parent().0.answer(request));
    assert!(size <= 4096, "it has {size} bytes");
}

#[tokio::test]
async fn who_may_not_is_told_before_the_message_is_waited_for() {
    use futures_util::{FutureExt as _, stream};
    let fixture = Fixture::new("");
    let ask = |who: &str| {
        let silent = stream::pending::<Result<http_body::Frame<Bytes>, Status>>();
        let request = Request::post("/aurae.node.v0.NodeService/Info");
        let request = request.body(http_body_util::StreamBody::new(silent)).unwrap();
        let who = Principal::named(Form::Spiffe, &format!("spiffe://aurae.local/{who}")).unwrap();
        let answer =
            fixture.gate.admit(who, "a test".into(), None, None).0.answer(request).now_or_never();
        answer.map(|response| Status::from_header_map(response.headers()).unwrap().code())
    };
    assert_eq!(ask("user/nobody"), Some(Code::PermissionDenied));
    assert_eq!(ask("admin/alice"), None);
}

#[tokio::test]
async fn a_request_of_one_message_reaches_its_service_once_it_has_ended_and_with_nothing_more() {
    use futures_util::{FutureExt as _, StreamExt as _, stream};
    let fixture = Fixture::new("");
    let ask = |messages: &'static [u8], ends: bool| {
        let data = stream::iter([Ok::<_, Status>(http_body::Frame::data(messages.into()))]);
        let rest = match ends {
            true => stream::empty().left_stream(),
            false => stream::pending().right_stream(),
        };
        let body = http_body_util::StreamBody::new(data.chain(rest));
        // Everybody may ask that.
        let request = Request::post("/aurae.auth.v0.AuthService/WhoAmI").body(body).unwrap();
        let who = Principal::named(Form::Spiffe, "spiffe://aurae.local/user/nobody").unwrap();
        let answer =
            fixture.gate.admit(who, "a test".into(), None, None).0.answer(request).now_or_never();
        answer.map(|response| Status::from_header_map(response.headers()).unwrap().code())
    };
    assert_eq!(ask(&[0; 5], false), None);
    assert_eq!(ask(&[0; 10], true), Some(Code::Unimplemented));
    assert_eq!(ask(b"\0\0\0\0\0\0\0\x10", false), Some(Code::Unimplemented));
    assert!(fixture.taken().is_empty());
    assert_eq!(ask(&[0; 5], true), Some(Code::Ok));
    assert_eq!(fixture.taken().len(), 1);
}

#[tokio::test]
async fn new_policies_hold_for_the_next_request_of_an_open_connection() {
    let fixture = Fixture::new("permit (principal in Role::\"admin\", action, resource);");
    let path = "/aurae.node.v0.NodeService/Info";
    assert_eq!(fixture.ask("team/x", path, &[]).await.code(), Code::PermissionDenied);
    let file = fixture.store.directory().join("test.cedar");
    std::fs::write(file, "permit (principal, action, resource);").unwrap();
    fixture.store.reload().unwrap();
    assert_eq!(fixture.ask("team/x", path, &[]).await.code(), Code::Ok);
}
