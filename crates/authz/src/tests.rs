//! What the policies mean, over the contract as it is.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use aurae_model::CellPath;
use aurae_proto::cells as wire;
use prost::Message;
use prost_reflect::DynamicMessage;

use crate::permit::READS;
use crate::*;

mod asked;
mod told;

pub(crate) fn contract() -> &'static Arc<Contract> {
    static CONTRACT: LazyLock<Arc<Contract>> =
        LazyLock::new(|| Arc::new(Contract::parse(aurae_proto::BARE_FILE_DESCRIPTOR_SET).unwrap()));
    &CONTRACT
}

fn spiffe(path: &str) -> Principal {
    Principal::named(Form::Spiffe, &format!("spiffe://aurae.local/{path}")).unwrap()
}

fn policies(text: &str) -> Arc<Policies> {
    Arc::new(Policies::parse(Arc::clone(contract()), [("test.cedar", text)]).unwrap())
}

fn built_in() -> Arc<Policies> {
    Arc::new(Policies::built_in(Arc::clone(contract())).unwrap())
}

fn ask(
    policies: &Arc<Policies>,
    who: &Principal,
    action: &str,
    object: &str,
) -> Result<Permit, Denied> {
    let (method, object) = (contract().action(action).unwrap(), Object::parse(object).unwrap());
    policies.authorize(Question { principal: who, method, object: &object, request: None })
}

fn denial(policies: &Arc<Policies>, who: &Principal, action: &str, object: &str) -> String {
    ask(policies, who, action, object).unwrap_err().to_string()
}

/// One of each that a request of `method` may be about.
fn object_of(method: &Method, zone: Option<&str>) -> Object {
    let zone = zone.map(|zone| CellPath::parse(zone, "zone").unwrap());
    if !method.is_of_executable() {
        return Object::Zone(zone);
    }
    let name = aurae_model::ExecutableName::parse("nginx", "name").unwrap();
    Object::Executable(Executable { cell: zone, name })
}

/// Every RPC, for everybody, at the node and through a zone path, as it is committed. `AURAE_BLESS=1`
/// writes it anew.
#[test]
fn the_built_in_policies_allow_what_the_matrix_says() {
    let policies = built_in();
    let people = ["admin/a", "operator/o", "reader/r", "user/nobody"].map(spiffe);
    let mut matrix = String::from(
        "# action; then who: admin, operator, reader, nobody; at the node/through a zone path;\n\
         # and an executable, in its own zone/through a zone path. + allowed, - denied, 0 not found\n",
    );
    for method in contract().actions() {
        let mut line = format!("{:34}", method.action());
        for who in &people {
            let cell = |zone| {
                let object = object_of(method, zone);
                let question = Question { principal: who, method, object: &object, request: None };
                let ruled_out = policies.rule_out(who, method).is_err();
                match policies.authorize(question) {
                    Ok(_) if ruled_out => panic!("{who} was ruled out: {}", method.action()),
                    Ok(_) => '+',
                    Err(denied) if denied.is_hidden() => '0',
                    Err(_) => '-',
                }
            };
            let _ = write!(line, " {}/{}", cell(None), cell(Some("web")));
        }
        let workload = Principal::executable("executables/nginx");
        let inside = || authorize_inside(&workload, Action::new(method.path()));
        let sign = |allowed: bool| if allowed { '+' } else { '-' };
        let cell = CellPath::parse("web", "zone").unwrap();
        let through = inside().and_then(|permit| permit.into_zone(cell)).is_ok();
        let _ = writeln!(matrix, "{line}   {}/{}", sign(inside().is_ok()), sign(through));
    }
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/matrix.golden");
    if std::env::var_os("AURAE_BLESS").is_some() {
        std::fs::write(&file, &matrix).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        matrix == golden,
        "what is allowed has changed; if that is meant: AURAE_BLESS=1 cargo test -p aurae-authz\n{matrix}"
    );
}

#[test]
fn what_an_executable_may_read_reads() {
    for path in READS {
        assert_eq!(contract().method(path).unwrap().access(), Access::Read, "{path}");
    }
}

#[test]
fn a_permit_says_who_may_do_what_on_what_by_which_rule() {
    let admin = spiffe("admin/alice");
    let permit = ask(&built_in(), &admin, "cells.List", "node").unwrap();
    assert_eq!(permit.rule().unwrap().id.as_deref(), Some("admins-do-everything"));
    let permit = permit.narrow(Node).unwrap();
    assert_eq!(permit.principal(), &admin);
    assert_eq!(permit.action().as_str(), "/aurae.cells.v0.CellService/List");
    assert_eq!(permit.into_resource(), Node);
}

