//! The machine that is measured in, and machines that only boot.
//!
//! ```text
//! initramfs: /bench/first loads modules, mounts /dev/vda, copies /bench there, becomes the init
//!   └─ the init, when the machine can be used, runs /bench/run, which writes to /dev/vdb and powers off
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::debian;
use crate::testbed::accel::Accel;
use crate::testbed::cpio::Archive;
use crate::testbed::initramfs;
use crate::testbed::kernel::Kernel;
use crate::testbed::modules::Modules;
use crate::testbed::node::{Node, Options};
use crate::testbed::qemu::{self, Lifetime, Machine, Spec};
use crate::tools;
use crate::workspace::Workspace;

/// The whole measurement, under emulation.
const TIME_TO_MEASURE: Duration = Duration::from_secs(40 * 60);
/// A boot, under emulation.
const TIME_TO_BOOT: Duration = Duration::from_secs(180);
/// Five thousand cells need it.
const MEMORY_MIB: u32 = 6144;
/// For what a machine writes: a tar archive of a few hundred KiB.
const RESULT_BYTES: u64 = 32 << 20;

/// Who is process 1 where instructions are counted, for `aurae-bench boots`.
const COUNTED: &str = "auraed, counted";

/// The file that says how the measurement ended.
pub(super) const STATUS: &str = "status";

/// What the root file system is on.
const MODULES: [&str; 5] = ["virtio_pci", "virtio_blk", "virtio_rng", "crc32c_generic", "ext4"];

