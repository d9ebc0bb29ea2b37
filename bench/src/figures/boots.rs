//! Process 1, from its first instruction to a machine that can be used.
//!
//! A machine has one, so each boot is a machine of its own: [`look`] runs in it last, and tells in one line
//! what [`boots`] makes a figure of.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::process::output;
use crate::report::{Figure, Side, Unit};

/// A boot, as it was seen from inside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Boot {
    /// Who is process 1.
    pub(crate) init: String,
    /// From the kernel's start of process 1 until the machine can be used, in seconds.
    pub(crate) ready: f64,
    /// The CPU time of process 1 itself until then (its children's is not in it), in seconds.
    pub(crate) cpu: f64,
    /// Its page faults.
    pub(crate) faults: u64,
}

/// Looks at the machine that this runs on: it can be used now, or since a time of this day in UTC, by when
/// process 1 says that it had had so many milliseconds of CPU time.
pub(crate) fn look(init: &str, ready: Option<&str>, cpu_ms: Option<u64>) -> Result<Boot> {
    let now = clock(ClockId::Boottime);
    let now = match ready {
        Some(ready) => now - (clock(ClockId::Realtime) - time_of_day(ready)?).rem_euclid(DAY),
        None => now,
    };
    let stat = fs::read_to_string("/proc/1/stat").context("failed to read /proc/1/stat")?;
    let after = Spent::of(&stat);
    let log = output(&mut Command::new("dmesg"))?;
    let begun = log
        .lines()
        .rfind(|line| line.contains("as init process") || line.contains(MARK))
        .context("the kernel's log does not say when it started process 1")?;
    let started = begun.split(['[', ']']).nth(1).and_then(|time| time.trim().parse::<f64>().ok());
    let started = started.context("the kernel's log has no times")?;
    // What the kernel itself did as process 1, and the script before the init.
    let before = begun.split_once(MARK).map(|(_, stat)| Spent::of(stat)).unwrap_or_default();
    let ticks = after.ticks.saturating_sub(before.ticks) as f64 / 100.0;
    Ok(Boot {
        init: init.to_owned(),
        ready: now - started,
        cpu: cpu_ms.map_or(ticks, |cpu_ms| cpu_ms as f64 / 1000.0),
        faults: after.faults.saturating_sub(before.faults),
    })
}

/// What the first process of the initramfs writes to the kernel's log before it becomes the init, with what
/// /proc/1/stat says then.
const MARK: &str = "bench: the init begins: ";

/// What a process has used up (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Spent {
    /// Hundredths of a second.
    ticks: u64,
    faults: u64,
}

impl Spent {
    fn of(stat: &str) -> Self {
        // After the name, which may have spaces.
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .map(|field| field.parse().unwrap_or_default())
            .collect();
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or_default();
        Self { ticks: field(14) + field(15), faults: field(10) + field(12) }
    }
}

/// Who is process 1 where an instruction takes a nanosecond.
const COUNTED: &str = "auraed, counted";

const DAY: f64 = 86_400.0;

fn clock(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Hours, minutes and seconds, in seconds.
fn time_of_day(text: &str) -> Result<f64> {
    let parts: Vec<f64> = text
        .split(':')
        .map(|part| part.parse().with_context(|| format!("`{text}` is no time")))
        .collect::<Result<_>>()?;
    let [hours, minutes, seconds] = parts[..] else { bail!("`{text}` is no time") };
    Ok(hours * 3600.0 + minutes * 60.0 + seconds)
}

/// The figures of boots.
pub(crate) fn boots(boots: &[Boot]) -> Vec<Figure> {
    type Of = fn(&Boot) -> f64;
    let figures: [(&str, &str, Unit, &str, Of); 3] = [
        (
            "pid1",
            "Process 1: from its start to a machine that can be used",
            Unit::Seconds,
            "From the kernel's line that it runs process 1 until the machine can be used: when its API listens (auraed, which waits for its address by DHCP before),  a program after multi-user.target is started (systemd), the last line of inittab is (BusyBox). A value is a boot.",
            |boot| boot.ready,
        ),
        (
            "pid1-cpu",
            "Process 1: its own CPU time until then",
            Unit::Seconds,
            "User and system time of process 1 alone, without that of the processes that it started, and without what the kernel did as process 1 before. auraed says it when its API listens; of the others it is known in hundredths of a second.",
            |boot| boot.cpu,
        ),
        (
            "pid1-faults",
            "Process 1: its page faults until then",
            Unit::Count,
            "Minor and major faults of process 1 alone; auraed's are counted a little later, when it has run the program that looks, and with those of the kernel as process 1.",
            |boot| boot.faults as f64,
        ),
    ];
    figures
        .into_iter()
        .map(|(id, title, unit, what, of)| {
            let mut figure = Figure::new(id, title, unit, what);
            for (init, ours) in [("auraed", true), ("systemd", false), ("BusyBox init", false)] {
                let of_init = boots.iter().filter(|boot| boot.init == init);
                let values = of_init.map(of).collect();
                figure.sides.push(Side { values, ..Side::new(init, ours) });
            }
            if id == "pid1-cpu" { figure.at_most("auraed", 0.1) } else { figure }
        })
        .chain([counted(boots)])
        .collect()
}

/// Under emulation code that runs for the first time is slow, and a boot is little else. So one is counted.
fn counted(boots: &[Boot]) -> Figure {
    let mut figure = Figure::new(
        "pid1-instructions",
        "Process 1: its own instructions until then",
        Unit::Count,
        "Those of user programs and of the kernel in process 1, in millions, as QEMU counts them (-icount) in a boot of its own. A processor of 3 GHz that executes half an instruction in each of its cycles needs a millisecond for 1.5 of them.",
    );
    let counted = boots.iter().filter(|boot| boot.init == COUNTED);
    // An instruction is a nanosecond there.
    let values = counted.map(|boot| boot.cpu * 1e3).collect();
    figure.sides.push(Side { values, ..Side::new("auraed", true) });
    figure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_read() -> Result<()> {
        assert_eq!(time_of_day("01:02:03.5")?, 3723.5);
        assert!(time_of_day("soon").is_err());
        Ok(())
    }

    #[test]
    fn what_a_process_has_used_up_is_read_behind_its_name() {
        let stat = "1 (a (b) c) S 0 1 1 0 -1 4194560 700 9 8 7 12 30 1 2 20 0 1 0";
        assert_eq!(Spent::of(stat), Spent { ticks: 42, faults: 708 });
        assert_eq!(Spent::of("nothing"), Spent::default());
    }

    #[test]
    fn boots_become_a_side_an_init() {
        let boot = |init: &str, ready| Boot { init: init.into(), ready, cpu: 0.05, faults: 9 };
        let figures = boots(&[
            boot("auraed", 0.2),
            boot("systemd", 2.0),
            boot("auraed", 0.3),
            boot(COUNTED, 9.0),
        ]);
        assert_eq!(figures[0].side("auraed").map(|side| side.values.len()), Some(2));
        assert_eq!(figures[0].side("systemd").and_then(|side| side.values.median()), Some(2.0));
        assert_eq!(figures[3].side("auraed").and_then(|side| side.values.median()), Some(50.0));
        assert_eq!(figures[2].side("BusyBox init").map(|side| side.values.len()), Some(0));
    }
}
