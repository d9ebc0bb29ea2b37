//! The API as the descriptor set has it: command groups, RPCs, and what the options of
//! `aurae.cli.v0` say about them.

use std::collections::BTreeMap;
use std::fmt::Display;

use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumValueDescriptor, FieldDescriptor, FileDescriptor,
    MessageDescriptor, MethodDescriptor, ServiceDescriptor, Value,
};

use crate::descriptors::Files;
use crate::failure::Failure;

/// What a number counts (`aurae.cli.v0.Unit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Unit {
    #[default]
    Plain,
    Bytes,
    Microseconds,
    UnixNanoseconds,
    UnixSeconds,
    Signal,
    BasisPoints,
}

impl Unit {
    fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Bytes,
            2 => Self::Microseconds,
            3 => Self::UnixNanoseconds,
            4 => Self::UnixSeconds,
            5 => Self::Signal,
            6 => Self::BasisPoints,
            _ => Self::Plain,
        }
    }
}

/// How a field appears on a command line (`aurae.cli.v0.FieldCli`).
#[derive(Debug, Clone, Default)]
pub(crate) struct FieldCli {
    pub(crate) position: u32,
    pub(crate) unit: Unit,
    pub(crate) help: Option<String>,
    pub(crate) value_name: Option<String>,
}

/// The API, or the part of it that was asked for.
pub(crate) struct Api {
    pool: DescriptorPool,
    /// All groups, and the services in each.
    groups: BTreeMap<String, Vec<String>>,
}

/// The RPCs of a subsystem.
pub(crate) struct Group {
    pub(crate) name: String,
    services: Vec<ServiceDescriptor>,
}

/// An RPC as a command.
#[derive(Clone)]
pub(crate) struct Rpc {
    pub(crate) name: String,
    pub(crate) method: MethodDescriptor,
    pub(crate) confirm: bool,
}

impl Api {
    /// Reads the API with its comments, for help, completions and manual pages.
    pub(crate) fn load() -> Result<Self, Failure> {
        Self::decode(aurae_proto::FILE_DESCRIPTOR_SET, |_| true)
    }

    /// Reads of the API the groups that are wanted, and no comments: a call shows none. Of other groups there
    /// are the names.
    pub(crate) fn load_bare(wanted: impl Fn(&str) -> bool) -> Result<Self, Failure> {
        Self::decode(aurae_proto::BARE_FILE_DESCRIPTOR_SET, wanted)
    }

    fn decode(set: &'static [u8], wanted: impl Fn(&str) -> bool) -> Result<Self, Failure> {
        let broken = |error: &dyn Display| {
            Failure::new(format!("the API's descriptors are broken: {error}"))
        };
        let files = Files::of(&[set, tonic_health::pb::FILE_DESCRIPTOR_SET]);
        let files = files.map_err(|error| broken(&error))?;
        let groups = files.groups();
        let set = files.only(&groups.keys().map(String::as_str).filter(|it| wanted(it)).collect());
        let pool = DescriptorPool::decode(set.as_slice()).map_err(|error| broken(&error))?;
        Ok(Self { pool, groups })
    }

    /// The command groups, in the order of their names.
    pub(crate) fn groups(&self) -> Vec<Group> {
        let services = |names: &[String]| {
            names.iter().filter_map(|name| self.pool.get_service_by_name(name)).collect()
        };
        let group = |(name, names): (&String, &Vec<String>)| Group {
            name: name.clone(),
            services: services(names),
        };
        self.groups.iter().map(group).collect()
    }

    /// The RPC of that full name, `aurae.cells.v0.CellService.Start` for example.
    pub(crate) fn rpc(&self, service: &str, method: &str) -> Result<Rpc, Failure> {
        self.pool
            .get_service_by_name(service)
            .and_then(|service| service.methods().find(|known| known.name() == method))
            .map(Rpc::new)
            .ok_or_else(|| Failure::new(format!("the API has no {service}/{method}")))
    }

