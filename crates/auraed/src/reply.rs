//! The one place where an error becomes a gRPC status.
//!
//! **Invariant**: no other module of the daemon builds a [`Status`]. A room's error enum says what its
//! variants mean to a client by implementing [`Reply`] here; the text is the error's own, with its
//! sources.

use std::error::Error;
use std::time::Duration;

use aurae_authz::Denied;
use aurae_copy::CopyError;
use aurae_kernel::Errno;
use aurae_kernel::spawn::{SpawnError, Step};
use aurae_model::{CellPath, Invalid};
use bytes::Bytes;
use http::HeaderMap;
use hyper::body::Frame;
use tonic::{Code, Status};

use crate::admit::{Admission, NoPermit};
use crate::route::{BadZone, UnknownPrincipal, ZoneLost};
use crate::runtime::cells::{
    AllocateError, FreeError, InspectError, LimitError, ReachError, TooManyCalls, UpdateError,
};
use crate::runtime::changes::TooManyWatches;
use crate::runtime::commands::CommandError;
use crate::runtime::confine::ConfineError;
use crate::runtime::copies::TooManyCopies;
use crate::runtime::executables::{
    AttachError, NoSuchExecutable, SignalError, StartError, StopError,
};
use crate::runtime::freezer::{FreezeError, Frozen};
use crate::runtime::node::{KernelLogError, PowerError, is_refusal};
use crate::runtime::output::NoOutput;
use crate::runtime::upgrade::UpgradeError;
use crate::service::cells::{EndUnknown, Unfinished, Unwatched};
use crate::service::reflection::ReflectionError;

/// An error that a client can be told.
pub trait Reply: Error {
    /// What it means to the client (`docs` of each service say when it gets which).
    fn code(&self) -> Code;
}

/// The longest text of a status, in bytes. It goes among the headers, of which gRPC implementations take 8 KiB,
/// and a byte may be three there (percent-encoding). Some texts name what the caller sent.
pub const MAX_TEXT_BYTES: usize = 2048;

/// The status for an error: its code, and its text followed by that of each of its sources, cut where it is
/// longer than [`MAX_TEXT_BYTES`].
pub fn status(error: &impl Reply) -> Status {
    Status::new(error.code(), cut(text(error)))
}

fn cut(mut text: String) -> String {
    const CUT: &str = "…";
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES - CUT.len()));
        text.push_str(CUT);
    }
    text
}

/// As [`status`], for what a client may ask again after a pause, in gRPC's own words.
pub fn status_to_retry(error: &impl Reply, pause: Duration) -> Status {
    let mut status = status(error);
    let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    status.metadata_mut().insert("grpc-retry-pushback-ms", millis.into());
    status
}

/// The end of an answer that has begun, with its status: gRPC's trailers.
///
/// # Errors
/// The status itself, where it is no header.
pub fn trailers(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))
}

/// An error's text followed by that of each of its sources.
#[must_use]
pub fn text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Something that this daemon cannot do, and what to use instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not there; {instead}")]
pub struct Unsupported {
    /// What was asked for.
    pub what: &'static str,
    /// What to do instead.
    pub instead: &'static str,
}

impl Reply for Unsupported {
    fn code(&self) -> Code {
        Code::Unimplemented
    }
}

impl Reply for ReflectionError {
    fn code(&self) -> Code {
        Code::Internal
    }
}

impl Reply for Invalid {
    fn code(&self) -> Code {
        Code::FailedPrecondition
    }
}

/// What the caller may not see is told as what is not there.
impl Reply for Denied {
    fn code(&self) -> Code {
        match (self.is_hidden(), self.is_bug()) {
            (true, _) => Code::NotFound,
            (_, true) => Code::Internal,
            _ => Code::PermissionDenied,
        }
    }
}

impl Reply for NoPermit {
    fn code(&self) -> Code {
        Code::Internal
    }
}

impl Reply for Admission {
    fn code(&self) -> Code {
        match self {
            Self::Invalid(error) => error.code(),
            Self::Denied(error) => error.code(),
            Self::NoPermit(error) => error.code(),
            Self::Unsupported(error) => error.code(),
            Self::UnknownValue { .. } => Code::InvalidArgument,
        }
    }
}

/// What the kernel refused, where no room knows better what it means.
impl Reply for aurae_kernel::Error {
    fn code(&self) -> Code {
        errno_code(self.errno)
    }
}

fn errno_code(errno: Errno) -> Code {
    match errno {
        Errno::NOSPC | Errno::NOMEM | Errno::AGAIN | Errno::MFILE | Errno::NFILE | Errno::DQUOT => {
            Code::ResourceExhausted
        }
        _ => Code::Internal,
    }
}

