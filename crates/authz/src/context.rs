//! A request as the context of an action: what policies may look at.
//!
//! Its type, and its value, are made by one walk over the same description, so that they agree: strings,
//! booleans, and numbers (up to the greatest that Cedar has, 2^63-1); enums by the name of the value;
//! lists of these as sets; maps with such keys as sets of their keys; messages as records. Messages,
//! and scalars that can be told from their default, are attributes that may be missing; other scalars
//! are always there. Left out are bytes, floating point numbers, lists of messages, and messages that
//! have themselves inside.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use cedar_policy::{Context, RestrictedExpression};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

/// What Cedar keeps for itself: as attributes these words have to be quoted.
const RESERVED: [&str; 10] =
    ["true", "false", "if", "then", "else", "in", "is", "like", "has", "__cedar"];

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
            if let Shape::Record(inner) = shape
                && types.insert(inner.name.clone(), inner.body()).is_none()
            {
                inner.collect_types(types);
            }
        }
    }

    fn pairs(&self, message: &DynamicMessage) -> Vec<(String, RestrictedExpression)> {
        let pair = |Attribute { field, shape }: &Attribute| {
            if is_optional(field) && !message.has_field(field) {
                return None;
            }
            let value = shape.value(&message.get_field(field))?;
            Some((field.name().to_owned(), value))
        };
        self.attributes.iter().filter_map(pair).collect()
    }

    /// The request as a context.
    pub(crate) fn context(&self, message: &DynamicMessage) -> Result<Context, String> {
        Context::from_pairs(self.pairs(message)).map_err(|error| error.to_string())
    }
}

/// Whether the attribute may be missing.
fn is_optional(field: &FieldDescriptor) -> bool {
    !field.is_list() && !field.is_map() && field.supports_presence()
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
    if field.is_list() {
        return scalar(&field.kind()).map(|element| Shape::Set(Box::new(element)));
    }
    match field.kind() {
        Kind::Message(message) if !is_recursive(&message) => {
            Some(Shape::Record(Arc::new(Record::of(&message))))
        }
        Kind::Message(_) => None,
        kind => scalar(&kind),
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
            Self::Record(record) => record.name.clone(),
        }
    }

    fn value(&self, value: &Value) -> Option<RestrictedExpression> {
        Some(match self {
            Self::Bool => RestrictedExpression::new_bool(value.as_bool()?),
            Self::Long => RestrictedExpression::new_long(long(value)?),
            Self::Text => RestrictedExpression::new_string(value.as_str()?.to_owned()),
            Self::Name(values) => {
                let number = value.as_enum_number()?;
                let name = values.get_value(number).map(|value| value.name().to_owned());
                RestrictedExpression::new_string(name.unwrap_or_else(|| number.to_string()))
            }
            Self::Set(element) => {
                let elements = value.as_list()?.iter().filter_map(|value| element.value(value));
                RestrictedExpression::new_set(elements)
            }
            Self::Keys(key) => {
                let keys = value.as_map()?.keys().filter_map(|value| key.value(&of_key(value)));
                RestrictedExpression::new_set(keys)
            }
            Self::Record(record) => {
                RestrictedExpression::new_record(record.pairs(value.as_message()?)).ok()?
            }
        })
    }
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
