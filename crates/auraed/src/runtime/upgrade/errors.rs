//! Why a file does not take over.

use aurae_kernel::spawn::SpawnError;

/// Why a file does not take over. The daemon that runs goes on.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// One at a time.
    #[error("another upgrade is under way; `aer node info` tells when it has ended")]
    Busy,
    /// More came than was said.
    #[error("the file is longer than the {0} bytes that were announced; send it again")]
    Longer(u64),
    /// Less came than was said.
    #[error("{received} of the {size} bytes that were announced came; send the file again")]
    Shorter {
        /// What came.
        received: u64,
        /// What was announced.
        size: u64,
    },
    /// It is another file.
    #[error("the file is not what its SHA-256 digest says; send it again")]
    Digest,
    /// It cannot run here.
    #[error("the file is no daemon for this machine: {0}")]
    NotForHere(String),
    /// It ran, and did not get ready.
    #[error("the file failed its check: {0}")]
    Failed(String),
    /// It could not be run.
    #[error("failed to run the file's check")]
    Spawn(#[from] SpawnError),
    /// The kernel refused something else.
    #[error(transparent)]
    Kernel(#[from] aurae_kernel::Error),
    /// The check itself broke.
    #[error("the check broke, which is a bug, please report it: {0}")]
    Bug(String),
}
