//! What an idle zone costs, beside what supervises a container.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::scale::{fill, free_all};
use crate::bench::Bench;
use crate::peers::{Bundles, Runtime, fresh};
use crate::process::{self, Memory, run, run_detached, until};
use crate::report::{Figure, Side, Unit};

/// So many containers of each kind are alive.
const CONTAINERS: usize = 20;
/// So many zones are looked at, evenly spread over all.
const LOOKED_AT: usize = 50;
/// The kernel's stack of a thread on x86-64.
const STACK: u64 = 16 << 10;

pub(super) fn memory(bench: &Bench) -> Result<Vec<Figure>> {
    let mut figure = Figure::new(
        "memory",
        "The memory of an idle zone",
        Unit::Bytes,
        "Private memory (USS, `Private_*` of smaps_rollup) of the daemon of a cell that was never asked anything; one value a zone. With one zone alive its text counts as private. `with the kernel's share`: page tables and the kernel's stacks added. `all that is gone`: what the machine has less available, by the number of zones. Beside them, what supervises a container: conmon, and containerd's shim.",
    );
    let api = bench.api()?;
    let mut names = Vec::new();
    for count in bench.paced([1, 10, 20], [1, 100, 500], [1, 100, 1000]) {
        let before = (process::available()?, names.len());
        bench.runtime.block_on(fill(&api, &mut names, count))?;
        let after = process::available()?;
        let daemons = process::zones()?;
        let mut all = Vec::new();
        for name in names.iter().step_by(names.len().div_ceil(LOOKED_AT)) {
            let pid = daemons.get(name).with_context(|| format!("{name} has no daemon"))?;
            all.push(Memory::of(*pid)?);
        }
        let side = |what: &str, of: fn(&Memory) -> u64| Side {
            values: all.iter().map(|memory| of(memory) as f64).collect(),
            ..Side::new(&format!("{count} alive: {what}"), true)
        };
        figure.sides.push(side("private", |memory| memory.private));
        figure.sides.push(side("proportional", |memory| memory.proportional));
        figure.sides.push(side("with the kernel's share", |memory| {
            memory.private + memory.tables + memory.threads * STACK
        }));
        let gone = before.0.saturating_sub(after) as f64 / (count - before.1).max(1) as f64;
        if count > 1 {
            let mut side = Side::new(&format!("{count} alive: all that is gone"), true);
            side.values.push(gone);
            figure.sides.push(side);
        }
    }
    let mut asked = Side::new("the same after a call", true);
    for name in names.iter().take(LOOKED_AT) {
        let pid = bench.runtime.block_on(api.daemon_pid(name))?;
        asked.values.push(Memory::of(pid)?.private as f64);
    }
    figure.sides.push(asked);
    bench.runtime.block_on(free_all(&api, names))?;
    let root = Memory::of(bench.daemon()?.pid())?;
    let mut side = Side::new("the node's daemon, private", true);
    side.values.push(root.private as f64);
    figure.sides.push(side);
    figure.sides.push(or_skipped("conmon, private", conmon(bench)));
    figure.sides.push(or_skipped("containerd's shim, private", shim(bench)));
    let figure = figure
        .at_most("100 alive: private", 150.0 * 1024.0)
        .at_most("100 alive: with the kernel's share", 300.0 * 1024.0);
    Ok(vec![figure])
}

fn or_skipped(name: &str, side: Result<Side>) -> Side {
    side.unwrap_or_else(|error| Side::skipped(name, format!("{error:#}")))
}

/// The private memory of each of these processes.
fn private(name: &str, pids: &[i32]) -> Result<Side> {
    let mut side = Side::new(name, false);
    for pid in pids {
        side.values.push(Memory::of(*pid)?.private as f64);
    }
    Ok(side)
}

fn conmon(bench: &Bench) -> Result<Side> {
    let bundle = bench.bundles.bundle("conmon", &["/bin/sleep", "100000"])?;
    let mut containers = Vec::new();
    for _ in 0..CONTAINERS {
        let container = Conmon::create(&bench.bundles, &bundle, &bench.work)?;
        container.start(&bench.bundles)?;
        containers.push(container);
    }
    let pids: Vec<i32> = containers.iter().map(|container| container.pid).collect();
    let side = private("conmon, private", &pids);
    for container in containers {
        container.delete(&bench.bundles)?;
    }
    side
}

