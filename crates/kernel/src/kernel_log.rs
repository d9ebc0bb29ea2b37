//! The kernel's log (`/dev/kmsg`, see the kernel's `Documentation/ABI/testing/dev-kmsg`).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::error::Context;
use crate::{Error, Result};

const PATH: &str = "/dev/kmsg";
/// The greatest record (`PRINTKRB_RECORD_MAX` and its prefix); a smaller buffer is refused.
const MAX_RECORD: usize = 16 << 10;
const NANOS_PER_MICRO: i64 = 1_000;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A record of the kernel's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its number since boot.
    pub sequence: u64,
    /// When it was written, in nanoseconds since the epoch.
    pub unix_nanos: i64,
    /// The syslog severity, 0 to 7.
    pub severity: u8,
    /// The syslog facility; 0 is the kernel itself.
    pub facility: u32,
    /// The text.
    pub message: String,
}

/// An open kernel log: a place in it, at first before the oldest record.
#[derive(Debug)]
pub struct KernelLog {
    file: OwnedFd,
    /// When the kernel's clock was at 0, in nanoseconds since the epoch.
    epoch: i64,
}

impl KernelLog {
    /// Opens the log for reading without waiting.
    ///
    /// # Errors
    /// What the kernel says; `EPERM` without CAP_SYSLOG where `dmesg_restrict` is set.
    pub fn open() -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(CWD, PATH, flags, Mode::empty())
            .context(|| format!("open {PATH}"))?;
        let (real, monotonic) =
            (clock_gettime(ClockId::Realtime), clock_gettime(ClockId::Monotonic));
        Ok(Self { file, epoch: nanos(&real).saturating_sub(nanos(&monotonic)) })
    }

    /// The next record; `None` if there is none at the moment. Records that were overwritten before
    /// they were read are left out: their numbers are missing.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn next(&self) -> Result<Option<Record>> {
        let mut buffer = [0; MAX_RECORD];
        loop {
            match rustix::io::read(&self.file, &mut buffer) {
                Ok(length) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    if let Some(record) = parse(bytes, self.epoch) {
                        return Ok(Some(record));
                    }
                    if length == 0 {
                        return Ok(None);
                    }
                }
                Err(Errno::AGAIN) => return Ok(None),
                // Overwritten: the next read goes on with the oldest that is left.
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(errno) => return Err(Error::new(format!("read {PATH}"), errno)),
            }
        }
    }
}

impl AsFd for KernelLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for KernelLog {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

fn nanos(time: &Timespec) -> i64 {
    time.tv_sec.saturating_mul(NANOS_PER_SECOND).saturating_add(time.tv_nsec)
}

/// `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];TEXT` and lines of properties, which are left out.
fn parse(bytes: &[u8], epoch: i64) -> Option<Record> {
    let split = bytes.iter().position(|byte| *byte == b';')?;
    let (prefix, text) = bytes.split_at(split);
    let mut fields = std::str::from_utf8(prefix).ok()?.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let sequence = fields.next()?.parse().ok()?;
    let micros: i64 = fields.next()?.parse().ok()?;
    let text = text.get(1..)?.split(|byte| *byte == b'\n').next()?;
    Some(Record {
        sequence,
        unix_nanos: epoch.saturating_add(micros.saturating_mul(NANOS_PER_MICRO)),
        // Three bits fit.
        severity: (priority & 7) as u8,
        facility: priority >> 3,
        message: String::from_utf8_lossy(&unescape(text)).into_owned(),
    })
}

/// Undoes `\xNN`, which the kernel writes for what is not printable and for `\` itself.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let escaped = match rest {
            [b'\\', b'x', high, low, ..] => hexadecimal(*high).zip(hexadecimal(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = rest.get(4..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_without_its_properties() {
        let bytes = b"30,339,5140900,-;eth0: link \\x09up\n SUBSYSTEM=net\n DEVICE=n2\n";
        let expected = Record {
            sequence: 339,
            unix_nanos: 5_140_900_001,
            severity: 6,
            facility: 3,
            message: "eth0: link \tup".into(),
        };
        // 5140900 µs after an epoch of 1 ns, in nanoseconds.
        let record = parse(bytes, 1).unwrap();
        assert_eq!(record, Record { unix_nanos: 5_140_900_000 + 1, ..expected });
    }

    #[test]
    fn bytes_that_are_no_record_are_none() {
        for bytes in ["", ";", "6,1;x", "x,1,2,-;y", "6,1,2,-"] {
            assert_eq!(parse(bytes.as_bytes(), 0), None, "{bytes}");
        }
        assert_eq!(parse(b"6,1,2,-;", 0).unwrap().message, "");
        assert_eq!(parse(b"6,1,2,-;\\x4", 0).unwrap().message, "\\x4");
        assert_eq!(parse(b"6,1,2,-;\\x5cx41", 0).unwrap().message, "\\x41");
    }
}
