//! What the contract says of each RPC: its action, its group, and where its request names the resource.
//!
//! It is read from the options of `aurae.authz.v0` in the descriptor set. The services that are not
//! ours (health, reflection) have no such options, and stand in a table here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use aurae_model::{CellPath, ExecutableName, MAX_DEPTH};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
};

use crate::context::Record;
use crate::{Action, Executable, Object};

/// The option of an RPC.
const OPTION: &str = "aurae.authz.v0.method";

/// The action that says whether a caller may know of a cell.
pub const SIGHT: &str = "cells.Inspect";

/// The RPCs that others defined: their paths, their actions' names, and whether they take a stream of
/// requests. All only read.
const OTHERS: [(&str, &str, bool); 5] = [
    ("/grpc.health.v1.Health/Check", "health.Check", false),
    ("/grpc.health.v1.Health/List", "health.List", false),
    ("/grpc.health.v1.Health/Watch", "health.Watch", false),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "reflection.Info", true),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "reflection.InfoAlpha",
        true,
    ),
];

/// A group of actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// Tells the caller about itself.
    Own,
    /// Changes nothing.
    Read,
    /// Changes what runs.
    Operate,
    /// Changes the node itself.
    Admin,
}

impl Access {
    /// Every group.
    pub const ALL: [Self; 4] = [Self::Own, Self::Read, Self::Operate, Self::Admin];

    /// Its name in the policies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "self",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }

    fn from_number(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::Own),
            2 => Some(Self::Read),
            3 => Some(Self::Operate),
            4 => Some(Self::Admin),
            _ => None,
        }
    }
}

/// The contract says nothing, or nonsense, of an RPC.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// The descriptor set cannot be read.
    #[error("the descriptor set cannot be read")]
    Descriptors(#[from] prost_reflect::DescriptorError),
    /// There is no option that says who may call it.
    #[error("{0} has no (aurae.authz.v0.method) with an access group")]
    NoOption(String),
    /// A field of the option is no string of the request.
    #[error("{method}: {field:?} is no field with text of {request}")]
    NoField {
        /// The RPC.
        method: String,
        /// What the option says.
        field: String,
        /// The request.
        request: String,
    },
    /// Two RPCs have the same action.
    #[error("two RPCs would be the action {0:?}")]
    SameAction(String),
    /// Nothing would say whether a caller may know of a cell.
    #[error("there is no action {SIGHT:?}")]
    NoSight,
}

/// A string of a request, by the fields on the way to it.
type Place = Vec<FieldDescriptor>;

/// An RPC as the policies see it.
#[derive(Clone)]
pub struct Method {
    path: Action,
    action: Arc<str>,
    subsystem: String,
    access: Access,
    cell: Option<Place>,
    executable: Option<Place>,
    makes: bool,
    tells_inside: bool,
    tells_all: bool,
    finds_later: bool,
    streams_requests: bool,
    /// `None` for those that others defined.
    request: Option<MessageDescriptor>,
    record: Arc<Record>,
}

impl fmt::Debug for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.action)
    }
}

