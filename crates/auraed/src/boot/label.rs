//! Which file system a block device holds and how it is labelled, read from the device itself.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The label of a config disk.
pub(super) const LABEL: &str = "AURAE";

/// A kind of file system, and where it says so.
struct Kind {
    filesystem: &'static str,
    /// What tells the kind, and where it stands.
    magic: (u64, &'static [u8]),
    /// Where the label stands, and how long it may be. `None`: there is no room for one.
    label: Option<(u64, usize)>,
}

/// FAT32 and FAT12/16 (their boot sectors), ext2/3/4 (the superblock), ISO 9660 (the primary volume
/// descriptor), squashfs (the superblock).
const KINDS: &[Kind] = &[
    Kind { filesystem: "vfat", magic: (0x52, b"FAT32   "), label: Some((0x47, 11)) },
    Kind { filesystem: "vfat", magic: (0x36, b"FAT1"), label: Some((0x2b, 11)) },
    Kind {
        filesystem: "ext4",
        magic: (1024 + 0x38, &[0x53, 0xef]),
        label: Some((1024 + 0x78, 16)),
    },
    Kind { filesystem: "iso9660", magic: (0x8000, b"\x01CD001"), label: Some((0x8000 + 40, 32)) },
    Kind { filesystem: "squashfs", magic: (0, b"hsqs"), label: None },
];

/// What is on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The file system, as `mount(2)` calls it.
    pub(super) filesystem: &'static str,
    /// The label, without padding. `None`: it has none, or none that is text.
    pub(super) label: Option<String>,
}

/// The first block device, in the order of names, whose file system has the label `AURAE`.
pub(super) fn find_config_disk() -> Option<PathBuf> {
    let mut names: Vec<_> =
        fs::read_dir("/sys/class/block").ok()?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names
        .into_iter()
        .filter(|name| !is_memory(&name.to_string_lossy()))
        .map(|name| Path::new("/dev").join(name))
        .find(|device| {
            probe(device).and_then(|found| found.label).is_some_and(|label| label == LABEL)
        })
}

/// Memory devices hold nothing that was not put there since the boot.
fn is_memory(name: &str) -> bool {
    ["ram", "loop", "zram"].iter().any(|kind| name.starts_with(kind))
}

/// What is on a device. `None`: nothing that we know, or it cannot be read (an empty drive).
pub(super) fn probe(device: &Path) -> Option<Found> {
    let device = File::open(device).ok()?;
    let kind = KINDS.iter().find(|kind| {
        let (at, magic) = kind.magic;
        read(&device, at, magic.len()).is_some_and(|bytes| bytes == magic)
    })?;
    let label = kind.label.and_then(|(at, length)| {
        let label = read(&device, at, length)?;
        let end = label.iter().position(|byte| *byte == 0).unwrap_or(label.len());
        Some(std::str::from_utf8(&label[..end]).ok()?.trim_end().to_owned())
    });
    Some(Found { filesystem: kind.filesystem, label })
}

fn read(device: &File, at: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    device.read_exact_at(&mut bytes, at).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image of a file system with a label, as small as can be.
    fn image(kind: &Kind, label: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 * 1024).unwrap();
        file.as_file().write_all_at(kind.magic.1, kind.magic.0).unwrap();
        if let Some((at, _)) = kind.label {
            file.as_file().write_all_at(label, at).unwrap();
        }
        file
    }

    #[test]
    fn the_label_is_found_in_every_kind_of_file_system_that_has_one() {
        for kind in KINDS {
            let mut label = b"AURAE".to_vec();
            let padding = if kind.filesystem == "ext4" { 0 } else { b' ' };
            label.resize(kind.label.map_or(0, |(_, length)| length), padding);
            let found = probe(image(kind, &label).path()).unwrap();
            assert_eq!(found.filesystem, kind.filesystem);
            assert_eq!(found.label.as_deref(), kind.label.map(|_| LABEL));
        }
    }

    #[test]
    fn another_label_is_not_ours() {
        let found = probe(image(&KINDS[2], b"AURAE2\0").path()).unwrap();
        assert_eq!(found.label.as_deref(), Some("AURAE2"));
    }

    #[test]
    fn what_is_no_file_system_is_nothing() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(probe(empty.path()), None);
        empty.as_file().set_len(1 << 20).unwrap();
        assert_eq!(probe(empty.path()), None);
        assert_eq!(probe(Path::new("/does/not/exist")), None);
    }
}
