//! Changing the limits of a cell in place: all of a change, or nothing.
//!
//! A `memory.max` below what is in use makes the kernel kill. So the cell is first held at the limit with
//! `memory.high`, above which the kernel reclaims and slows down and never kills; `memory.max` is written
//! once what is in use fits.

use std::time::Duration;

use aurae_kernel::cgroup::Cgroup;
use aurae_model::{CellPath, Cpuset, Device, Invalid, IoDevice, Limits, LimitsChange, List};
use tokio::time::Instant;

use super::errors::ReachError;
use super::freeze::Turn;
use super::handle::Cells;
use super::limits::{
    DEVICES, LimitError, Setting, check_cpuset, io_max, numbers, read_back, settings, write,
};
use super::notes::Traits;
use super::runner::Phase;
use super::tree::{CellView, view};
use crate::runtime::blocking;
use crate::runtime::cgroup::{unless_gone, workload_leaves};
use crate::runtime::changes::CellNews;

/// What the kernel reclaims above.
const MEMORY_HIGH: &str = "memory.high";

/// How long a cell is held at a limit that it is above: what the kernel can reclaim at all it does in
/// milliseconds, and meanwhile the cell is slow.
const RECLAIM_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause between two looks: the kernel tells nobody that memory was given back.
const RECLAIM_PAUSE: Duration = Duration::from_millis(20);

/// The file that each leaf has its own of.
const OOM_GROUP: &str = "memory.oom.group";

/// A change of a cell.
#[derive(Clone, Debug)]
pub struct CellChange {
    /// Its limits.
    pub limits: LimitsChange,
    /// What it is asked to be beside them, and must be already.
    pub traits: Traits,
}

/// Why a cell was not changed. Its limits are what they were.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// It is gone, or about to be.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// The node cannot do it, or the kernel refused.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

/// A value that a file has, and the one that it is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    field: &'static str,
    file: &'static str,
    from: String,
    to: String,
}

impl Cells {
    /// Changes a cell's limits, and answers the cell, by the name `path`, as the kernel has it then.
    ///
    /// # Errors
    /// As [`UpdateError`] says.
    pub async fn update(
        &self,
        turn: &Turn,
        path: &CellPath,
        change: &CellChange,
    ) -> Result<CellView, UpdateError> {
        let cell = &turn.cell;
        let busy = || ReachError::Busy(cell.path.clone(), "freed");
        let updated = async {
            check_traits(&cell.cgroup, change.traits)?;
            update(&cell.cgroup, &self.shared.settings.cgroup, &change.limits).await?;
            Ok(view(&cell.cgroup, path.to_string()).map_err(LimitError::from)?)
        };
        let updated = updated.await;
        match updated {
            Ok(Some(view)) => {
                cell.tell(CellNews::Updated);
                Ok(view)
            }
            Ok(None) => Err(busy().into()),
            // What the kernel says of a cgroup that goes is no answer.
            Err(_) if !matches!(*cell.phase.borrow(), Phase::Live) => Err(busy().into()),
            Err(error) => Err(error),
        }
    }
}

fn check_traits(cgroup: &Cgroup, wanted: Traits) -> Result<(), LimitError> {
    let has = Traits::read(cgroup)?.unwrap_or_default();
    for (field, wanted, has) in [
        ("cell.isolate_process", wanted.isolate_process, has.isolate_process),
        ("cell.isolate_network", wanted.isolate_network, has.isolate_network),
        ("cell.api_socket", wanted.api_socket, has.api_socket),
        ("cell.read_only_root", wanted.read_only_root, has.read_only_root),
        ("cell.private_tmp", wanted.private_tmp, has.private_tmp),
        ("cell.unmasked_paths", wanted.unmasked_paths, has.unmasked_paths),
        ("cell.user_namespace", wanted.users.is_some(), wanted.users == has.users),
    ] {
        if wanted && !has {
            let rule = "Must be what the cell was made with; free it and allocate it again";
            return Err(Invalid::new(field, rule).into());
        }
    }
    Ok(())
}

async fn update(cgroup: &Cgroup, parent: &Cgroup, change: &LimitsChange) -> Result<(), LimitError> {
    let Plan { mut steps, shrinks_to } = blocking(|| plan(cgroup, parent, change))?;
    let held = match shrinks_to {
        Some(limit) => hold(cgroup, limit).await?,
        None => None,
    };
    if let Some(before) = &held {
        // It is let go last.
        let own = steps.iter().position(|step| step.file == MEMORY_HIGH);
        let own = own.map(|index| steps.remove(index));
        let (from, to) = (before.clone(), before.clone());
        let back = Step { field: "cell.memory.high", file: MEMORY_HIGH, from, to };
        steps.push(own.unwrap_or(back));
    }
    let written = blocking(|| write_all(cgroup, &steps));
    if let (Err(_), Some(before)) = (&written, &held) {
        let_go(cgroup, before);
    }
    written
}