    /// A message by its full name.
    pub(crate) fn message(&self, name: &str) -> Option<MessageDescriptor> {
        self.pool.get_message_by_name(name)
    }

    /// All services, for tests that walk the API.
    #[cfg(test)]
    pub(crate) fn services(&self) -> impl Iterator<Item = ServiceDescriptor> + '_ {
        self.pool.services()
    }
}

impl Group {
    /// The first sentence that says what the group is about.
    pub(crate) fn about(&self) -> String {
        let own = self.services.iter().find_map(|service| {
            comment(&service.parent_file(), service.path(), service.full_name())
        });
        first_paragraph(&own.unwrap_or_default())
    }

    pub(crate) fn rpcs(&self) -> impl Iterator<Item = Rpc> + '_ {
        self.services.iter().flat_map(|service| service.methods().map(Rpc::new).collect::<Vec<_>>())
    }
}

impl Rpc {
    fn new(method: MethodDescriptor) -> Self {
        let options = extension(&method.options(), "aurae.cli.v0.method");
        let name = text_option(options.as_ref(), "name");
        Self {
            name: name.unwrap_or_else(|| kebab(method.name())),
            confirm: option(options.as_ref(), "confirm", |value| value.as_bool())
                .unwrap_or_default(),
            method,
        }
    }

    /// The path of the request.
    pub(crate) fn path(&self) -> String {
        format!("/{}/{}", self.method.parent_service().full_name(), self.method.name())
    }

    pub(crate) fn comment(&self) -> String {
        let (file, path) = (self.method.parent_file(), self.method.path());
        comment(&file, path, self.method.full_name()).unwrap_or_default()
    }
}

/// What the options say about a field.
pub(crate) fn field_cli(field: &FieldDescriptor) -> FieldCli {
    let Some(options) = extension(&field.options(), "aurae.cli.v0.field") else {
        return FieldCli::default();
    };
    let options = Some(&options);
    FieldCli {
        position: option(options, "position", |value| value.as_u32()).unwrap_or_default(),
        unit: option(options, "unit", |value| value.as_enum_number().map(Unit::from_number))
            .unwrap_or_default(),
        help: text_option(options, "help"),
        value_name: text_option(options, "value_name"),
    }
}

fn extension(options: &DynamicMessage, name: &str) -> Option<DynamicMessage> {
    use prost_reflect::ReflectMessage;
    let descriptor = options.descriptor().parent_pool().get_extension_by_name(name)?;
    if !options.has_extension(&descriptor) {
        return None;
    }
    options.get_extension(&descriptor).as_message().cloned()
}

fn option<T>(
    options: Option<&DynamicMessage>,
    name: &str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Option<T> {
    read(options?.get_field_by_name(name)?.as_ref())
}

fn text_option(options: Option<&DynamicMessage>, name: &str) -> Option<String> {
    option(options, name, |value| value.as_str().map(str::to_owned)).filter(|text| !text.is_empty())
}

/// The help of a field: its own, or the first paragraph of its comment.
pub(crate) fn field_help(field: &FieldDescriptor, cli: &FieldCli) -> String {
    cli.help.clone().unwrap_or_else(|| {
        let comment = comment(&field.parent_file(), field.path(), field.full_name());
        first_paragraph(&comment.unwrap_or_default())
    })
}

/// The help of an enum's value.
pub(crate) fn value_help(value: &EnumValueDescriptor) -> String {
    let comment = comment(&value.parent_file(), value.path(), value.full_name());
    first_paragraph(&comment.unwrap_or_default())
}

/// The name of an enum's value without what all values begin with, in lower case:
/// `LOG_CHANNEL_TYPE_STDOUT` → `stdout`.
pub(crate) fn short_value_name(value: &EnumValueDescriptor) -> String {
    let mut prefix = kebab(value.parent_enum().name()).replace('-', "_").to_ascii_uppercase();
    prefix.push('_');
    let name = value.name();
    name.strip_prefix(&prefix).unwrap_or(name).to_ascii_lowercase().replace('_', "-")
}

/// `GetAuraeDaemonLogStream` → `get-aurae-daemon-log-stream`.
pub(crate) fn kebab(name: &str) -> String {
    let mut kebab = String::with_capacity(name.len() + 4);
    for (place, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && place > 0 {
            kebab.push('-');
        }
        kebab.push(if letter == '_' { '-' } else { letter.to_ascii_lowercase() });
    }
    kebab
}

/// The comment above an element of a file.
fn comment(file: &FileDescriptor, path: &[i32], full_name: &str) -> Option<String> {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|known| known.path == path));
    match location.and_then(|location| location.leading_comments.as_deref()) {
        Some(comment) => Some(unindent(comment)),
        None => foreign_comment(full_name).map(str::to_owned),
    }
}

