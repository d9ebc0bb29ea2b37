//! Limits of a cell, in the units and ranges of cgroup v2
//! (`Documentation/admin-guide/cgroup-v2.rst`).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::Invalid;

/// All limits of a cell. The default is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// CPU time.
    pub cpu: Cpu,
    /// Which CPUs and memory nodes.
    pub cpuset: Cpuset,
    /// Memory.
    pub memory: Memory,
    /// `pids.max`, 1 or more.
    pub pids_max: Option<u64>,
    /// Block devices.
    pub io: Io,
}

/// Limits on CPU time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// `cpu.weight`.
    pub weight: Option<Weight>,
    /// `cpu.max` and `cpu.max.burst`.
    pub max: Option<CpuMax>,
}

/// `cpu.weight` or `io.weight`: 1 to 10000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(u32);

impl Weight {
    /// Parses a weight. `field` is named in the error.
    ///
    /// # Errors
    /// Outside 1 to 10000.
    pub fn parse(weight: u64, field: &str) -> Result<Self, Invalid> {
        match u32::try_from(weight) {
            Ok(weight @ 1..=10_000) => Ok(Self(weight)),
            _ => Err(Invalid::new(field, "Must be in 1 to 10000")),
        }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

/// `cpu.max`, `cpu.max.burst`: microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuMax {
    /// CPU time in each period; `None`: no limit, only the period is set.
    pub quota: Option<u64>,
    /// The period.
    pub period: u64,
    /// What may be saved up.
    pub burst: Option<u64>,
}

/// A change of [`CpuMax`]: what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuMaxChange {
    /// CPU time in each period.
    pub quota: Option<u64>,
    /// The period.
    pub period: Option<u64>,
    /// What may be saved up.
    pub burst: Option<u64>,
}

impl CpuMaxChange {
    /// The kernel's own.
    pub const DEFAULT_PERIOD: u64 = 100_000;
    const PERIODS: RangeInclusive<u64> = 1_000..=1_000_000;
    const MIN_QUOTA: u64 = 1_000;
    /// The kernel's `max_cfs_runtime` in microseconds (`MAX_BW`): beyond it, it answers EINVAL.
    const MAX_QUOTA: u64 = (1 << 44) - 1;

    /// Parses the three fields of `prefix` (`cell.cpu`), each for itself.
    ///
    /// # Errors
    /// The first field outside its range.
    pub fn parse(
        max: Option<i64>,
        period: Option<u64>,
        burst: Option<u64>,
        prefix: &str,
    ) -> Result<Self, Invalid> {
        let quota = match max.map(u64::try_from) {
            None => None,
            Some(Ok(quota)) if (Self::MIN_QUOTA..=Self::MAX_QUOTA).contains(&quota) => Some(quota),
            Some(_) => {
                return Err(Invalid::new(
                    format!("{prefix}.max"),
                    format!("Must be in {} to {} microseconds", Self::MIN_QUOTA, Self::MAX_QUOTA),
                ));
            }
        };
        if period.is_some_and(|period| !Self::PERIODS.contains(&period)) {
            return Err(Invalid::new(
                format!("{prefix}.period"),
                format!(
                    "Must be in {} to {} microseconds",
                    Self::PERIODS.start(),
                    Self::PERIODS.end()
                ),
            ));
        }
        Ok(Self { quota, period, burst })
    }

    /// What `current` is after the change. `None`: there is neither.
    ///
    /// # Errors
    /// The fields do not fit together.
    pub fn applied_to(
        self,
        current: Option<CpuMax>,
        prefix: &str,
    ) -> Result<Option<CpuMax>, Invalid> {
        if current.is_none() && self == Self::default() {
            return Ok(None);
        }
        let quota = self.quota.or(current.and_then(|current| current.quota));
        let period = self.period.or(current.map(|current| current.period));
        // Without a quota the kernel tells a burst of 0.
        let saved = current.and_then(|current| current.burst).filter(|&burst| burst > 0);
        let burst = self.burst.or(saved);
        if burst.is_some_and(|burst| quota.is_none_or(|quota| burst > quota)) {
            return Err(Invalid::new(
                format!("{prefix}.burst"),
                "Must be at most `max`, which must be set",
            ));
        }
        Ok(Some(CpuMax { quota, period: period.unwrap_or(Self::DEFAULT_PERIOD), burst }))
    }
}

