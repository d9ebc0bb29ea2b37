//! What figures have in common: the machine, the daemon, the peers, and how long it may take.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::runtime::Runtime;

use crate::calls::Api;
use crate::contest::Rounds;
use crate::daemon::{Daemon, Pki};
use crate::peers::Bundles;
use crate::process;
use crate::report::{Figure, Machine};

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Pace {
    /// Enough to see that everything can be measured: for tests.
    Quick,
    /// For an emulated machine, twenty times slower than a real one.
    Emulated,
    /// For a real machine.
    Full,
}

/// What is measured, and where.
pub(crate) struct Bench {
    /// Our binary.
    pub(crate) aurae: PathBuf,
    /// For whatever is needed on the way.
    pub(crate) work: PathBuf,
    /// How much.
    pub(crate) pace: Pace,
    /// The certificates of everybody who serves or calls.
    pub(crate) pki: Pki,
    /// Containers.
    pub(crate) bundles: Bundles,
    /// Waits for calls.
    pub(crate) runtime: Runtime,
    daemon: Option<Daemon>,
}

/// A group of figures.
pub(crate) struct Group {
    /// Its name for `--only`.
    pub(crate) name: &'static str,
    /// Measures them.
    pub(crate) measure: fn(&Bench) -> Result<Vec<Figure>>,
}

impl Bench {
    /// Makes certificates and bundles, and starts the daemon.
    pub(crate) fn set_up(
        aurae: PathBuf,
        work: PathBuf,
        pace: Pace,
        busybox: &Path,
    ) -> Result<Self> {
        fs::create_dir_all(&work).with_context(|| format!("failed to make {}", work.display()))?;
        let pki = Pki::make(&aurae, &work.join("pki"), &["127.0.0.1".to_owned()])?;
        let limits = has_controllers();
        let bundles = Bundles::make(&work.join("bundles"), busybox, limits)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("failed to make a runtime")?;
        let daemon = Some(Daemon::start(&aurae, &work.join("daemon"), &pki)?);
        Ok(Self { aurae, work, pace, pki, bundles, runtime, daemon })
    }

    /// The daemon.
    pub(crate) fn daemon(&self) -> Result<&Daemon> {
        self.daemon.as_ref().context("the daemon was ended")
    }

    /// A connection to it over TCP, with mutual TLS. One that is kept while others take their turns, and so
    /// answers no pings, is closed by the node: where turns are long, each makes its own.
    /// It has answered a call: the first one finds out whether the client is let in.
    pub(crate) fn api(&self) -> Result<Api> {
        self.runtime.block_on(async {
            let api = Api::new(&self.daemon()?.tcp().await?);
            api.discover().await?;
            Ok(api)
        })
    }

    /// Limits can be set.
    pub(crate) fn limits(&self) -> bool {
        self.bundles.limits()
    }

    /// A command line of ours, with the daemon as its node.
    pub(crate) fn aer(&self) -> Result<Command> {
        let mut command = Command::new(&self.aurae);
        command.args(["aer", "--config"]).arg(&self.daemon()?.configuration);
        Ok(command)
    }

    /// So many rounds, and at most so many seconds of them; under emulation half of that, so that all figures
    /// together take half an hour.
    pub(crate) fn rounds(&self, full: usize, seconds: u64) -> Rounds {
        let (wanted, seconds) = match self.pace {
            Pace::Quick => (3, seconds),
            Pace::Emulated => (full.min(30), seconds / 2),
            Pace::Full => (full, seconds),
        };
        Rounds { wanted, limit: Duration::from_secs(seconds) }
    }

    /// A number that depends on the pace.
    pub(crate) fn paced<T>(&self, quick: T, emulated: T, full: T) -> T {
        match self.pace {
            Pace::Quick => quick,
            Pace::Emulated => emulated,
            Pace::Full => full,
        }
    }

    /// What this is.
    pub(crate) fn machine(&self, how: &str) -> Result<Machine> {
        let uname = rustix::system::uname();
        let version = |program: &str, argument: &str| {
            let said = process::output(Command::new(program).arg(argument)).ok()?;
            said.lines().next().map(|line| line.trim().to_owned())
        };
        let programs = [
            ("crun", "--version"),
            ("runc", "--version"),
            ("conmon", "--version"),
            ("containerd", "--version"),
            ("systemctl", "--version"),
        ];
        Ok(Machine {
            kernel: uname.release().to_string_lossy().into_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory: process::total()?,
            how: how.to_owned(),
            programs: programs
                .iter()
                .filter_map(|(name, argument)| version(name, argument))
                .collect(),
            binary: fs::metadata(&self.aurae).context("our binary is missing")?.len(),
        })
    }
}

/// Tells people what is being done, on standard error.
pub(crate) fn progress(started: Instant, what: &str) {
    eprintln!("[{:6.1} s] {what}", started.elapsed().as_secs_f64());
}

/// Whether the root of the cgroup tree has the controllers that limits need (cgroups(7)).
fn has_controllers() -> bool {
    fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|text| {
        ["cpu", "memory", "pids"].iter().all(|name| text.split_whitespace().any(|has| has == *name))
    })
}
