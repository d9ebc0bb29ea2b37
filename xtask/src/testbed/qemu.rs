//! A machine: a QEMU process, its monitor and its console.
//!
//! `q35` and not `microvm`: the latter hangs in the kernel's TSC calibration on a busy host. The
//! network is QEMU's own (user mode), so that no root is needed; a port of the host that QEMU
//! chooses leads to the node's API.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::testbed::accel::Accel;
use crate::testbed::console;
use crate::testbed::qmp::Monitor;
use crate::tools;

/// The program.
pub const PROGRAM: &str = "qemu-system-x86_64";
/// What every kernel is told: talk on the serial console, and reset at once after a panic.
pub const KERNEL_ARGUMENTS: &str = "console=ttyS0 reboot=t panic=-1 quiet edd=off";
/// The API's port in the guest.
const API_PORT: u16 = 8080;
/// How long QEMU has to open its monitor.
const MONITOR_LIMIT: Duration = Duration::from_secs(30);

const MONITOR_SOCKET: &str = "monitor.sock";
const CONSOLE_LOG: &str = "console.log";
const ERROR_LOG: &str = "qemu.log";
const PID_FILE: &str = "qemu.pid";

/// How long a machine lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is switched off.
    Detached,
    /// Not longer than the process that started it.
    WithUs,
}

/// A machine to be started.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Where its monitor, console and pid go; it has to exist.
    pub directory: PathBuf,
    /// What runs it.
    pub accel: Accel,
    /// How many CPUs it has.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The kernel to boot.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// The kernel's arguments beyond [`KERNEL_ARGUMENTS`].
    pub append: String,
    /// Raw images that become virtio disks.
    pub disks: Vec<PathBuf>,
    /// How long it lives.
    pub lifetime: Lifetime,
}

impl Spec {
    fn command(&self) -> Command {
        let mut command = match self.lifetime {
            Lifetime::Detached => Command::new(PROGRAM),
            Lifetime::WithUs => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", "--", PROGRAM]);
                command
            }
        };
        let forward = format!("user,id=net,hostfwd=tcp:127.0.0.1:0-:{API_PORT}");
        command
            .current_dir(&self.directory)
            .args(["-M", "q35", "-cpu", "max"])
            .args(self.accel.arguments())
            .args(["-smp", &self.cpus.to_string(), "-m", &self.memory_mib.to_string()])
            .args(["-display", "none", "-vga", "none", "-no-reboot"])
            // Without `romfile=` QEMU wants a boot ROM that Debian has in another package.
            .args(["-netdev", &forward, "-device", "virtio-net-pci,netdev=net,romfile="])
            .args(["-device", "virtio-rng-pci"])
            .args(["-qmp", &format!("unix:{MONITOR_SOCKET},server=on,wait=off")])
            .args(["-serial", &format!("file:{CONSOLE_LOG}"), "-pidfile", PID_FILE])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initrd)
            .args(["-append", &format!("{KERNEL_ARGUMENTS} {}", self.append)]);
        for disk in &self.disks {
            let drive = format!("file={},if=virtio,format=raw,cache=unsafe", disk.display());
            command.args(["-drive", &drive]);
        }
        command
    }

    /// Starts the machine, in a process group of its own, so that Ctrl-C does not reach it.
    ///
    /// # Errors
    /// When QEMU cannot be run, or refuses; its words are in the text.
    pub fn start(self) -> Result<Machine> {
        for name in [MONITOR_SOCKET, CONSOLE_LOG, PID_FILE] {
            let _ = fs::remove_file(self.directory.join(name));
        }
        let error_log = self.directory.join(ERROR_LOG);
        let errors = File::create(&error_log)
            .with_context(|| format!("failed to make {}", error_log.display()))?;
        let mut command = self.command();
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(errors.try_clone().context("failed to duplicate a descriptor")?)
            .stderr(errors);
        let ended = spawn(command)?;
        let mut machine = Machine { directory: self.directory, ended, status: None, port: 0 };
        machine.port = machine.wait_for_monitor()?.forwarded_port(API_PORT)?;
        Ok(machine)
    }
}

