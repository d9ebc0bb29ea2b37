//! Two parts are evaluated, and the whole is meant.

use aurae_model::CellPath;
use aurae_proto::cells as wire;
use proptest::prelude::*;
use proptest::sample::select;
use prost::Message;

use super::*;
use crate::entities::Vocabulary;
use crate::resource::is_in;
use crate::tests::contract;
use crate::{Form, Object, Policies, Principal, Question};

const PRINCIPALS: [&str; 7] = [
    "principal",
    "principal is Spiffe",
    "principal is Dns",
    "principal in Role::\"admin\"",
    "principal is Spiffe in Role::\"reader\"",
    "principal == Spiffe::\"spiffe://a/team/x\"",
    "principal == Dns::\"spiffe://a/team/x\"",
];
const ACTIONS: [&str; 7] = [
    "action",
    "action == Action::\"cells.Allocate\"",
    "action == Action::\"cells.Stop\"",
    "action in Action::\"operate\"",
    "action in Action::\"read\"",
    "action in [Action::\"cells.Inspect\", Action::\"cells.Allocate\"]",
    "action in Action::\"cells\"",
];
const RESOURCES: [&str; 10] = [
    "resource",
    "resource is Cell",
    "resource is Executable",
    "resource in Cell::\"cells/a\"",
    "resource is Cell in Cell::\"cells/a/cells/b\"",
    "resource == Cell::\"cells/a\"",
    "resource == Node::\"node\"",
    "resource in Node::\"node\"",
    "resource is Node",
    "resource is Cell in Node::\"node\"",
];
/// Some hold, some do not, some fail; half of them look at the request.
const CONDITIONS: [&str; 16] = [
    "",
    "when { true }",
    "when { principal.name like \"spiffe:*\" }",
    "when { resource.name == \"a\" }",
    "unless { resource.path like \"cells/a*\" }",
    "when { principal.missing == 1 }",
    "when { 9223372036854775807 + 1 == 0 }",
    "when { context has cell }",
    "when { context.cell.name == \"a\" }",
    "when { context has cell && context.cell.isolate_process }",
    "when { context has cell.memory.max && context.cell.memory.max * 2 > 8 }",
    "unless { context has cell.memory.max && context.cell.memory.max <= 4 }",
    "unless { principal in Role::\"admin\" }",
    "when { Cell::\"cells/a/cells/b\" in Cell::\"cells/a\" }",
    "when { context.missing }",
    "when { {\"a\": context} has a }",
];

fn policy() -> impl Strategy<Value = String> {
    let effect = select(vec!["permit", "permit", "forbid"]);
    let scope = (select(&PRINCIPALS[..]), select(&ACTIONS[..]), select(&RESOURCES[..]));
    (effect, scope, select(&CONDITIONS[..])).prop_map(
        |(effect, (principal, action, resource), condition)| {
            format!("{effect} ({principal}, {action}, {resource}) {condition};\n")
        },
    )
}

fn principal() -> impl Strategy<Value = Principal> {
    let named = |form, name: &str| Principal::named(form, name).unwrap();
    select(vec![
        named(Form::Spiffe, "spiffe://a/admin/x"),
        named(Form::Spiffe, "spiffe://a/admin/x").of_another_domain(),
        named(Form::Spiffe, "spiffe://a/reader/x"),
        named(Form::Spiffe, "spiffe://a/team/x"),
        named(Form::Dns, "spiffe://a/team/x"),
        Principal::parent(),
    ])
}

fn request() -> impl Strategy<Value = Option<wire::CellServiceAllocateRequest>> {
    let max = select(vec![None, Some(1), Some(i64::MAX)]);
    let cell = (any::<bool>(), max, select(vec!["a", "b"])).prop_map(|(isolated, max, name)| {
        let memory = Some(wire::MemoryController { max, ..Default::default() });
        let name = name.to_owned();
        wire::Cell { name, isolate_process: isolated, memory, ..Default::default() }
    });
    let cell = proptest::option::of(cell);
    proptest::option::of(cell.prop_map(|cell| wire::CellServiceAllocateRequest { cell }))
}

fn object() -> impl Strategy<Value = Object> {
    let names = [
        "node",
        "cells/a",
        "cells/b",
        "cells/a/cells/b",
        "cells/ab",
        "cells/a/executables/a",
        "executables/a",
        "executables/b",
    ];
    select(names.map(|name| Object::parse(name).unwrap()).to_vec())
}

