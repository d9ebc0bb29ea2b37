//! Loading one kernel module (`finit_module(2)`). Which one, and in which order, is the caller's.

use std::ffi::{CString, c_int};
use std::fs::File;
use std::path::Path;

use rustix::io::Errno;

use crate::error::{Context, Error, Result};

/// `MODULE_INIT_COMPRESSED_FILE`: the kernel unpacks the file itself (since Linux 5.17).
const COMPRESSED_FILE: c_int = 4;

/// Loads the module in the file, with its parameters (`name=value`, separated by spaces).
/// A module that is loaded already is left as it is. The kernel's log often says more than the error.
pub fn load(path: &Path, parameters: &str) -> Result<()> {
    let operation = |verb: &str| format!("{verb} the module {}", path.display());
    let file = File::open(path).map_err(|error| Error::from_io(operation("open"), &error))?;
    let parameters =
        CString::new(parameters).map_err(|_| Error::new(operation("load"), Errno::INVAL))?;
    let compressed = path.extension().is_some_and(|extension| extension != "ko");
    let flags = if compressed { COMPRESSED_FILE } else { 0 };
    match rustix::system::finit_module(&file, &parameters, flags) {
        Err(Errno::EXIST) => Ok(()),
        other => other.context(|| operation("load")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_is_missing_is_named() {
        let error = load(Path::new("/lib/modules/none/none.ko"), "").unwrap_err();
        assert_eq!(error.to_string(), "failed to open the module /lib/modules/none/none.ko");
    }
}
