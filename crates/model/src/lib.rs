//! Names, paths and limits: what the wire says, parsed once at the edge. No I/O.
//!
//! **Invariant**: a value of a type of this crate is valid. The inside of the daemon never checks
//! again.

#![forbid(unsafe_code)]

mod capability;
mod change;
mod error;
mod executable;
mod limits;
pub mod moment;
mod name;
mod restart;
mod security;
mod terminal;
mod users;
mod zone;

pub use capability::Capabilities;
pub use change::{Limit, LimitsChange};
pub use error::Invalid;
pub use executable::{Command, Executable, Program, StopPolicy};
pub use limits::{
    Cpu, CpuMax, CpuMaxChange, Cpuset, Device, Io, IoDevice, Limits, List, Memory, Weight,
    parse_list,
};
pub use name::{CellName, CellPath, ExecutableName, MAX_DEPTH};
pub use restart::{RestartCondition, RestartPolicy};
pub use security::{DeviceAccess, DeviceRule, Devices, Landlock, Security};
pub use terminal::TerminalSize;
pub use users::IdRange;
pub use zone::ZonePath;
