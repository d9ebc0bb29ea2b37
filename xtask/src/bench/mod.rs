//! `make bench`: a node beside container runtimes and systemd, in one run, and the report of it.
//!
//! ```text
//! build ─┬─ in a machine that has the peers (`root`, `machine`): run, then boots of process 1
//!        └─ HOST=1: run, on this machine itself
//!           scripts under auraescript, deno and node, on this machine ─▶ report
//! ```
//! What is measured, and how it is shown, is `aurae-bench`'s (`bench/`).

mod machine;
mod root;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build;
use crate::debian::{self, Need};
use crate::suite::Runtimes;
use crate::testbed::kernel;
use crate::testbed::node::{Node, Options};
use crate::testbed::qemu::Lifetime;
use crate::tools;
use crate::workspace::Workspace;
use machine::Init;

/// The groups of figures that are not measured by `aurae-bench run`.
const BOOTS: &str = "boots";
const SCRIPTS: &str = "scripts";
/// All groups of figures: those that `bench/` measures, and the two that are measured from here.
pub const GROUPS: [&str; 13] = [
    "zone", "cycle", "start", "rpc", "decision", "fairness", "logs", "many", "memory", "scale",
    "fleet", BOOTS, SCRIPTS,
];
/// Where the scripts are, below the workspace.
const SCRIPTS_AT: &str = "bench/scripts";
/// How many times each init boots.
const BOOT_ROUNDS: usize = 5;
/// The package and the file of the plots' font.
const FONT: (&str, &str) = ("fonts-dejavu-core", "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf");
/// What the host itself is measured with.
const PEERS: [&str; 4] = ["crun", "runc", "conmon", "containerd"];

/// What makes the network of a fleet.
const IP: Need = Need { program: "ip", package: "iproute2" };

/// What is measured where.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// On this machine itself, without a virtual one.
    pub host: bool,
    /// These groups of figures alone; empty: all, with boots and scripts.
    pub only: Vec<String>,
}

/// Builds, measures, and prints the report's tables.
///
/// # Errors
/// When something is missing, or a figure could not be measured.
pub fn run(workspace: &Workspace, wanted: &Wanted) -> Result<()> {
    build::release(workspace)?;
    build::shipped(workspace)?;
    let bench = Bench::new(workspace, workspace.bench())?;
    let wants = |group: &str| wanted.only.is_empty() || wanted.only.iter().any(|it| it == group);
    let groups: Vec<String> =
        wanted.only.iter().filter(|it| *it != BOOTS && *it != SCRIPTS).cloned().collect();
    let mut results = Vec::new();
    if wanted.only.is_empty() || !groups.is_empty() {
        results.push(match wanted.host {
            true => whole_on_host(&bench, &groups),
            false => bench.in_machine(&groups),
        });
    }
    if wants(BOOTS) && !wanted.host {
        results.push(bench.boots());
    }
    if wants(SCRIPTS) {
        results.push(bench.scripts());
    }
    // What could be measured is shown.
    let shown = bench.report();
    results.into_iter().collect::<Result<()>>().and(shown)
}

fn whole_on_host(bench: &Bench, only: &[String]) -> Result<()> {
    if !tools::is_root() {
        bail!("measuring on the host itself needs root; `make bench` does it in a virtual machine");
    }
    if PEERS.iter().any(|program| tools::find(program).is_none()) {
        debian::install(&PEERS)?;
    }
    debian::ensure(&[IP])?;
    tools::progress("measuring on this machine itself");
    let only: Vec<&str> = only.iter().flat_map(|group| ["--only", group]).collect();
    bench.on_host(&only)
}

/// Measures every figure on this machine, a few times each: whether all can be measured, not how fast.
///
/// # Errors
/// When one of ours cannot.
pub(crate) fn quick(workspace: &Workspace) -> Result<()> {
    debian::ensure(&[IP])?;
    let bench = Bench::new(workspace, workspace.testbed().join("bench-quick"))?;
    bench.on_host(&["--pace", "quick"])?;
    tools::output(bench.command("report").arg(&bench.out))?;
    Ok(())
}

/// The programs, and where the report goes.
struct Bench {
    workspace: Workspace,
    program: PathBuf,
    out: PathBuf,
}

impl Bench {
    fn new(workspace: &Workspace, out: PathBuf) -> Result<Self> {
        if out.exists() {
            fs::remove_dir_all(&out).context("failed to remove the report of an earlier run")?;
        }
        fs::create_dir_all(&out).with_context(|| format!("failed to make {}", out.display()))?;
        let program = workspace.binary().with_file_name("aurae-bench");
        Ok(Self { workspace: workspace.shipping(), program, out })
    }

    fn command(&self, task: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(task);
        command
    }

