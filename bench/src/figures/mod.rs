//! What is measured: a file a subject.

mod boots;
mod cycle;
mod decision;
mod fairness;
mod fleet;
mod logs;
mod many;
mod memory;
mod rpc;
mod scale;
mod script;

pub(crate) use boots::{boots, look};
pub(crate) use fairness::crowd;
pub(crate) use logs::LINE;
pub(crate) use script::{Scripts, scripts};

use crate::bench::Group;

/// In the order in which they are measured: what leaves many cells behind for a while comes last.
pub(crate) const GROUPS: [Group; 10] = [
    Group { name: "zone", measure: cycle::zone },
    Group { name: "cycle", measure: cycle::cycle },
    Group { name: "start", measure: cycle::start },
    Group { name: "rpc", measure: rpc::rpc },
    Group { name: "decision", measure: decision::decision },
    Group { name: "fairness", measure: fairness::fairness },
    Group { name: "logs", measure: logs::logs },
    Group { name: "many", measure: many::many },
    Group { name: "memory", measure: memory::memory },
    Group { name: "scale", measure: scale::scale },
];

/// Needs network namespaces, and no daemon but its own.
pub(crate) const FLEET: Group = Group { name: "fleet", measure: fleet::fleet };
