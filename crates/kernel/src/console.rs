//! The console of pid 1: standard input, output and error where the kernel gave none.

use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::error::{Context, Result};

/// The device number of `/dev/null`, which Rust's runtime opens where a standard stream is closed.
const NULL_DEVICE: (u32, u32) = (1, 3);

/// Opens `/dev/console` as standard input, output and error, each where it is closed or leads to
/// `/dev/null`. A kernel that finds no `/dev/console` in its initramfs starts pid 1 that way.
pub fn attach() -> Result<()> {
    let missing = [
        is_missing(rustix::stdio::stdin()),
        is_missing(rustix::stdio::stdout()),
        is_missing(rustix::stdio::stderr()),
    ];
    if missing == [false; 3] {
        return Ok(());
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let console = rustix::fs::open(Path::new("/dev/console"), flags, Mode::empty())
        .context(|| "open /dev/console")?;
    if missing[0] {
        rustix::stdio::dup2_stdin(&console).context(|| "make the console standard input")?;
    }
    if missing[1] {
        rustix::stdio::dup2_stdout(&console).context(|| "make the console standard output")?;
    }
    if missing[2] {
        rustix::stdio::dup2_stderr(&console).context(|| "make the console standard error")?;
    }
    Ok(())
}

fn is_missing(stream: std::os::fd::BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(stream).map_or(true, |stat| {
        let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        device == NULL_DEVICE
    })
}