const FIRST: &str = "#!/bin/busybox sh
PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
for module in /bench/modules/*; do insmod $module; done
until [ -e /dev/vda ]; do :; done
mount -t ext4 /dev/vda /mnt
cp -a /bench/* /mnt/bench/
mount --move /dev /mnt/dev
read -r stat < /proc/1/stat
umount /proc
echo \"bench: the init begins: $stat\" > /mnt/dev/kmsg
exec switch_root /mnt \"$@\"
";

/// Who is process 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Init {
    Auraed,
    Systemd,
    Busybox,
}

impl Init {
    /// As reports call it.
    fn name(self) -> &'static str {
        match self {
            Self::Auraed => "auraed",
            Self::Systemd => "systemd",
            Self::Busybox => "BusyBox init",
        }
    }

    /// What the kernel is told, behind the first process of the initramfs.
    fn arguments(self) -> &'static str {
        match self {
            Self::Auraed => "",
            // What follows `--` are the arguments of the first process.
            // Without udev nobody tells of a serial line, and systemd would wait for it, 90 s.
            Self::Systemd => {
                "systemd.unit=bench.target systemd.show_status=no systemd.getty_auto=no -- /sbin/init"
            }
            Self::Busybox => "-- /bench/init",
        }
    }
}

fn directory(workspace: &Workspace) -> PathBuf {
    workspace.testbed().join("bench-machine")
}

/// The console of the machine that was started last.
pub(super) fn console(workspace: &Workspace) -> PathBuf {
    qemu::console_path(&directory(workspace))
}

/// Measures, and returns the archive that the machine wrote.
pub(super) fn measure(
    workspace: &Workspace,
    root: &Path,
    program: &Path,
    only: &[String],
) -> Result<PathBuf> {
    let accel = Accel::best(workspace, &Kernel::ensure(workspace)?)?;
    let (pace, how) = match accel {
        Accel::Kvm => ("full", "a virtual machine with KVM"),
        Accel::Tcg | Accel::Counting => ("emulated", "a virtual machine, emulated by QEMU"),
    };
    let only: String = only.iter().map(|group| format!(" --only {group}")).collect();
    let run = format!(
        "#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /tmp/out
/bench/aurae-bench run --aurae /bench/aurae --out /tmp/out --pace {pace} --how '{how}'{only}
echo $? > /tmp/out/{STATUS}
tar -C /tmp/out -cf /dev/vdb .
sync
systemctl poweroff --force --force
"
    );
    tools::progress(&format!("measuring in {how}"));
    let mut machine = start(workspace, root, program, Init::Systemd, &run)?;
    let mut shown = 0;
    let console = console(workspace);
    let ended = tools::wait_until(TIME_TO_MEASURE, || {
        // What the bench says of its progress, as it comes.
        let text = fs::read(&console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        for line in text.lines().skip(shown) {
            if line.starts_with('[') && line.contains(" s] ") || line.contains("failed") {
                eprintln!("    {}", line.trim());
            }
        }
        shown = text.lines().count();
        Ok(machine.ended().is_some())
    })?;
    if !ended {
        machine.kill();
        bail!(qemu::report(&directory(workspace), "the measurement did not end in time"));
    }
    Ok(directory(workspace).join("result"))
}

/// Boots an init of the root file system, and returns what was seen of it.
pub(super) fn boot(
    workspace: &Workspace,
    root: &Path,
    program: &Path,
    init: Init,
) -> Result<String> {
    let run = format!(
        "#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
/bench/aurae-bench look '{}' > /dev/vdb
sync
busybox poweroff -f
",
        init.name()
    );
    let mut machine = start(workspace, root, program, init, &run)?;
    if machine.wait(TIME_TO_BOOT).is_none() {
        machine.kill();
        bail!(qemu::report(&directory(workspace), "the machine did not power off"));
    }
    let said =
        fs::read(directory(workspace).join("result")).context("the machine wrote nothing")?;
    let line = said.split(|byte| *byte == b'\n' || *byte == 0).next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).into_owned();
    if !line.starts_with('{') {
        bail!(qemu::report(&directory(workspace), &format!("{} did not come up", init.name())));
    }
    Ok(line)
}

/// Boots a node, and returns what was seen of it. With one CPU where instructions are counted: they are run one
/// after the other anyway.
pub(super) fn boot_ours(workspace: &Workspace, program: &Path, counting: bool) -> Result<String> {
    let directory = workspace.testbed().join("bench-boot");
    let mut options = Options::new("boot", directory.clone(), Lifetime::WithUs);
    let mut name = Init::Auraed.name();
    if counting {
        (options.cpus, options.accel) = (1, Some(Accel::Counting));
        name = COUNTED;
    }
    options.files.file("bin/aurae-bench", 0o755, read(program)?);
    let mut node = Node::start(workspace, options)?;
    node.wait_until_up()?;
    let console = fs::read_to_string(qemu::console_path(&directory))
        .context("failed to read the node's console")?;
    let (ready, cpu) =
        listening(&console).context("the node's console does not say when it listened")?;
    let said = tools::output(
        Command::new(workspace.binary())
            .args(["aer", "--config"])
            .arg(node.configuration())
            .args(["run", "--security-privileged", "boot", "--"])
            .args(["/bin/aurae-bench", "look", name])
            .args(["--ready", ready, "--cpu-ms", cpu]),
    );
    node.machine().kill();
    said.map_err(|error| anyhow::anyhow!(node.report(&format!("{error:#}"))))
}

/// The time of day in the line that says that the API listens, and the CPU time until then, in milliseconds.
fn listening(console: &str) -> Option<(&str, &str)> {
    let line = console.lines().find(|line| line.contains("auraed::daemon: listening"))?;
    let mut words = line.split_whitespace();
    let (_, time) = words.find_map(|word| word.split_once('T'))?;
    let cpu = words.find_map(|word| word.strip_prefix("cpu_ms="))?;
    Some((time.strip_suffix('Z')?, cpu))
}

fn start(
    workspace: &Workspace,
    root: &Path,
    program: &Path,
    init: Init,
    run: &str,
) -> Result<Machine> {
    debian::ensure(&[debian::QEMU])?;
    let kernel = Kernel::ensure(workspace)?;
    let directory = directory(workspace);
    fs::create_dir_all(&directory)
        .with_context(|| format!("failed to make {}", directory.display()))?;
    let (disk, result) = (directory.join("root"), directory.join("result"));
    // A copy: machines write to it.
    tools::output(Command::new("cp").args(["--sparse=always"]).arg(root).arg(&disk))?;
    let file = fs::File::create(&result).context("failed to make a disk")?;
    file.set_len(RESULT_BYTES).context("failed to make a disk")?;
    let initrd = directory.join("initrd");
    initramfs::with_own_part(
        &initramfs::base(workspace, &kernel)?,
        &own_part(workspace, &kernel, program, run)?,
        &initrd,
    )?;
    Spec {
        directory,
        accel: Accel::best(workspace, &kernel)?,
        cpus: 2,
        memory_mib: MEMORY_MIB,
        kernel: kernel.image,
        initrd,
        append: format!("rdinit=/bench/first {}", init.arguments()),
        disks: vec![disk, result],
        lifetime: Lifetime::WithUs,
    }
    .start()
}

fn own_part(workspace: &Workspace, kernel: &Kernel, program: &Path, run: &str) -> Result<Archive> {
    let mut own = Archive::default();
    own.directory("bench", 0o755);
    own.directory("bench/modules", 0o755);
    own.file("bench/first", 0o755, FIRST.into());
    own.file("bench/run", 0o755, run.into());
    own.file("bench/aurae", 0o755, read(&workspace.binary())?);
    own.file("bench/aurae-bench", 0o755, read(program)?);
    let modules = Modules::named(&kernel.modules, &MODULES)?;
    for (number, module) in modules.in_order().into_iter().enumerate() {
        own.file(&format!("bench/modules/{number:03}.ko"), 0o644, module.bytes.clone());
    }
    Ok(own)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("failed to read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_when_a_node_listened_is_in_its_console() {
        let console = "auraed: the machine is set up\n2026-11-25T21:42:36.931248Z  INFO auraed::daemon: listening address=\"[::]:8080\" version=\"0.1.0\" cpu_ms=61\n";
        assert_eq!(listening(console), Some(("21:42:36.931248", "61")));
        assert_eq!(listening("nothing"), None);
    }
}
