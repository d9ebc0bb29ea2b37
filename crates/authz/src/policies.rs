//! A set of policies: read, checked against the schema, and asked.
//!
//! ```text
//! texts ──parse──▶ checked against the schema ──▶ Policies ──decide──▶ Decision
//!                        └─ PolicyErrors, each with its file and line
//! ```
//!
//! What policies say that do not look at the request depends on the principal, the action and the resource
//! alone; so many of these answers are kept, and with each the few policies that are left to look at the
//! request. Where none looks at the resource either, one answer is kept for all resources of a kind. A reload
//! makes a new set, with nothing kept.

mod reach;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PolicySet, PrincipalConstraint,
    ResourceConstraint, Schema, ValidationMode, Validator,
};
use prost_reflect::DynamicMessage;

use crate::contract::{Contract, Method};
use crate::entities::{Kin, Vocabulary};
use crate::evaluate::{Applicable, Held, Looks};
use crate::problem::{PolicyErrors, Problem, place};
use crate::resource::Kind;
use crate::schema::{PRINCIPALS, schema};
use crate::{Object, Principal};
use reach::{Reach, reach};

/// So many answers are kept: a hundred callers with twenty things each. One takes some hundred bytes, and
/// 10 KiB where a policy looks at the request. When there are more, all are dropped, which costs each of
/// them one evaluation.
const MAX_KEPT: usize = 2048;

/// What holds where nobody wrote policies.
pub const BUILT_IN: (&str, &str) = ("built-in", include_str!("builtin.cedar"));

/// A policy, as it is told to people.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// The file it stands in.
    pub file: String,
    /// The line where it begins.
    pub line: usize,
    /// Its `@id`, where it has one.
    pub id: Option<String>,
    /// Its annotations, in the order of their names.
    pub annotations: BTreeMap<String, String>,
    text: Arc<str>,
    pub(crate) forbids: bool,
    pub(crate) principal: PrincipalConstraint,
    pub(crate) action: ActionConstraint,
    reach: Reach,
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Rule {
    /// What it is called: its file and line, and its `@id` where it has one.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// For what.
    pub method: &'a Method,
    /// On what.
    pub object: &'a Object,
    /// With which request; `None` is as good as one in which nothing is set.
    pub request: Option<&'a DynamicMessage>,
}

/// What the policies say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The rules that decided; none where nothing allows it.
    pub rules: Vec<Arc<Rule>>,
    /// Rules that could not be evaluated, and why: of these, those that permit did not count, and those
    /// that forbid did.
    pub errors: Vec<String>,
}

/// Who asks for which action on what.
type Key = (Principal, Arc<str>, About);

/// What an answer is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum About {
    /// Every resource of a kind.
    Every(Kind),
    One(Object),
}

/// What is kept of who asks for which action on what.
#[derive(Clone)]
enum Kept {
    Answer(Arc<Applicable>),
    /// It is another one for each resource of the kind.
    Each,
}

/// A set of policies, and what is needed to ask it.
pub struct Policies {
    contract: Arc<Contract>,
    vocabulary: Vocabulary,
    /// In the order in which they were read.
    held: Vec<Held>,
    /// The actions of which a policy looks at the request.
    contextual: BTreeSet<String>,
    warnings: Vec<Problem>,
    kept: Mutex<HashMap<Key, Kept>>,
}

impl fmt::Debug for Policies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Policies").field("rules", &self.held.len()).finish_non_exhaustive()
    }
}

/// Reads policies, and checks each against the schema of a contract. To make one takes longer than to check a
/// file with it.
pub struct Checker {
    contract: Arc<Contract>,
    validator: Validator,
}

impl fmt::Debug for Checker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Checker").finish_non_exhaustive()
    }
}

impl Checker {
    /// One for policies over the RPCs of `contract`.
    ///
    /// # Errors
    /// There is no schema for it: a bug.
    pub fn new(contract: Arc<Contract>) -> Result<Self, PolicyErrors> {
        let validator = Validator::new(contract_schema(&contract)?);
        Ok(Self { contract, validator })
    }

    /// Reads policies: each text with the name of its file.
    ///
    /// # Errors
    /// Everything that is wrong, with its file and line.
    pub fn parse<'a>(
        &self,
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Policies, PolicyErrors> {
        Policies::read(Arc::clone(&self.contract), texts, Some(&self.validator))
    }
}

impl Policies {
    /// Reads policies as [`Checker::parse`], for those who do it once.
    ///
    /// # Errors
    /// Everything that is wrong, with its file and line.
    pub fn parse<'a>(
        contract: Arc<Contract>,
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, PolicyErrors> {
        Checker::new(contract)?.parse(texts)
    }