/// Which CPUs and memory nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpuset {
    /// `cpuset.cpus`.
    pub cpus: Option<List>,
    /// `cpuset.mems`.
    pub mems: Option<List>,
}

/// A list in the kernel's syntax (`0-2,7`), kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    text: String,
    numbers: BTreeSet<u32>,
}

impl List {
    /// No machine that Linux runs on has more CPUs (`NR_CPUS` is at most 8192).
    const MAX: u32 = 8_191;

    /// Parses a list; an empty one is `None`. `field` is named in the error.
    ///
    /// # Errors
    /// Not a list of numbers and ranges.
    pub fn parse(text: &str, field: &str) -> Result<Option<Self>, Invalid> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        parse_list(text)
            .filter(|numbers| numbers.last().is_none_or(|&last| last <= Self::MAX))
            .map(|numbers| Some(Self { text: text.to_owned(), numbers }))
            .ok_or_else(|| {
                Invalid::new(
                    field,
                    format!("Must be numbers and ranges up to {}, `0-2,7` for example", Self::MAX),
                )
            })
    }

    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The numbers that `present` lacks.
    #[must_use]
    pub fn missing_from(&self, present: &BTreeSet<u32>) -> Vec<u32> {
        self.numbers.difference(present).copied().collect()
    }
}

/// The numbers of a list in the kernel's syntax; `None` where it is not one.
#[must_use]
pub fn parse_list(text: &str) -> Option<BTreeSet<u32>> {
    let mut numbers = BTreeSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last > List::MAX {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// Digits only: `u32::from_str` would take a sign.
fn number(text: &str) -> Option<u32> {
    (text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// Limits on memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// `memory.min`.
    pub min: Option<u64>,
    /// `memory.low`.
    pub low: Option<u64>,
    /// `memory.high`.
    pub high: Option<u64>,
    /// `memory.max`.
    pub max: Option<u64>,
    /// `memory.swap.max`.
    pub swap_max: Option<u64>,
    /// `memory.oom.group`.
    pub oom_group: Option<bool>,
}

/// Limits on block devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Io {
    /// `io.weight`.
    pub weight: Option<Weight>,
    /// `io.max`.
    pub devices: Vec<IoDevice>,
}

/// How a device is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// By its numbers.
    Numbers(u32, u32),
    /// By its path under `/dev`.
    Path(String),
}

impl Device {
    /// Parses `MAJOR:MINOR` or an absolute path. `field` is named in the error.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str, field: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::required(field));
        }
        if text.starts_with("/dev/") && !text.contains('\0') {
            return Ok(Self::Path(text.to_owned()));
        }
        text.split_once(':')
            .and_then(|(major, minor)| Some(Self::Numbers(number(major)?, number(minor)?)))
            .ok_or_else(|| Invalid::new(field, "Must be a path under /dev or MAJOR:MINOR"))
    }
}

/// A line of `io.max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoDevice {
    /// The device.
    pub device: Device,
    /// `rbps`.
    pub read_bytes: Option<u64>,
    /// `wbps`.
    pub write_bytes: Option<u64>,
    /// `riops`.
    pub read_operations: Option<u64>,
    /// `wiops`.
    pub write_operations: Option<u64>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_are_parsed_as_the_kernel_does() {
        let list = List::parse("0-2,7", "f").unwrap().unwrap();
        assert_eq!(list.missing_from(&BTreeSet::from([0, 1])), [2, 7]);
        assert_eq!(List::parse("", "f"), Ok(None));
        for bad in ["a", "1-", "-1", "2-1", "0,+1", "0-99999999", "1 2"] {
            assert!(List::parse(bad, "f").is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn quota_period_and_burst_are_bounded() {
        let parse = |max, period, burst| {
            CpuMaxChange::parse(max, period, burst, "cell.cpu")?.applied_to(None, "cell.cpu")
        };
        assert_eq!(parse(None, None, None), Ok(None));
        assert!(parse(Some(999), None, None).is_err());
        assert!(parse(Some(-1), None, None).is_err());
        assert!(parse(Some(i64::MAX), None, None).is_err());
        assert!(parse(Some(1000), Some(999), None).is_err());
        assert!(parse(Some(1000), Some(1_000_001), None).is_err());
        assert!(parse(Some(1000), None, Some(1001)).is_err());
        assert!(parse(None, None, Some(1)).is_err());
        assert!(parse(Some(20_000), None, Some(20_000)).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = List::parse(&text, "f");
            let _ = Device::parse(&text, "f");
        }
    }
}
