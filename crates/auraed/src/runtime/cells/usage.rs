//! What a cell uses, as the kernel counts it.

use aurae_kernel::Result;
use aurae_kernel::cgroup::{Cgroup, value};

/// What a cell uses; a part is `None` where its controller is missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time.
    pub cpu: Option<CpuUsage>,
    /// Memory.
    pub memory: Option<MemoryUsage>,
    /// Processes.
    pub pids: Option<PidsUsage>,
    /// Waiting for CPU time.
    pub cpu_pressure: Option<Pressure>,
    /// Waiting for memory.
    pub memory_pressure: Option<Pressure>,
    /// Waiting for block devices.
    pub io_pressure: Option<Pressure>,
}

/// `cpu.stat`, in microseconds and periods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of cpu.stat")]
pub struct CpuUsage {
    pub usage: u64,
    pub user: u64,
    pub system: u64,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled: u64,
}

/// `memory.current` and the files beside it, in bytes, and counts of `memory.events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the files")]
pub struct MemoryUsage {
    pub current: u64,
    pub peak: Option<u64>,
    pub swap_current: Option<u64>,
    pub low: u64,
    pub high: u64,
    pub max: u64,
    pub oom: u64,
    pub oom_kill: u64,
}

/// `pids.current` and `pids.events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidsUsage {
    /// Processes and threads.
    pub current: u64,
    /// Forks refused.
    pub refused: u64,
}

/// A file of pressure stall information.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Some process waited.
    pub some: PressureLine,
    /// All waited at once.
    pub full: Option<PressureLine>,
}

/// A line of pressure stall information: percent, and microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the names are those of the line")]
pub struct PressureLine {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

impl Usage {
    /// Reads what `cgroup` uses.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn read(cgroup: &Cgroup) -> Result<Self> {
        let pressure = |file| Ok(cgroup.read(file)?.as_deref().and_then(parse_pressure));
        Ok(Self {
            cpu: cgroup.read("cpu.stat")?.as_deref().map(parse_cpu),
            memory: read_memory(cgroup)?,
            pids: read_pids(cgroup)?,
            cpu_pressure: pressure("cpu.pressure")?,
            memory_pressure: pressure("memory.pressure")?,
            io_pressure: pressure("io.pressure")?,
        })
    }
}

fn parse_cpu(text: &str) -> CpuUsage {
    CpuUsage {
        usage: value(text, "usage_usec"),
        user: value(text, "user_usec"),
        system: value(text, "system_usec"),
        periods: value(text, "nr_periods"),
        throttled_periods: value(text, "nr_throttled"),
        throttled: value(text, "throttled_usec"),
    }
}

fn number(cgroup: &Cgroup, file: &str) -> Result<Option<u64>> {
    Ok(cgroup.read(file)?.and_then(|text| text.trim().parse().ok()))
}

fn read_memory(cgroup: &Cgroup) -> Result<Option<MemoryUsage>> {
    let Some(current) = number(cgroup, "memory.current")? else { return Ok(None) };
    let events = cgroup.read("memory.events")?.unwrap_or_default();
    Ok(Some(MemoryUsage {
        current,
        peak: number(cgroup, "memory.peak")?,
        swap_current: number(cgroup, "memory.swap.current")?,
        low: value(&events, "low"),
        high: value(&events, "high"),
        max: value(&events, "max"),
        oom: value(&events, "oom"),
        oom_kill: value(&events, "oom_kill"),
    }))
}

fn read_pids(cgroup: &Cgroup) -> Result<Option<PidsUsage>> {
    let Some(current) = number(cgroup, "pids.current")? else { return Ok(None) };
    let mut refused = forks_refused(cgroup)?;
    // Before Linux 6.11 (which has `pids.events.local`) a refused fork is counted in the leaf it
    // happened in, and in none above.
    if !cgroup.has("pids.events.local") {
        for name in cgroup.children()? {
            // A leaf that goes meanwhile takes its count with it.
            refused += cgroup.open_child(&name).and_then(|leaf| forks_refused(&leaf)).unwrap_or(0);
        }
    }
    Ok(Some(PidsUsage { current, refused }))
}

fn forks_refused(cgroup: &Cgroup) -> Result<u64> {
    Ok(value(&cgroup.read("pids.events")?.unwrap_or_default(), "max"))
}

fn parse_pressure(text: &str) -> Option<Pressure> {
    let line = |key: &str| text.lines().find_map(|line| parse_line(line.strip_prefix(key)?));
    Some(Pressure { some: line("some ")?, full: line("full ") })
}

fn parse_line(line: &str) -> Option<PressureLine> {
    let field =
        |key: &str| line.split(' ').find_map(|field| field.strip_prefix(key)?.strip_prefix('='));
    Some(PressureLine {
        avg10: field("avg10")?.parse().ok()?,
        avg60: field("avg60")?.parse().ok()?,
        avg300: field("avg300")?.parse().ok()?,
        total: field("total")?.trim().parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_as_the_kernel_writes_it() {
        let text = "some avg10=1.50 avg60=0.10 avg300=0.00 total=1234\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let pressure = parse_pressure(text).unwrap();
        assert_eq!((pressure.some.avg10, pressure.some.total), (1.5, 1234));
        assert_eq!(pressure.full.map(|line| line.total), Some(7));
        assert_eq!(parse_pressure("nonsense"), None);
    }

    #[test]
    fn a_key_is_not_found_in_a_longer_one() {
        assert_eq!(value("oom_kill 3\noom 1\n", "oom"), 1);
    }
}
