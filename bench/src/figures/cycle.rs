//! A cell's life beside a container's and a unit's.

use std::cell::RefCell;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::bench::Bench;
use crate::calls::isolated;
use crate::contest::{Contest, seconds};
use crate::floor::Floor;
use crate::peers::{MEMORY_MAX, PIDS_MAX, Runtime, fresh, systemd, systemd_run};
use crate::process::{self, run, run_detached};
use crate::report::{Figure, Side, Unit};
use crate::series::Series;

const FOUR: &str = "four RPCs";
const CRUN: &str = "crun run";
const SYSTEMD: &str = "systemd-run --wait";
const SPAWN: &str = "spawn and wait";
const FLOOR: &str = "bare system calls";
const CPU_TIMES: [&str; 2] = ["in the kernel", "in programs"];
const STEPS: [&str; 4] = ["Allocate", "Start", "Wait", "Free"];

/// A zone from nothing.
pub(super) fn zone(bench: &Bench) -> Result<Vec<Figure>> {
    let api = bench.runtime.block_on(async { bench.daemon()?.unix().await })?;
    let api = crate::calls::Api::new(&api);
    let truth = bench.bundles.program("true");
    let mut figure = Figure::new(
        "zone",
        "A zone from nothing to its daemon answering",
        Unit::Seconds,
        "Allocate of an isolated cell without limits, on an open connection over the unix socket, with everything that a call passes through; beside starting a static `true` and waiting for its end.",
    )
    .share("Allocate", 1.75, SPAWN)
    .floor(FLOOR);
    let floor = Floor::new(&truth, bench.limits());
    let mut contest = Contest::default();
    contest.ours("Allocate", || {
        let name = fresh("zone");
        let time = seconds(|| bench.runtime.block_on(api.allocate(isolated(&name, false))))?;
        bench.runtime.block_on(api.free(&name))?;
        Ok(time)
    });
    contest.peer(SPAWN, || seconds(|| run(&mut Command::new(&truth))));
    floored(&mut contest, &floor, Floor::zone).without =
        Some("no mounts, nothing that answers: until `true` is executed in its place".into());
    figure.sides = contest.run(bench.rounds(200, 60));
    Ok(vec![figure])
}

/// The floor takes its turns too, where there is one.
fn floored<'c, 'f: 'c>(
    contest: &'c mut Contest<'f>,
    floor: &'f Result<Floor>,
    turn: fn(&Floor) -> Result<f64>,
) -> &'c mut Side {
    match floor {
        Ok(floor) => contest.peer(FLOOR, move || turn(floor)),
        Err(error) => contest.peer_if(FLOOR, Err(format!("{error:#}")), || Ok(0.0)),
    }
}

