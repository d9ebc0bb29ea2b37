//! Whether this machine's `/dev/kvm` boots a stock kernel. Some do not (software KVM), and some are
//! there and cannot be opened: the only sure way to know is to boot one, once, with a time limit.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::testbed::console;
use crate::testbed::cpio::Archive;
use crate::testbed::kernel::{self, Kernel};
use crate::testbed::qemu;
use crate::tools;
use crate::workspace::{Workspace, write_whole};

/// With hardware's help the kernel is up in a second or two.
const TIME_TO_BOOT: Duration = Duration::from_secs(10);
/// What the probe's init says.
const SIGN_OF_LIFE: &str = "kvm-runs-a-stock-kernel";

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// The processor.
    Kvm,
    /// QEMU's own emulation, 10 to 30 times slower.
    Tcg,
    /// The same, with a clock that goes on by a nanosecond for each instruction: what something takes then is how
    /// many instructions it has, whatever the machine is.
    Counting,
}

impl Accel {
    /// QEMU's name for it.
    pub fn name(self) -> &'static str {
        self.arguments()[1]
    }

    /// QEMU's arguments for it.
    pub(super) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm"],
            Self::Tcg => &["-accel", "tcg,thread=multi"],
            Self::Counting => &["-accel", "tcg,thread=single", "-icount", "shift=0,align=off"],
        }
    }

    /// The best that works here: probed once, remembered until host kernel or QEMU change.
    ///
    /// # Errors
    /// When the probe cannot be run at all.
    pub fn best(workspace: &Workspace, kernel: &Kernel) -> Result<Self> {
        if !Path::new("/dev/kvm").exists() {
            return Ok(Self::Tcg);
        }
        let about = key()?;
        let path = workspace.testbed().join("kvm");
        if let Some(accel) = remembered(&path, &about) {
            return Ok(accel);
        }
        // Before the lock, which it takes itself.
        let busybox = kernel::busybox(workspace)?;
        let _lock = workspace.lock()?;
        if let Some(accel) = remembered(&path, &about) {
            return Ok(accel);
        }
        let accel = if boots(workspace, kernel, &busybox)? { Self::Kvm } else { Self::Tcg };
        let verdict = if accel == Self::Kvm {
            "works"
        } else {
            "does not boot a stock kernel: using emulation"
        };
        tools::progress(&format!("/dev/kvm {verdict}"));
        write_whole(&path, format!("{about}\n{}\n", accel.name()).as_bytes())?;
        Ok(accel)
    }
}

fn remembered(path: &Path, about: &str) -> Option<Accel> {
    let text = fs::read_to_string(path).ok()?;
    let (found, accel) = text.trim_end().rsplit_once('\n')?;
    if found != about {
        return None;
    }
    [Accel::Kvm, Accel::Tcg].into_iter().find(|candidate| candidate.name() == accel)
}

/// What the verdict depends on.
fn key() -> Result<String> {
    let uname = rustix::system::uname();
    let qemu = tools::output(Command::new(qemu::PROGRAM).arg("--version"))?;
    Ok(format!(
        "{} {} uid {} {}",
        uname.release().to_string_lossy(),
        uname.version().to_string_lossy(),
        rustix::process::geteuid().as_raw(),
        qemu.lines().next().unwrap_or_default()
    ))
}

/// Boots a shell script that says a word and powers off.
fn boots(workspace: &Workspace, kernel: &Kernel, busybox: &Path) -> Result<bool> {
    tools::progress("trying whether /dev/kvm boots a kernel");
    let directory = workspace.testbed();
    let mut archive = Archive::default();
    archive.character_device("dev/console", 0o600, (5, 1));
    archive.file("bin/busybox", 0o755, fs::read(busybox).context("failed to read busybox")?);
    let script = format!("#!/bin/busybox sh\necho {SIGN_OF_LIFE}\n/bin/busybox poweroff -f\n");
    archive.file("init", 0o755, script.into());
    let initrd = directory.join("probe.cpio");
    write_whole(&initrd, &archive.pack())?;

    let log = directory.join("probe.log");
    let mut child = Command::new(qemu::PROGRAM)
        .args(["-M", "q35", "-cpu", "max", "-smp", "2", "-m", "256"])
        .args(Accel::Kvm.arguments())
        .args([
            "-display",
            "none",
            "-vga",
            "none",
            "-nic",
            "none",
            "-no-reboot",
            "-monitor",
            "none",
        ])
        .arg("-serial")
        .arg(format!("file:{}", log.display()))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initrd)
        .args(["-append", qemu::KERNEL_ARGUMENTS])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("failed to run {}", qemu::PROGRAM))?;
    tools::wait_until(TIME_TO_BOOT, || Ok(child.try_wait()?.is_some()))?;
    // Whether it ended or hangs: it is over now, and what it said decides.
    let _ = child.kill();
    child.wait().context("failed to wait for QEMU")?;
    Ok(console::read(&log).contains(SIGN_OF_LIFE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_about_another_machine_is_not_believed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("kvm");
        assert_eq!(remembered(&path, "6.1"), None);
        fs::write(&path, "6.1\ntcg,thread=multi\n").expect("written");
        assert_eq!(remembered(&path, "6.1"), Some(Accel::Tcg));
        assert_eq!(remembered(&path, "6.2"), None);
    }
}
