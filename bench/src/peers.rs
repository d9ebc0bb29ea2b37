//! Container runtimes and systemd: the same program, as alike as each of them can run it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::process;

/// The limits that every side gets where the machine has the controllers.
pub(crate) const MEMORY_MAX: u64 = 64 << 20;
pub(crate) const PIDS_MAX: u64 = 64;
/// In a period of [`CPU_PERIOD_US`]: one CPU.
pub(crate) const CPU_QUOTA_US: i64 = 100_000;
pub(crate) const CPU_PERIOD_US: u64 = 100_000;

/// A container runtime that OCI describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    Crun,
    Runc,
}

impl Runtime {
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Crun => "crun",
            Self::Runc => "runc",
        }
    }

    /// Whether it can be measured here. `limits`: the machine has a whole cgroup v2 tree.
    pub(crate) fn can(self, limits: bool) -> Result<(), String> {
        process::find(self.program())?;
        match (self, limits) {
            (Self::Runc, false) => {
                Err("runc wants cgroup v2 with controllers, which this host has not".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// A directory with a root file system of BusyBox, and bundles that use it.
#[derive(Debug)]
pub(crate) struct Bundles {
    directory: PathBuf,
    limits: bool,
}

impl Bundles {
    /// Makes the root file system.
    pub(crate) fn make(directory: &Path, busybox: &Path, limits: bool) -> Result<Self> {
        let root = directory.join("rootfs");
        for name in ["bin", "dev", "proc", "sys", "tmp", "etc"] {
            fs::create_dir_all(root.join(name)).context("failed to make a root file system")?;
        }
        fs::copy(busybox, root.join("bin/busybox")).context("failed to copy BusyBox")?;
        for name in ["true", "sleep", "sh", "cat"] {
            let link = root.join("bin").join(name);
            let _ = fs::remove_file(&link);
            symlink("busybox", &link).context("failed to link to BusyBox")?;
        }
        Ok(Self { directory: directory.to_owned(), limits })
    }

    /// The static `true` that is run where no container has its own.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.directory.join("rootfs/bin").join(name)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    /// The whole cgroup tree is there to set limits.
    pub(crate) fn limits(&self) -> bool {
        self.limits
    }

    /// A bundle that runs a command line: what `crun spec` writes, without a terminal and a network of
    /// its own, and with the limits.
    pub(crate) fn bundle(&self, name: &str, arguments: &[&str]) -> Result<PathBuf> {
        let directory = self.directory.join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).context("failed to make a bundle")?;
        process::run(Command::new("crun").arg("spec").current_dir(&directory))?;
        let path = directory.join("config.json");
        let text = fs::read(&path).context("failed to read a bundle")?;
        let mut config: Value = serde_json::from_slice(&text).context("no bundle")?;
        config["root"] = json!({ "path": self.root(), "readonly": false });
        config["process"]["args"] = json!(arguments);
        config["process"]["terminal"] = json!(false);
        if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
            namespaces.retain(|namespace| namespace["type"] != "network");
        }
        if self.limits {
            config["linux"]["resources"]["memory"] = json!({ "limit": MEMORY_MAX });
            config["linux"]["resources"]["pids"] = json!({ "limit": PIDS_MAX });
            config["linux"]["resources"]["cpu"] =
                json!({ "quota": CPU_QUOTA_US, "period": CPU_PERIOD_US });
        }
        let text = serde_json::to_vec(&config).context("failed to encode a bundle")?;
        fs::write(&path, text).context("failed to write a bundle")?;
        Ok(directory)
    }

    /// A command line of a runtime.
    pub(crate) fn command(&self, runtime: Runtime) -> Command {
        let mut command = Command::new(runtime.program());
        if !self.limits {
            command.arg("--cgroup-manager=disabled");
        }
        command
    }
}

/// A name that no other container, unit or cell of this run has.
pub(crate) fn fresh(prefix: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Whether systemd runs this machine.
pub(crate) fn systemd() -> Result<(), String> {
    match Path::new("/run/systemd/system").exists() {
        true => Ok(()),
        false => Err("systemd does not run this machine".to_owned()),
    }
}

/// `systemd-run` with the limits.
pub(crate) fn systemd_run() -> Command {
    let mut command = Command::new("systemd-run");
    command.args(["--quiet", "--collect"]);
    command.arg("-p").arg(format!("MemoryMax={MEMORY_MAX}"));
    command.arg("-p").arg(format!("TasksMax={PIDS_MAX}"));
    command.args(["-p", "CPUQuota=100%"]);
    command
}
