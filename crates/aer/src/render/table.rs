//! Messages of one type as a table.

use std::collections::BTreeMap;

use prost_reflect::{DynamicMessage, FieldDescriptor, ReflectMessage, Value};

use super::{in_file_order, is_structure, scalar};
use crate::output::Style;

/// Between two columns.
const GAP: &str = "  ";

/// What stands where a row has no value.
const NOTHING: &str = "-";

/// A list in a table is cut after so many characters: JSON has all of it.
const MAX_LIST: usize = 60;

/// A column's place: which field of the row, which field of that, and so on, in the file's order.
type Place = Vec<usize>;

/// A row's value in a column.
struct Cell {
    names: Vec<String>,
    text: String,
    /// Neither zero nor false: worth a column.
    telling: bool,
}

type Row = BTreeMap<Place, Cell>;

/// Renders rows; a message that holds others of its own type is followed by them.
pub(super) fn render(messages: &[Value], indent: &str, style: Style) -> String {
    let mut rows = Vec::new();
    for message in messages.iter().filter_map(Value::as_message) {
        add_rows(message, &mut rows);
    }
    let columns = columns(&rows);
    let shared = shared_prefix(&columns);
    let mut lines = vec![columns.values().map(|names| header(names, shared)).collect::<Vec<_>>()];
    for row in &rows {
        let text = |place| row.get(place).map_or(NOTHING.to_owned(), |cell| cell.text.clone());
        lines.push(columns.keys().map(text).collect());
    }
    align(&lines, indent, style)
}

fn add_rows(message: &DynamicMessage, rows: &mut Vec<Row>) {
    let (mut row, mut children) = (Row::new(), Vec::new());
    flatten(message, &mut Vec::new(), &mut Vec::new(), &mut row, &mut children);
    rows.push(row);
    for child in children {
        add_rows(&child, rows);
    }
}

fn flatten(
    message: &DynamicMessage,
    place: &mut Place,
    names: &mut Vec<String>,
    row: &mut Row,
    children: &mut Vec<DynamicMessage>,
) {
    for (index, field) in in_file_order(&message.descriptor()).into_iter().enumerate() {
        if field.supports_presence() && !message.has_field(&field) {
            continue;
        }
        let value = message.get_field(&field);
        place.push(index);
        names.push(field.name().replace('_', "-").to_ascii_uppercase());
        match value.as_ref() {
            Value::Message(inner) if is_structure(&field) => {
                flatten(inner, place, names, row, children);
            }
            Value::List(list) if is_own_type(message, &field) => {
                children.extend(list.iter().filter_map(Value::as_message).cloned());
            }
            value => {
                let text = match scalar::text(&field, value) {
                    text if text.is_empty() => NOTHING.to_owned(),
                    text if field.is_list() => cut(text),
                    text => text,
                };
                let telling = message.has_field(&field);
                row.insert(place.clone(), Cell { names: names.clone(), text, telling });
            }
        }
        place.pop();
        names.pop();
    }
}

/// The items that fit, and a mark for those that do not.
fn cut(text: String) -> String {
    let Some((end, _)) = text.char_indices().nth(MAX_LIST) else { return text };
    let fits = text.get(..end).unwrap_or_default();
    let whole = fits.rsplit_once(", ").map_or(fits, |(whole, _)| whole);
    format!("{whole}, …")
}

fn is_own_type(message: &DynamicMessage, field: &FieldDescriptor) -> bool {
    field.kind().as_message().is_some_and(|kind| *kind == message.descriptor())
}

/// The columns in which some row says something, with their names.
fn columns(rows: &[Row]) -> BTreeMap<Place, Vec<String>> {
    let cells = rows.iter().flatten().filter(|(_, cell)| cell.telling);
    cells.map(|(place, cell)| (place.clone(), cell.names.clone())).collect()
}

/// How many names at the front of every column's say nothing because all have the same.
fn shared_prefix(columns: &BTreeMap<Place, Vec<String>>) -> usize {
    let first = columns.values().next().and_then(|names| names.first());
    let shared = columns.values().all(|names| names.len() > 1 && names.first() == first);
    usize::from(shared)
}

fn header(names: &[String], shared: usize) -> String {
    names.get(shared..).unwrap_or_default().join("-")
}

fn align(lines: &[Vec<String>], indent: &str, style: Style) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let padded = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = padded.collect::<Vec<_>>().join(GAP);
        let line = line.trim_end();
        let line = if number == 0 { style.strong(line) } else { line.to_owned() };
        text.push_str(&format!("{indent}{line}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_between_its_items() {
        assert_eq!(cut("sleep, 1000".to_owned()), "sleep, 1000");
        let long = ["CAP_SYS_ADMIN"; 9].join(", ");
        assert_eq!(cut(long), format!("{}, …", ["CAP_SYS_ADMIN"; 4].join(", ")));
        assert_eq!(cut("é".repeat(70)), format!("{}, …", "é".repeat(60)));
    }
}
