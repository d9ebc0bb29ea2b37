//! What a node said on its serial console.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// How many lines a failure report shows.
pub const TAIL_LINES: usize = 60;
/// How long a stream waits for more.
const PAUSE: Duration = Duration::from_millis(50);

/// All of it, without the firmware's escape sequences; empty when there is nothing yet.
pub fn read(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    plain(&String::from_utf8_lossy(&bytes))
}

/// The last lines, for a failure report.
pub fn tail(path: &Path) -> String {
    let text = read(path);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    format!("last lines of the console ({}):\n{}", path.display(), lines[from..].join("\n"))
}

/// Copies the console to a writer, and goes on with what comes until told to end.
///
/// # Errors
/// When the console cannot be read, or the writer fails.
pub fn follow(path: &Path, out: &mut impl Write, mut ended: impl FnMut() -> bool) -> Result<()> {
    let context = || format!("failed to read {}", path.display());
    let mut file = File::open(path).with_context(context)?;
    let mut position = 0;
    loop {
        // Asked first, so that what was written before the end is still copied.
        let last_round = ended();
        file.seek(SeekFrom::Start(position)).with_context(context)?;
        let mut bytes = Vec::new();
        position += file.read_to_end(&mut bytes).with_context(context)? as u64;
        out.write_all(plain(&String::from_utf8_lossy(&bytes)).as_bytes())?;
        out.flush()?;
        if last_round {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
}

/// Takes out escape sequences (`ESC [ … letter`, `ESC c`) and carriage returns: what the firmware
/// does to clear the screen would clear the reader's.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                if characters.next() == Some('[') {
                    while characters.next().is_some_and(|c| !c.is_ascii_alphabetic()) {}
                }
            }
            '\r' => {}
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_taken_out() {
        assert_eq!(plain("\u{1b}c\u{1b}[?7l\u{1b}[2Jboot\r\nnext"), "boot\nnext");
    }

    #[test]
    fn the_tail_is_bounded_and_names_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("console.log");
        let lines: Vec<String> = (0..100).map(|number| format!("line {number}")).collect();
        fs::write(&path, lines.join("\n")).expect("written");
        let tail = tail(&path);
        assert!(tail.contains("console.log") && tail.ends_with("line 99"));
        assert!(!tail.contains("line 39\n") && tail.contains("line 40\n"));
    }

    #[test]
    fn following_copies_what_is_there_when_it_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("console.log");
        fs::write(&path, "hello\r\n").expect("written");
        let mut out = Vec::new();
        follow(&path, &mut out, || true).expect("copied");
        assert_eq!(out, b"hello\n");
    }
}
