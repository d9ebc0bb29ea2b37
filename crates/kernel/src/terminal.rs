//! Pseudoterminals (pty(7)): the daemon has one side, a workload's session the other.

use std::os::fd::{AsFd, OwnedFd};

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcgetpgrp, tcsetwinsize};

use crate::error::Context;
use crate::{Errno, Error, Result};

/// The two sides of a pseudoterminal.
#[derive(Debug)]
pub struct Terminal {
    /// The daemon's; it does not block. What is written here is what somebody typed.
    pub ours: OwnedFd,
    /// The workload's.
    pub theirs: OwnedFd,
}

impl Terminal {
    /// Makes one, `rows` by `columns` characters. Its other side is opened without a path, so that it
    /// does not matter which `/dev/pts` the workload sees (`TIOCGPTPEER`, ioctl_tty(2)).
    ///
    /// # Errors
    /// `ENOENT` where there is no `/dev/ptmx`, `EAGAIN` when there are too many, or what else the
    /// kernel says.
    pub fn open(rows: u16, columns: u16) -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).context(|| "open /dev/ptmx")?;
        unlockpt(&ours).context(|| "unlock the terminal")?;
        let theirs = ioctl_tiocgptpeer(&ours, flags).context(|| "open the terminal")?;
        rustix::io::ioctl_fionbio(&ours, true).context(|| "make the terminal non-blocking")?;
        resize(&ours, rows, columns)?;
        Ok(Self { ours, theirs })
    }
}

/// Sets the size of a terminal in characters; its foreground process group gets SIGWINCH if it is
/// another than before.
///
/// # Errors
/// What the kernel says.
pub fn resize(terminal: impl AsFd, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).context(|| "set the terminal's size")
}

/// The process group in the foreground of a terminal, asked on the daemon's side; `None` when there
/// is none.
///
/// # Errors
/// What the kernel says.
pub fn foreground(terminal: impl AsFd) -> Result<Option<rustix::process::Pid>> {
    match tcgetpgrp(terminal) {
        Ok(group) => Ok(Some(group)),
        // No session has it, or the group is not of this pid namespace.
        Err(Errno::OPNOTSUPP | Errno::NOTTY) => Ok(None),
        Err(errno) => Err(Error::new("ask for the terminal's foreground process group", errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_the_size_it_is_given() {
        let terminal = Terminal::open(24, 80).unwrap();
        resize(&terminal.ours, 5, 7).unwrap();
        let size = rustix::termios::tcgetwinsize(&terminal.theirs).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (5, 7));
    }

    #[test]
    fn what_is_written_on_one_side_is_read_on_the_other() {
        let terminal = Terminal::open(24, 80).unwrap();
        assert_eq!(rustix::io::read(&terminal.ours, &mut [0; 8]), Err(Errno::AGAIN));
        rustix::io::write(&terminal.theirs, b"x\n").unwrap();
        let mut read = [0; 8];
        let count = rustix::io::read(&terminal.ours, &mut read).unwrap();
        assert_eq!(&read[..count], b"x\r\n");
    }

    #[test]
    fn a_terminal_without_a_session_has_no_foreground() {
        let terminal = Terminal::open(24, 80).unwrap();
        assert_eq!(foreground(&terminal.ours).unwrap(), None);
    }
}