#[test]
fn a_permit_holds_for_what_was_decided_over_and_nothing_else() {
    let admin = spiffe("admin/alice");
    let (web, db) = ("web", "db").map_paths();
    let permit = || ask(&built_in(), &admin, "cells.Free", "cells/web").unwrap();
    assert!(permit().narrow(web.clone()).is_ok());
    let error = permit().narrow(db.clone()).unwrap_err();
    assert!(error.is_bug() && !error.is_hidden(), "{error}");
    assert!(permit().narrow(Node).is_err());
    assert!(permit().into_zone(web).is_ok());
    assert!(permit().into_zone(db).is_err());
}

trait MapPaths {
    fn map_paths(self) -> (CellPath, CellPath);
}

impl MapPaths for (&str, &str) {
    fn map_paths(self) -> (CellPath, CellPath) {
        (CellPath::parse(self.0, "a").unwrap(), CellPath::parse(self.1, "b").unwrap())
    }
}

#[test]
fn what_the_daemon_above_sends_was_decided_over_there() {
    let permit =
        || authorize_inside(&spiffe("user/x"), Action::new("/aurae.cells.v0.CellService/Free"));
    let (web, _) = ("web", "db").map_paths();
    assert!(permit().unwrap().narrow(web.clone()).is_ok());
    assert!(permit().unwrap().sees(Some(&web)));
    assert!(permit().unwrap().into_zone(web).is_ok());
}

#[test]
fn an_executable_reads_its_own_zone_and_does_nothing_else() {
    let executable = Principal::executable("executables/nginx");
    let inspect = || {
        authorize_inside(&executable, Action::new("/aurae.cells.v0.CellService/Inspect")).unwrap()
    };
    let (inner, _) = ("inner", "x").map_paths();
    assert!(inspect().narrow(Node).is_ok());
    assert!(inspect().narrow(Some(inner.clone())).is_err());
    assert!(inspect().into_zone(inner).is_err());
    for action in ["Free", "Start", "Exec", "CopyOut", "Freeze", "Update", "Unheard"] {
        let action = Action::new(&format!("/aurae.cells.v0.CellService/{action}"));
        assert!(authorize_inside(&executable, action.clone()).is_err(), "{action}");
    }
}

#[test]
fn a_denial_names_all_three_and_says_what_to_ask() {
    let text = denial(&built_in(), &spiffe("reader/bob"), "cells.Free", "cells/web");
    assert_eq!(
        text,
        "spiffe://aurae.local/reader/bob may not call cells.Free on cells/web: no rule allows it \
         (see `aer auth whoami` and `aer auth can-i cells.Free cells/web`)"
    );
    let policies = policies(
        "permit (principal, action, resource);\n\
         @id(\"no-free\") forbid (principal, action == Action::\"cells.Free\", resource);",
    );
    let text = denial(&policies, &spiffe("admin/a"), "cells.Free", "cells/web");
    assert!(text.ends_with("on cells/web: the rule no-free forbids it"), "{text}");
}

#[test]
fn what_a_caller_may_not_see_does_not_exist() {
    let nobody = spiffe("user/nobody");
    for action in ["cells.Free", "cells.Inspect", "cells.Update"] {
        let denied = ask(&built_in(), &nobody, action, "cells/web/cells/api").unwrap_err();
        assert!(denied.is_hidden());
        assert_eq!(denied.to_string(), "cell web does not exist", "{action}");
    }
    let text = denial(&built_in(), &nobody, "cells.Stop", "cells/web/executables/nginx");
    assert_eq!(text, "cell web does not exist");
    let text = denial(&built_in(), &nobody, "cells.Stop", "executables/nginx");
    assert_eq!(text, "executable nginx does not exist");
    // Who makes a cell knows of it; what is around it may be hidden.
    assert!(!ask(&built_in(), &nobody, "cells.Allocate", "cells/web").unwrap_err().is_hidden());
    let text = denial(&built_in(), &nobody, "cells.Allocate", "cells/web/cells/api");
    assert_eq!(text, "cell web does not exist");
    assert!(!ask(&built_in(), &nobody, "cells.Start", "executables/x").unwrap_err().is_hidden());
    assert!(!ask(&built_in(), &nobody, "node.PowerOff", "node").unwrap_err().is_hidden());
    let part = policies(
        "permit (principal, action in Action::\"read\", resource == Cell::\"cells/web\");",
    );
    let text = denial(&part, &nobody, "cells.Free", "cells/web/cells/api");
    assert_eq!(text, "cell web/api does not exist");
    assert!(!ask(&part, &nobody, "cells.Free", "cells/web").unwrap_err().is_hidden());
}

