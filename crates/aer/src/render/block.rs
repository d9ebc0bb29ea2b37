//! A message as aligned `name: value` lines.

use std::fmt::Write as _;

use prost_reflect::{DynamicMessage, FieldDescriptor, ReflectMessage, Value};

use super::{in_file_order, is_structure, label, scalar, table};
use crate::output::Style;

/// How far a message inside a message is moved in.
const INDENT: &str = "  ";

/// Renders the fields that say something.
pub(super) fn render(message: &DynamicMessage, indent: &str, style: Style) -> String {
    let fields = in_file_order(&message.descriptor());
    let shown: Vec<_> = fields.iter().filter(|field| says_something(message, field)).collect();
    let width = shown
        .iter()
        .filter(|field| !is_structure(field))
        .map(|field| label(field).chars().count())
        .max()
        .unwrap_or_default();
    let deeper = format!("{indent}{INDENT}");

    let mut text = String::new();
    for field in shown {
        let (value, name) = (message.get_field(field), label(field));
        let strong = style.strong(&format!("{name}:"));
        // Writing to a string does not fail.
        let _ = match value.as_ref() {
            Value::Message(inner) if is_structure(field) => match render(inner, &deeper, style) {
                inner if inner.is_empty() => Ok(()),
                inner => write!(text, "{indent}{strong}\n{inner}"),
            },
            Value::List(rows) if is_structure(field) => {
                write!(text, "{indent}{strong}\n{}", table::render(rows, &deeper, style))
            }
            value => {
                let gap = " ".repeat(width.saturating_sub(name.chars().count()) + 1);
                writeln!(text, "{indent}{strong}{gap}{}", scalar::text(field, value))
            }
        };
    }
    text
}

/// Whether there is something to show: numbers and truth values always, others where they are set.
fn says_something(message: &DynamicMessage, field: &FieldDescriptor) -> bool {
    let always = !field.supports_presence()
        && matches!(
            message.get_field(field).as_ref(),
            Value::Bool(_)
                | Value::I32(_)
                | Value::I64(_)
                | Value::U32(_)
                | Value::U64(_)
                | Value::F32(_)
                | Value::F64(_)
        );
    always || message.has_field(field)
}
