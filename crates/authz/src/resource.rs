//! What an action is done to.

use std::borrow::Cow;
use std::fmt;

use aurae_model::{CellPath, ExecutableName, Invalid, ZonePath};

/// What the node's own name is.
const NODE: &str = "node";
/// What stands before an executable's name.
const EXECUTABLES: &str = "executables/";

/// Something that a request is about, seen from the daemon that decides. Its name is its zone path, in
/// the style of AIP-122: `cells/web/executables/nginx`; that of the daemon itself is `node`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    /// A zone; `None`: the daemon's own.
    Zone(Option<CellPath>),
    /// An executable of a zone.
    Executable(Executable),
}

/// A kind of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Node,
    Cell,
    Executable,
}

impl Object {
    /// The object of a name.
    ///
    /// # Errors
    /// The rule that the name breaks.
    pub fn parse(name: &str) -> Result<Self, Invalid> {
        const FIELD: &str = "resource";
        let executable = |cell, name| {
            ExecutableName::parse(name, FIELD)
                .map(|name| Self::Executable(Executable { cell, name }))
        };
        if name == NODE {
            return Ok(Self::Zone(None));
        }
        if let Some(name) = name.strip_prefix(EXECUTABLES) {
            return executable(None, name);
        }
        let zone = |path| {
            let path = ZonePath::parse(path);
            path.map(|path| path.cells().clone()).map_err(|error| Invalid::new(FIELD, error.rule))
        };
        match name.rsplit_once("/executables/") {
            Some((path, name)) => executable(Some(zone(path)?), name),
            None => zone(name).map(|cell| Self::Zone(Some(cell))),
        }
    }

    /// What kind of resource it is: its type, in policies.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Zone(None) => Kind::Node,
            Self::Zone(Some(_)) => Kind::Cell,
            Self::Executable(_) => Kind::Executable,
        }
    }

    /// Its name. That of the node, which most requests are about, is there already.
    #[must_use]
    pub fn name(&self) -> Cow<'static, str> {
        match self {
            Self::Zone(None) => Cow::Borrowed(NODE),
            object => Cow::Owned(object.to_string()),
        }
    }

    /// The cell that it is, or that it is in; `None`: the daemon's own zone.
    #[must_use]
    pub fn cell(&self) -> Option<&CellPath> {
        match self {
            Self::Zone(cell) | Self::Executable(Executable { cell, .. }) => cell.as_ref(),
        }
    }

    /// Whether it is the cell at `path`, or inside it.
    #[must_use]
    pub fn is_in(&self, path: &CellPath) -> bool {
        self.cell().is_some_and(|cell| is_in(cell, path))
    }
}

/// Whether `cell` is `around`, or inside it.
pub(crate) fn is_in(cell: &CellPath, around: &CellPath) -> bool {
    cell.depth() >= around.depth() && cell.labels().zip(around.labels()).all(|(a, b)| a == b)
}

impl fmt::Display for Object {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zone(None) => formatter.write_str(NODE),
            Self::Zone(Some(cell)) => write_zone(cell, formatter),
            Self::Executable(Executable { cell, name }) => {
                if let Some(cell) = cell {
                    write_zone(cell, formatter)?;
                    formatter.write_str("/")?;
                }
                write!(formatter, "{EXECUTABLES}{name}")
            }
        }
    }
}

fn write_zone(cell: &CellPath, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (place, label) in cell.labels().enumerate() {
        let slash = if place == 0 { "" } else { "/" };
        write!(formatter, "{slash}cells/{label}")?;
    }
    Ok(())
}

/// Something a permit can be narrowed to.
pub trait Resource {
    /// What it is, seen from the daemon that answers.
    fn object(&self) -> Object;
}

/// The node, or the zone, of the daemon that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node;

impl Resource for Node {
    fn object(&self) -> Object {
        Object::Zone(None)
    }
}

impl Resource for CellPath {
    fn object(&self) -> Object {
        Object::Zone(Some(self.clone()))
    }
}

/// An executable of a cell, or of the daemon that answers itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Executable {
    /// The cell it is in; `None`: the daemon that answers, itself.
    pub cell: Option<CellPath>,
    /// Its name.
    pub name: ExecutableName,
}

impl Resource for Executable {
    fn object(&self) -> Object {
        Object::Executable(self.clone())
    }
}

/// A cell, or the daemon that answers itself.
impl Resource for Option<CellPath> {
    fn object(&self) -> Object {
        Object::Zone(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_zone_paths_and_lead_back() {
        for name in [
            "node",
            "cells/web/cells/api",
            "cells/web/cells/api/executables/nginx",
            "executables/nginx",
        ] {
            assert_eq!(Object::parse(name).unwrap().to_string(), name);
            assert_eq!(Object::parse(name).unwrap().name(), name);
        }
        assert_eq!(Object::parse("node").unwrap(), Node.object());
        for bad in ["", "web", "cells", "cells/", "executables/", "executables/_x", "pods/a"] {
            assert_eq!(Object::parse(bad).unwrap_err().field, "resource", "{bad}");
        }
    }

    #[test]
    fn what_is_in_a_cell_has_its_path_before_its_own() {
        let web = CellPath::parse("web", "f").unwrap();
        for inside in ["cells/web", "cells/web/cells/a", "cells/web/executables/x"] {
            assert!(Object::parse(inside).unwrap().is_in(&web), "{inside}");
        }
        for outside in ["node", "executables/x", "cells/webs", "cells/a/cells/web"] {
            assert!(!Object::parse(outside).unwrap().is_in(&web), "{outside}");
        }
    }
}
