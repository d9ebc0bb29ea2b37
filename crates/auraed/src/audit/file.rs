//! The audit log on disk: lines of JSON in a file, and in the files that it was before.
//!
//! ```text
//! FILE ─full─▶ FILE.1 ─▶ FILE.2 ─▶ FILE.3 ─▶ gone
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The files that share the bound: with more of them less is lost at once when the oldest goes.
const FILES: u64 = 4;
/// The least that they may have together: a part has to hold a batch of records.
pub const MIN_SIZE: u64 = 1 << 20;
/// The most: nobody reads more by hand, and `--audit-log` is no archive.
pub const MAX_SIZE: u64 = 1 << 40;
/// What they have together, unless told otherwise: some 200,000 calls.
pub const DEFAULT_SIZE: u64 = 64 << 20;
/// The last record is looked for in so many bytes from the end; a line is at most a fifth of it.
const TAIL: u64 = 64 << 10;

/// A step with the file failed.
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation} the audit log {}", path.display())]
pub struct FileError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Where records go to.
pub(super) trait Target: Send + 'static {
    /// Writes whole lines, or none of them.
    fn append(&mut self, lines: &[u8]) -> Result<(), FileError>;
    /// Makes what was written survive the machine.
    fn sync(&mut self) -> Result<(), FileError>;
    /// How many bytes of old records went to make room, since this was asked last.
    fn dropped(&mut self) -> u64 {
        0
    }
}

/// A log file with those before it.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    /// The bound of one file.
    part: u64,
    open: Option<Open>,
    /// The bytes that went with the oldest file, as long as nobody has asked.
    dropped: u64,
}

#[derive(Debug)]
struct Open {
    file: File,
    length: u64,
    /// The last line has no end: a daemon was killed while it wrote.
    torn: bool,
}

impl LogFile {
    /// The log at `path`, of `size` bytes with those before it.
    pub(super) fn new(path: PathBuf, size: u64) -> Self {
        Self { path, part: size.max(MIN_SIZE) / FILES, open: None, dropped: 0 }
    }

    /// Opens the file, which is made where it is missing, and answers the number of its last record.
    pub(super) fn open(&mut self) -> Result<u64, FileError> {
        let (open, last) = open(&self.path).map_err(self.failed("open"))?;
        self.open = Some(open);
        Ok(last)
    }

    fn failed(&self, operation: &'static str) -> impl Fn(io::Error) -> FileError + use<> {
        let path = self.path.clone();
        move |source| FileError { operation, path: path.clone(), source }
    }

    /// The name of the file before, before the one before, …
    fn earlier(&self, age: u64) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{age}"));
        name.into()
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        let oldest = fs::metadata(self.earlier(FILES - 1)).map_or(0, |metadata| metadata.len());
        for age in (1..FILES).rev() {
            let from = if age == 1 { self.path.clone() } else { self.earlier(age - 1) };
            match fs::rename(from, self.earlier(age)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                // The first step is the one that replaces the oldest.
                Ok(()) if age == FILES - 1 => self.dropped += oldest,
                _ => {}
            }
        }
        self.open = Some(open(&self.path)?.0);
        Ok(())
    }

    /// Whether the file that is open is still the one at the path: somebody may have moved it.
    fn is_in_place(&self) -> bool {
        let Some(open) = &self.open else { return false };
        match (open.file.metadata(), fs::metadata(&self.path)) {
            (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }
}

impl Target for LogFile {
    fn append(&mut self, lines: &[u8]) -> Result<(), FileError> {
        let added = lines.len() as u64;
        if self.open.as_ref().is_some_and(|open| open.length > 0 && open.length + added > self.part)
        {
            self.rotate().map_err(self.failed("rotate"))?;
        }
        if self.open.is_none() {
            self.open()?;
        }
        let failed = self.failed("write");
        let Some(open) = &mut self.open else { return Ok(()) };
        let start: &[u8] = if open.torn { b"\n" } else { b"" };
        let written = open.file.write_all(start).and_then(|()| open.file.write_all(lines));
        if let Err(error) = written {
            // A part of a line would spoil the next one. Where that fails, too, it is told apart by its
            // missing end.
            open.torn = open.file.set_len(open.length).is_err() || open.torn;
            return Err(failed(error));
        }
        open.length += start.len() as u64 + added;
        open.torn = false;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), FileError> {
        if let Some(open) = &self.open {
            match open.file.sync_data() {
                // What cannot be synced need not be: a pipe, a device (fdatasync(2)).
                Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
                    return Err(self.failed("sync")(error));
                }
                _ => {}
            }
        }
        if !self.is_in_place() {
            self.open()?;
        }
        Ok(())
    }

    fn dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

/// Opens a file for its owner alone, and the directories above it where they are missing.
fn open(path: &Path) -> io::Result<(Open, u64)> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok((Open { file, length: 0, torn: false }, 0));
    }
    if metadata.mode() & 0o777 != 0o600 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    let length = metadata.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    (&file).take(TAIL).read_to_end(&mut tail)?;
    let torn = tail.last().is_some_and(|byte| *byte != b'\n');
    Ok((Open { file, length, torn }, last_sequence(&tail).unwrap_or(0)))
}