impl Reply for NoSuchExecutable {
    fn code(&self) -> Code {
        Code::NotFound
    }
}

impl Reply for Frozen {
    fn code(&self) -> Code {
        Code::FailedPrecondition
    }
}

impl Reply for FreezeError {
    fn code(&self) -> Code {
        match self {
            Self::Timeout | Self::Thawed => Code::Unavailable,
            Self::Kernel(error) => error.code(),
        }
    }
}

impl Reply for Unfinished {
    fn code(&self) -> Code {
        Code::Internal
    }
}

impl Reply for StartError {
    fn code(&self) -> Code {
        match self {
            Self::Exists(_) => Code::AlreadyExists,
            Self::Closing(_) => Code::Unavailable,
            Self::Frozen(_, frozen) => frozen.code(),
            Self::TooMany(_) => Code::ResourceExhausted,
            Self::Program { errno, .. } => program_code(*errno),
            Self::Cgroup(error) => error.code(),
            Self::Stdio { source, .. } => stdio_code(source),
            Self::Confine { source, .. } => source.code(),
            Self::Spawn { source, .. } => spawn_code(source),
        }
    }
}

impl Reply for CommandError {
    fn code(&self) -> Code {
        match self {
            Self::Closing => Code::Unavailable,
            Self::Frozen(frozen) => frozen.code(),
            Self::TooMany => Code::ResourceExhausted,
            Self::Program { errno, .. } => program_code(*errno),
            Self::Stdio(source) => stdio_code(source),
            Self::Kernel(error) => error.code(),
            Self::Confine(error) => error.code(),
            Self::Spawn { source, .. } => spawn_code(source),
        }
    }
}

impl Reply for ConfineError {
    fn code(&self) -> Code {
        match self {
            Self::Device(_) | Self::Given => Code::FailedPrecondition,
            Self::Landlock(error) if error.errno == Errno::NOSYS => Code::Unimplemented,
            Self::Landlock(error) => file_code(error.errno),
            Self::Policy(error) => error.code(),
        }
    }
}

fn stdio_code(error: &aurae_kernel::Error) -> Code {
    match error.errno {
        // Its owner is not mapped in the user namespace (chown(2)).
        Errno::INVAL => Code::FailedPrecondition,
        _ => error.code(),
    }
}

fn spawn_code(error: &SpawnError) -> Code {
    match error.step {
        Step::Execute | Step::Directory => program_code(error.errno),
        // The daemon lacks one itself.
        Step::Capabilities if error.errno == Errno::PERM => Code::PermissionDenied,
        // Not mapped in the user namespace (setresuid(2)).
        Step::User | Step::Group if error.errno == Errno::INVAL => Code::FailedPrecondition,
        _ => errno_code(error.errno),
    }
}

impl Reply for TooManyWatches {
    fn code(&self) -> Code {
        Code::ResourceExhausted
    }
}

impl Reply for AttachError {
    fn code(&self) -> Code {
        match self {
            Self::Missing(error) => error.code(),
            Self::Ended(_) | Self::NoInput(_) => Code::FailedPrecondition,
            Self::TooMany(_) => Code::ResourceExhausted,
        }
    }
}

impl Reply for Unwatched {
    fn code(&self) -> Code {
        Code::Unavailable
    }
}

/// What `execve` and `chdir` say of a path, and `execve` of its arguments.
fn program_code(errno: Errno) -> Code {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Code::NotFound,
        Errno::ACCESS | Errno::PERM => Code::PermissionDenied,
        Errno::NOEXEC | Errno::TOOBIG | Errno::INVAL | Errno::LOOP | Errno::NAMETOOLONG => {
            Code::FailedPrecondition
        }
        errno => errno_code(errno),
    }
}

impl Reply for StopError {
    fn code(&self) -> Code {
        match self {
            Self::Missing(error) => error.code(),
            Self::Undead(..) => Code::DeadlineExceeded,
        }
    }
}

impl Reply for SignalError {
    fn code(&self) -> Code {
        match self {
            Self::Missing(error) => error.code(),
            Self::Ended(_) => Code::FailedPrecondition,
            Self::Kernel(error) => error.code(),
        }
    }
}

impl Reply for ReachError {
    fn code(&self) -> Code {
        match self {
            Self::Missing(_) => Code::NotFound,
            Self::Busy(..) | Self::Unreachable(..) | Self::Failed(..) => Code::Unavailable,
        }
    }
}