/// How long something of a peer's may take to be there.
const TIME_TO_COME: Duration = Duration::from_secs(60);

/// A container that conmon supervises with crun.
pub(super) struct Conmon {
    id: String,
    /// conmon's process.
    pub(super) pid: i32,
    /// Where it writes the container's output to.
    pub(super) log: std::path::PathBuf,
}

impl Conmon {
    pub(super) fn create(bundles: &Bundles, bundle: &Path, work: &Path) -> Result<Self> {
        process::find("conmon").map_err(anyhow::Error::msg)?;
        let id = fresh("conmon");
        let directory = work.join("conmon").join(&id);
        fs::create_dir_all(&directory).context("failed to make a directory")?;
        let (log, pid_file) = (directory.join("log"), directory.join("conmon.pid"));
        let mut command = Command::new("conmon");
        command.args(["-c", &id, "-u", &id, "-n", &id, "-r", "/usr/bin/crun", "-b"]).arg(bundle);
        command.arg("-p").arg(directory.join("pid")).arg("-P").arg(&pid_file);
        command.arg("-l").arg(format!("k8s-file:{}", log.display()));
        command.arg("--exit-dir").arg(&directory);
        // Unless told otherwise it wants CRI-O's directory, and without it ends without a word.
        command.arg("--socket-dir-path").arg(&directory);
        if !bundles.limits() {
            command.arg("--runtime-arg=--cgroup-manager=disabled");
        }
        run_detached(&mut command)?;
        // It answers before the container is made; crun writes this file when it is.
        until(TIME_TO_COME, || {
            fs::metadata(directory.join("pid")).context("crun wrote no process")
        })
        .context("conmon made no container")?;
        let pid = fs::read_to_string(&pid_file).context("conmon told no process")?;
        let pid = pid.trim().parse().context("conmon told no process")?;
        Ok(Self { id, pid, log })
    }

    pub(super) fn start(&self, bundles: &Bundles) -> Result<()> {
        run(bundles.command(Runtime::Crun).args(["start", &self.id]))
    }

    pub(super) fn delete(self, bundles: &Bundles) -> Result<()> {
        run(bundles.command(Runtime::Crun).args(["delete", "--force", &self.id]))
    }
}

/// containerd with directories of its own; dropped, it is ended.
struct Containerd {
    child: Child,
    socket: std::path::PathBuf,
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Containerd {
    fn start(work: &Path) -> Result<Self> {
        for program in ["containerd", "ctr"] {
            process::find(program).map_err(anyhow::Error::msg)?;
        }
        let directory = work.join("containerd");
        fs::create_dir_all(&directory).context("failed to make a directory")?;
        let socket = directory.join("containerd.sock");
        let child = Command::new("containerd")
            .arg("--root")
            .arg(directory.join("root"))
            .arg("--state")
            .arg(directory.join("state"))
            .arg("--address")
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("failed to start containerd")?;
        let containerd = Self { child, socket };
        until(TIME_TO_COME, || run(containerd.ctr().arg("version")))
            .context("containerd does not answer")?;
        Ok(containerd)
    }

    fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket);
        command
    }
}

fn shim(bench: &Bench) -> Result<Side> {
    if !bench.limits() {
        bail!("runc wants cgroup v2 with controllers, which this host has not");
    }
    let containerd = Containerd::start(&bench.work)?;
    let root = bench.bundles.root();
    let ids: Vec<String> = (0..bench.paced(2, 10, CONTAINERS)).map(|_| fresh("shim")).collect();
    for id in &ids {
        let mut command = containerd.ctr();
        command.args(["run", "--detach", "--null-io", "--rootfs"]).arg(&root).arg(id);
        run_detached(command.args(["/bin/sleep", "100000"]))?;
    }
    let found = process::output(Command::new("pgrep").args(["-f", "containerd-shim-runc"]))?;
    let pids: Vec<i32> = found.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    let side = private("containerd's shim, private", &pids);
    for id in &ids {
        run(containerd.ctr().args(["task", "rm", "--force", id]))?;
        run(containerd.ctr().args(["container", "rm", id]))?;
    }
    side
}