#[test]
fn a_team_does_everything_below_its_cell_by_one_line() {
    let policies = policies(
        "permit (principal is Spiffe, action, resource in Cell::\"cells/team-a\")\
         when { principal.path like \"team-a/*\" };",
    );
    let (ours, theirs) = (spiffe("team-a/anna"), spiffe("team-b/bob"));
    for object in ["cells/team-a", "cells/team-a/cells/web"] {
        assert!(ask(&policies, &ours, "cells.Free", object).is_ok(), "{object}");
        assert!(ask(&policies, &theirs, "cells.Free", object).is_err(), "{object}");
    }
    assert!(ask(&policies, &ours, "cells.Exec", "cells/team-a/cells/web").is_ok());
    assert!(ask(&policies, &ours, "cells.Stop", "cells/team-a/executables/x").is_ok());
    for object in ["node", "cells/team-b", "cells/team-ab"] {
        assert!(ask(&policies, &ours, "cells.Inspect", object).is_err(), "{object}");
    }
}

#[test]
fn what_no_rule_could_allow_is_ruled_out_before_anything_is_read() {
    let policies = policies(
        "permit (principal in Role::\"operator\", action == Action::\"cells.Free\", resource == Cell::\"cells/a\")\
         when { context.cell_name == \"a\" };\
         permit (principal == Spiffe::\"spiffe://aurae.local/x\", action == Action::\"node.Info\", resource);\
         forbid (principal, action, resource);",
    );
    let could = |who: &str, action: &str| {
        policies.could_permit(&spiffe(who), contract().action(action).unwrap())
    };
    assert!(could("operator/o", "cells.Free") && could("x", "node.Info"));
    assert!(!could("operator/o", "node.Info") && !could("x", "cells.Free"));
    let method = contract().action("cells.Free").unwrap();
    assert_eq!(
        policies.rule_out(&spiffe("x"), method).unwrap_err().to_string(),
        "spiffe://aurae.local/x may not call cells.Free on anything: no rule allows it \
         (see `aer auth whoami`)"
    );
}

fn allocate(policies: &Arc<Policies>, isolated: bool, max: Option<i64>) -> bool {
    let memory = Some(wire::MemoryController { max, ..Default::default() });
    allocate_cell(policies, wire::Cell { isolate_process: isolated, memory, ..Default::default() })
}

fn allocate_cell(policies: &Arc<Policies>, cell: wire::Cell) -> bool {
    let message = wire::CellServiceAllocateRequest { cell: Some(cell) }.encode_to_vec();
    let method = contract().action("cells.Allocate").unwrap();
    let message = DynamicMessage::decode(method.request().unwrap().clone(), message.as_slice());
    let (who, object) = (spiffe("user/x"), Object::parse("cells/x").unwrap());
    let request = Some(&message.unwrap()).cloned();
    let question = Question { principal: &who, method, object: &object, request: request.as_ref() };
    policies.authorize(question).is_ok()
}

#[test]
fn only_isolated_cells_of_at_most_a_gibibyte_is_one_line() {
    let policies = policies(
        "permit (principal, action == Action::\"cells.Allocate\", resource) when \
         { context has cell.memory.max && context.cell.memory.max <= 1073741824 && context.cell.isolate_process };",
    );
    assert!(allocate(&policies, true, Some(1 << 30)));
    assert!(!allocate(&policies, true, Some((1 << 30) + 1)));
    assert!(!allocate(&policies, true, None));
    assert!(!allocate(&policies, false, Some(1)));
    let method = |action| contract().action(action).unwrap();
    assert!(policies.looks_at_request(method("cells.Allocate")));
    assert!(!policies.looks_at_request(method("cells.Free")));
}

#[test]
fn only_cells_with_their_own_users_is_one_line() {
    let policies = policies(
        "permit (principal, action == Action::\"cells.Allocate\", resource) when \
         { context has cell.user_namespace && !context.cell.user_namespace.allow_system_ids };",
    );
    let allocate = |users| {
        allocate_cell(&policies, wire::Cell { user_namespace: users, ..Default::default() })
    };
    let users = wire::UserNamespace::default();
    assert!(allocate(Some(users)));
    assert!(!allocate(Some(wire::UserNamespace { allow_system_ids: true, ..users })));
    assert!(!allocate(None));
}