/// `true` in something fresh.
pub(super) fn cycle(bench: &Bench) -> Result<Vec<Figure>> {
    let truth = bench.bundles.program("true").display().to_string();
    let bundle = bench.bundles.bundle("true", &["/bin/true"]);
    let mut figure = Figure::new(
        "cycle",
        "`true` in a fresh, isolated, limited cell, from nothing to nothing",
        Unit::Seconds,
        "A static `true` is run to its exit in a cell (container, unit) of its own that is made for it and removed afterwards, the client's process included; `four RPCs`: Allocate, Start, Wait and Free on an open connection over TCP and mutual TLS.",
    )
    .share(FOUR, 0.25, CRUN)
    .share(FOUR, 0.05, SYSTEMD)
    .floor(FLOOR);
    if !bench.limits() {
        figure.notes.push("this host has no cgroup controllers: no side sets limits".to_owned());
    }
    let steps = RefCell::new(STEPS.map(|_| Series::default()));
    let cpu_times = RefCell::new(CPU_TIMES.map(|_| Series::default()));
    let floor = Floor::new(&bench.bundles.program("true"), bench.limits());
    let mut contest = Contest::default();
    contest.ours(FOUR, || {
        let (api, name) = (bench.api()?, fresh("cycle"));
        let cpu_before = bench.daemon()?.cpu()?;
        let start = Instant::now();
        let ends = bench.runtime.block_on(async {
            api.allocate(isolated(&name, bench.limits())).await?;
            let allocated = start.elapsed();
            api.start(&name, "true", &[&truth]).await?;
            let started = start.elapsed();
            api.wait(&name, "true").await?;
            let ended = start.elapsed();
            api.free(&name).await?;
            anyhow::Ok([allocated, started, ended, start.elapsed()])
        })?;
        let mut before = 0.0;
        for (series, end) in steps.borrow_mut().iter_mut().zip(ends) {
            series.push(end.as_secs_f64() - before);
            before = end.as_secs_f64();
        }
        let cpu = bench.daemon()?.cpu()?;
        let spent = [cpu.system - cpu_before.system, cpu.user - cpu_before.user];
        for (series, time) in cpu_times.borrow_mut().iter_mut().zip(spent) {
            series.push(time);
        }
        Ok(before)
    });
    contest.ours("aer run", || {
        let mut command = bench.aer()?;
        command.args(["run", "--isolate-process"]);
        if bench.limits() {
            command.arg("--memory-max").arg(MEMORY_MAX.to_string());
            command.arg("--pids-max").arg(PIDS_MAX.to_string());
            command.args(["--cpu-max", "100ms", "--cpu-period", "100ms"]);
        }
        command.arg(fresh("cycle")).arg("--").arg(&truth);
        seconds(|| run(&mut command))
    });
    for (name, runtime) in [(CRUN, Runtime::Crun), ("runc run", Runtime::Runc)] {
        let can = runtime.can(bench.limits()).and_then(|()| match &bundle {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error:#}")),
        });
        let bundle = bundle.as_ref().ok();
        contest
            .peer_if(name, can, move || {
                let mut command = bench.bundles.command(runtime);
                command.arg("run").arg("--bundle").args(bundle).arg(fresh("bench"));
                seconds(|| run(&mut command))
            })
            .without =
            Some("no seccomp filter, as in what `crun spec` writes; keeps no output".into());
    }
    contest
        .peer_if(SYSTEMD, systemd(), || {
            seconds(|| run(systemd_run().args(["--wait", "--"]).arg(&truth)))
        })
        .without = Some("no namespaces, no seccomp filter".into());
    contest
        .peer_if("systemd-run --scope", systemd(), || {
            seconds(|| run(systemd_run().args(["--scope", "--"]).arg(&truth)))
        })
        .without = Some("no namespaces, no seccomp filter; keeps no output".into());
    contest
        .peer_if("unshare", process::find("unshare"), || {
            let mut command = Command::new("unshare");
            command.args(["--fork", "--pid", "--mount", "--ipc", "--uts", "--mount-proc", "--"]);
            seconds(|| run(command.arg(&truth)))
        })
        .without = Some("no cgroup, no limits, no output".into());
    contest.peer(SPAWN, || seconds(|| run(&mut Command::new(&truth)))).without =
        Some("nothing but fork and exec".into());
    floored(&mut contest, &floor, Floor::life).without =
        Some("no mounts, nothing that answers, no output, no restrictions, no client".into());
    figure.sides = contest.run(bench.rounds(100, 300));
    let mut parts = Figure::new(
        "cycle-steps",
        "The four RPCs, one by one",
        Unit::Seconds,
        "What the figure above is made of.",
    );
    for (name, series) in STEPS.iter().zip(steps.into_inner()) {
        let values = series.after_first();
        parts.sides.push(Side { values, ..Side::new(name, true) });
    }
    let mut times = Figure::new(
        "cycle-cpu",
        "The CPU time of the four RPCs",
        Unit::Seconds,
        "The node's daemon, the cell's and `true` itself, without the client; the mean of all lives above, each until Free has answered.",
    );
    for (name, series) in CPU_TIMES.iter().zip(cpu_times.into_inner()) {
        // One by one they say nothing: the kernel samples them.
        let values = series.after_first().mean().into_iter().collect();
        times.sides.push(Side { values, ..Side::new(name, true) });
    }
    Ok(vec![figure, parts, times])
}

/// `true` in something that is there already.
pub(super) fn start(bench: &Bench) -> Result<Vec<Figure>> {
    let truth = bench.bundles.program("true").display().to_string();
    let mut figure = Figure::new(
        "start",
        "`true` in a cell that is there",
        Unit::Seconds,
        "Start and Wait on an open connection; `exec` in a container that sleeps.",
    )
    .share("Start and Wait", 0.25, "crun exec");
    let cell = fresh("start");
    let api = bench.api()?;
    bench.runtime.block_on(api.allocate(isolated(&cell, bench.limits())))?;
    let bundle = bench.bundles.bundle("sleep", &["/bin/sleep", "100000"]);
    let mut sleepers = Vec::new();
    let mut contest = Contest::default();
    contest.ours("Start and Wait", || {
        let api = bench.api()?;
        seconds(|| {
            bench.runtime.block_on(async {
                api.start(&cell, "true", &[&truth]).await?;
                api.wait(&cell, "true").await
            })
        })
    });
    for (name, runtime) in [("crun exec", Runtime::Crun), ("runc exec", Runtime::Runc)] {
        let sleeper = runtime.can(bench.limits()).and_then(|()| {
            let bundle = bundle.as_ref().map_err(|error| format!("{error:#}"))?;
            let id = fresh("sleep");
            let mut command = bench.bundles.command(runtime);
            command.args(["run", "--detach", "--bundle"]).arg(bundle).arg(&id);
            run_detached(&mut command).map_err(|error| format!("{error:#}"))?;
            Ok(id)
        });
        let (id, can) = match sleeper {
            Ok(id) => (id, Ok(())),
            Err(why) => (String::new(), Err(why)),
        };
        if can.is_ok() {
            sleepers.push((runtime, id.clone()));
        }
        contest.peer_if(name, can, move || {
            let mut command = bench.bundles.command(runtime);
            command.arg("exec").arg(&id).arg("/bin/true");
            seconds(|| run(&mut command))
        });
    }
    figure.sides = contest.run(bench.rounds(100, 120));
    bench.runtime.block_on(bench.api()?.free(&cell))?;
    for (runtime, id) in sleepers {
        run(bench.bundles.command(runtime).args(["delete", "--force", &id]))?;
    }
    Ok(vec![figure])
}
