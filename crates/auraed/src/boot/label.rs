//! Finding the config disk: the labels of file systems, read from the devices themselves.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The label of a config disk.
pub(super) const LABEL: &str = "AURAE";

/// Where a kind of file system keeps its label.
struct Place {
    /// What tells the kind, and where it stands.
    magic: (u64, &'static [u8]),
    /// Where the label stands, and how long it may be.
    label: (u64, usize),
}

/// FAT32 and FAT12/16 (their boot sectors), ext2/3/4 (the superblock), ISO 9660 (the primary volume
/// descriptor).
const PLACES: &[Place] = &[
    Place { magic: (0x52, b"FAT32   "), label: (0x47, 11) },
    Place { magic: (0x36, b"FAT1"), label: (0x2b, 11) },
    Place { magic: (1024 + 0x38, &[0x53, 0xef]), label: (1024 + 0x78, 16) },
    Place { magic: (0x8000, b"\x01CD001"), label: (0x8000 + 40, 32) },
];

/// The first block device, in the order of names, whose file system has the label `AURAE`.
pub(super) fn find_config_disk() -> Option<PathBuf> {
    let mut names: Vec<_> =
        fs::read_dir("/sys/class/block").ok()?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names
        .into_iter()
        // Memory devices hold nothing that we did not put there ourselves.
        .filter(|name| {
            !["ram", "loop", "zram"].iter().any(|kind| name.to_string_lossy().starts_with(kind))
        })
        .map(|name| Path::new("/dev").join(name))
        .find(|device| read_label(device).as_deref() == Some(LABEL))
}

/// The label of the file system on a device, without padding. `None`: it has none that we know how to
/// read, or the device cannot be read (an empty drive).
fn read_label(device: &Path) -> Option<String> {
    let device = File::open(device).ok()?;
    PLACES.iter().find_map(|place| {
        let (at, magic) = place.magic;
        (read(&device, at, magic.len())? == magic).then_some(())?;
        let label = read(&device, place.label.0, place.label.1)?;
        let end = label.iter().position(|byte| *byte == 0).unwrap_or(label.len());
        let label = std::str::from_utf8(&label[..end]).ok()?.trim_end();
        Some(label.to_owned())
    })
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
    fn image(place: &Place, label: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 * 1024).unwrap();
        file.as_file().write_all_at(place.magic.1, place.magic.0).unwrap();
        file.as_file().write_all_at(label, place.label.0).unwrap();
        file
    }

    #[test]
    fn the_label_is_found_in_every_kind_of_file_system() {
        for place in PLACES {
            let padding = if place.label.1 == 16 { 0 } else { b' ' };
            let mut label = b"AURAE".to_vec();
            label.resize(place.label.1, padding);
            assert_eq!(read_label(image(place, &label).path()).as_deref(), Some(LABEL));
        }
    }

    #[test]
    fn another_label_is_not_ours() {
        assert_eq!(read_label(image(&PLACES[2], b"AURAE2\0").path()).as_deref(), Some("AURAE2"));
    }

    #[test]
    fn what_is_no_file_system_has_no_label() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(read_label(empty.path()), None);
        empty.as_file().set_len(1 << 20).unwrap();
        assert_eq!(read_label(empty.path()), None);
        assert_eq!(read_label(Path::new("/does/not/exist")), None);
    }
}
