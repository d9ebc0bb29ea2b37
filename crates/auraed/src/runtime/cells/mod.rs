//! The cells of this daemon: cgroups with a daemon of their own inside.
//!
//! ```text
//!          allocate               ready                    free                 empty
//! (none) ──────────▶ Settling ─────────▶ Live ──────────────────▶ Freeing ───────────▶ (none)
//!    ▲                 ▲ │                 │ zone's daemon ended      ▲
//!    │   found at the ─┘ │                 └────────▶ Failed ─────────┘
//!    └── start           └─ failed: undone
//! ```
//!
//! A cell that runs and does not let this daemon in, which was started anew, is Unreachable until it does
//! (Live) or is freed.
//!
//! The [`handle`]'s table has the names; a [`runner`] task owns each cell that was made: its cgroup,
//! its line, its daemon's end. A failed cell has no process left and waits to be freed. What a cell
//! is, and how it stands, is noted on its cgroup ([`notes`]): so a daemon that is started anew finds
//! it ([`adopt`]), and any daemon around it shows it ([`tree`]), whoever made it.
//!
//! Cells inside cells are the business of the daemon of the cell around them.

mod adopt;
mod connection;
mod errors;
mod freeze;
mod handle;
mod limits;
mod notes;
mod pids;
mod runner;
mod start;
mod tree;
mod update;
mod usage;

pub use connection::Connection;
pub use errors::{AllocateError, FreeError, InspectError, NoSuchCell, ReachError, TooManyCalls};
pub use freeze::Turn;
pub use handle::{CellSpec, Cells, CellsSettings, Nesting, Room, Zone, view_own};
pub use limits::LimitError;
pub use notes::Traits;
pub use tree::{CellNode, CellState, CellView};
pub use update::{CellChange, UpdateError};
pub use usage::{CpuUsage, MemoryUsage, PidsUsage, Pressure, PressureLine, Usage};

/// What the names of leaves, which hold processes, start with; no cell's name does.
pub const LEAF_MARK: char = '_';

/// The leaf of a zone's own daemon.
pub const DAEMON_LEAF: &str = "_auraed";