/// Comments of the one foreign service that we speak: its descriptors come without.
fn foreign_comment(full_name: &str) -> Option<&'static str> {
    Some(match full_name {
        "grpc.health.v1.Health" => "Whether the services of a daemon can be called.",
        "grpc.health.v1.Health.Check" => "Tells whether a service can be called now.",
        "grpc.health.v1.Health.Watch" => {
            "Tells whether a service can be called, now and at every change."
        }
        "grpc.health.v1.HealthCheckRequest.service" => {
            "The service's full name, `aurae.cells.v0.CellService` for example. Unset: the daemon as a whole."
        }
        _ => return None,
    })
}

fn unindent(comment: &str) -> String {
    let lines = comment.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// The first paragraph in one line, without its full stop.
fn first_paragraph(comment: &str) -> String {
    let lines = comment.lines().take_while(|line| !line.is_empty());
    let text = lines.collect::<Vec<_>>().join(" ");
    match text.strip_suffix('.') {
        Some(sentence) if !sentence.contains(". ") => sentence.to_owned(),
        _ => text,
    }
}

/// Paragraphs in one line each, for help that is wrapped to the terminal.
pub(crate) fn paragraphs(comment: &str) -> String {
    let paragraphs = comment.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// The first paragraph of a comment, for lists of commands.
pub(crate) fn summary(comment: &str) -> String {
    let text = first_paragraph(comment);
    // A list has one line each: the first sentence.
    text.split_once(". ").map_or(text.clone(), |(first, _)| first.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_those_of_the_contract() {
        let groups = Api::load().unwrap().groups();
        let names: Vec<_> = groups.iter().map(|group| group.name.as_str()).collect();
        let expected =
            ["audit", "auth", "cell", "discovery", "health", "node", "observe", "policy"];
        assert_eq!(names, expected);
        for group in groups {
            assert!(!group.about().is_empty(), "{}", group.name);
            assert!(group.rpcs().all(|rpc| !rpc.comment().is_empty()), "{}", group.name);
        }
    }

    #[test]
    fn options_of_methods_and_fields_are_read() {
        let api = Api::load().unwrap();
        assert!(api.rpc("aurae.node.v0.NodeService", "PowerOff").unwrap().confirm);
        assert!(!api.rpc("aurae.node.v0.NodeService", "Info").unwrap().confirm);
        let signal = api.rpc("aurae.cells.v0.CellService", "Signal").unwrap().method.input();
        let cli = field_cli(&signal.get_field_by_name("signal").unwrap());
        assert_eq!((cli.position, cli.unit), (3, Unit::Signal));
    }

    #[test]
    fn names_are_kebab_case_and_values_lose_their_prefix() {
        assert_eq!(kebab("GetAuraeDaemonLogStream"), "get-aurae-daemon-log-stream");
        assert_eq!(kebab("swap_max"), "swap-max");
        let api = Api::load().unwrap();
        let kind = api.pool.get_enum_by_name("aurae.observe.v0.WorkloadType").unwrap();
        assert_eq!(short_value_name(&kind.get_value(2).unwrap()), "pod-sandbox");
    }
}
