//! Which files, and where.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use aurae_client::ZonePath;
use aurae_copy::EntryPath;

use crate::failure::Failure;

/// A path in a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct There {
    /// Unset: the node's own zone.
    pub(super) zone: Option<ZonePath>,
    /// An absolute path.
    pub(super) path: String,
}

/// A path of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Here(PathBuf),
    There(There),
}

/// What to copy where.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    IntoZone { sources: Vec<PathBuf>, target: There },
    OutOfZone { sources: Vec<There>, target: PathBuf },
}

impl Plan {
    /// Reads the paths, the target last.
    pub(super) fn of(paths: &[&OsString]) -> Result<Self, Failure> {
        let places = paths.iter().map(|path| parse(path)).collect::<Result<Vec<_>, _>>()?;
        let Some((target, sources)) = places.split_last() else { return Err(one_side()) };
        match target.clone() {
            Place::There(target) => {
                let here = sources.iter().map(|source| match source {
                    Place::Here(path) => Ok(path.clone()),
                    Place::There(_) => Err(one_side()),
                });
                Ok(Self::IntoZone { sources: here.collect::<Result<_, _>>()?, target })
            }
            Place::Here(target) => {
                let there = sources.iter().map(|source| match source {
                    Place::There(there) => Ok(there.clone()),
                    Place::Here(_) => Err(one_side()),
                });
                Ok(Self::OutOfZone { sources: there.collect::<Result<_, _>>()?, target })
            }
        }
    }

    /// The same, where the zones that it names are seen from another than the node's.
    pub(super) fn seen_from(mut self, outer: Option<&ZonePath>) -> Result<Self, Failure> {
        let theirs = match &mut self {
            Self::IntoZone { target, .. } => std::slice::from_mut(target),
            Self::OutOfZone { sources, .. } => sources.as_mut_slice(),
        };
        for there in theirs {
            there.zone = match (outer, there.zone.take()) {
                (Some(outer), Some(inner)) => {
                    Some(outer.join(&inner).map_err(|error| Failure::usage(error.to_string()))?)
                }
                (outer, inner) => inner.or_else(|| outer.cloned()),
            };
        }
        Ok(self)
    }
}

fn one_side() -> Failure {
    Failure::usage("either all sources or the target are in a cell, and not both")
        .hint("a path in a cell is CELL:/PATH; a file here whose name has a colon is ./NAME")
}

/// What is before the first colon is a cell, or nothing, or else the colon is part of a name.
fn parse(argument: &OsStr) -> Result<Place, Failure> {
    let here = || Ok(Place::Here(argument.into()));
    let Some((cell, path)) = argument.to_str().and_then(|text| text.split_once(':')) else {
        return here();
    };
    let zone = match cell {
        "" => None,
        cell => match ZonePath::parse_short(cell) {
            Ok(zone) => Some(zone),
            Err(_) => return here(),
        },
    };
    if !path.starts_with('/') {
        return Err(Failure::usage(format!("`{path}` is no path in a cell: it begins with `/`"))
            .hint(format!("`{cell}:/{path}`, or `./{cell}:{path}` for a file here")));
    }
    Ok(Place::There(There { zone, path: path.to_owned() }))
}

/// The directory of a path and its last part, or why it has none. Slashes at the end do not count.
pub(super) fn split(path: &Path) -> Result<(PathBuf, EntryPath), Failure> {
    let bytes = path.as_os_str().as_bytes();
    let end = bytes.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    let begin = bytes[..end].iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let name = EntryPath::parse(&bytes[begin..end], "path").map_err(|_| {
        Failure::usage(format!("`{}` does not end in a name", path.display()))
            .hint("name a directory by its own name, or what is in it one by one, `dir/*`")
    })?;
    let directory =
        if begin == 0 { Path::new(".") } else { Path::new(OsStr::from_bytes(&bytes[..begin])) };
    Ok((directory.to_owned(), name))
}

/// Whether a path says that it is a directory.
pub(super) fn ends_with_slash(path: &OsStr) -> bool {
    path.as_bytes().ends_with(b"/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(paths: &[&str]) -> Result<Plan, Failure> {
        let paths: Vec<OsString> = paths.iter().map(OsString::from).collect();
        Plan::of(&paths.iter().collect::<Vec<_>>())
    }

    fn there(zone: &str, path: &str) -> There {
        There { zone: ZonePath::parse(zone).ok(), path: path.to_owned() }
    }

    #[test]
    fn a_cell_stands_before_the_first_colon() {
        let expected = |source: &str, zone| Plan::IntoZone {
            sources: vec![source.into()],
            target: there(zone, "/srv/a:b"),
        };
        for (source, target, zone) in [
            ("dir", "web:/srv/a:b", "cells/web"),
            ("./web:x", "web/api:/srv/a:b", "cells/web/cells/api"),
            ("a_b:/x", "cells/web:/srv/a:b", "cells/web"),
            ("/web:x", ":/srv/a:b", ""),
        ] {
            assert_eq!(plan(&[source, target]).unwrap(), expected(source, zone));
        }
    }

    #[test]
    fn one_side_is_in_a_cell() {
        for paths in [&["a", "b"][..], &["web:/a", "web:/b"], &["a", "web:/b", "c"]] {
            assert!(plan(paths).unwrap_err().text().contains("either all sources"), "{paths:?}");
        }
        assert!(plan(&["a", "web:b"]).unwrap_err().text().contains("`web:/b`"));
    }

    #[test]
    fn cells_are_seen_from_the_zone_that_is_asked() {
        let outer = ZonePath::parse("cells/web").unwrap();
        let seen = plan(&["api:/a", ":/b", "."]).unwrap().seen_from(Some(&outer)).unwrap();
        let sources = vec![there("cells/web/cells/api", "/a"), there("cells/web", "/b")];
        assert_eq!(seen, Plan::OutOfZone { sources, target: ".".into() });
    }

    #[test]
    fn a_path_ends_in_a_name() {
        let name = |text: &str| {
            split(Path::new(text)).map(|(directory, name)| (directory, format!("{name:?}")))
        };
        assert_eq!(name("a/b//").unwrap(), ("a/".into(), "\"b\"".to_owned()));
        assert_eq!(name("b").unwrap(), (".".into(), "\"b\"".to_owned()));
        for nameless in ["/", ".", "..", "a/.."] {
            assert!(name(nameless).is_err(), "{nameless}");
        }
    }
}
