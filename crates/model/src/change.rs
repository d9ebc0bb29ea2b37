//! Changes of a cell's limits.

use std::collections::BTreeSet;

use crate::{CpuMax, CpuMaxChange, Invalid, IoDevice, Limits};

/// A limit that can be taken away, as a path of the wire's `Cell`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of the paths")]
pub enum Limit {
    CpuWeight,
    CpuMax,
    CpuPeriod,
    CpuBurst,
    CpusetCpus,
    CpusetMems,
    MemoryMin,
    MemoryLow,
    MemoryHigh,
    MemoryMax,
    MemorySwapMax,
    MemoryOomGroup,
    PidsMax,
    IoWeight,
    IoDevices,
}

const PATHS: [(&str, Limit); 15] = [
    ("cpu.weight", Limit::CpuWeight),
    ("cpu.max", Limit::CpuMax),
    ("cpu.period", Limit::CpuPeriod),
    ("cpu.burst", Limit::CpuBurst),
    ("cpuset.cpus", Limit::CpusetCpus),
    ("cpuset.mems", Limit::CpusetMems),
    ("memory.min", Limit::MemoryMin),
    ("memory.low", Limit::MemoryLow),
    ("memory.high", Limit::MemoryHigh),
    ("memory.max", Limit::MemoryMax),
    ("memory.swap_max", Limit::MemorySwapMax),
    ("memory.oom_group", Limit::MemoryOomGroup),
    ("pids.max", Limit::PidsMax),
    ("io.weight", Limit::IoWeight),
    ("io.devices", Limit::IoDevices),
];

impl Limit {
    /// Parses a path, `memory.max` for example. `field` is named in the error.
    ///
    /// # Errors
    /// It is the path of no limit.
    pub fn parse(path: &str, field: &str) -> Result<Self, Invalid> {
        let known = PATHS.iter().find(|(known, _)| *known == path);
        known.map(|(_, limit)| *limit).ok_or_else(|| {
            let paths = PATHS.map(|(path, _)| path).join(", ");
            Invalid::new(field, format!("{path:?} is no limit; these are: {paths}"))
        })
    }

    fn path(self) -> &'static str {
        PATHS.iter().find(|(_, limit)| *limit == self).map_or("", |(path, _)| path)
    }
}

/// What is to be changed of a cell's limits. What is neither set nor cleared stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsChange {
    set: Limits,
    cpu_max: CpuMaxChange,
    clear: BTreeSet<Limit>,
}

impl LimitsChange {
    /// Sets what `set` has, its `cpu.max` apart, and what `cpu_max` has; takes away what `clear` names.
    ///
    /// # Errors
    /// A limit is to be both set and taken away.
    pub fn new(
        set: Limits,
        cpu_max: CpuMaxChange,
        clear: BTreeSet<Limit>,
    ) -> Result<Self, Invalid> {
        let change = Self { set, cpu_max, clear };
        match change.clear.iter().find(|limit| change.sets(**limit)) {
            Some(both) => {
                Err(Invalid::new("clear", format!("`{}` is set in `cell` too", both.path())))
            }
            None => Ok(change),
        }
    }

    fn sets(&self, limit: Limit) -> bool {
        let Limits { cpu, cpuset, memory, pids_max, io } = &self.set;
        match limit {
            Limit::CpuWeight => cpu.weight.is_some(),
            Limit::CpuMax => self.cpu_max.quota.is_some(),
            Limit::CpuPeriod => self.cpu_max.period.is_some(),
            Limit::CpuBurst => self.cpu_max.burst.is_some(),
            Limit::CpusetCpus => cpuset.cpus.is_some(),
            Limit::CpusetMems => cpuset.mems.is_some(),
            Limit::MemoryMin => memory.min.is_some(),
            Limit::MemoryLow => memory.low.is_some(),
            Limit::MemoryHigh => memory.high.is_some(),
            Limit::MemoryMax => memory.max.is_some(),
            Limit::MemorySwapMax => memory.swap_max.is_some(),
            Limit::MemoryOomGroup => memory.oom_group.is_some(),
            Limit::PidsMax => pids_max.is_some(),
            Limit::IoWeight => io.weight.is_some(),
            Limit::IoDevices => !io.devices.is_empty(),
        }
    }

    /// The devices whose limits are set, to be named otherwise.
    pub fn devices_mut(&mut self) -> &mut [IoDevice] {
        &mut self.set.io.devices
    }

    /// What the limits `current` are after the change. Devices are the same if they are named the same
    /// way.
    ///
    /// # Errors
    /// The fields of `cpu.max` do not fit together.
    pub fn applied_to(&self, current: &Limits) -> Result<Limits, Invalid> {
        let mut limits = current.clone();
        self.clear.iter().for_each(|limit| clear(&mut limits, *limit));
        let Limits { cpu, cpuset, memory, pids_max, io } = self.set.clone();
        set(&mut limits.cpu.weight, cpu.weight);
        limits.cpu.max = self.cpu_max.applied_to(limits.cpu.max, "cell.cpu")?;
        set(&mut limits.cpuset.cpus, cpuset.cpus);
        set(&mut limits.cpuset.mems, cpuset.mems);
        set(&mut limits.memory.min, memory.min);
        set(&mut limits.memory.low, memory.low);
        set(&mut limits.memory.high, memory.high);
        set(&mut limits.memory.max, memory.max);
        set(&mut limits.memory.swap_max, memory.swap_max);
        set(&mut limits.memory.oom_group, memory.oom_group);
        set(&mut limits.pids_max, pids_max);
        set(&mut limits.io.weight, io.weight);
        for device in io.devices {
            limits.io.devices.retain(|other| other.device != device.device);
            limits.io.devices.push(device);
        }
        Ok(limits)
    }
}

