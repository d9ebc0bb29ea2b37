//! The terminal that we are on.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use aurae_proto::cells::TerminalSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::failure::Failure;

/// The size of a terminal where nobody knows it.
const USUAL_SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };

/// Whether somebody types, and sees what comes of it.
pub(super) fn is_at_both_ends() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The size of our terminal, or the usual one.
pub(crate) fn size() -> TerminalSize {
    let (stdout, stdin) = (io::stdout(), io::stdin());
    let sizes = [stdout.as_fd(), stdin.as_fd()].into_iter().filter_map(|end| {
        let size = tcgetwinsize(end).ok()?;
        let size = TerminalSize { rows: size.ws_row.into(), columns: size.ws_col.into() };
        // A terminal that was not told its size says zero.
        (size.rows > 0 && size.columns > 0).then_some(size)
    });
    sizes.into_iter().next().unwrap_or(USUAL_SIZE)
}

/// A terminal that hands on what is typed as it is typed; as it was before when this is dropped.
pub(super) struct RawMode {
    before: Termios,
}

impl RawMode {
    pub(super) fn enter() -> Result<Self, Failure> {
        let failed = |errno| Failure::new(format!("failed to set up the terminal: {errno}"));
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // It fails when the terminal is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
