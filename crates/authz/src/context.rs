//! A request as the context of an action: what policies may look at.
//!
//! Its type, and its value, are made by one walk over the same description, so that they agree: strings,
//! booleans, and numbers (up to the greatest that Cedar has, 2^63-1); enums by the name of the value;
//! lists of these as sets; maps with such keys as sets of their keys; messages as records; lists of messages
//! as sets of records. Messages, lists of messages (where they are empty), and scalars that can be told from
//! their default, are attributes that may be missing; other scalars, lists and maps are always there. Left
//! out are bytes, floating point numbers, the values of maps, and messages that have themselves inside:
//! a test names each field of a request that is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use cedar_policy::{Context, RestrictedExpression};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

/// What Cedar keeps for itself: as attributes these words have to be quoted.
const RESERVED: [&str; 10] =
    ["true", "false", "if", "then", "else", "in", "is", "like", "has", "__cedar"];

/// A list of messages has so many at most, here; of those that requests have, a service takes fewer. A record
/// takes a kilobyte, and a message on the wire two bytes.
const MAX_RECORDS: usize = 1024;

type Pairs = Vec<(String, RestrictedExpression)>;

/// A message as a record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// The name of its type in the schema.
    name: String,
    attributes: Vec<Attribute>,
}

#[derive(Clone, Debug)]
struct Attribute {
    field: FieldDescriptor,
    shape: Shape,
}

#[derive(Clone, Debug)]
enum Shape {
    Bool,
    Long,
    Text,
    /// An enum's value by its name.
    Name(prost_reflect::EnumDescriptor),
    Set(Box<Self>),
    /// A list of messages.
    Records(Arc<Record>),
    /// The keys of a map.
    Keys(Box<Self>),
    Record(Arc<Record>),
}

impl Record {
    pub(crate) fn of(message: &MessageDescriptor) -> Self {
        let attributes = message.fields().filter_map(|field| {
            let shape = shape(&field)?;
            Some(Attribute { field, shape })
        });
        Self { name: type_name(message.full_name()), attributes: attributes.collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.attributes.is_empty()
    }

    /// The record's type: `{"uid"?: Long, …}`.
    pub(crate) fn body(&self) -> String {
        let mut body = String::from("{");
        for (place, Attribute { field, shape }) in self.attributes.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            let optional = if is_optional(field) { "?" } else { "" };
            let name = match RESERVED.contains(&field.name()) {
                true => format!("\"{}\"", field.name()),
                false => field.name().to_owned(),
            };
            let _ = write!(body, "{comma}{name}{optional}: {}", shape.type_name());
        }
        body.push('}');
        body
    }

    /// Adds the types of the records inside, by their names.
    pub(crate) fn collect_types(&self, types: &mut BTreeMap<String, String>) {
        for Attribute { shape, .. } in &self.attributes {
            if let Shape::Record(inner) | Shape::Records(inner) = shape
                && types.insert(inner.name.clone(), inner.body()).is_none()
            {
                inner.collect_types(types);
            }
        }
    }

    fn pairs(&self, message: &DynamicMessage) -> Result<Pairs, String> {
        let is_there = |it: &&Attribute| !is_optional(&it.field) || message.has_field(&it.field);
        let pair = |Attribute { field, shape }: &Attribute| {
            let value = shape.value(&message.get_field(field));
            let value = value.map_err(|reason| format!("{}: {reason}", field.name()))?;
            Ok((field.name().to_owned(), value))
        };
        self.attributes.iter().filter(is_there).map(pair).collect()
    }

    /// The request as a context.
    ///
    /// # Errors
    /// What of it cannot be one: nothing is left out that a policy could look for.
    pub(crate) fn context(&self, message: &DynamicMessage) -> Result<Context, String> {
        Context::from_pairs(self.pairs(message)?).map_err(|error| error.to_string())
    }
}

/// Whether the attribute may be missing. An empty list of messages is: no policy could ask a set whether it
/// is empty in fewer words than `has`.
fn is_optional(field: &FieldDescriptor) -> bool {
    if field.is_map() {
        return false;
    }
    match field.is_list() {
        true => matches!(field.kind(), Kind::Message(_)),
        false => field.supports_presence(),
    }
}

