//! The machine's end: telling all processes, writing out what is unwritten, and the power switch.
//! All of this is for pid 1 alone.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::system::RebootCommand;

use crate::error::{Context, Error, Result};

/// Switches the machine off. Returns only if that failed.
pub fn power_off() -> Result<()> {
    reboot("power off", RebootCommand::PowerOff)
}

/// Starts the machine again. Returns only if that failed.
pub fn restart() -> Result<()> {
    reboot("restart", RebootCommand::Restart)
}

/// Makes Ctrl-Alt-Del a SIGINT to pid 1, where the kernel would restart the machine at once.
pub fn disable_ctrl_alt_del() -> Result<()> {
    reboot("make Ctrl-Alt-Del a signal", RebootCommand::CadOff)
}

fn reboot(operation: &'static str, command: RebootCommand) -> Result<()> {
    rustix::system::reboot(command).context(|| operation)
}

/// Signals every process but pid 1 and kernel threads. That there is none is no error.
pub fn signal_all(signal: Signal) -> Result<()> {
    // kill(-1): the "group" of pid 1 stands for all processes.
    match rustix::process::kill_process_group(Pid::INIT, signal) {
        Err(Errno::SRCH) => Ok(()),
        other => other.context(|| format!("send {signal:?} to all processes")),
    }
}

/// The number of `SIGRTMIN+offset`. The kernel's first real-time signals belong to the C library, which
/// knows how many.
#[must_use]
pub fn real_time_signal(offset: i32) -> i32 {
    libc::SIGRTMIN() + offset
}

/// Reaps all children that have ended, and says whether any child is left. For pid 1 that means: any
/// process, since all others descend from it.
#[must_use]
pub fn reap_all() -> bool {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Writes all file systems out. It blocks for as long as the slowest device does.
pub fn sync() {
    rustix::fs::sync();
}

/// Stops swapping to a swap area. It blocks until all that was in it is back in memory.
pub fn swap_off(path: &Path) -> Result<()> {
    let operation = || format!("stop swapping to {}", path.display());
    let text = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::new(operation(), Errno::INVAL))?;
    // SAFETY: `text` is a C string that lives longer than the call, which keeps no reference to it.
    match unsafe { libc::swapoff(text.as_ptr()) } {
        0 => Ok(()),
        _ => Err(Error::from_io(operation(), &io::Error::last_os_error())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_area_that_is_none_is_named() {
        let error = swap_off(Path::new("/does/not/exist")).unwrap_err();
        assert_eq!(error.to_string(), "failed to stop swapping to /does/not/exist");
    }
}
