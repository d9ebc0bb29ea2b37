//! Limits: to the kernel's files, and back.

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::{Errno, Error};
use aurae_model::{
    Cpu, CpuMax, Cpuset, Device, Invalid, Io, IoDevice, Limits, List, Memory, Weight, parse_list,
};
use rustix::fs::{FileType, major, minor};

/// The fields of devices.
pub(super) const DEVICES: &str = "cell.io.devices";
const DEVICE: &str = "cell.io.devices.device";

/// Why limits were not applied.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The node cannot do what a field asks for.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] Error),
}

/// A value for a file of the cgroup.
pub(super) struct Setting {
    pub(super) field: &'static str,
    pub(super) file: &'static str,
    pub(super) value: Option<String>,
    /// What the file says where there is no limit.
    none: &'static str,
}

impl Setting {
    /// What is to be written to the file.
    pub(super) fn text(&self) -> &str {
        self.value.as_deref().unwrap_or(self.none)
    }
}

/// Writes the limits to `cgroup`, a child of `parent`.
///
/// # Errors
/// The first limit that this node cannot have, or that the kernel refuses. Those before it are
/// applied: the caller removes the cgroup.
pub(super) fn apply(limits: &Limits, cgroup: &Cgroup, parent: &Cgroup) -> Result<(), LimitError> {
    check_cpuset(&limits.cpuset, parent)?;
    for setting in settings(limits).iter().filter(|setting| setting.value.is_some()) {
        write(cgroup, setting.field, setting.file, setting.text())?;
    }
    for device in &limits.io.devices {
        write(cgroup, DEVICES, "io.max", &io_max(device)?)?;
    }
    Ok(())
}

/// Writes a limit.
///
/// # Errors
/// This node cannot have it, or the kernel refuses.
pub(super) fn write(
    cgroup: &Cgroup,
    field: &str,
    file: &str,
    value: &str,
) -> Result<(), LimitError> {
    match cgroup.write(file, value) {
        Err(Error { errno: Errno::NOENT, .. }) => Err(Invalid::new(
            field,
            format!("This node's kernel has no {file} (is the cgroup controller there?)"),
        )
        .into()),
        Err(Error { errno: Errno::NODEV | Errno::NXIO, .. }) => {
            Err(Invalid::new(field, format!("No such block device: {value}")).into())
        }
        outcome => Ok(outcome?),
    }
}

/// Whether `parent` has the CPUs and memory nodes.
///
/// # Errors
/// The first that it lacks.
pub(super) fn check_cpuset(cpuset: &Cpuset, parent: &Cgroup) -> Result<(), LimitError> {
    check_numbers(&cpuset.cpus, parent, "cpuset.cpus.effective", "cell.cpuset.cpus", "CPU")?;
    let nodes = "memory node";
    check_numbers(&cpuset.mems, parent, "cpuset.mems.effective", "cell.cpuset.mems", nodes)
}

/// A cpuset takes numbers that do not exist, and leaves them out in silence.
fn check_numbers(
    list: &Option<List>,
    parent: &Cgroup,
    file: &str,
    field: &str,
    thing: &str,
) -> Result<(), LimitError> {
    let Some(list) = list else { return Ok(()) };
    let Some(present) = parent.read(file)?.and_then(|text| parse_list(&text)) else {
        return Ok(());
    };
    match list.missing_from(&present).first() {
        Some(missing) => {
            Err(Invalid::new(field, format!("{thing} {missing} does not exist")).into())
        }
        None => Ok(()),
    }
}

/// All limits but those of devices, always in this order.
pub(super) fn settings(limits: &Limits) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut set = |field, file, value: Option<String>, none| {
        settings.push(Setting { field, file, value, none });
    };
    let text = |number: Option<u64>| number.map(|number| number.to_string());

    let Limits { cpu, cpuset, memory, pids_max, io } = limits;
    let weight = |weight: Option<Weight>| weight.map(|weight| weight.get().to_string());
    set("cell.cpu.weight", "cpu.weight", weight(cpu.weight), "100");
    let max = cpu.max.map(|max| {
        let quota = text(max.quota).unwrap_or_else(|| "max".to_owned());
        format!("{quota} {}", max.period)
    });
    set("cell.cpu.max", "cpu.max", max, "max 100000");
    set("cell.cpu.burst", "cpu.max.burst", text(cpu.max.and_then(|max| max.burst)), "0");
    let list = |list: &Option<List>| list.as_ref().map(|list| list.as_str().to_owned());
    set("cell.cpuset.cpus", "cpuset.cpus", list(&cpuset.cpus), "");
    set("cell.cpuset.mems", "cpuset.mems", list(&cpuset.mems), "");
    set("cell.memory.min", "memory.min", text(memory.min), "0");
    set("cell.memory.low", "memory.low", text(memory.low), "0");
    set("cell.memory.high", "memory.high", text(memory.high), "max");
    set("cell.memory.max", "memory.max", text(memory.max), "max");
    set("cell.memory.swap_max", "memory.swap.max", text(memory.swap_max), "max");
    let group = memory.oom_group.map(|group| u8::from(group).to_string());
    set("cell.memory.oom_group", "memory.oom.group", group, "0");
    set("cell.pids.max", "pids.max", text(*pids_max), "max");
    let weight = io.weight.map(|weight| format!("default {}", weight.get()));
    set("cell.io.weight", "io.weight", weight, "default 100");
    settings
}

