//! What an action is done to.

use aurae_model::{CellPath, ExecutableName};

/// Something a permit can be narrowed to. Its name is its zone path, in the style of AIP-122.
pub trait Resource {
    /// The name, `cells/web/cells/api` for example.
    fn name(&self) -> String;

    /// Whether it is of the zone that answers, not of one inside it.
    fn is_own(&self) -> bool;
}

/// The node, or the zone, of the daemon that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node;

impl Resource for Node {
    fn name(&self) -> String {
        "node".into()
    }

    fn is_own(&self) -> bool {
        true
    }
}

impl Resource for CellPath {
    fn name(&self) -> String {
        format!("cells/{}", self.to_string().replace('/', "/cells/"))
    }

    fn is_own(&self) -> bool {
        false
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
    fn name(&self) -> String {
        match &self.cell {
            Some(cell) => format!("{}/executables/{}", Resource::name(cell), self.name),
            None => format!("executables/{}", self.name),
        }
    }

    fn is_own(&self) -> bool {
        self.cell.is_none()
    }
}

/// A cell, or the daemon that answers itself.
impl Resource for Option<CellPath> {
    fn name(&self) -> String {
        self.as_ref().map_or_else(|| Node.name(), Resource::name)
    }

    fn is_own(&self) -> bool {
        self.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_zone_paths() {
        let cell = CellPath::parse("web/api", "cell_name").unwrap();
        assert_eq!(Resource::name(&cell), "cells/web/cells/api");
        let name = ExecutableName::parse("nginx", "executable_name").unwrap();
        let executable = Executable { cell: Some(cell), name };
        assert_eq!(executable.name(), "cells/web/cells/api/executables/nginx");
        let own = Executable { cell: None, ..executable };
        assert_eq!(own.name(), "executables/nginx");
        assert_eq!(Resource::name(&None::<CellPath>), "node");
    }
}
