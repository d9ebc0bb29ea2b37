//! Policies: what is wrong is told where it is, and what loads can be asked everything.

use std::sync::LazyLock;

use aurae_authz::{
    Checker, Executable, Form, Method, Object, Policies, PolicyErrors, Principal, Problem, Question,
};
use aurae_model::{CellPath, ExecutableName};
use prost_reflect::DynamicMessage;

use crate::CONTRACT;

const FILE: &str = "10-team.cedar";

static CHECKER: LazyLock<Checker> =
    LazyLock::new(|| Checker::new(CONTRACT.clone()).expect("the contract has a schema"));

/// Who asks: with a role, of another trust domain, and without a SPIFFE ID.
static PRINCIPALS: LazyLock<[Principal; 3]> = LazyLock::new(|| {
    let spiffe = |name| Principal::named(Form::Spiffe, name).expect("it is a SPIFFE ID");
    [
        spiffe("spiffe://aurae.local/operator/anna"),
        spiffe("spiffe://example.org/admin/bob").of_another_domain(),
        Principal::common_name("carol"),
    ]
});

/// A cell, and those inside it.
static CELLS: LazyLock<[CellPath; 3]> = LazyLock::new(|| {
    ["web", "web/api", "web/api/cache"]
        .map(|path| CellPath::parse(path, "a test").expect("it is a path"))
});

/// The input is the text of a policy file.
pub fn policies(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match CHECKER.parse([(FILE, text)]) {
        Err(errors) => check_errors(&errors, text),
        Ok(policies) => check(&policies, text),
    }
}

fn check_errors(errors: &PolicyErrors, text: &str) {
    assert!(!errors.problems().is_empty(), "it does not load, and nothing is wrong");
    assert!(errors.to_string().starts_with(FILE), "{errors}");
    errors.problems().iter().for_each(|problem| check_problem(problem, text));
}

fn check_problem(problem: &Problem, text: &str) {
    assert_eq!(problem.file, FILE, "{problem}");
    assert!(!problem.text.is_empty(), "{problem}");
    // The place behind the last character is one, too.
    let line = text.split('\n').nth(problem.line.wrapping_sub(1));
    let line = line.unwrap_or_else(|| unreachable!("{problem}: there is no such line"));
    assert!((1..=line.chars().count() + 1).contains(&problem.column), "{problem}: in {line:?}");
}

/// So many methods are asked about for an input: all would take a hundred times what loading it does. Which
/// ones the input says, so that each has its turn, and a finding can be repeated.
const ASKED: usize = 4;

fn check(policies: &Policies, text: &str) {
    policies.warnings().iter().for_each(|problem| check_problem(problem, text));
    let methods: Vec<_> = policies.contract().actions().collect();
    let first = text.bytes().fold(0, |sum: usize, byte| sum.wrapping_mul(31) + usize::from(byte));
    for method in methods.iter().cycle().skip(first % methods.len()).take(ASKED) {
        for principal in &*PRINCIPALS {
            check_decision(policies, principal, method, text);
        }
    }
    for principal in &*PRINCIPALS {
        check_sight(policies, principal);
    }
}

fn check_decision(policies: &Policies, principal: &Principal, method: &Method, text: &str) {
    let object = &object(method);
    let unset = method.request().map(|request| DynamicMessage::new(request.clone()));
    let [decision, same] = [None, unset.as_ref()]
        .map(|request| policies.decide(Question { principal, method, object, request }));
    assert_eq!(decision, same, "no request and an empty one are not the same");
    let lines = text.split('\n').count();
    for rule in &decision.rules {
        assert!(rule.file == FILE && (1..=lines).contains(&rule.line), "{rule}");
    }
    assert!(!decision.allowed || !decision.rules.is_empty(), "allowed by no rule");
    // The second answer may be one that was kept.
    let again = policies.decide(Question { principal, method, object, request: None });
    assert_eq!(again, decision, "asked again, they say something else");
}

fn object(method: &Method) -> Object {
    let cell = Some(CELLS[1].clone());
    match method.is_of_executable() {
        false => Object::Zone(cell),
        true => {
            let name = ExecutableName::parse("nginx", "a test").expect("it is a name");
            Object::Executable(Executable { cell, name })
        }
    }
}

/// Whoever sees all that is in a cell sees the cell, and each that is inside.
fn check_sight(policies: &Policies, principal: &Principal) {
    for (place, around) in CELLS.iter().enumerate() {
        let all = policies.sees_all_in(principal, Some(around));
        assert!(
            all || !policies.sees_all_in(principal, None),
            "{principal}: on the node, not in {around}"
        );
        if !all {
            continue;
        }
        for inside in CELLS.iter().skip(place) {
            assert!(
                policies.sees(principal, Some(inside)),
                "{principal}: all in {around}, but not {inside}"
            );
            assert!(
                policies.sees_all_in(principal, Some(inside)),
                "{principal}: all in {around}, not in {inside}"
            );
        }
    }
}