/// Starts the process on a thread that lives as long as it does: the kernel takes the death of the
/// thread that started it for the death of its parent.
fn spawn(mut command: Command) -> Result<mpsc::Receiver<ExitStatus>> {
    let (started_sender, started) = mpsc::channel();
    let (ended_sender, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let child: Result<Child> =
            command.spawn().with_context(|| format!("failed to run `{}`", tools::shown(&command)));
        match child {
            Ok(mut child) => {
                let _ = started_sender.send(Ok(()));
                if let Ok(status) = child.wait() {
                    let _ = ended_sender.send(status);
                }
            }
            Err(error) => {
                let _ = started_sender.send(Err(error));
            }
        }
    });
    started.recv().context("the thread that starts QEMU is gone")??;
    Ok(ended)
}

/// A machine that was started. It is not switched off when this is dropped; see [`Lifetime`].
#[derive(Debug)]
pub struct Machine {
    directory: PathBuf,
    ended: mpsc::Receiver<ExitStatus>,
    status: Option<ExitStatus>,
    port: u16,
}

impl Machine {
    /// The port of 127.0.0.1 that leads to the node's API.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the console is written to.
    pub fn console(&self) -> PathBuf {
        console_path(&self.directory)
    }

    /// The status with which QEMU ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.ended.try_recv().ok();
        }
        self.status
    }

    /// Waits for QEMU to end; none when the time is over first.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.ended.recv_timeout(limit).ok();
        }
        self.status
    }

    /// A connection to the monitor.
    ///
    /// # Errors
    /// When QEMU has ended.
    pub fn monitor(&self) -> Result<Monitor> {
        monitor(&self.directory)
    }

    /// Ends QEMU at once, as if the plug were pulled.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            if let Ok(mut monitor) = self.monitor() {
                // The answer may be lost with QEMU.
                let _ = monitor.execute("quit", json!({}));
            }
            self.wait(MONITOR_LIMIT);
        }
    }

    fn wait_for_monitor(&mut self) -> Result<Monitor> {
        let mut found = None;
        tools::wait_until(MONITOR_LIMIT, || {
            if let Some(status) = self.ended() {
                let said = fs::read_to_string(self.directory.join(ERROR_LOG)).unwrap_or_default();
                bail!("QEMU ended with {status}: {}", said.trim_end());
            }
            found = monitor(&self.directory).ok();
            Ok(found.is_some())
        })?;
        found.with_context(|| {
            format!("QEMU did not open its monitor within {} s", MONITOR_LIMIT.as_secs())
        })
    }
}

/// The monitor of the machine whose directory this is.
///
/// # Errors
/// When no machine runs there.
pub fn monitor(directory: &Path) -> Result<Monitor> {
    Monitor::connect(directory, MONITOR_SOCKET)
}

/// The console of the machine whose directory this is.
pub fn console_path(directory: &Path) -> PathBuf {
    directory.join(CONSOLE_LOG)
}

/// Why a machine did not do what was hoped, with its console.
pub fn report(directory: &Path, what: &str) -> String {
    format!("{what}\n{}", console::tail(&console_path(directory)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec {
            directory: "/state".into(),
            accel: Accel::Tcg,
            cpus: 2,
            memory_mib: 512,
            kernel: "/kernel".into(),
            initrd: "/initrd".into(),
            append: "aurae.hostname=web".to_owned(),
            disks: vec!["/disk".into()],
            lifetime: Lifetime::Detached,
        }
    }

    #[test]
    fn the_command_line_says_what_the_machine_is() {
        let shown = tools::shown(&spec().command());
        for part in [
            "-M q35 -cpu max -accel tcg,thread=multi -smp 2 -m 512",
            "hostfwd=tcp:127.0.0.1:0-:8080",
            "-kernel /kernel -initrd /initrd",
            "panic=-1 quiet edd=off aurae.hostname=web",
            "file=/disk,if=virtio",
        ] {
            assert!(shown.contains(part), "{part} is missing in: {shown}");
        }
    }

    #[test]
    fn instructions_are_counted_one_after_the_other() {
        let spec = Spec { accel: Accel::Counting, ..spec() };
        let shown = tools::shown(&spec.command());
        assert!(shown.contains("-accel tcg,thread=single -icount shift=0"), "{shown}");
    }

    #[test]
    fn a_machine_of_ours_does_not_outlive_us() {
        let spec = Spec { lifetime: Lifetime::WithUs, ..spec() };
        assert!(tools::shown(&spec.command()).starts_with("setpriv --pdeathsig KILL -- qemu"));
    }
}