/// `aurae.cells.v0.Cell` is `cells_Cell`: the words alone name entities.
fn type_name(full: &str) -> String {
    full.strip_prefix("aurae.").unwrap_or(full).replace(".v0.", ".").replace('.', "_")
}

fn shape(field: &FieldDescriptor) -> Option<Shape> {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else { return None };
        return scalar(&entry.map_entry_key_field().kind()).map(|key| Shape::Keys(Box::new(key)));
    }
    match (field.kind(), field.is_list()) {
        (Kind::Message(message), _) if is_recursive(&message) => None,
        (Kind::Message(message), true) => Some(Shape::Records(Arc::new(Record::of(&message)))),
        (Kind::Message(message), false) => Some(Shape::Record(Arc::new(Record::of(&message)))),
        (kind, true) => scalar(&kind).map(|element| Shape::Set(Box::new(element))),
        (kind, false) => scalar(&kind),
    }
}

fn scalar(kind: &Kind) -> Option<Shape> {
    match kind {
        Kind::Bool => Some(Shape::Bool),
        Kind::String => Some(Shape::Text),
        Kind::Enum(values) => Some(Shape::Name(values.clone())),
        Kind::Message(_) | Kind::Bytes | Kind::Double | Kind::Float => None,
        _ => Some(Shape::Long),
    }
}

fn is_recursive(message: &MessageDescriptor) -> bool {
    let mut seen = BTreeSet::new();
    let mut left = vec![message.clone()];
    while let Some(next) = left.pop() {
        for field in next.fields() {
            let Kind::Message(inner) = field.kind() else { continue };
            if inner == *message {
                return true;
            }
            if seen.insert(inner.full_name().to_owned()) {
                left.push(inner);
            }
        }
    }
    false
}

impl Shape {
    fn type_name(&self) -> String {
        match self {
            Self::Bool => "Bool".into(),
            Self::Long => "Long".into(),
            Self::Text | Self::Name(_) => "String".into(),
            Self::Set(element) | Self::Keys(element) => format!("Set<{}>", element.type_name()),
            Self::Records(record) => format!("Set<{}>", record.name),
            Self::Record(record) => record.name.clone(),
        }
    }

    fn value(&self, value: &Value) -> Result<RestrictedExpression, String> {
        let other = || format!("{value:?} is not of its type");
        Ok(match self {
            Self::Bool => RestrictedExpression::new_bool(value.as_bool().ok_or_else(other)?),
            Self::Long => RestrictedExpression::new_long(long(value).ok_or_else(other)?),
            Self::Text => {
                RestrictedExpression::new_string(value.as_str().ok_or_else(other)?.to_owned())
            }
            Self::Name(values) => {
                let number = value.as_enum_number().ok_or_else(other)?;
                let name = values.get_value(number).map(|value| value.name().to_owned());
                RestrictedExpression::new_string(name.unwrap_or_else(|| number.to_string()))
            }
            Self::Set(element) => {
                let elements = value.as_list().ok_or_else(other)?.iter();
                set(elements.map(|value| element.value(value)))?
            }
            Self::Records(record) => {
                let elements = value.as_list().ok_or_else(other)?;
                if elements.len() > MAX_RECORDS {
                    return Err(format!("there are more than {MAX_RECORDS}"));
                }
                set(elements.iter().map(|value| record.value(value)))?
            }
            Self::Keys(key) => {
                let keys = value.as_map().ok_or_else(other)?.keys();
                set(keys.map(|value| key.value(&of_key(value))))?
            }
            Self::Record(record) => record.value(value)?,
        })
    }
}

impl Record {
    fn value(&self, value: &Value) -> Result<RestrictedExpression, String> {
        let message = value.as_message().ok_or("it is no message")?;
        let pairs = self.pairs(message)?;
        RestrictedExpression::new_record(pairs).map_err(|error| error.to_string())
    }
}

