//! Where a zone is, seen from the daemon that is asked.

use std::fmt;

use crate::{CellName, CellPath, Invalid, MAX_DEPTH};

/// The kind of zone that is served.
const CELLS: &str = "cells";

/// The kinds that are known, and not served.
const NOT_SERVED: [&str; 2] = ["pods", "vms"];

/// So much of a bad part is told: a hostile path must not come back in full.
const TOLD_CHARS: usize = 64;

/// The path of a zone below the daemon that is asked: `cells/web`, or `cells/web/cells/api` for a
/// cell in a cell. Each part is a kind and a name, and there are at most [`MAX_DEPTH`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ZonePath(CellPath);

impl ZonePath {
    /// The request metadata that addresses a call to a zone.
    pub const METADATA: &str = "aurae-zone";

    /// Parses a path of kinds and names. The error says which part is bad, and why.
    ///
    /// # Errors
    /// The rule that the path breaks, as one of [`ZonePath::METADATA`].
    pub fn parse(path: &str) -> Result<Self, Invalid> {
        if path.is_empty() {
            return Err(invalid("A path as `cells/web` is needed; leave it out for the node"));
        }
        // Counted before anything is kept: a hostile path must not cost memory.
        if path.split('/').count() > 2 * MAX_DEPTH {
            return Err(invalid(format!("At most {MAX_DEPTH} zones deep")));
        }
        let mut parts = path.split('/');
        let mut cells = Vec::new();
        while let Some(kind) = parts.next() {
            check_kind(kind)?;
            let Some(name) = parts.next() else {
                return Err(invalid(format!("A name is missing after the last {}", told(kind))));
            };
            let name = CellName::parse(name, Self::METADATA)
                .map_err(|error| invalid(format!("Bad name {}: {}", told(name), error.rule)))?;
            cells.push(name);
        }
        CellPath::from_labels(cells).map(Self).ok_or_else(|| invalid("Required"))
    }

    /// Parses a path as people write it: in full, or the names of cells alone, as `web/api`. What
    /// begins with a kind and `/` is one in full.
    ///
    /// # Errors
    /// As [`ZonePath::parse`].
    pub fn parse_short(path: &str) -> Result<Self, Invalid> {
        let is_kind = |part| part == CELLS || NOT_SERVED.contains(&part);
        match path.split_once('/') {
            Some((first, _)) if is_kind(first) => Self::parse(path),
            _ => CellPath::parse(path, Self::METADATA).map(Self),
        }
    }

    /// The same path without its kinds.
    #[must_use]
    pub fn cells(&self) -> &CellPath {
        &self.0
    }

    /// The path of a zone that is at `inner`, seen from this one.
    ///
    /// # Errors
    /// It is more than [`MAX_DEPTH`] deep.
    pub fn join(&self, inner: &Self) -> Result<Self, Invalid> {
        let labels: Vec<_> = self.0.labels().chain(inner.0.labels()).cloned().collect();
        match CellPath::from_labels(labels) {
            Some(path) if path.labels().count() <= MAX_DEPTH => Ok(Self(path)),
            _ => Err(invalid(format!("At most {MAX_DEPTH} zones deep"))),
        }
    }

    /// The first cell, and the path from there where it goes on.
    #[must_use]
    pub fn split_first(&self) -> (&CellName, Option<Self>) {
        let (first, rest) = self.0.split_first();
        (first, rest.map(Self))
    }
}

impl From<CellPath> for ZonePath {
    fn from(cells: CellPath) -> Self {
        Self(cells)
    }
}

impl fmt::Display for ZonePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, label) in self.0.labels().enumerate() {
            let slash = if place == 0 { "" } else { "/" };
            write!(formatter, "{slash}{CELLS}/{label}")?;
        }
        Ok(())
    }
}

fn check_kind(kind: &str) -> Result<(), Invalid> {
    if kind == CELLS {
        return Ok(());
    }
    let why = if NOT_SERVED.contains(&kind) { "is not served yet" } else { "is no kind of zone" };
    Err(invalid(format!("{} {why}: a path is `{CELLS}/NAME/{CELLS}/NAME…`", told(kind))))
}

/// A part of the path, for an error.
fn told(part: &str) -> String {
    format!("{:?}", part.chars().take(TOLD_CHARS).collect::<String>())
}

fn invalid(rule: impl Into<String>) -> Invalid {
    Invalid::new(ZonePath::METADATA, rule)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(path: &str) -> String {
        ZonePath::parse(path).unwrap_err().to_string()
    }

    #[test]
    fn a_refusal_names_the_bad_part() {
        assert!(refusal("web").contains("\"web\" is no kind of zone"));
        assert!(refusal("cells/web/pods/p1").contains("\"pods\" is not served yet"));
        assert!(refusal("cells/web/cells").contains("missing after the last \"cells\""));
        assert!(refusal("cells/we_b").contains("Bad name \"we_b\": '_' is not allowed"));
    }

    #[test]
    fn path_tricks_are_refused() {
        for path in
            ["", "/", "cells", "cells/", "/cells/a", "cells/a/", "cells//a", "cells/..", "Cells/a"]
        {
            assert!(ZonePath::parse(path).is_err(), "{path:?} was taken");
        }
        let deep = |depth| vec!["cells/a"; depth].join("/");
        assert!(ZonePath::parse(&deep(MAX_DEPTH)).is_ok());
        assert!(refusal(&deep(MAX_DEPTH + 1)).contains("At most 32 zones deep"));
    }

    #[test]
    fn a_refusal_is_short_whatever_the_path() {
        assert!(refusal(&"x".repeat(100_000)).len() < 300);
        assert!(refusal(&format!("cells/{}", "x".repeat(100_000))).len() < 300);
    }

    #[test]
    fn people_may_leave_the_kinds_out() {
        let short = |path| ZonePath::parse_short(path).map(|zone| zone.to_string());
        assert_eq!(short("web/api").unwrap(), "cells/web/cells/api");
        assert_eq!(short("cells/web").unwrap(), "cells/web");
        assert_eq!(short("cells").unwrap(), "cells/cells");
        assert!(short("pods/p1").unwrap_err().to_string().contains("not served yet"));
        assert!(short("").is_err());
    }

    #[test]
    fn paths_are_joined_up_to_the_bound() {
        let path = |depth| ZonePath::parse(&vec!["cells/a"; depth].join("/")).unwrap();
        assert_eq!(path(1).join(&path(2)).unwrap(), path(3));
        assert!(path(30).join(&path(3)).is_err());
    }

    #[test]
    fn the_first_cell_is_split_off() {
        let path = ZonePath::parse("cells/web/cells/api").unwrap();
        let (first, rest) = path.split_first();
        assert_eq!(first.as_str(), "web");
        let rest = rest.unwrap();
        assert_eq!(rest.to_string(), "cells/api");
        assert_eq!(rest.split_first().1, None);
    }

    proptest! {
        #[test]
        fn what_is_taken_comes_back_unchanged(path in "(cells/[a-z]{1,3}/?){0,3}\\PC{0,9}") {
            if let Ok(parsed) = ZonePath::parse(&path) {
                prop_assert_eq!(parsed.to_string(), path);
            }
        }

        #[test]
        fn a_cells_path_is_a_zones(path in "[a-z]{1,5}(/[a-z]{1,5}){0,31}") {
            let cells = CellPath::parse(&path, "f").unwrap();
            let zone = ZonePath::from(cells.clone());
            prop_assert_eq!(ZonePath::parse(&zone.to_string()).unwrap(), zone.clone());
            prop_assert_eq!(zone.cells(), &cells);
        }
    }
}