#[test]
fn what_looks_at_a_request_makes_its_whole_group_do_so() {
    let policies = policies(
        "forbid (principal, action in Action::\"operate\", resource) when { principal has name };\n\
         forbid (principal, action == Action::\"cells.Start\", resource) when { context has uid && context.uid == 0 };",
    );
    let looks = |action| policies.looks_at_request(contract().action(action).unwrap());
    assert!(looks("cells.Start"));
    assert!(!looks("cells.Free") && !looks("cells.Inspect"));
}

#[test]
fn a_forbid_carves_out_a_cell() {
    let policies = policies(
        "permit (principal in Role::\"reader\", action in Action::\"read\", resource);\n\
         permit (principal in Role::\"admin\", action, resource);\n\
         forbid (principal in Role::\"reader\", action, resource in Cell::\"cells/web/cells/secret\");",
    );
    let (reader, admin) = (spiffe("reader/r"), spiffe("admin/a"));
    let permit = ask(&policies, &reader, "cells.List", "node").unwrap();
    let sees = |path: &str| permit.sees(Some(&CellPath::parse(path, "cell").unwrap()));
    assert!(sees("web") && sees("web/open") && sees("secret"));
    assert!(!sees("web/secret") && !sees("web/secret/inner"));
    let text = denial(&policies, &reader, "cells.Inspect", "cells/web/cells/secret");
    assert_eq!(text, "cell web/secret does not exist");
    // Through a zone path nobody could leave it out.
    let text = denial(&policies, &reader, "cells.Watch", "cells/web");
    assert!(text.contains("ask the node itself"), "{text}");
    assert!(ask(&policies, &reader, "cells.Watch", "cells/web/cells/open").is_ok());
    assert!(ask(&policies, &reader, "cells.Inspect", "cells/web").is_ok());
    assert!(ask(&policies, &admin, "cells.Watch", "cells/web").is_ok());
}

#[test]
fn a_condition_may_hide_a_part_of_a_cell() {
    let policies = policies(
        "permit (principal, action, resource);\n\
         forbid (principal in Role::\"reader\", action, resource) when { resource.name like \"hidden-*\" };",
    );
    assert!(ask(&policies, &spiffe("reader/r"), "cells.List", "cells/web").is_err());
    assert!(ask(&policies, &spiffe("admin/a"), "cells.List", "cells/web").is_ok());
    let only = self::policies("permit (principal, action, resource == Cell::\"cells/web\");");
    assert!(ask(&only, &spiffe("reader/r"), "cells.Inspect", "cells/web").is_ok());
    assert!(ask(&only, &spiffe("reader/r"), "cells.List", "cells/web").is_err());
}

#[test]
fn no_form_passes_for_another() {
    let name = "spiffe://aurae.local/team-a/anna";
    let policies =
        policies(&format!("permit (principal == Spiffe::\"{name}\", action, resource);"));
    assert!(ask(&policies, &spiffe("team-a/anna"), "cells.List", "node").is_ok());
    for form in [Form::Dns, Form::CommonName, Form::Serial, Form::Executable] {
        let other = Principal::named(form, name).unwrap();
        assert!(ask(&policies, &other, "cells.List", "node").is_err(), "{form:?}");
    }
    assert!(ask(&built_in(), &Principal::parent(), "cells.List", "node").is_err());
}

#[test]
fn without_a_policy_nothing_is_allowed() {
    let policies = Arc::new(Policies::none(Arc::clone(contract())).unwrap());
    for method in contract().actions() {
        let object = object_of(method, None);
        let principal = &spiffe("admin/a");
        let question = Question { principal, method, object: &object, request: None };
        assert!(policies.authorize(question).is_err(), "{method:?}");
    }
}

fn problems(text: &str) -> String {
    let parsed = Policies::parse(Arc::clone(contract()), [("bad.cedar", text)]);
    parsed.unwrap_err().to_string()
}