/// The number of the last whole line that has one.
fn last_sequence(tail: &[u8]) -> Option<u64> {
    tail.split(|byte| *byte == b'\n').rev().find_map(|line| {
        let value: serde_json::Value = serde_json::from_slice(line).ok()?;
        value.get("sequence")?.as_u64()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(directory: &tempfile::TempDir) -> LogFile {
        LogFile::new(directory.path().join("deep/audit.log"), MIN_SIZE)
    }

    fn names(directory: &tempfile::TempDir) -> Vec<(String, u64)> {
        let entries = fs::read_dir(directory.path().join("deep")).unwrap().map(Result::unwrap);
        let mut names: Vec<_> = entries
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())
            })
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_files_together_stay_within_the_bound_and_the_newest_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(&directory);
        let (mut written, mut dropped) = (0, 0);
        for number in 0..40_u64 {
            let mut line = format!("{{\"sequence\":{number},\"x\":\"").into_bytes();
            line.resize(50_000, b'x');
            line.extend(b"\"}\n");
            log.append(&line).unwrap();
            written += line.len() as u64;
            dropped += log.dropped();
        }
        let names = names(&directory);
        let expected = ["audit.log", "audit.log.1", "audit.log.2", "audit.log.3"];
        assert_eq!(names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), expected);
        let kept: u64 = names.iter().map(|(_, size)| size).sum();
        assert!(kept <= MIN_SIZE, "{names:?}");
        assert!(dropped > 0);
        assert_eq!(kept + dropped, written, "what is gone is counted");
        assert_eq!(log.open().unwrap(), 39);
        let mode = fs::metadata(&log.path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_line_that_was_not_ended_does_not_spoil_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(&directory);
        log.append(b"{\"sequence\":7}\n{\"sequ").unwrap();
        let mut again = LogFile::new(log.path.clone(), MIN_SIZE);
        assert_eq!(again.open().unwrap(), 7);
        again.append(b"{\"sequence\":8}\n").unwrap();
        let text = fs::read_to_string(&log.path).unwrap();
        assert_eq!(text, "{\"sequence\":7}\n{\"sequ\n{\"sequence\":8}\n");
    }

    #[test]
    fn a_file_that_was_moved_or_opened_to_others_is_made_anew_and_closed_to_them() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(&directory);
        log.append(b"{}\n").unwrap();
        fs::rename(&log.path, directory.path().join("moved")).unwrap();
        fs::write(&log.path, "").unwrap();
        fs::set_permissions(&log.path, fs::Permissions::from_mode(0o644)).unwrap();
        log.sync().unwrap();
        log.append(b"{\"a\":1}\n").unwrap();
        assert_eq!(fs::read_to_string(&log.path).unwrap(), "{\"a\":1}\n");
        assert_eq!(fs::metadata(&log.path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_full_disk_is_told_with_the_files_name() {
        let mut full = LogFile::new("/dev/full".into(), MIN_SIZE);
        let error = crate::reply::text(&full.append(b"{}\n").unwrap_err());
        assert!(error.starts_with("failed to write the audit log /dev/full: No space"), "{error}");
    }
}