impl Method {
    /// The path of the gRPC method.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.as_str()
    }

    /// The path as what is asked for. Cheap: it is shared.
    #[must_use]
    pub fn asked(&self) -> Action {
        self.path.clone()
    }

    /// The action's name: `cells.Start`.
    #[must_use]
    pub fn action(&self) -> &str {
        &self.action
    }

    pub(crate) fn shared_action(&self) -> Arc<str> {
        Arc::clone(&self.action)
    }

    /// Its subsystem, which is a group of actions, too: `cells`.
    #[must_use]
    pub fn subsystem(&self) -> &str {
        &self.subsystem
    }

    /// Its group.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// Whether the request says what it is about.
    #[must_use]
    pub fn names_resource(&self) -> bool {
        self.cell.is_some() || self.executable.is_some()
    }

    /// Whether it is about an executable.
    #[must_use]
    pub fn is_of_executable(&self) -> bool {
        self.executable.is_some()
    }

    /// Whether it makes what it is about.
    #[must_use]
    pub fn makes(&self) -> bool {
        self.makes
    }

    /// Whether it tells about the cells inside the zone that answers, too.
    #[must_use]
    pub fn tells_inside(&self) -> bool {
        self.tells_inside
    }

    /// Whether it tells about all cells inside the zone that answers, and can leave none out.
    #[must_use]
    pub fn tells_all(&self) -> bool {
        self.tells_all
    }

    /// Whether only whoever answers it finds what it is about.
    #[must_use]
    pub fn finds_later(&self) -> bool {
        self.finds_later
    }

    /// Whether it takes a stream of requests; if not, it takes one.
    #[must_use]
    pub fn streams_requests(&self) -> bool {
        self.streams_requests
    }

    /// The request; `None` for an RPC that others defined.
    #[must_use]
    pub fn request(&self) -> Option<&MessageDescriptor> {
        self.request.as_ref()
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// What a request to `zone` (`None`: to the daemon that decides) is about. A request without a valid
    /// name is about the zone itself: it will be refused for the name.
    #[must_use]
    pub fn object(&self, zone: Option<&CellPath>, request: Option<&DynamicMessage>) -> Object {
        self.named(zone, request).unwrap_or_else(|| Object::Zone(zone.cloned()))
    }

    fn named(&self, zone: Option<&CellPath>, request: Option<&DynamicMessage>) -> Option<Object> {
        let text =
            |place: &Option<Place>| place.as_ref().and_then(|place| text_at(request?, place));
        let cell = match text(&self.cell) {
            Some(name) => Some(joined(zone, &CellPath::parse(&name, "cell").ok()?)?),
            None => zone.cloned(),
        };
        if self.executable.is_none() {
            return Some(Object::Zone(cell));
        }
        let name = ExecutableName::parse(&text(&self.executable)?, "executable").ok()?;
        Some(Object::Executable(Executable { cell, name }))
    }
}

/// `None` where it would be too deep.
fn joined(zone: Option<&CellPath>, cell: &CellPath) -> Option<CellPath> {
    let Some(zone) = zone else { return Some(cell.clone()) };
    let path = cell.labels().fold(zone.clone(), |path, label| path.join(label));
    (path.depth() <= MAX_DEPTH).then_some(path)
}

/// The text at a place; `None` where it is not set.
fn text_at(message: &DynamicMessage, place: &[FieldDescriptor]) -> Option<String> {
    let (first, rest) = place.split_first()?;
    if !message.has_field(first) {
        return None;
    }
    let value = message.get_field(first);
    match rest {
        [] => value.as_str().map(str::to_owned),
        rest => text_at(value.as_message()?, rest),
    }
}

/// Every RPC that can be asked for.
#[derive(Debug)]
pub struct Contract {
    /// By their paths.
    methods: BTreeMap<String, Arc<Method>>,
    /// By their actions.
    actions: BTreeMap<String, Arc<Method>>,
}

impl Contract {
    /// Reads an encoded `FileDescriptorSet` with the options.
    ///
    /// # Errors
    /// The RPC of which it does not say what has to be said.
    pub fn parse(descriptor_set: &[u8]) -> Result<Self, ContractError> {
        let pool = DescriptorPool::decode(descriptor_set)?;
        let mut contract = Self { methods: BTreeMap::new(), actions: BTreeMap::new() };
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            contract.add(described(&pool, &method)?)?;
        }
        for (path, action, streams_requests) in OTHERS {
            contract.add(of_others(path, action, streams_requests))?;
        }
        if contract.action(SIGHT).is_none() {
            return Err(ContractError::NoSight);
        }
        Ok(contract)
    }

    fn add(&mut self, method: Method) -> Result<(), ContractError> {
        let method = Arc::new(method);
        if self.actions.insert(method.action().to_owned(), Arc::clone(&method)).is_some() {
            return Err(ContractError::SameAction(method.action().to_owned()));
        }
        self.methods.insert(method.path().to_owned(), method);
        Ok(())
    }

    /// The RPC at a path: `/aurae.cells.v0.CellService/Start`.
    #[must_use]
    pub fn method(&self, path: &str) -> Option<&Arc<Method>> {
        self.methods.get(path)
    }

    /// The RPC of an action: `cells.Start`.
    #[must_use]
    pub fn action(&self, name: &str) -> Option<&Arc<Method>> {
        self.actions.get(name)
    }

    /// Every RPC, in the order of the actions' names.
    pub fn actions(&self) -> impl Iterator<Item = &Arc<Method>> {
        self.actions.values()
    }

    /// The subsystems.
    #[must_use]
    pub fn subsystems(&self) -> BTreeSet<&str> {
        self.actions.values().map(|method| method.subsystem.as_str()).collect()
    }
}