#[test]
fn a_bad_policy_is_told_with_its_line() {
    let ok = "// a comment\npermit (principal, action, resource);\n";
    for (text, place, words) in [
        ("permit (principal, action, resource)", "bad.cedar:3:", "unexpected"),
        ("  allow (principal, action, resource);", "bad.cedar:3:3: ", "allow"),
        (
            "\npermit (principal, action == Action::\"cells.Strat\", resource);",
            "bad.cedar:4:",
            "cells.Strat",
        ),
        ("permit (principal in Role::\"amdin\", action, resource);", "bad.cedar:3:", "amdin"),
        ("permit (principal == User::\"a\", action, resource);", "bad.cedar:3:", "User"),
        (
            "permit (principal, action == Action::\"cells.Start\", resource)\nwhen { context.executable.comand == \"x\" };",
            "bad.cedar:4:",
            "comand",
        ),
        (
            "permit (principal, action == Action::\"cells.Start\", resource)\nwhen { context.uid == 0 };",
            "bad.cedar:4:",
            "uid",
        ),
        ("permit (principal == ?principal, action, resource);", "bad.cedar:3:1: ", "template"),
    ] {
        let told = problems(&format!("{ok}{text}"));
        assert!(told.starts_with(place), "{text}\n{told}");
        assert!(told.contains(words), "{text}\n{told}");
    }
}

#[test]
fn a_rule_knows_its_file_its_line_and_its_annotations() {
    let policies = policies(
        "permit (principal, action == Action::\"cells.List\", resource);\n\n\
         // another\n@id(\"second\") @why(\"because\")\n\
         permit (principal, action == Action::\"cells.Free\", resource);",
    );
    let rule = |action| ask(&policies, &spiffe("x"), action, "cells/web").unwrap().rule().cloned();
    let free = rule("cells.Free").unwrap();
    assert_eq!(free.to_string(), "second (test.cedar:4)");
    assert_eq!(free.annotations["why"], "because");
    let node = ask(&policies, &spiffe("x"), "cells.List", "node").unwrap().rule().cloned();
    assert_eq!(node.unwrap().to_string(), "test.cedar:1");
}

#[test]
fn a_rule_that_cannot_be_evaluated_allows_nothing_and_is_told() {
    let update = |policies: &Arc<Policies>| updated(policies, 4);
    let overflow =
        "context has cell.memory.max && context.cell.memory.max * 4611686018427387904 > 0";
    let permits = policies(&format!(
        "permit (principal, action == Action::\"cells.Update\", resource) when {{ {overflow} }};"
    ));
    let decision = update(&permits);
    assert!(!decision.allowed);
    assert!(decision.errors[0].starts_with("test.cedar:1: "), "{:?}", decision.errors);
    let forbids = policies(&format!(
        "permit (principal, action, resource);\nforbid (principal, action == Action::\"cells.Update\", resource) when {{ {overflow} }};"
    ));
    let decision = update(&forbids);
    assert!(!decision.allowed, "a number that is too great for a rule must not get around it");
    assert_eq!(decision.rules[0].line, 2);
    assert!(updated(&forbids, -1).allowed);
}

fn updated(policies: &Arc<Policies>, max: i64) -> Arc<Decision> {
    let memory = Some(wire::MemoryController { max: Some(max), ..Default::default() });
    let message = wire::CellServiceUpdateRequest {
        cell: Some(wire::Cell { memory, ..Default::default() }),
        ..Default::default()
    };
    let method = contract().action("cells.Update").unwrap();
    let request = method.request().unwrap().clone();
    let request = DynamicMessage::decode(request, message.encode_to_vec().as_slice()).unwrap();
    let (principal, object) = (&spiffe("x"), &Object::parse("cells/web").unwrap());
    policies.decide(Question { principal, method, object, request: Some(&request) })
}

#[test]
fn the_policies_of_the_documentation_are_right() {
    let text = include_str!("../../../docs/authorization.md");
    let blocks: Vec<_> =
        text.split("```cedar\n").skip(1).map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 4, "the documentation has lost its examples");
    for block in blocks {
        let policies = policies(block.unwrap());
        assert_eq!(policies.warnings(), [], "{block:?}");
    }
    let shown = text.split("```cedar\n").nth(1).unwrap().split("```").next().unwrap();
    let words = |text: &str| text.split_whitespace().collect::<String>();
    let built_in: Vec<_> = BUILT_IN.1.lines().filter(|line| !line.starts_with("//")).collect();
    assert_eq!(words(shown), words(&built_in.concat()), "they differ from the built-in ones");
}

#[test]
fn the_built_in_policies_are_right() {
    let contract = Contract::parse(aurae_proto::BARE_FILE_DESCRIPTOR_SET).unwrap();
    let checked = Policies::parse(Arc::new(contract), [BUILT_IN]).unwrap();
    assert!(checked.warnings().is_empty(), "{:?}", checked.warnings());
}