impl Reply for NoOutput {
    fn code(&self) -> Code {
        match self {
            Self::Executable(error) => error.code(),
            Self::Process(_) => Code::NotFound,
            Self::Cell(error) => error.code(),
            Self::NoCells(_) => Code::NotFound,
        }
    }
}

impl Reply for AllocateError {
    fn code(&self) -> Code {
        match self {
            Self::Exists(_) => Code::AlreadyExists,
            Self::Freeing(_) => Code::Aborted,
            Self::TooDeep(_) | Self::InUserNamespace(_) | Self::Covered(_) => {
                Code::FailedPrecondition
            }
            Self::Devices { source, .. } => source.code(),
            Self::TooMany(_) | Self::OutOfMemory(_) => Code::ResourceExhausted,
            Self::Closing(_) => Code::Unavailable,
            Self::Reach(error) => error.code(),
            Self::Limit(error) => error.code(),
            Self::Kernel(error) => error.code(),
            Self::Spawn { source, .. } => errno_code(source.errno),
            Self::NotReady { .. } => Code::Internal,
        }
    }
}

impl Reply for LimitError {
    fn code(&self) -> Code {
        match self {
            Self::Invalid(error) => error.code(),
            Self::Kernel(error) => error.code(),
        }
    }
}

impl Reply for UpdateError {
    fn code(&self) -> Code {
        match self {
            Self::Reach(error) => error.code(),
            Self::Limit(error) => error.code(),
        }
    }
}

impl Reply for FreeError {
    fn code(&self) -> Code {
        match self {
            Self::Reach(error) => error.code(),
            Self::Stuck(..) => Code::Internal,
            Self::Undead(..) => Code::DeadlineExceeded,
        }
    }
}

impl Reply for InspectError {
    fn code(&self) -> Code {
        match self {
            Self::Reach(error) => error.code(),
            Self::Kernel(error) => error.code(),
        }
    }
}

impl Reply for PowerError {
    fn code(&self) -> Code {
        match self {
            Self::NotInit(_) => Code::FailedPrecondition,
            Self::InZone => Code::Unimplemented,
        }
    }
}

impl Reply for KernelLogError {
    fn code(&self) -> Code {
        match self {
            Self::InZone => Code::Unimplemented,
            Self::Kernel(error) if is_refusal(error.errno) => Code::PermissionDenied,
            Self::Kernel(error) => error.code(),
            Self::Poll(_) => Code::Internal,
        }
    }
}

impl Reply for UpgradeError {
    fn code(&self) -> Code {
        match self {
            Self::Busy => Code::Aborted,
            Self::Longer(_) | Self::Shorter { .. } | Self::Digest => Code::DataLoss,
            Self::NotForHere(_) | Self::Failed(_) => Code::FailedPrecondition,
            Self::Spawn(error) => errno_code(error.errno),
            Self::Kernel(error) => error.code(),
            Self::Bug(_) => Code::Internal,
        }
    }
}

impl Reply for crate::service::upgrade::Silent {
    fn code(&self) -> Code {
        Code::DeadlineExceeded
    }
}

impl Reply for TooManyCalls {
    fn code(&self) -> Code {
        Code::ResourceExhausted
    }
}

impl Reply for BadZone {
    fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::NoZones => Code::NotFound,
        }
    }
}

impl Reply for UnknownPrincipal {
    fn code(&self) -> Code {
        Code::PermissionDenied
    }
}

impl Reply for ZoneLost {
    fn code(&self) -> Code {
        Code::Unavailable
    }
}

impl Reply for EndUnknown {
    fn code(&self) -> Code {
        Code::Unavailable
    }
}

impl Reply for TooManyCopies {
    fn code(&self) -> Code {
        Code::ResourceExhausted
    }
}

impl Reply for CopyError {
    fn code(&self) -> Code {
        match self {
            Self::Invalid(error) => error.code(),
            Self::Order { .. } | Self::Size { .. } | Self::NoFile => Code::FailedPrecondition,
            Self::Exists { .. } => Code::AlreadyExists,
            Self::Kernel { errno, .. } => file_code(*errno),
            Self::Shrank { .. } => Code::Aborted,
            Self::Abandoned => Code::Cancelled,
            Self::Thread(error) => errno_code(Errno::from_io_error(error).unwrap_or(Errno::IO)),
            Self::Lost => Code::Internal,
        }
    }
}