/// What is to be written.
struct Plan {
    steps: Vec<Step>,
    /// The memory limit, if it is one that what is in use may be above.
    shrinks_to: Option<u64>,
}

fn plan(cgroup: &Cgroup, parent: &Cgroup, change: &LimitsChange) -> Result<Plan, LimitError> {
    let mut change = change.clone();
    for limit in change.devices_mut() {
        // The kernel tells devices by their numbers.
        let (major, minor) = numbers(&limit.device)?;
        limit.device = Device::Numbers(major, minor);
    }
    let mut current = read_back(cgroup)?;
    let mut wanted = change.applied_to(&current)?;
    check_cpuset(&wanted.cpuset, parent)?;
    inherit(&mut current.cpuset, parent)?;
    inherit(&mut wanted.cpuset, parent)?;
    let steps = steps(&current, &wanted)?;
    let shrinks = steps.iter().any(|step| step.file == "memory.max");
    Ok(Plan { steps, shrinks_to: wanted.memory.max.filter(|_| shrinks) })
}

fn write_all(cgroup: &Cgroup, steps: &[Step]) -> Result<(), LimitError> {
    for (done, step) in steps.iter().enumerate() {
        let (written, touched) = match write(cgroup, step.field, step.file, &step.to) {
            Ok(()) => (write_leaves(cgroup, step.file, &step.to), done + 1),
            refused => (refused, done),
        };
        if let Err(error) = written {
            undo(cgroup, steps.iter().take(touched));
            return Err(error);
        }
    }
    Ok(())
}

/// The kernel does not let a list go empty while there are processes (ENOSPC). What is not set is what
/// the parent has, so that is what is written for it, on the way there and back.
fn inherit(cpuset: &mut Cpuset, parent: &Cgroup) -> Result<(), LimitError> {
    for (list, file) in
        [(&mut cpuset.cpus, "cpuset.cpus.effective"), (&mut cpuset.mems, "cpuset.mems.effective")]
    {
        if list.is_none() {
            *list = List::parse(&parent.read(file)?.unwrap_or_default(), file)?;
        }
    }
    Ok(())
}

/// What to write, in this order, to get from `current` to `wanted`.
fn steps(current: &Limits, wanted: &Limits) -> Result<Vec<Step>, Invalid> {
    let mut steps: Vec<Step> = settings(current)
        .iter()
        .zip(&settings(wanted))
        .filter(|(from, to)| from.text() != to.text())
        .map(|(from, to)| step(from, to))
        .collect();
    // The kernel takes no burst above the quota, at no moment: one that shrinks goes first.
    let burst = |limits: &Limits| limits.cpu.max.and_then(|max| max.burst);
    if burst(wanted) < burst(current) {
        steps.sort_by_key(|step| step.file != "cpu.max.burst");
    }
    let limits = |limits: &Limits, device: &Device| {
        let limit = limits.io.devices.iter().find(|limit| limit.device == *device);
        io_max(limit.unwrap_or(&unlimited(device)))
    };
    for IoDevice { device, .. } in &current.io.devices {
        let (from, to) = (limits(current, device)?, limits(wanted, device)?);
        steps.extend((from != to).then_some(Step { field: DEVICES, file: "io.max", from, to }));
    }
    let is_known = |device: &Device| current.io.devices.iter().any(|limit| limit.device == *device);
    for IoDevice { device, .. } in wanted.io.devices.iter().filter(|new| !is_known(&new.device)) {
        let (from, to) = (limits(current, device)?, limits(wanted, device)?);
        steps.push(Step { field: DEVICES, file: "io.max", from, to });
    }
    Ok(steps)
}

fn step(from: &Setting, to: &Setting) -> Step {
    let (from, to, field, file) = (from.text().into(), to.text().into(), to.field, to.file);
    Step { field, file, from, to }
}

fn unlimited(device: &Device) -> IoDevice {
    IoDevice {
        device: device.clone(),
        read_bytes: None,
        write_bytes: None,
        read_operations: None,
        write_operations: None,
    }
}

/// Holds a cell at `limit` with `memory.high`, until what is in use fits; answers what `memory.high` was
/// before. `None`: it is at most the limit anyway, or there is no memory controller.
async fn hold(cgroup: &Cgroup, limit: u64) -> Result<Option<String>, LimitError> {
    let Some(before) = cgroup.read(MEMORY_HIGH)? else { return Ok(None) };
    let before = before.trim().to_owned();
    let is_held = before.parse::<u64>().is_ok_and(|high| high <= limit);
    let fits = fit(cgroup, limit, is_held).await;
    if is_held {
        return fits.map(|()| None);
    }
    fits.inspect_err(|_| let_go(cgroup, &before)).map(|()| Some(before))
}

