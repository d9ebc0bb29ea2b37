//! Files that are written all or none, and never over others unawares.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;
/// A directory that has keys in it.
const DIRECTORY: u32 = 0o700;

/// Files to write to a directory.
pub(super) struct Files<'a> {
    directory: &'a Path,
    overwrite: bool,
    files: Vec<(PathBuf, u32, String)>,
}

impl<'a> Files<'a> {
    pub(super) fn new(directory: &'a Path, overwrite: bool) -> Self {
        Self { directory, overwrite, files: Vec::new() }
    }

    /// A file that everybody may read. An absolute `name` is a file elsewhere.
    pub(super) fn public(&mut self, name: impl AsRef<Path>, content: &str) {
        self.files.push((self.directory.join(name), PUBLIC, content.to_owned()));
    }

    /// A file that its owner alone may read.
    pub(super) fn private(&mut self, name: &str, content: &str) {
        self.files.push((self.directory.join(name), PRIVATE, content.to_owned()));
    }

    /// Writes them, and answers their paths.
    pub(super) fn write(self) -> Result<Vec<PathBuf>, Failure> {
        let exists = |path: &Path| path.symlink_metadata().is_ok();
        let in_the_way = self.files.iter().find(|(path, ..)| !self.overwrite && exists(path));
        if let Some((path, ..)) = in_the_way {
            return Err(Failure::new(format!("{} is there already", path.display()))
                .hint("nothing was written; `--force` overwrites it, and what it certified is refused from then on"));
        }
        for (path, mode, content) in &self.files {
            make_parent(path)?;
            write_new(path, *mode, content).map_err(|error| failed(path, &error))?;
        }
        Ok(self.files.into_iter().map(|(path, ..)| path).collect())
    }
}

fn make_parent(path: &Path) -> Result<(), Failure> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    let made = DirBuilder::new().recursive(true).mode(DIRECTORY).create(parent);
    made.map_err(|error| failed(parent, &error))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("failed to write {}: {error}", path.display()))
}

/// Writes beside the path and renames: the file is whole or not there, and never has another mode,
/// even if one of that name was open to everybody.
fn write_new(path: &Path, mode: u32, content: &str) -> io::Result<()> {
    let beside = path.with_added_extension(format!("new-{}", std::process::id()));
    let mut file: File =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    let written = file.write_all(content.as_bytes()).and_then(|()| file.sync_all());
    let done = written.and_then(|()| std::fs::rename(&beside, path));
    if done.is_err() {
        // What matters is the first error.
        let _ = std::fs::remove_file(&beside);
    }
    done
}
