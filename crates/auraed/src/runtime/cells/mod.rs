//! The cells of this daemon: cgroups with a daemon of their own inside.
//!
//! ```text
//!          allocate                ready                    free                 empty
//! (none) ──────────▶ Allocating ─────────▶ Live ──────────────────▶ Freeing ───────────▶ (none)
//!    ▲                   │                   │ zone's daemon ended      ▲
//!    └── failed: undone ─┘                   └────────▶ Failed ─────────┘
//! ```
//!
//! The [`handle`]'s table has the names; a [`runner`] task owns each cell that was made: its cgroup,
//! its line, its daemon's end. A failed cell has no process left and waits to be freed.

mod handle;
mod limits;
mod runner;
mod start;
mod usage;

pub use handle::{
    AllocateError, CellSpec, CellView, Cells, CellsSettings, FreeError, InspectError, NoSuchCell,
    ReachError, TooManyCalls, Zone, view_own,
};
pub use limits::LimitError;
pub use usage::{CpuUsage, MemoryUsage, PidsUsage, Pressure, PressureLine, Usage};

/// What the names of leaves, which hold processes, start with; no cell's name does.
pub const LEAF_MARK: char = '_';

/// The leaf of a zone's own daemon.
pub const DAEMON_LEAF: &str = "_auraed";