fn described(pool: &DescriptorPool, method: &MethodDescriptor) -> Result<Method, ContractError> {
    let service = method.parent_service();
    let path = format!("/{}/{}", service.full_name(), method.name());
    let missing = || ContractError::NoOption(path.clone());
    let option = pool.get_extension_by_name(OPTION).ok_or_else(missing)?;
    let options = method.options();
    if !options.has_extension(&option) {
        return Err(missing());
    }
    let options = options.get_extension(&option);
    let options = options.as_message().ok_or_else(missing)?;
    let get = |name: &str| options.get_field_by_name(name);
    let access = get("access").and_then(|value| value.as_enum_number());
    let access = access.and_then(Access::from_number).ok_or_else(missing)?;
    let flag = |name| get(name).and_then(|value| value.as_bool()).unwrap_or_default();
    let request = method.input();
    let place = |name| match get(name).and_then(|value| value.as_str().map(str::to_owned)) {
        None => Ok(None),
        Some(field) if field.is_empty() => Ok(None),
        Some(field) => match place(&request, &field) {
            Some(place) => Ok(Some(place)),
            None => Err(ContractError::NoField {
                method: path.clone(),
                field,
                request: request.full_name().to_owned(),
            }),
        },
    };
    let subsystem = subsystem(service.parent_file().package_name()).to_owned();
    Ok(Method {
        action: format!("{subsystem}.{}", method.name()).into(),
        subsystem,
        access,
        cell: place("cell")?,
        executable: place("executable")?,
        makes: flag("makes"),
        tells_inside: flag("tells_inside"),
        tells_all: flag("tells_all"),
        finds_later: flag("finds_later"),
        streams_requests: method.is_client_streaming(),
        record: Arc::new(Record::of(&request)),
        request: Some(request),
        path: Action::new(&path),
    })
}

fn of_others(path: &str, action: &str, streams_requests: bool) -> Method {
    Method {
        path: Action::new(path),
        action: action.into(),
        subsystem: action.split('.').next().unwrap_or_default().to_owned(),
        access: Access::Read,
        cell: None,
        executable: None,
        makes: false,
        tells_inside: false,
        tells_all: false,
        finds_later: false,
        streams_requests,
        request: None,
        record: Arc::new(Record::default()),
    }
}

/// The `cells` of `aurae.cells.v0`.
fn subsystem(package: &str) -> &str {
    package.split('.').nth(1).unwrap_or(package)
}

