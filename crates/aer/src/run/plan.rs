//! What `aer run` asks for: a cell, and an executable in it.

use bytes::Bytes;
use clap::ArgMatches;
use prost::Message;
use prost_reflect::{DynamicMessage, Value};

use super::{CELL, COMMAND};
use crate::api::{Api, Rpc};
use crate::derive::{self, Field};
use crate::failure::Failure;

/// The name of the one executable of the cell.
pub(super) const EXECUTABLE: &str = "main";

const SERVICE: &str = "aurae.cells.v0.CellService";

/// The requests that are derived.
pub(super) struct Rpcs {
    allocate: Rpc,
    start: Rpc,
}

impl Rpcs {
    pub(super) fn of(api: &Api) -> Result<Self, Failure> {
        Ok(Self { allocate: api.rpc(SERVICE, "Allocate")?, start: api.rpc(SERVICE, "Start")? })
    }
}

/// What can be asked of the cell.
pub(super) fn cell_fields(rpcs: &Rpcs) -> Vec<Field> {
    flags(&rpcs.allocate)
}

/// What can be asked of the executable, but for what is executed.
pub(super) fn executable_fields(rpcs: &Rpcs) -> Vec<Field> {
    let fields = flags(&rpcs.start).into_iter();
    fields.filter(|field| !field.is_argv() && field.id() != "executable.command").collect()
}

/// All fields but the names: those are ours.
fn flags(rpc: &Rpc) -> Vec<Field> {
    let fields = derive::fields(&rpc.method.input()).into_iter();
    fields.filter(|field| field.position().is_none()).collect()
}

/// What to do.
pub(super) struct Plan {
    pub(super) cell: String,
    pub(super) allocate_path: String,
    pub(super) allocate: Bytes,
    pub(super) start_path: String,
    pub(super) start: Bytes,
}

impl Plan {
    pub(super) fn from_matches(api: &Api, matches: &ArgMatches) -> Result<Self, Failure> {
        let rpcs = Rpcs::of(api)?;
        let cell = matches.get_one::<String>(CELL).cloned().unwrap_or_default();
        let command = matches.get_many::<String>(COMMAND).unwrap_or_default();
        let argv = command.map(|word| Value::String(word.clone())).collect();

        let mut allocate = DynamicMessage::new(rpcs.allocate.method.input());
        derive::fill(&mut allocate, &cell_fields(&rpcs), matches)?;
        set(&mut allocate, &["cell", "name"], Value::String(cell.clone()))?;

        let mut start = DynamicMessage::new(rpcs.start.method.input());
        derive::fill(&mut start, &executable_fields(&rpcs), matches)?;
        set(&mut start, &["cell_name"], Value::String(cell.clone()))?;
        set(&mut start, &["executable", "name"], Value::String(EXECUTABLE.to_owned()))?;
        set(&mut start, &["executable", "args"], Value::List(argv))?;

        Ok(Self {
            cell,
            allocate_path: rpcs.allocate.path(),
            allocate: allocate.encode_to_vec().into(),
            start_path: rpcs.start.path(),
            start: start.encode_to_vec().into(),
        })
    }
}

fn set(message: &mut DynamicMessage, path: &[&str], value: Value) -> Result<(), Failure> {
    let missing = |name: &str| Failure::new(format!("the API has no field {name}"));
    match path {
        [] => Ok(()),
        [name] => message.try_set_field_by_name(name, value).map_err(|_| missing(name)),
        [name, rest @ ..] => {
            let inner = message.get_field_by_name_mut(name).and_then(Value::as_message_mut);
            set(inner.ok_or_else(|| missing(name))?, rest, value)
        }
    }
}