fn set<T>(limit: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *limit = value;
    }
}

fn clear(limits: &mut Limits, limit: Limit) {
    let Limits { cpu, cpuset, memory, pids_max, io } = limits;
    let mut max = |change: fn(&mut CpuMax)| cpu.max.as_mut().map_or((), change);
    match limit {
        Limit::CpuWeight => cpu.weight = None,
        // What may be saved up of no limit is nothing.
        Limit::CpuMax => max(|max| (max.quota, max.burst) = (None, None)),
        Limit::CpuPeriod => max(|max| max.period = CpuMaxChange::DEFAULT_PERIOD),
        Limit::CpuBurst => max(|max| max.burst = None),
        Limit::CpusetCpus => cpuset.cpus = None,
        Limit::CpusetMems => cpuset.mems = None,
        Limit::MemoryMin => memory.min = None,
        Limit::MemoryLow => memory.low = None,
        Limit::MemoryHigh => memory.high = None,
        Limit::MemoryMax => memory.max = None,
        Limit::MemorySwapMax => memory.swap_max = None,
        Limit::MemoryOomGroup => memory.oom_group = None,
        Limit::PidsMax => *pids_max = None,
        Limit::IoWeight => io.weight = None,
        Limit::IoDevices => io.devices.clear(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cpu, Device, Io, Memory, Weight};

    fn change(set: Limits, cpu_max: CpuMaxChange, clear: &[&str]) -> Result<LimitsChange, Invalid> {
        let clear = clear.iter().map(|path| Limit::parse(path, "clear"));
        LimitsChange::new(set, cpu_max, clear.collect::<Result<_, _>>()?)
    }

    fn current() -> Limits {
        let max = CpuMax { quota: Some(20_000), period: 50_000, burst: Some(10_000) };
        Limits {
            cpu: Cpu { weight: Weight::parse(250, "f").ok(), max: Some(max) },
            memory: Memory { max: Some(1 << 20), low: Some(4096), ..Memory::default() },
            pids_max: Some(7),
            io: Io { weight: None, devices: vec![device(1, Some(5)), device(2, Some(6))] },
            ..Limits::default()
        }
    }

    fn device(minor: u32, read_bytes: Option<u64>) -> IoDevice {
        IoDevice {
            device: Device::Numbers(254, minor),
            read_bytes,
            write_bytes: None,
            read_operations: None,
            write_operations: None,
        }
    }

    #[test]
    fn what_is_not_named_stays() {
        let nothing = change(Limits::default(), CpuMaxChange::default(), &[]).unwrap();
        assert_eq!(nothing.applied_to(&current()), Ok(current()));
        let set = Limits { pids_max: Some(9), ..Limits::default() };
        let pids = change(set, CpuMaxChange::default(), &["memory.low"]).unwrap();
        let mut wanted = current();
        (wanted.pids_max, wanted.memory.low) = (Some(9), None);
        assert_eq!(pids.applied_to(&current()), Ok(wanted));
    }

    #[test]
    fn quota_period_and_burst_must_fit_together_after_the_change() {
        let apply = |cpu_max, clear: &[&str]| {
            let change = change(Limits::default(), cpu_max, clear)?;
            change.applied_to(&current()).map(|limits| limits.cpu.max)
        };
        let quota = |quota| CpuMaxChange { quota: Some(quota), ..CpuMaxChange::default() };
        let max = |quota, period, burst| Ok(Some(CpuMax { quota, period, burst }));
        assert_eq!(apply(quota(10_000), &[]), max(Some(10_000), 50_000, Some(10_000)));
        assert_eq!(apply(quota(9_000), &[]).unwrap_err().field, "cell.cpu.burst");
        assert_eq!(apply(quota(9_000), &["cpu.burst"]), max(Some(9_000), 50_000, None));
        assert_eq!(apply(CpuMaxChange::default(), &["cpu.max"]), max(None, 50_000, None));
        let period = apply(CpuMaxChange::default(), &["cpu.period"]);
        assert_eq!(period, max(Some(20_000), 100_000, Some(10_000)));
    }

    #[test]
    fn a_device_is_changed_as_a_whole_and_others_stay() {
        let io = Io { weight: None, devices: vec![device(2, None), device(3, Some(1))] };
        let set = Limits { io, ..Limits::default() };
        let devices = change(set, CpuMaxChange::default(), &[]).unwrap();
        let limits = devices.applied_to(&current()).unwrap();
        assert_eq!(limits.io.devices, [device(1, Some(5)), device(2, None), device(3, Some(1))]);
    }

    #[test]
    fn a_limit_is_not_set_and_taken_away_at_once() {
        let set = Limits { pids_max: Some(9), ..Limits::default() };
        let both = change(set, CpuMaxChange::default(), &["pids.max"]).unwrap_err();
        assert_eq!(both.to_string(), "Field = clear; `pids.max` is set in `cell` too");
        let unknown = change(Limits::default(), CpuMaxChange::default(), &["pids"]).unwrap_err();
        assert!(
            unknown.to_string().starts_with("Field = clear; \"pids\" is no limit; "),
            "{unknown}"
        );
    }
}
