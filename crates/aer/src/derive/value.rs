//! From a text on the command line to the value of a field.

use std::collections::HashMap;
use std::time::SystemTime;

use bytes::Bytes;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value,
};

use crate::api::{Unit, field_cli, kebab, short_value_name};
use crate::units;

/// Parses what one use of an argument says: a value, an element of a list, or an entry of a map.
pub(super) fn parse(field: &FieldDescriptor, unit: Unit, text: &str) -> Result<Value, String> {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => parse_entry(&entry, text),
        kind => parse_kind(&kind, unit, text),
    }
}

fn parse_kind(kind: &Kind, unit: Unit, text: &str) -> Result<Value, String> {
    match kind {
        Kind::String => Ok(Value::String(text.to_owned())),
        Kind::Bytes => Ok(Value::Bytes(Bytes::copy_from_slice(text.as_bytes()))),
        Kind::Bool => parse_bool(text).map(Value::Bool),
        Kind::Double => text.parse().map(Value::F64).map_err(|_| "expected a number".to_owned()),
        Kind::Float => text.parse().map(Value::F32).map_err(|_| "expected a number".to_owned()),
        Kind::Enum(descriptor) => parse_enum(descriptor, text),
        Kind::Message(message) => parse_message(message, text),
        integer => to_integer(integer, parse_integer(unit, text)?),
    }
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "true" | "yes" => Ok(true),
        "false" | "no" => Ok(false),
        _ => Err("expected `true` or `false`".to_owned()),
    }
}

/// Parses a number that counts `unit`.
fn parse_integer(unit: Unit, text: &str) -> Result<i128, String> {
    let time = || units::parse_time(text, SystemTime::now());
    match unit {
        Unit::Plain => text.parse().map_err(|_| "expected a whole number".to_owned()),
        Unit::Bytes => units::parse_bytes(text).map(i128::from),
        Unit::Microseconds => {
            units::parse_nanoseconds(text, "us").map(|nanoseconds| i128::from(nanoseconds / 1000))
        }
        Unit::UnixNanoseconds => time().map(time::OffsetDateTime::unix_timestamp_nanos),
        Unit::UnixSeconds => time().map(|time| i128::from(time.unix_timestamp())),
        Unit::Signal => units::parse_signal(text).map(i128::from),
        Unit::BasisPoints => units::parse_basis_points(text).map(i128::from),
    }
}

fn to_integer(kind: &Kind, number: i128) -> Result<Value, String> {
    let value = match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => i32::try_from(number).map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => i64::try_from(number).map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => u32::try_from(number).map(Value::U32),
        _ => u64::try_from(number).map(Value::U64),
    };
    value.map_err(|_| match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => out_of_range(i32::MIN, i32::MAX),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => out_of_range(i64::MIN, i64::MAX),
        Kind::Uint32 | Kind::Fixed32 => out_of_range(u32::MIN, u32::MAX),
        _ => out_of_range(u64::MIN, u64::MAX),
    })
}

fn out_of_range<N: std::fmt::Display>(least: N, most: N) -> String {
    format!("expected a number from {least} to {most}")
}

fn parse_enum(descriptor: &EnumDescriptor, text: &str) -> Result<Value, String> {
    let known: Vec<_> = descriptor.values().collect();
    let found = known
        .iter()
        .find(|value| value.name() == text || short_value_name(value).eq_ignore_ascii_case(text));
    found.map(|value| Value::EnumNumber(value.number())).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(short_value_name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// `KEY=VALUE`, as a map of one.
fn parse_entry(entry: &MessageDescriptor, text: &str) -> Result<Value, String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    let (key_field, value_field) = (entry.map_entry_key_field(), entry.map_entry_value_field());
    let key = parse_kind(&key_field.kind(), Unit::Plain, key)?;
    let key = key.into_map_key().ok_or("expected a key")?;
    let value = parse_kind(&value_field.kind(), Unit::Plain, value)?;
    Ok(Value::Map(HashMap::from([(key, value)])))
}

fn parse_message(message: &MessageDescriptor, text: &str) -> Result<Value, String> {
    let parsed = match message.full_name() {
        "google.protobuf.Duration" => {
            let duration = units::parse_duration(text)?;
            let seconds = i64::try_from(duration.as_secs()).map_err(|_| "too long".to_owned())?;
            seconds_and_nanos(message, seconds, duration.subsec_nanos())
        }
        "google.protobuf.Timestamp" => {
            let time = units::parse_time(text, SystemTime::now())?;
            seconds_and_nanos(message, time.unix_timestamp(), time.nanosecond())
        }
        _ if text.starts_with('{') => parse_json(message, text),
        _ => parse_pairs(message, text),
    };
    parsed.map(Value::Message)
}

/// A `Duration` or a `Timestamp`.
fn seconds_and_nanos(
    message: &MessageDescriptor,
    seconds: i64,
    nanos: u32,
) -> Result<DynamicMessage, String> {
    let mut filled = DynamicMessage::new(message.clone());
    let nanos = i32::try_from(nanos).map_err(|error| error.to_string())?;
    let set = [("seconds", Value::I64(seconds)), ("nanos", Value::I32(nanos))];
    for (name, value) in set {
        filled.try_set_field_by_name(name, value).map_err(|error| error.to_string())?;
    }
    Ok(filled)
}

fn parse_json(message: &MessageDescriptor, text: &str) -> Result<DynamicMessage, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = DynamicMessage::deserialize(message.clone(), &mut json);
    parsed.and_then(|message| json.end().map(|()| message)).map_err(|error| error.to_string())
}

/// `field=value,field=value`.
fn parse_pairs(message: &MessageDescriptor, text: &str) -> Result<DynamicMessage, String> {
    let mut filled = DynamicMessage::new(message.clone());
    for pair in text.split(',') {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            format!("expected FIELD=VALUE,… (fields: {}) or JSON", names(message))
        })?;
        let field = message
            .fields()
            .find(|field| kebab(field.name()) == kebab(name))
            .ok_or_else(|| format!("no field `{name}`: there are {}", names(message)))?;
        let value = parse(&field, field_cli(&field).unit, value)
            .map_err(|error| format!("`{name}`: {error}"))?;
        set(&mut filled, &field, value)?;
    }
    Ok(filled)
}

fn names(message: &MessageDescriptor) -> String {
    message.fields().map(|field| field.name().to_owned()).collect::<Vec<_>>().join(", ")
}

/// Sets a field to what [`parse`] made; adds to a list or a map.
pub(super) fn set(
    message: &mut DynamicMessage,
    field: &FieldDescriptor,
    value: Value,
) -> Result<(), String> {
    if !field.is_list() && !field.is_map() {
        return message.try_set_field(field, value).map_err(|error| error.to_string());
    }
    match (message.get_field_mut(field), value) {
        (Value::List(list), element) => list.push(element),
        (Value::Map(map), Value::Map(entries)) => map.extend(entries),
        _ => return Err(format!("{} takes other values", field.name())),
    }
    Ok(())
}
