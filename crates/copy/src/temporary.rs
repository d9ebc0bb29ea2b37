//! A name that something has until it is whole.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;

/// What every temporary name begins with. One that is found on its own was left by a power failure, or
/// by SIGKILL, and may be removed.
pub(crate) const PREFIX: &str = ".aurae-copy-";

/// A temporary name in a directory. Unless what has it was given its own, it goes away with this.
#[derive(Debug)]
pub(crate) struct Temporary {
    directory: Arc<OwnedFd>,
    name: String,
    placed: bool,
}

impl Temporary {
    /// Makes something under a new name; `make` fails where the name is taken.
    pub(crate) fn make<T>(
        directory: &Arc<OwnedFd>,
        make: impl FnOnce(&OwnedFd, &str) -> Result<T, Errno>,
    ) -> Result<(Self, T), Errno> {
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, GetRandomFlags::empty())?;
        let name = format!("{PREFIX}{:016x}", u64::from_ne_bytes(random));
        let made = make(directory, &name)?;
        Ok((Self { directory: Arc::clone(directory), name, placed: false }, made))
    }

    /// The temporary name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Gives it its own name, and takes that away from what had it before.
    pub(crate) fn place(mut self, name: &[u8]) -> Result<(), Errno> {
        rustix::fs::renameat(&*self.directory, &self.name, &*self.directory, name)?;
        self.placed = true;
        Ok(())
    }

    /// As [`Temporary::place`], for another name of a file. Where both names are already those of one
    /// file, rename(2) does nothing, and the temporary one is still to be removed.
    pub(crate) fn place_link(self, name: &[u8]) -> Result<(), Errno> {
        rustix::fs::renameat(&*self.directory, &self.name, &*self.directory, name)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.placed {
            // The last resort, and there is nobody to tell: a name that stays is known by its prefix.
            let _ = rustix::fs::unlinkat(&*self.directory, &self.name, AtFlags::empty());
        }
    }
}
