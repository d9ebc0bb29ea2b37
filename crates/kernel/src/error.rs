//! What the kernel refused.

use rustix::io::Errno;

/// The result of an operation that the kernel may refuse.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation that the kernel refused; the source is its own word.
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation}")]
pub struct Error {
    /// What was tried, with its object: `create cgroup web`, for example.
    pub operation: String,
    /// What the kernel said.
    #[source]
    pub errno: Errno,
}

impl Error {
    /// The kernel refused `operation`.
    pub fn new(operation: impl Into<String>, errno: Errno) -> Self {
        Self { operation: operation.into(), errno }
    }

    /// As [`Error::new`], for the standard library's errors. One that is not the kernel's is `EIO`.
    #[must_use]
    pub fn from_io(operation: impl Into<String>, error: &std::io::Error) -> Self {
        Self::new(operation, Errno::from_io_error(error).unwrap_or(Errno::IO))
    }
}

/// Names the operation beside the kernel's word.
pub(crate) trait Context<T> {
    /// `operation` is only made when it is needed.
    fn context<S: Into<String>>(self, operation: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for std::result::Result<T, Errno> {
    fn context<S: Into<String>>(self, operation: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::new(operation(), errno))
    }
}