/// What is said of a file that is to be read, or to be written.
fn file_code(errno: Errno) -> Code {
    match errno {
        Errno::NOENT => Code::NotFound,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => Code::PermissionDenied,
        Errno::EXIST | Errno::ISDIR => Code::AlreadyExists,
        Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::INVAL | Errno::MLINK => {
            Code::FailedPrecondition
        }
        Errno::FBIG => Code::ResourceExhausted,
        errno => errno_code(errno),
    }
}

/// What a cell's daemon answered goes on as it is; that it did not answer is told as such.
pub fn from_zone(cell: &CellPath, status: Status) -> Status {
    match status.source() {
        None => status,
        Some(source) => Status::unavailable(format!(
            "the daemon of cell {cell} cannot be reached: {}; free the cell and allocate it again",
            text(source)
        )),
    }
}

impl Reply for crate::gate::Refused {
    fn code(&self) -> Code {
        match self {
            Self::DeadlinePassed | Self::Slow | Self::Unended => Code::DeadlineExceeded,
            Self::BadDeadline(_) => Code::InvalidArgument,
            Self::Replaced => Code::Unavailable,
            // As tonic has it for what it reads itself.
            Self::NoSuchMethod(_) | Self::Compressed => Code::Unimplemented,
            // As gRPC has it for a request with another number of messages than the method takes.
            Self::SecondMessage => Code::Unimplemented,
            Self::Denied(error) => error.code(),
            Self::Exceeded(error) => error.code(),
            Self::TooLong(_) => Code::OutOfRange,
            Self::Malformed(_) => Code::Internal,
        }
    }
}

impl Reply for crate::audit::Unrecordable {
    fn code(&self) -> Code {
        match self {
            Self::Disk(_) | Self::Full(_) | Self::FullForYou(_) => Code::Unavailable,
            Self::TooMany { .. } => Code::ResourceExhausted,
        }
    }
}

impl Reply for crate::audit::TooManyReaders {
    fn code(&self) -> Code {
        Code::ResourceExhausted
    }
}

impl Reply for crate::share::Exceeded {
    fn code(&self) -> Code {
        Code::ResourceExhausted
    }
}

impl Reply for crate::service::NoSuchService {
    fn code(&self) -> Code {
        Code::Unimplemented
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to create cgroup web")]
    struct Failed(#[source] std::io::Error);

    impl Reply for Failed {
        fn code(&self) -> Code {
            Code::Internal
        }
    }

    #[test]
    fn the_text_names_every_cause() {
        let status = status(&Failed(std::io::Error::other("no space left on device")));
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(status.message(), "failed to create cgroup web: no space left on device");
    }

    #[test]
    fn what_a_caller_may_not_see_is_told_in_the_words_of_what_is_not_there() {
        use aurae_authz::{Contract, Form, Object, Policies, Principal, Question};
        use aurae_model::ExecutableName;
        use std::sync::Arc;

        let contract = Contract::parse(aurae_proto::BARE_FILE_DESCRIPTOR_SET).unwrap();
        let policies = Arc::new(Policies::none(Arc::new(contract)).unwrap());
        let denied = |action: &str, object: &str| {
            let principal = &Principal::named(Form::Spiffe, "spiffe://a/admin").unwrap();
            let method = policies.contract().action(action).unwrap();
            let object = &Object::parse(object).unwrap();
            let asked = Question { principal, method, object, request: None };
            status(&policies.authorize(asked).unwrap_err())
        };
        let missing: [(Status, Status); 2] = [
            (
                denied("cells.Free", "cells/web"),
                status(&ReachError::from(crate::runtime::cells::NoSuchCell(
                    CellPath::parse("web", "cell").unwrap(),
                ))),
            ),
            (
                denied("cells.Stop", "executables/nginx"),
                status(&NoSuchExecutable(ExecutableName::parse("nginx", "name").unwrap())),
            ),
        ];
        for (denied, missing) in missing {
            assert_eq!(denied.code(), missing.code());
            assert_eq!(denied.message(), missing.message());
        }
    }

    #[test]
    fn an_invalid_field_is_told_in_the_form_that_clients_rely_on() {
        let status = status(&Invalid::required("cell.name"));
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.message(), "Field = cell.name; Required");
    }

    #[test]
    fn a_text_is_cut_where_headers_would_not_hold_it() {
        let long = Invalid::new("executable.env", "ä".repeat(MAX_TEXT_BYTES));
        let status = status(&long);
        let text = status.message();
        assert!(text.len() <= MAX_TEXT_BYTES && text.len() > MAX_TEXT_BYTES - 3, "{}", text.len());
        assert!(text.starts_with("Field = executable.env; ä") && text.ends_with("ä…"), "{text}");
    }
}