/// The fields on the way of `a.b.c`, of which the last is a string and the others are messages.
fn place(request: &MessageDescriptor, path: &str) -> Option<Place> {
    let mut place = Vec::new();
    let mut message = Some(request.clone());
    for name in path.split('.') {
        let field = message?.get_field_by_name(name)?;
        if field.is_list() || field.is_map() {
            return None;
        }
        message = match field.kind() {
            Kind::Message(inner) => Some(inner),
            _ => None,
        };
        place.push(field);
    }
    matches!(place.last()?.kind(), Kind::String).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::contract;

    #[test]
    fn every_rpc_of_the_contract_says_who_may_call_it() {
        let contract = contract();
        let pool = DescriptorPool::decode(aurae_proto::BARE_FILE_DESCRIPTOR_SET).unwrap();
        let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let mut count = 0;
        for method in methods {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            assert!(contract.method(&path).is_some(), "{path}");
            count += 1;
        }
        assert!(count >= 26, "the contract has shrunk");
        assert_eq!(contract.actions().count(), count + OTHERS.len());
    }

    /// The fields that read as if they named something, and do not say what a request is about.
    const NO_RESOURCE: [(&str, &str); 6] = [
        ("auth.CanI resource", "what the policies are asked about; nothing is done to it"),
        ("auth.Explain resource", "what the policies are asked about; nothing is done to it"),
        ("cells.Allocate cell.user_namespace.host_id", "a user, and no cell's"),
        ("cells.Update cell.user_namespace.host_id", "a user, and no cell's"),
        ("observe.GetPosixSignalsStream workload.id", "no daemon answers it yet"),
        ("observe.GetSubProcessStream process_id", "found by whoever answers: `finds_later`"),
    ];

    /// A request that has a field for a cell or an executable, and an option that does not say so, would
    /// be decided as if it was about the node. One that names something in another way is decided over again
    /// once that is found.
    #[test]
    fn a_request_that_names_something_is_about_it_or_has_it_found_later() {
        let mut others = Vec::new();
        for method in contract().actions() {
            let Some(request) = method.request() else { continue };
            let about: Vec<_> =
                [&method.cell, &method.executable].into_iter().flatten().map(dotted).collect();
            for field in names(request, "") {
                if !about.contains(&field) {
                    others.push(format!("{} {field}", method.action()));
                }
            }
        }
        assert_eq!(others, NO_RESOURCE.map(|(field, _)| field));
        let later = contract().actions().filter(|method| method.finds_later());
        let later: Vec<_> = later.map(|method| method.action()).collect();
        assert_eq!(later, ["observe.GetSubProcessStream"]);
    }

    fn dotted(place: &Place) -> String {
        place.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".")
    }

    /// The fields inside a message, text or numbers, that read as if they named something.
    fn names(message: &MessageDescriptor, path: &str) -> Vec<String> {
        const LAST_WORDS: [&str; 8] =
            ["name", "id", "pid", "cell", "executable", "resource", "zone", "workload"];
        let found = message.fields().flat_map(|field| {
            let path = format!("{path}{}", field.name());
            let last = field.name().rsplit('_').next().unwrap_or_default();
            match field.kind() {
                Kind::Message(inner) => names(&inner, &format!("{path}.")),
                Kind::Bool | Kind::Enum(_) => Vec::new(),
                _ if LAST_WORDS.contains(&last) => vec![path],
                _ => Vec::new(),
            }
        });
        found.collect()
    }

    #[test]
    fn an_option_that_leads_nowhere_is_an_error() {
        let request = contract().action("cells.Start").unwrap().request().unwrap().clone();
        for bad in ["", "nothing", "cell_name.x", "executable", "uid", "executable.args", "."] {
            assert!(place(&request, bad).is_none(), "{bad}");
        }
        assert_eq!(place(&request, "executable.name").unwrap().len(), 2);
    }

    #[test]
    fn a_descriptor_set_without_options_is_refused() {
        let mut set = prost_reflect::prost_types::FileDescriptorSet::default();
        let file = prost_reflect::prost_types::FileDescriptorProto {
            name: Some("a.proto".into()),
            package: Some("aurae.a.v0".into()),
            message_type: vec![prost_reflect::prost_types::DescriptorProto {
                name: Some("M".into()),
                ..Default::default()
            }],
            service: vec![prost_reflect::prost_types::ServiceDescriptorProto {
                name: Some("S".into()),
                method: vec![prost_reflect::prost_types::MethodDescriptorProto {
                    name: Some("Do".into()),
                    input_type: Some(".aurae.a.v0.M".into()),
                    output_type: Some(".aurae.a.v0.M".into()),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        set.file.push(file);
        let error = Contract::parse(&prost::Message::encode_to_vec(&set)).unwrap_err();
        assert!(error.to_string().starts_with("/aurae.a.v0.S/Do has no "), "{error}");
    }
}
