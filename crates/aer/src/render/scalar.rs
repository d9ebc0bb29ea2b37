//! One value as text.

use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, ReflectMessage, Value,
};

use super::in_file_order;
use crate::api::{Unit, field_cli, short_value_name};
use crate::output::printable;
use crate::units;

/// The value of a field, with its unit.
pub(super) fn text(field: &FieldDescriptor, value: &Value) -> String {
    let unit = field_cli(field).unit;
    match value {
        Value::List(list) => {
            list.iter().map(|value| one(&field.kind(), unit, value)).collect::<Vec<_>>().join(", ")
        }
        Value::Map(map) => {
            let kind = match field.kind() {
                Kind::Message(entry) => entry.map_entry_value_field().kind(),
                kind => kind,
            };
            let mut entries: Vec<_> = map
                .iter()
                .map(|(key, value)| format!("{}={}", key_text(key), one(&kind, unit, value)))
                .collect();
            entries.sort();
            entries.join(", ")
        }
        value => one(&field.kind(), unit, value),
    }
}

fn one(kind: &Kind, unit: Unit, value: &Value) -> String {
    match (kind, value) {
        (_, Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        (_, Value::String(text)) => printable(text),
        (_, Value::Bytes(bytes)) => printable(&String::from_utf8_lossy(bytes)),
        (_, Value::F32(number)) => number.to_string(),
        (_, Value::F64(number)) => number.to_string(),
        (_, Value::I32(number)) => signed(unit, i64::from(*number)),
        (_, Value::I64(number)) => signed(unit, *number),
        (_, Value::U32(number)) => unsigned(unit, u64::from(*number)),
        (_, Value::U64(number)) => unsigned(unit, *number),
        (Kind::Enum(descriptor), Value::EnumNumber(number)) => enum_text(descriptor, *number),
        (_, Value::EnumNumber(number)) => number.to_string(),
        (_, Value::Message(message)) => message_text(message),
        // Lists and maps have no elements that are lists or maps.
        (_, Value::List(_) | Value::Map(_)) => String::new(),
    }
}

fn unsigned(unit: Unit, number: u64) -> String {
    match unit {
        Unit::Bytes => units::format_bytes(number),
        Unit::Microseconds => match number.checked_mul(1000) {
            Some(nanoseconds) => units::format_nanoseconds(nanoseconds),
            None => format!("{}s", number / 1_000_000),
        },
        unit => i64::try_from(number).map_or_else(|_| number.to_string(), |n| plain(unit, n)),
    }
}

fn signed(unit: Unit, number: i64) -> String {
    match (unit, u64::try_from(number)) {
        (Unit::Bytes | Unit::Microseconds, Ok(number)) => unsigned(unit, number),
        (unit, _) => plain(unit, number),
    }
}

fn plain(unit: Unit, number: i64) -> String {
    let nanoseconds = match unit {
        Unit::UnixNanoseconds => i128::from(number),
        Unit::UnixSeconds => i128::from(number) * 1_000_000_000,
        Unit::Signal => return units::format_signal(number),
        Unit::BasisPoints => return units::format_basis_points(number),
        Unit::Plain | Unit::Bytes | Unit::Microseconds => return number.to_string(),
    };
    units::format_time(nanoseconds).unwrap_or_else(|| number.to_string())
}

fn enum_text(descriptor: &EnumDescriptor, number: i32) -> String {
    descriptor
        .get_value(number)
        .map_or_else(|| number.to_string(), |value| short_value_name(&value))
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::String(text) => printable(text),
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
    }
}

/// A time, a duration, or `field=value,field=value` as an argument would be written.
fn message_text(message: &DynamicMessage) -> String {
    let number = |name: &str| match message.get_field_by_name(name).as_deref() {
        Some(Value::I64(number)) => i128::from(*number),
        Some(Value::I32(number)) => i128::from(*number),
        _ => 0,
    };
    let nanoseconds = || number("seconds") * 1_000_000_000 + number("nanos");
    let known = match message.descriptor().full_name() {
        "google.protobuf.Timestamp" => units::format_time(nanoseconds()),
        "google.protobuf.Duration" => {
            u64::try_from(nanoseconds()).ok().map(units::format_nanoseconds)
        }
        _ => None,
    };
    known.unwrap_or_else(|| pairs(message))
}

fn pairs(message: &DynamicMessage) -> String {
    let fields = in_file_order(&message.descriptor());
    let set = fields.iter().filter(|field| message.has_field(field));
    set.map(|field| format!("{}={}", field.name(), text(field, &message.get_field(field))))
        .collect::<Vec<_>>()
        .join(",")
}
