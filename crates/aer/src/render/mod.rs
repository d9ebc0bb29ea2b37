//! Answers for people, derived from their descriptors: a message is aligned `name: value` lines,
//! repeated messages are a table.

mod audit;
mod block;
mod changes;
pub(crate) mod lines;
mod scalar;
mod table;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage};

use crate::output::Style;

/// Renders an answer; nothing where it says nothing.
pub(crate) fn message(message: &DynamicMessage, style: Style) -> String {
    match sole_field(message) {
        Some((field, values)) if field.is_list() => {
            let rows = values.as_list().unwrap_or_default();
            match rows.is_empty() {
                true => format!("no {}\n", label(&field)),
                false => table::render(rows, "", style),
            }
        }
        Some((_, value)) => {
            value.as_message().map_or(String::new(), |inner| block::render(inner, "", style))
        }
        None => block::render(message, "", style),
    }
}

/// The field of a message that has but one, where that is a message or a list of messages.
fn sole_field(
    message: &DynamicMessage,
) -> Option<(FieldDescriptor, std::borrow::Cow<'_, prost_reflect::Value>)> {
    let descriptor = message.descriptor();
    let mut fields = descriptor.fields();
    let field = fields.next().filter(|field| fields.len() == 0 && is_structure(field))?;
    let value = message.get_field(&field);
    Some((field, value))
}

/// Whether the field holds messages that are not written as one value.
fn is_structure(field: &FieldDescriptor) -> bool {
    match field.kind() {
        Kind::Message(message) => !field.is_map() && !is_value(&message),
        _ => false,
    }
}

fn is_value(message: &MessageDescriptor) -> bool {
    message.package_name() == "google.protobuf"
}

/// A field's name for people.
fn label(field: &FieldDescriptor) -> String {
    field.name().replace('_', " ")
}

/// The fields as people wrote them down.
fn in_file_order(message: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let mut fields: Vec<_> = message.fields().collect();
    fields.sort_by(|left, right| left.path().cmp(right.path()));
    fields
}
