//! Names and paths: what is taken is printed as it came, and is within its bounds.

use aurae_authz::Object;
use aurae_model::{CellName, CellPath, ExecutableName, Invalid, MAX_DEPTH, ZonePath};

/// The longest label, in bytes.
const MAX_LABEL: usize = 63;
/// A refusal is short, whatever was refused.
const MAX_REFUSAL: usize = 1024;

/// The input is a text that is parsed as everything that has a name.
pub fn names(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(name) = taken(text, CellName::parse(text, "name")) {
        check_label(name.as_str());
        assert!(!name.is_of_node(), "{text:?} names the zone of the node");
        assert!(CellPath::parse(text, "path").is_ok(), "{text:?} is a name and no path");
    }
    if let Some(name) = taken(text, ExecutableName::parse(text, "name")) {
        check_label(name.as_str());
    }
    if let Some(path) = taken(text, CellPath::parse(text, "path")) {
        check_path(&path);
    }
    if let Some(path) = taken(text, ZonePath::parse(text)) {
        check_path(path.cells());
        assert_eq!(ZonePath::parse_short(text).as_ref(), Ok(&path), "{text:?} in short");
    }
    if let Ok(path) = ZonePath::parse_short(text) {
        check_path(path.cells());
    }
    if let Some(object) = taken(text, Object::parse(text)) {
        check_object(&object);
    }
}

/// What was taken comes back as it was.
fn taken<T>(text: &str, parsed: Result<T, Invalid>) -> Option<T>
where
    T: std::fmt::Display,
{
    match parsed {
        Ok(value) => {
            assert_eq!(value.to_string(), text, "it is printed as something else");
            Some(value)
        }
        Err(refused) => {
            let refusal = refused.to_string();
            assert!(refusal.len() <= MAX_REFUSAL, "a refusal of {} bytes", refusal.len());
            None
        }
    }
}

fn check_label(label: &str) {
    assert!((1..=MAX_LABEL).contains(&label.len()), "{label:?} has {} bytes", label.len());
    assert!(label.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/'), "{label:?}");
    // Names of files, too: none is hidden, and none leads elsewhere.
    assert!(!label.starts_with(['.', '_', '-']) && !label.ends_with(['.', '-']), "{label:?}");
}

pub(crate) fn check_path(path: &CellPath) {
    assert!((1..=MAX_DEPTH).contains(&path.depth()), "{path} is {} deep", path.depth());
    assert_eq!(path.labels().count(), path.depth());
    path.labels().for_each(|label| check_label(label.as_str()));
    assert_eq!(CellPath::parse(&path.to_string(), "path").as_ref(), Ok(path));
    let (around, last) = path.split_last();
    let again = around.map_or_else(|| CellPath::from(last.clone()), |around| around.join(last));
    assert_eq!(again, *path, "taken apart at the end and put together");
    let (first, rest) = path.split_first();
    let again = rest.iter().flat_map(CellPath::labels);
    let again = again.fold(CellPath::from(first.clone()), |path, label| path.join(label));
    assert_eq!(again, *path, "taken apart at the beginning and put together");
    let zone = ZonePath::from(path.clone());
    assert_eq!(ZonePath::parse(&zone.to_string()), Ok(zone), "the same as a zone");
}

pub(crate) fn check_object(object: &Object) {
    assert_eq!(Object::parse(&object.to_string()).as_ref(), Ok(object));
    if let Some(cell) = object.cell() {
        check_path(cell);
        let mut around = Some(cell.clone());
        while let Some(path) = around {
            assert!(object.is_in(&path), "{object} is not in {path}");
            around = path.split_last().0;
        }
    }
    if let Object::Executable(executable) = object {
        check_label(executable.name.as_str());
    }
}
