//! One daemon a runtime directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::private::{self, LOCK};

/// The lock on a runtime directory, held until dropped. Children do not inherit it. The file stays when the
/// daemon ends: the kernel's lock is what counts, and removing the file would let two daemons hold "the" lock.
#[derive(Debug)]
pub(crate) struct Instance {
    lock: File,
}

/// Why this daemon may not run on the directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstanceError {
    /// Another one does.
    #[error(
        "another auraed ({holder}) runs on {}; stop it, or choose another directory with --runtime-dir and another --socket",
        directory.display()
    )]
    Taken {
        /// Who holds the lock: `process 123`.
        holder: String,
        /// The runtime directory.
        directory: PathBuf,
    },
    /// A step failed.
    #[error("failed to {operation} {}", path.display())]
    Failed {
        /// The step.
        operation: &'static str,
        /// What with.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Instance {
    /// The lock that an earlier version of the daemon took in this process.
    pub(crate) fn adopt(lock: OwnedFd) -> Self {
        Self { lock: lock.into() }
    }

    /// The lock, for a later version of the daemon.
    pub(crate) fn hand_on(self) -> OwnedFd {
        self.lock.into()
    }

    /// Makes the runtime directory, for its owner alone, and locks it.
    ///
    /// # Errors
    /// Another daemon holds the lock, or it cannot be taken.
    pub(crate) fn lock(directory: &Path) -> Result<Self, InstanceError> {
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| InstanceError::Failed { operation, path, source }
        };
        private::create(directory).map_err(failed("create the runtime directory", directory))?;
        let path = directory.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open the lock", &path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let directory = directory.to_owned();
                return Err(InstanceError::Taken { holder: holder(&mut lock), directory });
            }
            Err(errno) => return Err(failed("lock", &path)(errno.into())),
        }
        let written = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        written.map_err(failed("write this process's number to", &path))?;
        Ok(Self { lock })
    }
}

/// Who wrote its number into the lock. It may be about to: then it is not known.
fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    match lock.take(32).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => format!("process {}", text.trim()),
        _ => "of unknown process id".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_instance_is_refused_and_names_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = directory.path().join("run");
        let first = Instance::lock(&runtime).unwrap();
        let error = Instance::lock(&runtime).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(error.contains(&runtime.display().to_string()), "{error}");
        drop(first);
        Instance::lock(&runtime).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Instance::lock(&file.join("run")).unwrap_err().to_string();
        assert!(error.starts_with("failed to create the runtime directory"), "{error}");
    }
}
