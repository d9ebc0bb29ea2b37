//! The fields of a request that an argument can set.

use std::collections::BTreeSet;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::api::{FieldCli, field_cli, kebab};

/// How deep messages inside messages become flags; what is deeper is one flag that takes JSON.
const MAX_DEPTH: usize = 8;

/// A field of a request, or of a message inside it, that an argument can set.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// From the request down to the field.
    pub(crate) path: Vec<FieldDescriptor>,
    pub(crate) cli: FieldCli,
    /// The name of the flag.
    pub(crate) long: String,
    /// Another, shorter name.
    pub(crate) alias: Option<String>,
}

impl Field {
    fn new(path: Vec<FieldDescriptor>) -> Self {
        let cli = path.last().map(field_cli).unwrap_or_default();
        let alias = (path.len() > 1).then(|| join(path.get(1..).unwrap_or_default()));
        Self { long: join(&path), alias, path, cli }
    }

    /// The field itself.
    pub(crate) fn descriptor(&self) -> Option<&FieldDescriptor> {
        self.path.last()
    }

    /// Unique in the request: `cell.cpu.max`.
    pub(crate) fn id(&self) -> String {
        self.path.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".")
    }

    /// The place among the positional arguments, if it has one.
    pub(crate) fn position(&self) -> Option<u32> {
        Some(self.cli.position).filter(|position| *position > 0)
    }

    /// Whether what follows `--` on the command line goes here.
    pub(crate) fn is_argv(&self) -> bool {
        self.descriptor().is_some_and(|field| {
            field.name() == "args" && field.is_list() && field.kind() == Kind::String
        })
    }

    /// The field by its short name alone, unless another has that.
    pub(crate) fn shortened(self, taken: &BTreeSet<String>) -> Self {
        match self.alias {
            Some(alias) if !taken.contains(&alias) => Self { long: alias, alias: None, ..self },
            _ => Self { alias: None, ..self },
        }
    }

    /// `CELL` for `cell_name` and for `cell.name`.
    pub(crate) fn positional_name(&self) -> String {
        let long = self.long.strip_suffix("-name").unwrap_or(&self.long);
        long.to_ascii_uppercase().replace('-', "_")
    }
}

fn join(path: &[FieldDescriptor]) -> String {
    path.iter().map(|field| kebab(field.name())).collect::<Vec<_>>().join("-")
}

/// The fields of a request, in the order of the file; a message inside it is its fields.
pub(crate) fn fields(request: &MessageDescriptor) -> Vec<Field> {
    let mut found = Vec::new();
    collect(request, &mut Vec::new(), &mut found);
    drop_ambiguous_aliases(&mut found);
    found
}

fn collect(message: &MessageDescriptor, path: &mut Vec<FieldDescriptor>, found: &mut Vec<Field>) {
    for field in in_file_order(message) {
        path.push(field.clone());
        match nested(&field, path) {
            Some(message) => collect(&message, path, found),
            None => found.push(Field::new(path.clone())),
        }
        path.pop();
    }
}

/// As people wrote them: descriptors are sorted by number.
fn in_file_order(message: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let mut fields: Vec<_> = message.fields().collect();
    fields.sort_by(|left, right| left.path().cmp(right.path()));
    fields
}

/// The message whose fields stand for `field`, if it is one.
fn nested(field: &FieldDescriptor, path: &[FieldDescriptor]) -> Option<MessageDescriptor> {
    let Kind::Message(message) = field.kind() else { return None };
    let recursive = path.iter().any(|above| *above.parent_message() == message);
    let leaf = field.is_list()
        || field.is_map()
        || message.package_name() == "google.protobuf"
        || message.fields().len() == 0
        || recursive
        || path.len() >= MAX_DEPTH;
    (!leaf).then_some(message)
}

/// A short name that two fields could mean, or that is another's name, is nobody's.
fn drop_ambiguous_aliases(fields: &mut [Field]) {
    let names: Vec<String> = fields
        .iter()
        .flat_map(|field| [Some(field.long.clone()), field.alias.clone()])
        .flatten()
        .collect();
    for field in fields {
        let uses = |alias: &String| names.iter().filter(|name| *name == alias).count();
        field.alias = field.alias.take().filter(|alias| uses(alias) == 1);
    }
}
