//! What an ELF header says of a file (elf(5)), before anybody executes it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::UpgradeError;

/// The file's header; that of each segment.
const HEADER: usize = 64;
const SEGMENT: usize = 56;
/// So much of the file is looked at: the linker puts the segments' headers right behind the file's.
const LOOKED_AT: usize = 4096;

/// `ELFCLASS64`, `ELFDATA2LSB`.
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
/// `ET_EXEC`, `ET_DYN`.
const EXECUTABLE: [u64; 2] = [2, 3];
/// `EM_X86_64`.
const MACHINE: u64 = 62;
/// `PT_LOAD`.
const LOAD: u64 = 1;

/// Checks that a file is a whole executable for this machine.
pub(super) fn check(image: &File, size: u64) -> Result<(), UpgradeError> {
    let mut bytes = vec![0; LOOKED_AT.min(usize::try_from(size).unwrap_or(LOOKED_AT))];
    image
        .read_exact_at(&mut bytes, 0)
        .map_err(|error| aurae_kernel::Error::from_io("read the file", &error))?;
    examine(&bytes, size).map_err(UpgradeError::NotForHere)
}

/// `bytes` is the beginning of a file of `size` bytes.
fn examine(bytes: &[u8], size: u64) -> Result<(), String> {
    let Some(header) = bytes.get(..HEADER).filter(|header| header.starts_with(b"\x7fELF")) else {
        return Err("it is not an ELF file".to_owned());
    };
    let machine = number(header, 18, 2);
    if header[4] != CLASS_64 || header[5] != LITTLE_ENDIAN || machine != MACHINE {
        return Err(format!(
            "it is for another architecture (ELF machine {machine}; x86-64 is {MACHINE})"
        ));
    }
    if !EXECUTABLE.contains(&number(header, 16, 2)) {
        return Err("it is not an executable".to_owned());
    }
    let (start, count) = (number(header, 32, 8), number(header, 56, 2));
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    let segments = bytes.get(start..).unwrap_or_default().chunks_exact(SEGMENT);
    if number(header, 54, 2) != SEGMENT as u64 || (segments.len() as u64) < count || count == 0 {
        return Err("it is truncated, or no program".to_owned());
    }
    let loaded = segments.take(usize::try_from(count).unwrap_or(0));
    let loaded = loaded.filter(|segment| number(segment, 0, 4) == LOAD);
    let ends = loaded.map(|segment| number(segment, 8, 8).saturating_add(number(segment, 32, 8)));
    // The table of sections is a file's end.
    let sections = number(header, 58, 2) * number(header, 60, 2);
    let end = ends.chain([number(header, 40, 8).saturating_add(sections)]).max().unwrap_or(0);
    if end > size {
        return Err(format!("it is truncated: it has {size} bytes, and should have {end}"));
    }
    Ok(())
}

/// A little-endian number of at most 8 bytes; 0 where there are none.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let bytes = bytes.get(at..at + length).unwrap_or_default();
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test's own program.
    fn own() -> (Vec<u8>, u64) {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let size = bytes.len() as u64;
        (bytes[..LOOKED_AT].to_vec(), size)
    }

    #[test]
    fn a_program_for_this_machine_is_accepted() {
        let (bytes, size) = own();
        assert_eq!(examine(&bytes, size), Ok(()));
    }

    #[test]
    fn a_truncated_program_is_refused() {
        let (bytes, size) = own();
        for size in [size - 1, size / 2, LOOKED_AT as u64] {
            assert!(examine(&bytes, size).unwrap_err().starts_with("it is truncated"));
        }
        assert!(examine(&bytes[..100], 100).unwrap_err().starts_with("it is truncated"));
    }

    #[test]
    fn what_is_for_another_machine_or_no_program_is_refused() {
        let (mut bytes, size) = own();
        bytes[18] = 183;
        assert!(examine(&bytes, size).unwrap_err().contains("another architecture"));
        let (mut bytes, size) = own();
        bytes[16] = 1;
        assert_eq!(examine(&bytes, size).unwrap_err(), "it is not an executable");
        for text in ["", "#!/bin/sh\n", "\x7fELF"] {
            let error = examine(text.as_bytes(), text.len() as u64).unwrap_err();
            assert_eq!(error, "it is not an ELF file");
        }
    }

    #[test]
    fn no_header_makes_it_panic() {
        let (bytes, size) = own();
        for index in 0..HEADER + 2 * SEGMENT {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = bytes.clone();
                bytes[index] = value;
                let _ = examine(&bytes, size);
            }
        }
    }
}
