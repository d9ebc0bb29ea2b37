//! Why a copy failed.

use aurae_model::Invalid;
use rustix::io::Errno;

/// Why a copy failed. Nothing half is left of the file that it was at.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A path, or what an entry says of itself, breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The kernel refused something.
    #[error("failed to {operation} {path}")]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: String,
        /// What the kernel said.
        #[source]
        errno: Errno,
    },
    /// The name is that of something else.
    #[error("{path} is there already, and is not a {kind}; remove it, or copy to another name")]
    Exists {
        /// The name.
        path: String,
        /// What was to be there.
        kind: &'static str,
    },
    /// An entry came where it cannot be.
    #[error(
        "{path} is out of order: what is in a directory comes right after it, before anything else"
    )]
    Order {
        /// The entry.
        path: String,
    },
    /// More or less bytes came than the entry said.
    #[error("{path} has {said} bytes by its entry, and {got} came")]
    Size {
        /// The file.
        path: String,
        /// So many were announced.
        said: u64,
        /// So many came, at least.
        got: u64,
    },
    /// Bytes came that belong to no file.
    #[error("bytes came without a file that they belong to")]
    NoFile,
    /// A file lost bytes while it was read.
    #[error("{path} became shorter while it was read; copy it again")]
    Shrank {
        /// The file.
        path: String,
    },
    /// The other side went away in the middle.
    #[error("the copy ended before it was whole")]
    Abandoned,
    /// No thread could be had for the work.
    #[error("failed to start a thread for the copy")]
    Thread(#[source] std::io::Error),
    /// The thread that did the work is gone.
    #[error("the copy stopped for a reason that is not known; this is a bug, please report it")]
    Lost,
}

impl CopyError {
    /// The kernel refused `operation` with `path`.
    pub(crate) fn kernel(operation: &'static str, path: impl AsRef<[u8]>, errno: Errno) -> Self {
        Self::Kernel { operation, path: shown(path), errno }
    }
}

/// A path for people; what is not UTF-8 is replaced.
pub(crate) fn shown(path: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(path.as_ref()).into_owned()
}
