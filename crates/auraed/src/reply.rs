//! The one place where an error becomes a gRPC status.
//!
//! **Invariant**: no other module of the daemon builds a [`Status`]. A room's error enum says what its
//! variants mean to a client by implementing [`Reply`] here; the text is the error's own, with its
//! sources.

use std::error::Error;

use aurae_authz::Denied;
use aurae_model::Invalid;
use tonic::{Code, Status};

/// An error that a client can be told.
pub trait Reply: Error {
    /// What it means to the client (`docs` of each service say when it gets which).
    fn code(&self) -> Code;
}

/// The status for an error: its code, and its text followed by that of each of its sources.
pub fn status(error: &impl Reply) -> Status {
    Status::new(error.code(), text(error))
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

impl Reply for Invalid {
    fn code(&self) -> Code {
        Code::FailedPrecondition
    }
}

impl Reply for Denied {
    fn code(&self) -> Code {
        Code::PermissionDenied
    }
}

impl Reply for crate::admit::NoPermit {
    fn code(&self) -> Code {
        Code::Internal
    }
}

impl Reply for crate::gate::Refused {
    fn code(&self) -> Code {
        match self {
            Self::DeadlinePassed => Code::DeadlineExceeded,
            Self::BadDeadline(_) => Code::InvalidArgument,
        }
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
    fn an_invalid_field_is_told_in_the_form_that_clients_rely_on() {
        let status = status(&Invalid::required("cell.name"));
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.message(), "Field = cell.name; Required");
    }
}
