//! Files that are only in memory (memfd_create(2)): an executable that was received, a message to
//! whoever executes next, and what a program may write.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;

use crate::error::Context;
use crate::{Error, Result};

/// An executable that is being received.
#[derive(Debug)]
pub struct ImageWriter {
    file: File,
}

impl ImageWriter {
    /// An empty one.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new() -> Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Kernels before 6.3 do not know the flag, and make every such file executable.
        let file = match rustix::fs::memfd_create("auraed", flags | MemfdFlags::EXEC) {
            Err(Errno::INVAL) => rustix::fs::memfd_create("auraed", flags),
            made => made,
        };
        Ok(Self { file: file.context(|| "create a file in memory")?.into() })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// `ENOSPC` or `ENOMEM` when there is no memory left.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| Error::from_io("write to a file in memory", &error))
    }

    /// Makes it what it is for ever, and opens it for executing: the kernel executes nothing that is
    /// open for writing.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn finish(self) -> Result<OwnedFd> {
        seal(self.file.as_fd())?;
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .context(|| "open a file in memory for executing")
    }
}

fn seal(file: BorrowedFd<'_>) -> Result<()> {
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(file, seals).context(|| "seal a file in memory")
}

/// A file with these bytes, which nobody can change.
///
/// # Errors
/// What the kernel says.
pub fn sealed(bytes: &[u8]) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("aurae", flags).context(|| "create a file in memory")?;
    let mut file = File::from(file);
    file.write_all(bytes).map_err(|error| Error::from_io("write to a file in memory", &error))?;
    seal(file.as_fd())?;
    Ok(file.into())
}

/// What a program wrote, bounded: the kernel refuses what goes beyond.
#[derive(Debug)]
pub struct Output {
    file: File,
}

impl Output {
    /// Room for so many bytes.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(size: u64) -> Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file =
            rustix::fs::memfd_create("output", flags).context(|| "create a file in memory")?;
        let file = File::from(file);
        file.set_len(size).map_err(|error| Error::from_io("size a file in memory", &error))?;
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW;
        rustix::fs::fcntl_add_seals(&file, seals).context(|| "seal a file in memory")?;
        Ok(Self { file })
    }

    /// What was written so far, as text.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn text(mut self) -> Result<String> {
        let failed = |error: std::io::Error| Error::from_io("read a file in memory", &error);
        // The program shares the position.
        let written = self.file.stream_position().map_err(failed)?;
        self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut bytes = Vec::new();
        self.file.take(written).read_to_end(&mut bytes).map_err(failed)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_sealed_and_open_for_reading_alone() {
        let mut writer = ImageWriter::new().unwrap();
        writer.write(b"\x7fELF").unwrap();
        let mut image = File::from(writer.finish().unwrap());
        let mut bytes = Vec::new();
        image.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"\x7fELF");
        assert!(image.write_all(b"x").is_err());
        let path = format!("/proc/self/fd/{}", image.as_raw_fd());
        let mut again = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        assert!(again.write_all(b"x").is_err());
    }

    #[test]
    fn an_output_takes_what_there_is_room_for() {
        let output = Output::new(5).unwrap();
        let mut end = File::from(output.as_fd().try_clone_to_owned().unwrap());
        end.write_all(b"hello").unwrap();
        assert!(end.write_all(b" world").is_err());
        assert_eq!(output.text().unwrap(), "hello");
    }
}
