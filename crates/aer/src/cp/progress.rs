//! How far a copy is, for who looks at a terminal.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use aurae_copy::{Copied, EntryPath};

use crate::{output, units};

/// How often it is said: as often as can be read.
const EVERY: Duration = Duration::from_millis(200);

/// Counts, and says so on one line of a terminal.
pub(super) struct Progress {
    copied: Copied,
    terminal: bool,
    said: Instant,
    /// There is a line to be cleared.
    shown: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { copied: Copied::default(), terminal, said: Instant::now(), shown: false }
    }

    pub(super) fn copied(&self) -> Copied {
        self.copied
    }

    pub(super) fn entry(&mut self) {
        self.copied.entries += 1;
        self.say();
    }

    pub(super) fn data(&mut self, bytes: usize) {
        self.copied.bytes += bytes as u64;
        self.say();
    }

    /// Says what is not copied.
    pub(super) fn skipped(&mut self, path: &EntryPath, reason: &str) {
        self.clear();
        let path = String::from_utf8_lossy(path.as_bytes());
        let note = output::printable(&format!("{path} was left out: {reason}"));
        output::complain(&format!("note: {note}\n"));
    }

    fn say(&mut self) {
        if !self.terminal || self.said.elapsed() < EVERY {
            return;
        }
        let (entries, bytes) = (self.copied.entries, units::format_bytes(self.copied.bytes));
        output::complain(&format!("\r{entries} files, {bytes}\x1b[K"));
        (self.said, self.shown) = (Instant::now(), true);
    }

    /// Takes the line away.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            output::complain("\r\x1b[K");
        }
    }
}