/// A line of `io.max`: what is not limited is said too, so that one line is the whole truth.
pub(super) fn io_max(limit: &IoDevice) -> Result<String, Invalid> {
    let (major, minor) = numbers(&limit.device)?;
    let text =
        |limit: Option<u64>| limit.map_or_else(|| "max".to_owned(), |limit| limit.to_string());
    Ok(format!(
        "{major}:{minor} rbps={} wbps={} riops={} wiops={}",
        text(limit.read_bytes),
        text(limit.write_bytes),
        text(limit.read_operations),
        text(limit.write_operations)
    ))
}

/// The numbers of a block device.
///
/// # Errors
/// It is none.
pub(super) fn numbers(device: &Device) -> Result<(u32, u32), Invalid> {
    let path = match device {
        Device::Numbers(major, minor) => return Ok((*major, *minor)),
        Device::Path(path) => path,
    };
    let field = DEVICE;
    let stat = rustix::fs::stat(path.as_str())
        .map_err(|errno| Invalid::new(field, format!("{path}: {errno}")))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
        return Err(Invalid::new(field, format!("{path} is no block device")));
    }
    Ok((major(stat.st_rdev), minor(stat.st_rdev)))
}

/// Reads all limits back. What the kernel gives as `max`, or does not have, is `None`.
///
/// # Errors
/// What the kernel says.
pub(super) fn read_back(cgroup: &Cgroup) -> aurae_kernel::Result<Limits> {
    let number = |file: &str| -> aurae_kernel::Result<Option<u64>> {
        Ok(cgroup.read(file)?.and_then(|text| text.trim().parse().ok()))
    };
    let weight = |file: &str| -> aurae_kernel::Result<Option<Weight>> {
        let text = cgroup.read(file)?.unwrap_or_default();
        let value = text.lines().next().unwrap_or_default().trim_start_matches("default ");
        Ok(value.trim().parse().ok().and_then(|weight| Weight::parse(weight, file).ok()))
    };
    let list = |file: &str| -> aurae_kernel::Result<Option<List>> {
        let text = cgroup.read(file)?.unwrap_or_default();
        Ok(List::parse(&text, file).ok().flatten())
    };
    Ok(Limits {
        cpu: Cpu { weight: weight("cpu.weight")?, max: read_cpu_max(cgroup)? },
        cpuset: Cpuset { cpus: list("cpuset.cpus")?, mems: list("cpuset.mems")? },
        memory: Memory {
            min: number("memory.min")?,
            low: number("memory.low")?,
            high: number("memory.high")?,
            max: number("memory.max")?,
            swap_max: number("memory.swap.max")?,
            oom_group: number("memory.oom.group")?.map(|group| group != 0),
        },
        pids_max: number("pids.max")?,
        io: Io { weight: weight("io.weight")?, devices: read_io_max(cgroup)? },
    })
}

fn read_cpu_max(cgroup: &Cgroup) -> aurae_kernel::Result<Option<CpuMax>> {
    let Some(text) = cgroup.read("cpu.max")? else { return Ok(None) };
    let mut parts = text.split_whitespace().map(|part| part.parse().ok());
    let quota = parts.next().flatten();
    let Some(period) = parts.next().flatten() else { return Ok(None) };
    let burst = cgroup.read("cpu.max.burst")?.and_then(|text| text.trim().parse().ok());
    Ok(Some(CpuMax { quota, period, burst }))
}

fn read_io_max(cgroup: &Cgroup) -> aurae_kernel::Result<Vec<IoDevice>> {
    let text = cgroup.read("io.max")?.unwrap_or_default();
    Ok(text.lines().filter_map(parse_io_max).collect())
}

fn parse_io_max(line: &str) -> Option<IoDevice> {
    let (device, limits) = line.split_once(' ')?;
    let device = Device::parse(device, "io.max").ok()?;
    let limit = |key: &str| {
        let value = limits.split(' ').find_map(|limit| limit.strip_prefix(key)?.strip_prefix('='));
        value.and_then(|value| value.parse().ok())
    };
    Some(IoDevice {
        device,
        read_bytes: limit("rbps"),
        write_bytes: limit("wbps"),
        read_operations: limit("riops"),
        write_operations: limit("wiops"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_io_max_comes_back_as_it_went() {
        let limit = IoDevice {
            device: Device::Numbers(254, 0),
            read_bytes: Some(1_048_576),
            write_bytes: None,
            read_operations: None,
            write_operations: Some(10),
        };
        let line = io_max(&limit).unwrap();
        assert_eq!(line, "254:0 rbps=1048576 wbps=max riops=max wiops=10");
        assert_eq!(parse_io_max(&line), Some(limit));
    }

    #[test]
    fn a_device_that_is_none_is_named() {
        let error = numbers(&Device::Path("/dev/null".into())).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Field = cell.io.devices.device; /dev/null is no block device"
        );
    }
}
