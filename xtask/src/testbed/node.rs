//! A node: a machine that boots our binary as PID 1.
//!
//! ```text
//! Options ── start ──► Node (booting) ── wait_until_up ──► Node (its API answers)
//!                        └─ QEMU ended, or the time is over: an error with the console's last lines
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::debian;
use crate::testbed::accel::Accel;
use crate::testbed::cpio::Archive;
use crate::testbed::initramfs;
use crate::testbed::kernel::Kernel;
use crate::testbed::pki::Pki;
use crate::testbed::qemu::{self, Lifetime, Machine, Spec};
use crate::tools;
use crate::workspace::{Workspace, write_whole};

/// How long a node has to answer: emulation on a busy host needs most of it.
pub const TIME_TO_ANSWER: Duration = Duration::from_secs(150);
/// How long one question waits for its answer.
const QUESTION_LIMIT: &str = "10s";

const CONFIGURATION: &str = "config";
const OWN_INITRD: &str = "initrd";

/// What a node should be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name, which is its host name too.
    pub name: String,
    /// Where its state goes.
    pub directory: PathBuf,
    /// How many CPUs it has.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// What runs it; `None`: the best that works here.
    pub accel: Option<Accel>,
    /// Kernel arguments beside those that every node gets.
    pub append: Vec<String>,
    /// Files in addition to, or instead of, those of every node; a later one wins.
    pub files: Archive,
    /// Raw images that become its disks.
    pub disks: Vec<PathBuf>,
    /// How long it lives.
    pub lifetime: Lifetime,
}

impl Options {
    /// Two CPUs and 512 MiB, which is what the facts in `docs/testing.md` were measured with.
    pub fn new(name: &str, directory: PathBuf, lifetime: Lifetime) -> Self {
        Self {
            name: name.to_owned(),
            directory,
            cpus: 2,
            memory_mib: 512,
            accel: None,
            append: Vec::new(),
            files: Archive::default(),
            disks: Vec::new(),
            lifetime,
        }
    }
}

/// A node that was started.
#[derive(Debug)]
pub struct Node {
    workspace: Workspace,
    name: String,
    directory: PathBuf,
    machine: Machine,
}

impl Node {
    /// Gets what a node needs (QEMU, kernel, certificates) and starts it.
    ///
    /// # Errors
    /// When something is missing, or QEMU refuses.
    pub fn start(workspace: &Workspace, options: Options) -> Result<Self> {
        debian::ensure(&[debian::QEMU])?;
        let kernel = Kernel::ensure(workspace)?;
        let accel = match options.accel {
            Some(accel) => accel,
            None => Accel::best(workspace, &kernel)?,
        };
        let pki = Pki::ensure(workspace)?;
        fs::create_dir_all(&options.directory)
            .with_context(|| format!("failed to make {}", options.directory.display()))?;

        let initrd = options.directory.join(OWN_INITRD);
        let mut own = Archive::default();
        pki.add_to(&mut own)?;
        own.extend(&options.files);
        initramfs::with_own_part(&initramfs::base(workspace, &kernel)?, &own, &initrd)?;

        let mut append = vec![format!("aurae.hostname={}", options.name)];
        append.extend(options.append);
        let machine = Spec {
            directory: options.directory.clone(),
            accel,
            cpus: options.cpus,
            memory_mib: options.memory_mib,
            kernel: kernel.image,
            initrd,
            append: append.join(" "),
            disks: options.disks,
            lifetime: options.lifetime,
        }
        .start()?;
        let node = Self {
            workspace: workspace.clone(),
            name: options.name,
            directory: options.directory,
            machine,
        };
        write_whole(&node.configuration(), pki.configuration(node.machine.port()).as_bytes())?;
        Ok(node)
    }

    /// Waits until the API answers, then lets the node start again when it reboots (before, a reboot
    /// is a failed boot).
    ///
    /// # Errors
    /// When it does not answer in time, with the console's last lines.
    pub fn wait_until_up(&mut self) -> Result<()> {
        let mut last_words = String::new();
        let up = tools::wait_until(TIME_TO_ANSWER, || {
            if let Some(status) = self.machine.ended() {
                bail!(self.report(&format!("node {} ended while booting: {status}", self.name)));
            }
            match discover(&self.workspace, &self.configuration()) {
                Ok(_) => Ok(true),
                Err(error) => {
                    last_words = format!("{error:#}");
                    Ok(false)
                }
            }
        })?;
        if !up {
            let seconds = TIME_TO_ANSWER.as_secs();
            bail!(self.report(&format!(
                "node {} did not answer within {seconds} s: {last_words}",
                self.name
            )));
        }
        self.machine.monitor()?.execute("set-action", json!({ "reboot": "reset" }))?;
        Ok(())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The clients' configuration file.
    pub fn configuration(&self) -> PathBuf {
        configuration(&self.directory)
    }

    /// The machine it runs on.
    pub fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// The port of 127.0.0.1 that leads to the API.
    pub fn port(&self) -> u16 {
        self.machine.port()
    }

    /// What happened, with the console's last lines.
    pub fn report(&self, what: &str) -> String {
        qemu::report(&self.directory, what)
    }
}

/// The clients' configuration file of the node whose directory this is.
pub fn configuration(directory: &Path) -> PathBuf {
    directory.join(CONFIGURATION)
}

/// Asks a node whether it is there, with our own command line.
///
/// # Errors
/// When it is not.
pub fn discover(workspace: &Workspace, configuration: &Path) -> Result<String> {
    tools::output(
        Command::new(workspace.binary()).arg("aer").arg("--config").arg(configuration).args([
            "--timeout",
            QUESTION_LIMIT,
            "discovery",
            "discover",
        ]),
    )
}