/// All policies, whatever their scopes, over the request, by Cedar at once.
fn whole(held: &[Held], question: Question<'_>) -> Decision {
    let Question { principal, method, object, request } = question;
    let vocabulary = Vocabulary::new(contract()).unwrap();
    let found = vocabulary
        .speak(principal, method, object)
        .and_then(|spoken| evaluate(held, &set(held)?, &spoken, context(method, request)?));
    found.unwrap_or_else(Findings::failed).decide(held)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_the_parts_say_together_is_what_the_whole_says(
        texts in proptest::collection::vec(policy(), 0..12),
        principal in principal(),
        action in select(vec!["cells.Allocate", "cells.Stop", "cells.Inspect", "node.Info"]),
        questions in proptest::collection::vec((object(), request()), 1..6),
    ) {
        // Unchecked: conditions that fail would not pass the schema.
        let text = texts.concat();
        let policies = Policies::unchecked(contract(), &text);
        let method = contract().action(action).unwrap();
        // The first is evaluated, others find what was kept.
        for (object, request) in questions {
            let request = request.and_then(|request| {
                let descriptor = method.request()?.clone();
                DynamicMessage::decode(descriptor, request.encode_to_vec().as_slice()).ok()
            });
            let (object, request) = (&object, request.as_ref());
            let question = Question { principal: &principal, method, object, request };
            let decision = policies.decide(question);
            prop_assert_eq!(&*decision, &whole(policies.held(), question), "{}", text);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whoever may do something in all of a cell, or of the node, may do it to each cell there, whatever it asks.
    #[test]
    fn what_is_allowed_in_all_of_a_cell_is_allowed_in_each_inside(
        texts in proptest::collection::vec(policy(), 1..6),
        principal in principal(),
        action in select(vec!["cells.Allocate", "cells.Inspect"]),
        request in request(),
    ) {
        let text = texts.concat();
        let policies = Policies::unchecked(contract(), &text);
        let method = contract().action(action).unwrap();
        let request = request.and_then(|request| {
            let descriptor = method.request()?.clone();
            DynamicMessage::decode(descriptor, request.encode_to_vec().as_slice()).ok()
        });
        let cells = ["a", "a/b", "a/b/c", "ab"].map(|path| CellPath::parse(path, "cell").unwrap());
        for around in cells.iter().map(Some).chain([None]) {
            if !policies.allows_in(&principal, method, around) {
                continue;
            }
            for inside in cells.iter().filter(|inside| around.is_none_or(|it| is_in(inside, it))) {
                let object = &Object::Zone(Some(inside.clone()));
                let request = request.as_ref();
                let question = Question { principal: &principal, method, object, request };
                prop_assert!(policies.decide(question).allowed, "{inside} in {around:?}:\n{text}");
            }
        }
    }
}

#[test]
fn what_cannot_apply_is_not_evaluated() {
    let text = "permit (principal, action, resource) when { context has cell };\n\
                forbid (principal in Role::\"admin\", action, resource) when { context has cell };";
    let policies = Policies::unchecked(contract(), text);
    let (reader, allocate) = ("spiffe://a/reader/x", contract().action("cells.Allocate").unwrap());
    let vocabulary = Vocabulary::new(contract()).unwrap();
    let looking = |name: &str| {
        let principal = Principal::named(Form::Spiffe, name).unwrap();
        let spoken = vocabulary.speak(&principal, allocate, &Object::Zone(None));
        let looking = Applicable::new(policies.held(), spoken).looking.unwrap();
        looking.policies.num_of_policies()
    };
    assert_eq!(looking(reader), 1);
    assert_eq!(looking("spiffe://a/admin/x"), 2);
}

#[test]
fn what_does_not_look_at_the_resource_is_asked_once_for_all_of_a_kind() {
    let text = "permit (principal in Role::\"admin\", action, resource);\n\
                permit (principal in Role::\"reader\", action, resource in Cell::\"cells/a\");";
    let policies = Policies::unchecked(contract(), text);
    let method = contract().action("cells.Allocate").unwrap();
    let answers = |name: &str, objects: &[&str]| {
        let principal = &Principal::named(Form::Spiffe, name).unwrap();
        let decided = |name: &&str| {
            let object = &Object::parse(name).unwrap();
            policies.decide(Question { principal, method, object, request: None })
        };
        let decided: Vec<_> = objects.iter().map(decided).collect();
        // The same one is there once.
        let places = decided.iter().map(|decision| Arc::as_ptr(decision).addr());
        places.collect::<std::collections::BTreeSet<_>>().len()
    };
    let cells = ["cells/a", "cells/b", "cells/a/cells/b", "cells/a"];
    assert_eq!(answers("spiffe://a/admin/x", &cells), 1);
    assert_eq!(answers("spiffe://a/admin/x", &["node", "cells/a", "executables/a"]), 3);
    assert_eq!(answers("spiffe://a/reader/x", &cells), 3);
}