    /// On this machine itself, with what container runtimes there are.
    fn on_host(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("unshare");
        // A host with both versions of cgroups hides version 2 from container runtimes.
        let script = "[ -e /sys/fs/cgroup/cgroup.controllers ] || { umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup; } && exec \"$@\"";
        command.args(["--mount", "--", "sh", "-c", script, "sh"]);
        command.arg(&self.program).arg("run").arg("--aurae").arg(self.workspace.binary());
        command.arg("--busybox").arg(kernel::busybox(&self.workspace)?);
        command.arg("--out").arg(&self.out).args(arguments);
        tools::run(&mut command)
    }

    fn in_machine(&self, only: &[String]) -> Result<()> {
        let root = root::ensure(&self.workspace)?;
        let measured = machine::measure(&self.workspace, &root, &self.program, only)?;
        tools::output(Command::new("tar").arg("-xf").arg(&measured).arg("-C").arg(&self.out))?;
        fs::remove_file(measured).context("failed to remove what the machine wrote")?;
        match fs::read_to_string(self.out.join(machine::STATUS)) {
            Ok(status) if status.trim() == "0" => Ok(()),
            _ => {
                bail!("not all could be measured; {}", machine::console(&self.workspace).display())
            }
        }
    }

    /// Boots of process 1, in turns.
    fn boots(&self) -> Result<()> {
        let root = root::ensure(&self.workspace)?;
        let mut lines = String::new();
        for round in 0..BOOT_ROUNDS {
            tools::progress(&format!("booting, round {} of {BOOT_ROUNDS}", round + 1));
            for init in [Init::Auraed, Init::Systemd, Init::Busybox] {
                let line = match init {
                    Init::Auraed => machine::boot_ours(&self.workspace, &self.program, false)?,
                    _ => machine::boot(&self.workspace, &root, &self.program, init)?,
                };
                lines.push_str(line.trim());
                lines.push('\n');
            }
        }
        tools::progress("booting, with instructions counted");
        lines.push_str(machine::boot_ours(&self.workspace, &self.program, true)?.trim());
        lines.push('\n');
        let path = self.out.join("boots");
        fs::write(&path, lines).context("failed to write the boots")?;
        let input = fs::File::open(&path).context("failed to open the boots")?;
        let status = self
            .command("boots")
            .arg("--out")
            .arg(&self.out)
            .stdin(input)
            .status()
            .context("failed to run aurae-bench")?;
        if status.success() { Ok(()) } else { bail!("aurae-bench boots failed: {status}") }
    }

    /// Scripts, on this machine, against a node in a virtual one.
    fn scripts(&self) -> Result<()> {
        let runtimes = match Runtimes::ensure(&self.workspace) {
            Ok(runtimes) => runtimes,
            Err(error) => {
                tools::progress(&format!("no scripts: there is no deno: {error:#}"));
                return Ok(());
            }
        };
        if let Err(error) = self.install_sdk(&runtimes) {
            tools::progress(&format!("no scripts: there is no SDK for them: {error:#}"));
            return Ok(());
        }
        tools::progress("measuring scripts");
        let directory = self.workspace.testbed().join("bench-node");
        let options = Options::new("bench", directory, Lifetime::WithUs);
        let mut node = Node::start(&self.workspace, options)?;
        node.wait_until_up()?;
        let result = tools::run(
            self.command("scripts")
                .arg("--out")
                .arg(&self.out)
                .arg("--aurae")
                .arg(self.workspace.binary())
                .arg("--deno")
                .arg(runtimes.deno())
                .arg("--node")
                .arg(runtimes.node())
                .arg("--config")
                .arg(node.configuration())
                .arg("--scripts")
                .arg(self.workspace.root().join(SCRIPTS_AT)),
        );
        node.machine().kill();
        result.map_err(|error| anyhow::anyhow!(node.report(&format!("{error:#}"))))
    }

    /// Builds the SDK, and puts it where the scripts find it under every runtime.
    fn install_sdk(&self, runtimes: &Runtimes) -> Result<()> {
        let (sdk, scripts) =
            (self.workspace.root().join("sdk/typescript"), self.workspace.root().join(SCRIPTS_AT));
        tools::output(
            Command::new(runtimes.node())
                .args(["scripts/test.mjs", "--only-generated"])
                .current_dir(&sdk),
        )?;
        if !scripts.join("node_modules/@aurae/sdk").exists() {
            tools::output(
                Command::new("npm")
                    .args(["install", "--ignore-scripts", "--no-package-lock"])
                    .args(["--no-audit", "--no-fund"])
                    .current_dir(&scripts),
            )?;
        }
        Ok(())
    }

    fn report(&self) -> Result<()> {
        if !Path::new(FONT.1).exists() {
            debian::install(&[FONT.0])?;
        }
        tools::run(self.command("report").arg(&self.out).args(["--font", FONT.1]))?;
        tools::progress(&format!("the report is in {}", self.out.display()));
        Ok(())
    }
}
