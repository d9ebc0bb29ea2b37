//! Writes archives in the kernel's initramfs format (cpio "newc", see the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! The same entries give the same bytes: they are sorted, numbered in order, and have no time.

use std::collections::BTreeMap;

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An entry's bytes and what they are.
#[derive(Clone, Debug, Default)]
struct Entry {
    mode: u32,
    data: Vec<u8>,
    device: (u32, u32),
}

/// An archive that is being put together. Paths have no leading slash; the directories above an
/// entry are made with mode 0755 unless they were given one.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    /// Adds a directory.
    pub fn directory(&mut self, path: &str, permissions: u32) {
        self.add(path, Entry { mode: DIRECTORY | permissions, ..Entry::default() });
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, permissions: u32, data: Vec<u8>) {
        self.add(path, Entry { mode: FILE | permissions, data, ..Entry::default() });
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        let data = target.as_bytes().to_vec();
        self.add(path, Entry { mode: LINK | 0o777, data, ..Entry::default() });
    }

    /// Adds a character device.
    pub fn character_device(&mut self, path: &str, permissions: u32, device: (u32, u32)) {
        let mode = CHARACTER_DEVICE | permissions;
        self.add(path, Entry { mode, device, ..Entry::default() });
    }

    /// Adds all entries of another archive, which replace those of the same path.
    pub fn extend(&mut self, other: &Self) {
        for (path, entry) in &other.entries {
            self.add(path, entry.clone());
        }
    }

    /// The archive's bytes.
    pub fn pack(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut inode = 0;
        for (path, entry) in &self.entries {
            inode += 1;
            write_entry(&mut out, inode, path, entry);
        }
        write_entry(&mut out, 0, "TRAILER!!!", &Entry::default());
        out
    }

    fn add(&mut self, path: &str, entry: Entry) {
        for (end, _) in path.match_indices('/') {
            self.entries
                .entry(path[..end].to_owned())
                .or_insert_with(|| Entry { mode: DIRECTORY | 0o755, ..Entry::default() });
        }
        self.entries.insert(path.to_owned(), entry);
    }
}

/// A header of thirteen eight-digit numbers, the name, the data; the last two padded to four bytes.
fn write_entry(out: &mut Vec<u8>, inode: usize, path: &str, entry: &Entry) {
    let links = if entry.mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
    let (major, minor) = (entry.device.0 as usize, entry.device.1 as usize);
    let numbers = [
        inode,
        entry.mode as usize,
        0, // uid
        0, // gid
        links,
        0, // time
        entry.data.len(),
        0, // device the file is on
        0,
        major,
        minor,
        path.len() + 1,
        0, // checksum
    ];
    out.extend_from_slice(b"070701");
    for number in numbers {
        out.extend_from_slice(format!("{number:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(&entry.data);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    while !out.len().is_multiple_of(4) {
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_adding_makes_no_difference() {
        let mut one = Archive::default();
        one.file("etc/b", 0o644, b"b".to_vec());
        one.file("etc/a", 0o600, b"a".to_vec());
        let mut other = Archive::default();
        other.file("etc/a", 0o600, b"a".to_vec());
        other.file("etc/b", 0o644, b"b".to_vec());
        assert_eq!(one.pack(), other.pack());
    }

    #[test]
    fn directories_come_before_what_is_in_them() {
        let mut archive = Archive::default();
        archive.file("a/b/c", 0o644, Vec::new());
        let names: Vec<&String> = archive.entries.keys().collect();
        assert_eq!(names, ["a", "a/b", "a/b/c"]);
        archive.directory("a/b", 0o700);
        assert_eq!(archive.entries["a/b"].mode, DIRECTORY | 0o700);
    }

    #[test]
    fn headers_and_data_are_padded_to_four_bytes() {
        let mut archive = Archive::default();
        archive.file("init", 0o755, b"12345".to_vec());
        let bytes = archive.pack();
        // 110 bytes of header, `init` and its NUL: 115, padded to 116; then 5 bytes padded to 8.
        assert_eq!(&bytes[116..121], b"12345");
        assert_eq!(&bytes[124..130], b"070701");
        assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0") && bytes.len() % 4 == 0);
    }
}