/// Waits until what is in use is at most `limit`, and has the kernel reclaim what it can.
async fn fit(cgroup: &Cgroup, limit: u64, is_held: bool) -> Result<(), LimitError> {
    let deadline = Instant::now() + RECLAIM_TIMEOUT;
    loop {
        if !is_held {
            // Each write reclaims.
            blocking(|| cgroup.write(MEMORY_HIGH, &limit.to_string()))?;
        }
        let current = cgroup.read("memory.current")?;
        let current = current.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or_default();
        if current <= limit {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let rule = format!(
                "{limit} bytes is below the {current} bytes that are in use; nothing was changed"
            );
            return Err(Invalid::new("cell.memory.max", rule).into());
        }
        tokio::time::sleep(RECLAIM_PAUSE).await;
    }
}

fn let_go(cgroup: &Cgroup, before: &str) {
    if let Err(error) = cgroup.write(MEMORY_HIGH, before) {
        tracing::error!(error = crate::reply::text(&error), "memory.high was not restored");
    }
}

/// Each executable's leaf has the cell's `memory.oom.group` too.
fn write_leaves(cgroup: &Cgroup, file: &str, value: &str) -> Result<(), LimitError> {
    if file != OOM_GROUP {
        return Ok(());
    }
    for leaf in workload_leaves(cgroup)? {
        let written = cgroup.open_child(&leaf).and_then(|leaf| leaf.write(file, value));
        unless_gone(written)?;
    }
    Ok(())
}

/// Takes steps back, the last first.
fn undo<'a>(cgroup: &Cgroup, steps: impl DoubleEndedIterator<Item = &'a Step>) {
    for step in steps.rev() {
        let undone = write(cgroup, step.field, step.file, &step.from)
            .and_then(|()| write_leaves(cgroup, step.file, &step.from));
        if let Err(error) = undone {
            tracing::error!(error = crate::reply::text(&error), "a limit was not restored");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aurae_model::{Cpu, CpuMax, CpuMaxChange, Io};

    use super::*;

    fn with_cpu(quota: u64, burst: u64) -> Limits {
        let max = CpuMax { quota: Some(quota), period: 100_000, burst: Some(burst) };
        Limits { cpu: Cpu { weight: None, max: Some(max) }, ..Limits::default() }
    }

    fn files(current: &Limits, wanted: &Limits) -> Vec<(&'static str, String)> {
        let steps = steps(current, wanted).unwrap();
        steps.into_iter().map(|step| (step.file, step.to)).collect()
    }

    #[test]
    fn a_burst_never_exceeds_the_quota_on_the_way_there_nor_back() {
        let (small, large) = (with_cpu(2_000, 1_000), with_cpu(50_000, 40_000));
        let (burst, max) = ("cpu.max.burst", "cpu.max");
        let up = [(max, "50000 100000".to_owned()), (burst, "40000".to_owned())];
        assert_eq!(files(&small, &large), up);
        let down = [(burst, "1000".to_owned()), (max, "2000 100000".to_owned())];
        assert_eq!(files(&large, &small), down);
    }

    #[test]
    fn only_what_differs_is_written_and_what_is_gone_is_unlimited() {
        let device =
            |minor, read_bytes| IoDevice { read_bytes, ..unlimited(&Device::Numbers(254, minor)) };
        let devices = |devices| Limits {
            io: Io { weight: None, devices },
            ..Limits { pids_max: Some(5), ..Limits::default() }
        };
        let current = devices(vec![device(1, Some(7)), device(2, Some(8))]);
        let wanted = devices(vec![device(2, Some(8)), device(3, Some(9))]);
        let all_max = "254:1 rbps=max wbps=max riops=max wiops=max".to_owned();
        let new = "254:3 rbps=9 wbps=max riops=max wiops=max".to_owned();
        assert_eq!(files(&current, &wanted), [("io.max", all_max), ("io.max", new)]);
        assert!(files(&current, &current).is_empty());
        assert_eq!(
            files(&current, &Limits { pids_max: None, ..current.clone() }),
            [("pids.max", "max".to_owned())]
        );
    }

    #[test]
    fn what_the_kernel_tells_where_there_is_no_limit_is_no_change() {
        let max = CpuMax { quota: None, period: 100_000, burst: Some(0) };
        let told = Limits { cpu: Cpu { weight: None, max: Some(max) }, ..Limits::default() };
        let nothing =
            LimitsChange::new(Limits::default(), CpuMaxChange::default(), BTreeSet::new()).unwrap();
        let wanted = nothing.applied_to(&told).unwrap();
        assert!(files(&told, &wanted).is_empty());
    }
}