    /// Without a validator the texts are known to be right.
    fn read<'a>(
        contract: Arc<Contract>,
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
        validator: Option<&Validator>,
    ) -> Result<Self, PolicyErrors> {
        let vocabulary = Vocabulary::new(&contract).map_err(generated)?;
        let mut reader = Reader {
            contract: &contract,
            validator,
            held: Vec::new(),
            contextual: BTreeSet::new(),
            warnings: Vec::new(),
            errors: Vec::new(),
        };
        for (file, text) in texts {
            reader.read(file, text);
        }
        let Reader { held, contextual, warnings, errors, .. } = reader;
        if !errors.is_empty() {
            return Err(PolicyErrors(errors));
        }
        Ok(Self { contract, vocabulary, held, contextual, warnings, kept: Mutex::default() })
    }

    /// What holds where nobody wrote policies: the roles by SPIFFE path. Tests check them against the
    /// schema; a daemon that starts has better things to do (20 ms of CPU time).
    ///
    /// # Errors
    /// They are no policies: a bug.
    pub fn built_in(contract: Arc<Contract>) -> Result<Self, PolicyErrors> {
        Self::read(contract, [BUILT_IN], None)
    }

    /// No policy: nothing is allowed.
    ///
    /// # Errors
    /// As [`Self::built_in`].
    pub fn none(contract: Arc<Contract>) -> Result<Self, PolicyErrors> {
        Self::read(contract, [], None)
    }

    /// What was not checked against the schema.
    #[cfg(test)]
    pub(crate) fn unchecked(contract: &Arc<Contract>, text: &str) -> Self {
        Self::read(Arc::clone(contract), [("test.cedar", text)], None).unwrap()
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> &[Held] {
        &self.held
    }

    /// The contract that they were checked against.
    #[must_use]
    pub fn contract(&self) -> &Arc<Contract> {
        &self.contract
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.held.len()
    }

    /// What is allowed in a policy and hardly meant, such as one that can never apply.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Whether a decision over `method` depends on the request.
    #[must_use]
    pub fn looks_at_request(&self, method: &Method) -> bool {
        self.contextual.contains(method.action())
    }

    /// Whether there is a policy that could permit `method` to `principal`, on some resource and with some
    /// request. It says nothing of what exists, and takes longer than a decision that is kept.
    #[must_use]
    pub fn could_permit(&self, principal: &Principal, method: &Method) -> bool {
        self.has(principal, method, Held::could_permit)
    }

    /// What the policies say.
    #[must_use]
    pub fn decide(&self, question: Question<'_>) -> Arc<Decision> {
        let Question { principal, method, object, request } = question;
        self.applicable(principal, method, object).decide(&self.held, method, request)
    }

    /// What can be said before the request is looked at.
    fn applicable(
        &self,
        principal: &Principal,
        method: &Method,
        object: &Object,
    ) -> Arc<Applicable> {
        let key = |about| (principal.clone(), method.shared_action(), about);
        let every = key(About::Every(object.kind()));
        let kept = self.kept().get(&every).cloned();
        let key = match kept {
            Some(Kept::Answer(applicable)) => return applicable,
            Some(Kept::Each) => key(About::One(object.clone())),
            None if self.looks_at_resource(principal, method) => {
                self.keep(every, Kept::Each);
                key(About::One(object.clone()))
            }
            None => every,
        };
        if let Some(Kept::Answer(applicable)) = self.kept().get(&key) {
            return Arc::clone(applicable);
        }
        let question = self.vocabulary.speak(principal, method, object);
        let applicable = Arc::new(Applicable::new(&self.held, question));
        self.keep(key, Kept::Answer(Arc::clone(&applicable)));
        applicable
    }

    /// Whether a policy that could apply looks at more of the resource than its kind.
    fn looks_at_resource(&self, principal: &Principal, method: &Method) -> bool {
        self.has(principal, method, Held::looks_at_resource)
    }

    /// Whether there is a policy like this, for whoever asks and what for.
    fn has(
        &self,
        principal: &Principal,
        method: &Method,
        like: impl Fn(&Held, &Kin, &Kin) -> bool,
    ) -> bool {
        self.vocabulary.asked(principal, method).is_some_and(|(principal, action)| {
            self.held.iter().any(|held| like(held, &principal, action))
        })
    }

    fn keep(&self, key: Key, what: Kept) {
        let mut kept = self.kept();
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(key, what);
    }

    /// What is kept is whole whenever the lock is free.
    fn kept(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn contract_schema(contract: &Contract) -> Result<Schema, PolicyErrors> {
    let text = schema(contract);
    match Schema::from_cedarschema_str(&text) {
        Ok((schema, _warnings)) => Ok(schema),
        Err(error) => Err(PolicyErrors(vec![Problem::of("schema", &text, &error)])),
    }
}

/// What was generated is not understood: a bug, told like any other problem.
fn generated(error: String) -> PolicyErrors {
    PolicyErrors(vec![Problem { file: "schema".into(), line: 1, column: 1, text: error }])
}

struct Reader<'a> {
    contract: &'a Contract,
    validator: Option<&'a Validator>,
    held: Vec<Held>,
    contextual: BTreeSet<String>,
    warnings: Vec<Problem>,
    errors: Vec<Problem>,
}

impl Reader<'_> {
    fn read(&mut self, file: &str, text: &str) {
        let set = match PolicySet::from_str(text) {
            Ok(set) => set,
            Err(errors) => {
                let problems = errors.iter().map(|error| Problem::of(file, text, error));
                return self.errors.extend(problems);
            }
        };
        if let Some(template) = set.templates().next() {
            let offset = text.find(&template.to_cedar()).unwrap_or_default();
            let told = "a template is no policy: nothing would fill its slots".to_owned();
            self.errors.push(Problem::at(file, text, offset, told));
        }
        if let Some(validator) = self.validator {
            let checked = validator.validate(&set, ValidationMode::default());
            let problem = |diagnostic| Problem::of(file, text, diagnostic);
            self.errors.extend(checked.validation_errors().map(|error| problem(error)));
            self.warnings.extend(checked.validation_warnings().map(|warning| problem(warning)));
        }
        let order = |problem: &Problem| (problem.file.clone(), problem.line, problem.column);
        self.errors.sort_by_key(order);
        self.warnings.sort_by_key(order);
        for (line, policy) in in_order(&set, text) {
            self.add(file, line, policy);
        }
    }

    fn add(&mut self, file: &str, line: usize, policy: &Policy) {
        let annotations: BTreeMap<_, _> =
            policy.annotations().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let contract = self.contract;
        let action = policy.action_constraint();
        let looks = looks_at_context(policy);
        if looks {
            let actions = contract.actions().filter(|method| is_for(&action, method));
            self.contextual.extend(actions.map(|method| method.action().to_owned()));
        }
        let id = annotations.get("id").cloned();
        let place = format!("{file}:{line}");
        let rule = Rule {
            file: file.to_owned(),
            line,
            text: id.as_ref().map_or_else(|| place.clone(), |id| format!("{id} ({place})")).into(),
            id,
            annotations,
            forbids: policy.effect() == Effect::Forbid,
            principal: policy.principal_constraint(),
            action,
            reach: reach(policy),
        };
        let looks = Looks { request: looks, resource: looks_at_resource(policy) };
        self.held.push(Held::new(self.held.len(), policy, Arc::new(rule), looks));
    }
}