fn set(
    elements: impl Iterator<Item = Result<RestrictedExpression, String>>,
) -> Result<RestrictedExpression, String> {
    Ok(RestrictedExpression::new_set(elements.collect::<Result<Vec<_>, _>>()?))
}

/// A number, none of which is told as another sign: one that is too great is the greatest.
fn long(value: &Value) -> Option<i64> {
    match *value {
        Value::I32(number) => Some(number.into()),
        Value::I64(number) => Some(number),
        Value::U32(number) => Some(number.into()),
        Value::U64(number) => Some(i64::try_from(number).unwrap_or(i64::MAX)),
        _ => None,
    }
}

fn of_key(key: &MapKey) -> Value {
    match key {
        MapKey::Bool(value) => Value::Bool(*value),
        MapKey::I32(value) => Value::I32(*value),
        MapKey::I64(value) => Value::I64(*value),
        MapKey::U32(value) => Value::U32(*value),
        MapKey::U64(value) => Value::U64(*value),
        MapKey::String(value) => Value::String(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use aurae_proto::cells as wire;
    use cedar_policy::{EntityUid, Schema};
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::tests::contract;

    fn context(action: &str, message: &impl Message) -> serde_json::Value {
        let method = contract().action(action).unwrap();
        let request = method.request().unwrap().clone();
        let message = DynamicMessage::decode(request, message.encode_to_vec().as_slice()).unwrap();
        method.record().context(&message).unwrap().to_json_value().unwrap()
    }

    fn allocate(change: impl FnOnce(&mut wire::Cell)) -> serde_json::Value {
        let mut cell = wire::Cell { name: "web".into(), ..Default::default() };
        change(&mut cell);
        let message = wire::CellServiceAllocateRequest { cell: Some(cell) };
        context("cells.Allocate", &message)["cell"].take()
    }

    #[test]
    fn what_is_not_set_is_missing_where_that_can_be_told() {
        let cell = allocate(|_| {});
        assert_eq!(cell["isolate_process"], false);
        assert_eq!(cell["name"], "web");
        assert!(cell.get("memory").is_none() && cell.get("cpu").is_none());
        let cell = allocate(|cell| cell.memory = Some(wire::MemoryController::default()));
        assert_eq!(cell["memory"], serde_json::json!({}));
        let empty = context("cells.Allocate", &wire::CellServiceAllocateRequest { cell: None });
        assert_eq!(empty, serde_json::json!({}));
    }

    #[test]
    fn limits_are_numbers_and_the_greatest_ones_do_not_wrap() {
        let memory = |max| {
            allocate(|cell| {
                cell.memory = Some(wire::MemoryController { max: Some(max), ..Default::default() });
            })["memory"]["max"]
                .take()
        };
        assert_eq!(memory(1 << 30), 1 << 30);
        assert_eq!(memory(-1), -1);
        let pids = |max| {
            allocate(|cell| cell.pids = Some(wire::PidsController { max: Some(max) }))["pids"]
                ["max"]
                .take()
        };
        assert_eq!(pids(u64::MAX), i64::MAX);
        assert_eq!(pids(1 << 63), i64::MAX);
        assert_eq!(pids((1 << 63) - 1), i64::MAX);
        assert_eq!(pids(7), 7);
    }

    #[test]
    fn enums_are_names_lists_are_sets_and_maps_are_their_keys() {
        let executable = wire::Executable {
            args: vec!["a".into(), "b".into(), "a".into()],
            env: [("HOME".to_owned(), "/".to_owned())].into(),
            restart: Some(wire::RestartPolicy {
                condition: wire::RestartCondition::Always.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let start = |executable| wire::CellServiceStartRequest {
            executable: Some(executable),
            uid: Some(u32::MAX),
            ..Default::default()
        };
        let mut found = context("cells.Start", &start(executable.clone()));
        assert_eq!(found["uid"], u32::MAX);
        assert!(found.get("gid").is_none());
        let found = found["executable"].take();
        assert_eq!(found["args"], serde_json::json!(["a", "b"]));
        assert_eq!(found["env"], serde_json::json!(["HOME"]));
        assert_eq!(found["restart"]["condition"], "RESTART_CONDITION_ALWAYS");
        let mut unknown = executable;
        unknown.restart.as_mut().unwrap().condition = 99;
        let found = context("cells.Start", &start(unknown));
        assert_eq!(found["executable"]["restart"]["condition"], "99");
    }

    #[test]
    fn lists_of_messages_are_sets_of_records_and_missing_where_they_are_empty() {
        let start = |devices: Vec<wire::DeviceRule>| {
            let security = wire::Security { devices, ..Default::default() };
            let executable = wire::Executable { security: Some(security), ..Default::default() };
            let message = wire::CellServiceStartRequest {
                executable: Some(executable),
                ..Default::default()
            };
            context("cells.Start", &message)["executable"]["security"].take()
        };
        let rule = |device: &str, access: &str| wire::DeviceRule {
            device: device.into(),
            access: access.into(),
        };
        assert!(start(vec![]).get("devices").is_none());
        let found = start(vec![rule("*", ""), rule("/dev/kvm", "rw"), rule("*", "")]);
        let found = found["devices"].as_array().unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.contains(&serde_json::json!({ "access": "", "device": "*" })));
        assert!(found.contains(&serde_json::json!({ "access": "rw", "device": "/dev/kvm" })));
        // With nothing in them, too.
        assert_eq!(start(vec![rule("", "")])["devices"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_list_that_is_too_long_to_be_looked_at_is_no_context() {
        let method = contract().action("cells.Allocate").unwrap();
        let of = |count| {
            let io = wire::IoController {
                devices: vec![wire::IoDeviceLimit::default(); count],
                ..Default::default()
            };
            let cell = wire::Cell { io: Some(io), ..Default::default() };
            let message = wire::CellServiceAllocateRequest { cell: Some(cell) }.encode_to_vec();
            let request = method.request().unwrap().clone();
            let message = DynamicMessage::decode(request, message.as_slice()).unwrap();
            method.record().context(&message)
        };
        assert!(of(MAX_RECORDS).is_ok());
        let error = of(MAX_RECORDS + 1).unwrap_err();
        assert_eq!(error, "cell: io: devices: there are more than 1024");
    }

    /// The fields of requests that policies cannot look at, and why. They can at all others. `[]` are the values
    /// of a map.
    const UNSEEN: [(&str, &str); 10] = [
        ("cells.Attach stdin", "input comes after what is decided over"),
        ("cells.CopyIn data", "what is in a file comes after what is decided over"),
        ("cells.CopyIn entry.hardlink", "entries come after what is decided over"),
        ("cells.CopyIn entry.path", "entries come after what is decided over"),
        ("cells.CopyIn entry.symlink", "entries come after what is decided over"),
        (
            "cells.Exec start.env[]",
            "values may be secret, and rules show in the log what they fail over",
        ),
        ("cells.Exec stdin", "input comes after what is decided over"),
        ("cells.Start executable.env[]", "as those of cells.Exec"),
        ("node.Upgrade data", "the file comes after what is decided over"),
        ("node.Upgrade start.sha256", "the file says itself what it is, and only admins may"),
    ];

    /// A field that makes no difference to policies can be forbidden by none: whoever adds one says here why that
    /// is well, or has it seen.
    #[test]
    fn whatever_a_request_asks_for_makes_a_difference_to_policies() {
        let (schema, _) = Schema::from_cedarschema_str(&crate::schema(contract())).unwrap();
        let mut unseen = Vec::new();
        let mut fields = 0;
        for method in contract().actions() {
            let Some(request) = method.request() else { continue };
            let action: EntityUid = format!("Action::\"{}\"", method.action()).parse().unwrap();
            let context = |message: DynamicMessage| {
                let context = method.record().context(&message).unwrap().to_json_value().unwrap();
                let checked = Context::from_json_value(context.clone(), Some((&schema, &action)));
                assert!(checked.is_ok(), "{action}: {:?}\n{context}", checked.err());
                context
            };
            walk(request, &context, &mut |path, differs| {
                fields += 1;
                if !differs {
                    unseen.push(format!("{} {path}", method.action()));
                }
            });
        }
        assert!(fields > 200, "only {fields} fields were looked at");
        unseen.sort();
        assert_eq!(unseen, UNSEEN.map(|(field, _)| field));
    }

    /// Tells of each field inside a message whether it makes a difference to `context` that it is set.
    fn walk(
        message: &MessageDescriptor,
        context: &dyn Fn(DynamicMessage) -> serde_json::Value,
        tell: &mut dyn FnMut(&str, bool),
    ) {
        for field in message.fields() {
            let name = field.name();
            let with = |value: Option<Value>| {
                let mut message = DynamicMessage::new(message.clone());
                if let Some(value) = value {
                    message.set_field(&field, value);
                }
                context(message)
            };
            if field.is_map() {
                let Kind::Message(entry) = field.kind() else { unreachable!("maps have entries") };
                let kind = entry.map_entry_value_field().kind();
                let map = |value| Value::Map([(MapKey::String("x".into()), value)].into());
                let of_default = with(Some(map(Value::default_value(&kind))));
                tell(name, with(None) != of_default);
                tell(&format!("{name}[]"), of_default != with(Some(map(set_value(&kind)))));
                continue;
            }
            let value = |one| if field.is_list() { Value::List(vec![one]) } else { one };
            tell(name, with(None) != with(Some(value(set_value(&field.kind())))));
            if let Kind::Message(inner) = field.kind() {
                let around = |message| with(Some(value(Value::Message(message))));
                let tell = &mut |path: &str, differs| tell(&format!("{name}.{path}"), differs);
                walk(&inner, &around, tell);
            }
        }
    }

    /// A value other than the one that is as good as none.
    fn set_value(kind: &Kind) -> Value {
        match kind {
            Kind::Bool => Value::Bool(true),
            Kind::String => Value::String("x".into()),
            Kind::Bytes => Value::Bytes("x".into()),
            Kind::Enum(_) => Value::EnumNumber(1),
            Kind::Message(message) => Value::Message(DynamicMessage::new(message.clone())),
            Kind::Double => Value::F64(1.0),
            Kind::Float => Value::F32(1.0),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(1),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(1),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(1),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(1),
        }
    }

    proptest! {
        /// What is decided over is what is done: both ways of reading a request see the same, if both can
        /// read it. What one of them cannot read is not done.
        #[test]
        fn any_bytes_are_read_as_the_services_read_them(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..64),
            first in proptest::sample::select(vec![0x0a_u8, 0x12, 0x18, 0x20]),
        ) {
            if let Some(start) = bytes.first_mut() {
                *start = first;
            }
            let request = contract().action("cells.Start").unwrap().request().unwrap().clone();
            let reflected = DynamicMessage::decode(request, bytes.as_slice());
            let read = wire::CellServiceStartRequest::decode(bytes.as_slice());
            if let (Ok(reflected), Ok(read)) = (reflected, read) {
                let again: wire::CellServiceStartRequest = reflected.transcode_to().unwrap();
                prop_assert_eq!(again, read);
            }
        }
    }

    #[test]
    fn a_field_that_comes_twice_is_read_as_the_services_read_it() {
        let part = |name: &str, max| wire::CellServiceAllocateRequest {
            cell: Some(wire::Cell {
                name: name.into(),
                memory: Some(wire::MemoryController { max, ..Default::default() }),
                ..Default::default()
            }),
        };
        let parts = [part("web", Some(1)), part("", None), part("db", None)];
        let bytes = parts.iter().flat_map(Message::encode_to_vec).collect::<Vec<_>>();
        let read = wire::CellServiceAllocateRequest::decode(bytes.as_slice()).unwrap();
        let request = contract().action("cells.Allocate").unwrap().request().unwrap().clone();
        let reflected = DynamicMessage::decode(request, bytes.as_slice()).unwrap();
        assert_eq!(reflected.transcode_to::<wire::CellServiceAllocateRequest>().unwrap(), read);
        assert_eq!(read.cell.unwrap().name, "db");
    }
}
