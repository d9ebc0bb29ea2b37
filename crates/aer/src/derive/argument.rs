//! From fields to clap's arguments, and from what clap matched to a request.

use std::collections::BTreeSet;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser, ValueParser};
use clap::parser::MatchesError;
use clap::{Arg, ArgAction, ArgMatches};
use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, Value};

use super::field::Field;
use super::value;
use crate::api::{Unit, field_help, short_value_name, value_help};
use crate::failure::Failure;

/// What is appended to a field's id where `--` fills it.
const ARGV_SUFFIX: &str = "/argv";

/// The arguments of a command: first the positional ones, then the flags. `taken` are the names of
/// flags that every command has.
pub(crate) fn positional_and_flag_arguments(
    fields: &[Field],
    taken: &BTreeSet<String>,
) -> Vec<Arg> {
    let mut positional: Vec<_> = fields.iter().filter(|field| field.position().is_some()).collect();
    positional.sort_by_key(|field| field.position());
    // What may be left out can only be left out at the end.
    let required =
        positional.iter().rposition(|field| is_required(field)).map_or(0, |last| last + 1);

    let mut arguments = Vec::new();
    for (place, field) in positional.iter().enumerate() {
        arguments.push(positional_argument(field, place + 1, place < required));
    }
    let flags = fields.iter().filter(|field| field.position().is_none());
    for field in flags {
        arguments.push(flag(field, taken));
        if field.is_argv() {
            arguments.push(argv(field, positional.len() + 1));
        }
    }
    arguments
}

fn is_required(field: &Field) -> bool {
    field.descriptor().is_some_and(|field| !field.supports_presence())
}

fn positional_argument(field: &Field, index: usize, required: bool) -> Arg {
    let mut help = help(field);
    if required && !is_required(field) {
        help.push_str(" ('' leaves it unset)");
    }
    let name = field.cli.value_name.clone().unwrap_or_else(|| field.positional_name());
    Arg::new(field.id())
        .index(index)
        .required(required)
        .value_name(name)
        .value_parser(parser(field))
        .allow_negative_numbers(true)
        .help(help)
}

/// What follows `--`.
fn argv(field: &Field, index: usize) -> Arg {
    let id = field.id();
    Arg::new(format!("{id}{ARGV_SUFFIX}"))
        .index(index)
        .last(true)
        .num_args(1..)
        .value_name("ARGS")
        .value_parser(parser(field))
        .conflicts_with(id)
        .help(help(field))
}

fn flag(field: &Field, taken: &BTreeSet<String>) -> Arg {
    let long = match taken.contains(&field.long) {
        true => format!("request-{}", field.long),
        false => field.long.clone(),
    };
    let argument = Arg::new(field.id()).long(long).help(help(field)).value_parser(parser(field));
    let argument = match field.alias.as_ref().filter(|alias| !taken.contains(*alias)) {
        Some(alias) => argument.visible_alias(alias.clone()),
        None => argument,
    };
    match field.descriptor() {
        Some(descriptor) if descriptor.is_list() || descriptor.is_map() => argument
            .action(ArgAction::Append)
            .value_name(value_name(field))
            .allow_hyphen_values(field.is_argv()),
        Some(descriptor) if descriptor.kind() == Kind::Bool => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_possible_values(true)
            .value_name("true|false"),
        _ => argument.value_name(value_name(field)).allow_negative_numbers(true),
    }
    .ignore_case(true)
}

fn help(field: &Field) -> String {
    field.descriptor().map(|descriptor| field_help(descriptor, &field.cli)).unwrap_or_default()
}

/// What stands for the value in the help: `SIZE`, `DURATION`, or the field's own name.
fn value_name(field: &Field) -> String {
    if let Some(name) = &field.cli.value_name {
        return name.clone();
    }
    let Some(descriptor) = field.descriptor() else { return String::new() };
    let own = || descriptor.name().to_ascii_uppercase();
    match (descriptor.kind(), field.cli.unit) {
        _ if descriptor.is_map() => "KEY=VALUE".to_owned(),
        (Kind::Message(message), _) => match message.full_name() {
            "google.protobuf.Duration" => "DURATION".to_owned(),
            "google.protobuf.Timestamp" => "TIME".to_owned(),
            _ => "FIELD=VALUE,…".to_owned(),
        },
        (Kind::String | Kind::Bytes | Kind::Enum(_), _) => own(),
        (_, Unit::Bytes) => "SIZE".to_owned(),
        (_, Unit::Microseconds) => "DURATION".to_owned(),
        (_, Unit::UnixNanoseconds | Unit::UnixSeconds) => "TIME".to_owned(),
        (_, Unit::Signal) => "SIGNAL".to_owned(),
        (_, Unit::BasisPoints) => "PERCENT".to_owned(),
        (_, Unit::Plain) => "NUMBER".to_owned(),
    }
}

fn parser(field: &Field) -> ValueParser {
    let Some(descriptor) = field.descriptor().cloned() else { return ValueParser::string() };
    match descriptor.kind() {
        Kind::Enum(kind) => enum_parser(kind),
        Kind::Bool if !descriptor.is_list() => {
            clap::builder::BoolishValueParser::new().map(Value::Bool).into()
        }
        _ => {
            let unit = field.cli.unit;
            ValueParser::new(move |text: &str| value::parse(&descriptor, unit, text))
        }
    }
}

/// The values by their short names; the one that stands for unset is left out.
fn enum_parser(kind: EnumDescriptor) -> ValueParser {
    let values = kind.values().filter(|value| value.number() != 0);
    let possible = values.map(|value| {
        let full = value.name().to_owned();
        PossibleValue::new(short_value_name(&value)).alias(full).help(value_help(&value))
    });
    PossibleValuesParser::new(possible.collect::<Vec<_>>())
        .try_map(move |name| {
            let found = kind.values().find(|value| {
                value.name().eq_ignore_ascii_case(&name)
                    || short_value_name(value).eq_ignore_ascii_case(&name)
            });
            found.map(|value| Value::EnumNumber(value.number())).ok_or(UnknownValue)
        })
        .into()
}

#[derive(Debug, thiserror::Error)]
#[error("unknown value")]
struct UnknownValue;

/// Sets the fields that the command line has.
pub(crate) fn fill(
    request: &mut DynamicMessage,
    fields: &[Field],
    matches: &ArgMatches,
) -> Result<(), Failure> {
    for field in fields {
        for id in [field.id(), format!("{}{ARGV_SUFFIX}", field.id())] {
            let values = match matches.try_get_many::<Value>(&id) {
                Ok(values) => values.into_iter().flatten(),
                Err(MatchesError::UnknownArgument { .. }) => continue,
                Err(error) => return Err(Failure::new(format!("argument {id}: {error}"))),
            };
            for value in values.filter(|value| !leaves_unset(field, value)) {
                set_at(request, &field.path, value.clone())
                    .map_err(|error| Failure::usage(format!("argument {id}: {error}")))?;
            }
        }
    }
    Ok(())
}

/// An empty positional argument leaves a field unset that can be.
fn leaves_unset(field: &Field, value: &Value) -> bool {
    field.position().is_some()
        && !is_required(field)
        && value.as_str().is_some_and(|text| text.is_empty())
}

fn set_at(
    message: &mut DynamicMessage,
    path: &[FieldDescriptor],
    value: Value,
) -> Result<(), String> {
    match path {
        [] => Ok(()),
        [field] => value::set(message, field, value),
        [field, rest @ ..] => match message.get_field_mut(field).as_message_mut() {
            Some(inner) => set_at(inner, rest, value),
            None => Err(format!("{} is no message", field.name())),
        },
    }
}
