//! Requests that copy files in and out.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use aurae_authz::{Node, Permit};
use aurae_copy::{MAX_PATH_BYTES, Ownership, Step, parse_entry};
use aurae_model::Invalid;
use aurae_proto::cells::{
    CellServiceCopyOutRequest, CopyInStart, cell_service_copy_in_request as copy_in,
};
use tonic::Request;

use super::{Admission, on_node};

/// So many bytes of a file may come at once.
const MAX_DATA_BYTES: usize = 1 << 20;

/// Where a copy goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyTarget {
    /// An absolute path.
    pub directory: PathBuf,
    /// Whom what is written belongs to.
    pub ownership: Ownership,
}

/// The first message of `CopyIn`.
///
/// # Errors
/// It is not `start`, or a field breaks a rule.
pub fn target(message: Option<copy_in::Message>) -> Result<CopyTarget, Invalid> {
    let Some(copy_in::Message::Start(CopyInStart { directory, preserve_ownership })) = message
    else {
        return Err(Invalid::new("start", "Required as the first message"));
    };
    let ownership = if preserve_ownership { Ownership::Preserved } else { Ownership::Own };
    Ok(CopyTarget { directory: absolute(directory, "start.directory")?, ownership })
}

/// A further message of `CopyIn`.
///
/// # Errors
/// It is `start` again, or a field breaks a rule.
pub fn step(message: Option<copy_in::Message>) -> Result<Step, Invalid> {
    match message {
        Some(copy_in::Message::Entry(entry)) => Ok(Step::Entry(parse_entry(entry)?)),
        Some(copy_in::Message::Data(data)) if data.len() <= MAX_DATA_BYTES => Ok(Step::Data(data)),
        Some(copy_in::Message::Data(_)) => {
            Err(Invalid::new("data", format!("At most {MAX_DATA_BYTES} bytes")))
        }
        Some(copy_in::Message::Start(_)) => Err(Invalid::new("start", "Only as the first message")),
        None => Err(Invalid::new("message", "`entry` or `data` is required")),
    }
}

/// `CopyOut`: an absolute path.
///
/// # Errors
/// The path breaks a rule, or there is no permit.
pub fn source(
    mut request: Request<CellServiceCopyOutRequest>,
) -> Result<(Permit<Node>, PathBuf), Admission> {
    let permit = on_node(&mut request)?;
    Ok((permit, absolute(request.into_inner().path, "path")?))
}

fn absolute(path: String, field: &str) -> Result<PathBuf, Invalid> {
    let rule = |rule: String| Err(Invalid::new(field, rule));
    match path.as_bytes() {
        b"" => Err(Invalid::required(field)),
        bytes if bytes.len() > MAX_PATH_BYTES => rule(format!("At most {MAX_PATH_BYTES} bytes")),
        bytes if bytes.contains(&0) => rule("NUL is not allowed".to_owned()),
        [b'/', ..] => Ok(OsString::from_vec(path.into_bytes()).into()),
        _ => rule("An absolute path is needed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use aurae_proto::cells::CopyEntry;

    use super::*;

    fn start(directory: &str) -> Option<copy_in::Message> {
        let (directory, preserve_ownership) = (directory.to_owned(), true);
        Some(copy_in::Message::Start(CopyInStart { directory, preserve_ownership }))
    }

    #[test]
    fn a_copy_starts_with_an_absolute_directory() {
        let taken = target(start("/srv")).unwrap();
        assert_eq!((taken.directory, taken.ownership), ("/srv".into(), Ownership::Preserved));
        for directory in ["", "srv", "/a\0b", &"/a".repeat(3000)] {
            assert_eq!(target(start(directory)).unwrap_err().field, "start.directory");
        }
        for message in [None, Some(copy_in::Message::Entry(CopyEntry::default()))] {
            assert_eq!(target(message).unwrap_err().field, "start");
        }
    }

    #[test]
    fn what_follows_is_checked_field_by_field() {
        let entry = |path: &str| {
            let (path, mode) = (path.as_bytes().into(), 0o10000);
            Some(copy_in::Message::Entry(CopyEntry { path, mode, ..CopyEntry::default() }))
        };
        let data = vec![0; MAX_DATA_BYTES + 1].into();
        for (message, field) in [
            (entry("a"), "entry.mode"),
            (start("/srv"), "start"),
            (Some(copy_in::Message::Data(data)), "data"),
            (Some(copy_in::Message::Entry(CopyEntry::default())), "entry.path"),
            (None, "message"),
        ] {
            assert_eq!(step(message).unwrap_err().field, field);
        }
    }
}