/// The policies as they stand in the text, each with its line.
fn in_order<'a>(set: &'a PolicySet, text: &str) -> Vec<(usize, &'a Policy)> {
    // Cedar numbers them in the order of the text.
    let number = |policy: &&Policy| {
        let id: &str = policy.id().as_ref();
        id.trim_start_matches(|c: char| !c.is_ascii_digit()).parse::<usize>().unwrap_or_default()
    };
    let mut policies: Vec<_> = set.policies().collect();
    policies.sort_by_key(number);
    let mut from = 0;
    policies
        .into_iter()
        .map(|policy| {
            let source = policy.to_cedar().unwrap_or_default();
            let offset = text.get(from..).and_then(|rest| rest.find(&source)).unwrap_or_default();
            let start = from + offset;
            from = start + source.len();
            (place(text, start).0, policy)
        })
        .collect()
}

/// Whether a policy looks at the request. One that cannot be looked into does.
fn looks_at_context(policy: &Policy) -> bool {
    policy.to_json().map_or(true, |json| {
        has(&json, &|node| node.get("Var").is_some_and(|name| name == "context"))
    })
}

/// Whether what a policy says depends on which resource of a kind it is about. One that cannot be looked into
/// does, and so does one that speaks of another: whether `Cell::"a"` is in `Cell::"b"` is known only where the
/// question is about what is in them.
fn looks_at_resource(policy: &Policy) -> bool {
    let of_its_scope = !matches!(
        policy.resource_constraint(),
        ResourceConstraint::Any | ResourceConstraint::Is(_)
    );
    of_its_scope
        || policy.to_json().map_or(true, |json| {
            has(&json["conditions"], &|node| {
                node.get("Var").is_some_and(|name| name == "resource")
                    || node.get("__entity").is_some_and(|entity| !is_of_who_asks(&entity["type"]))
            })
        })
}

/// Whether entities of this type are principals, or what principals are in.
fn is_of_who_asks(kind: &serde_json::Value) -> bool {
    kind.as_str().is_some_and(|kind| kind == "Role" || PRINCIPALS.contains(&kind))
}

/// Whether an object like this is somewhere in a policy's JSON.
fn has(
    value: &serde_json::Value,
    like: &dyn Fn(&serde_json::Map<String, serde_json::Value>) -> bool,
) -> bool {
    match value {
        serde_json::Value::Object(map) => like(map) || map.values().any(|value| has(value, like)),
        serde_json::Value::Array(values) => values.iter().any(|value| has(value, like)),
        _ => false,
    }
}

/// Whether what is said of actions is said of this one.
fn is_for(scope: &ActionConstraint, method: &Method) -> bool {
    let groups = [method.action(), method.access().as_str(), method.subsystem()];
    let named = |uid: &EntityUid| groups.contains(&uid.id().unescaped());
    match scope {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => named(uid),
        ActionConstraint::In(uids) => uids.iter().any(named),
    }
}
