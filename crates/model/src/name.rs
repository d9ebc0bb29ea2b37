//! The names of cells and executables.

use std::fmt;

use crate::Invalid;

/// How deep cells may nest.
pub const MAX_DEPTH: usize = 32;

/// A label has at most this many bytes, as one of a DNS name (RFC 1035): it becomes a host name.
const MAX_LABEL: usize = 63;

/// One label of a cell's path: 1 to 63 characters of `A-Z a-z 0-9 -`, `-` only inside.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CellName(Box<str>);

impl CellName {
    /// Parses one label. `field` is named in the error.
    ///
    /// # Errors
    /// The rule that the label breaks.
    pub fn parse(label: &str, field: &str) -> Result<Self, Invalid> {
        check_label(label, field, |byte| byte == b'-')?;
        Ok(Self(label.into()))
    }

    /// The zone in which a node's own executables run. No request can name it: no label starts with `_`.
    #[must_use]
    pub fn of_node() -> Self {
        Self("_node".into())
    }

    /// Whether it is the zone of a node's own executables.
    #[must_use]
    pub fn is_of_node(&self) -> bool {
        self.0.starts_with('_')
    }

    /// The label.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CellName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The path of a cell below the daemon that is asked: `web`, or `web/api` for a cell in a cell.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CellPath {
    first: CellName,
    rest: Box<[CellName]>,
}

impl CellPath {
    /// Parses a path of labels separated by `/`. `field` is named in the error.
    ///
    /// # Errors
    /// The rule that the path, or one of its labels, breaks.
    pub fn parse(path: &str, field: &str) -> Result<Self, Invalid> {
        if path.is_empty() {
            return Err(Invalid::required(field));
        }
        // Counted before anything is kept: a hostile path must not cost memory.
        if path.split('/').count() > MAX_DEPTH {
            return Err(Invalid::new(field, format!("At most {MAX_DEPTH} labels")));
        }
        let labels = path.split('/').map(|label| CellName::parse(label, field));
        let labels = labels.collect::<Result<Vec<CellName>, Invalid>>()?;
        Self::from_labels(labels).ok_or_else(|| Invalid::required(field))
    }

    /// A path of labels, whose number the caller has bounded. None: there are none.
    pub(crate) fn from_labels(labels: Vec<CellName>) -> Option<Self> {
        let mut labels = labels.into_iter();
        Some(Self { first: labels.next()?, rest: labels.collect() })
    }

    /// The labels, the outermost cell's first.
    pub fn labels(&self) -> impl Iterator<Item = &CellName> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// The path of the cell around this one, where there is one, and the last label.
    #[must_use]
    pub fn split_last(&self) -> (Option<Self>, &CellName) {
        match self.rest.split_last() {
            Some((last, rest)) => {
                (Some(Self { first: self.first.clone(), rest: rest.into() }), last)
            }
            None => (None, &self.first),
        }
    }

    /// The path of the cell `name` inside this one.
    #[must_use]
    pub fn join(&self, name: &CellName) -> Self {
        let rest = self.rest.iter().chain([name]).cloned().collect();
        Self { first: self.first.clone(), rest }
    }

    /// How many labels it has.
    #[must_use]
    pub fn depth(&self) -> usize {
        1 + self.rest.len()
    }

    /// The first label, and the rest of the path where there is one.
    #[must_use]
    pub fn split_first(&self) -> (&CellName, Option<Self>) {
        let rest = self
            .rest
            .split_first()
            .map(|(first, rest)| Self { first: first.clone(), rest: rest.into() });
        (&self.first, rest)
    }
}

impl From<CellName> for CellPath {
    fn from(first: CellName) -> Self {
        Self { first, rest: Box::default() }
    }
}

impl fmt::Display for CellPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.first.as_str())?;
        for label in &self.rest {
            write!(formatter, "/{label}")?;
        }
        Ok(())
    }
}

/// The name of an executable: a label in which `_` and `.` are allowed too, but not at its ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExecutableName(Box<str>);

impl ExecutableName {
    /// Parses a name. `field` is named in the error.
    ///
    /// # Errors
    /// The rule that the name breaks.
    pub fn parse(name: &str, field: &str) -> Result<Self, Invalid> {
        check_label(name, field, |byte| matches!(byte, b'-' | b'_' | b'.'))?;
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExecutableName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Letters and digits anywhere, what `inside` allows anywhere but at the ends.
fn check_label(label: &str, field: &str, inside: fn(u8) -> bool) -> Result<(), Invalid> {
    let bytes = label.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return Err(Invalid::required(field));
    };
    if bytes.len() > MAX_LABEL {
        return Err(Invalid::new(field, format!("At most {MAX_LABEL} characters in a label")));
    }
    if let Some(bad) = label.chars().find(|&c| {
        !(c.is_ascii_alphanumeric()
            || u8::try_from(c).is_ok_and(|byte| c.is_ascii() && inside(byte)))
    }) {
        return Err(Invalid::new(field, format!("{bad:?} is not allowed in a label")));
    }
    if !first.is_ascii_alphanumeric() || !last.is_ascii_alphanumeric() {
        return Err(Invalid::new(field, "A label starts and ends with a letter or a digit"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn path_tricks_are_refused() {
        for path in [
            "", "/", "a/", "/a", "a//b", "../x", "a/../b", ".", "a b", "_auraed", "a\0", "-a",
            "a-", "ä", "a/-",
        ] {
            assert!(CellPath::parse(path, "cell.name").is_err(), "{path:?} was taken");
        }
        let deep = vec!["a"; MAX_DEPTH + 1].join("/");
        assert!(CellPath::parse(&deep, "cell.name").is_err());
    }

    #[test]
    fn a_path_is_taken_apart_and_put_together() {
        let path = CellPath::parse("a/b/c", "f").unwrap();
        assert_eq!(path.depth(), 3);
        let (around, last) = path.split_last();
        let around = around.unwrap();
        assert_eq!((around.to_string().as_str(), last.as_str()), ("a/b", "c"));
        assert_eq!(around.join(last), path);
        let single = CellPath::from(last.clone());
        assert_eq!((single.split_last().0, single.depth()), (None, 1));
    }

    #[test]
    fn no_request_can_name_the_zone_of_the_node() {
        let name = CellName::of_node();
        assert!(name.is_of_node());
        assert!(CellName::parse(name.as_str(), "f").is_err());
    }

    #[test]
    fn an_empty_name_is_required() {
        let error = CellPath::parse("", "cell.name").unwrap_err();
        assert_eq!(error.to_string(), "Field = cell.name; Required");
    }

    #[test]
    fn executable_names_may_have_dots_inside_only() {
        assert!(ExecutableName::parse("nginx_1.2", "f").is_ok());
        for name in ["", ".", "..", ".a", "a.", "_a", "a/b", "a\nb"] {
            assert!(ExecutableName::parse(name, "f").is_err(), "{name:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_comes_back_unchanged(path in "\\PC{0,80}") {
            if let Ok(parsed) = CellPath::parse(&path, "f") {
                prop_assert_eq!(parsed.to_string(), path);
            }
        }

        #[test]
        fn valid_paths_are_taken(path in "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(/[a-z0-9]{1,9}){0,31}") {
            prop_assert!(CellPath::parse(&path, "f").is_ok());
        }
    }
}
