//! The root file system of the machine that is measured in: Debian with systemd and container runtimes, made
//! once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::debian::{self, Need};
use crate::testbed::kernel::Kernel;
use crate::tools;
use crate::workspace::{Workspace, write_whole};

/// Changed when what is below changes, so that an older image is not used.
const LAYOUT: &str = "1";
/// What is installed beside the smallest Debian.
const PACKAGES: &str =
    "systemd-sysv,dbus,crun,runc,conmon,containerd,hyperfine,busybox-static,iproute2,kmod,procps";
/// The image's size: most of it are holes.
const SIZE: &str = "3G";

const NEEDS: [Need; 2] = [
    Need { program: "debootstrap", package: "debootstrap" },
    Need { program: "mke2fs", package: "e2fsprogs" },
];

/// What runs when systemd has reached multi-user.target: see `machine`.
const UNIT: &str = "[Unit]
Description=What is measured
Requires=multi-user.target
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bench/run
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
";
const TARGET: &str = "[Unit]
Description=The bench
Requires=multi-user.target bench.service
After=multi-user.target
AllowIsolate=yes
";
const INITTAB: &str = "::sysinit:/bin/busybox mount -t proc proc /proc
::sysinit:/bin/busybox mount -t sysfs sys /sys
::sysinit:/bin/busybox mount -t tmpfs tmpfs /run
::sysinit:/bin/busybox hostname bench
::sysinit:/bin/busybox ip link set lo up
::once:/bench/run
";

/// The image, made where there is none.
///
/// # Errors
/// When we are not root, or a package cannot be had.
pub(super) fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let kernel = Kernel::ensure(workspace)?;
    let (image, key) =
        (workspace.testbed().join("bench.ext4"), workspace.testbed().join("bench.key"));
    let wanted = [LAYOUT, PACKAGES, SIZE, &kernel.release, UNIT, TARGET, INITTAB].join("\n");
    if image.exists() && fs::read_to_string(&key).is_ok_and(|found| found == wanted) {
        return Ok(image);
    }
    if !tools::is_root() {
        bail!("making a root file system needs root: run `sudo make bench`");
    }
    debian::ensure(&NEEDS)?;
    let directory = workspace.testbed().join("bench-root");
    if directory.exists() {
        fs::remove_dir_all(&directory).context("failed to remove an older root file system")?;
    }
    let (suite, mirror) = archive()?;
    tools::progress(&format!("making a root file system of Debian {suite}; it takes some minutes"));
    tools::output(
        Command::new("debootstrap")
            .args(["--variant=minbase", &format!("--include={PACKAGES}"), &suite])
            .arg(&directory)
            .arg(mirror),
    )?;
    fill(&directory, &kernel)?;
    let beside = image.with_extension("new");
    tools::output(
        Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-d"])
            .arg(&directory)
            .arg(&beside)
            .arg(SIZE),
    )?;
    fs::rename(&beside, &image).context("failed to keep the root file system")?;
    fs::remove_dir_all(&directory).context("failed to remove what the image was made of")?;
    write_whole(&key, wanted.as_bytes())?;
    Ok(image)
}

/// The name of this machine's Debian, and where it gets packages from.
fn archive() -> Result<(String, String)> {
    let told = tools::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(SITE) $(CODENAME) $(COMPONENT)",
        "Created-By: Packages",
    ]))?;
    parse(&told).context("apt knows no archive with a component `main`")
}

/// The first archive that is no part of another one (`bookworm-updates`).
fn parse(told: &str) -> Option<(String, String)> {
    told.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (site, codename, component) = (words.next()?, words.next()?, words.next()?);
        (component == "main" && !codename.contains('-'))
            .then(|| (codename.to_owned(), site.to_owned()))
    })
}

fn fill(directory: &Path, kernel: &Kernel) -> Result<()> {
    let write = |path: &str, text: &str| {
        let path = directory.join(path);
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
    };
    write("etc/systemd/system/bench.service", UNIT)?;
    write("etc/systemd/system/bench.target", TARGET)?;
    write("etc/inittab", INITTAB)?;
    write("etc/hostname", "bench\n")?;
    let modules = directory.join("lib/modules");
    fs::create_dir_all(&modules).context("failed to make a directory for modules")?;
    tools::output(Command::new("cp").arg("-a").arg(&kernel.modules).arg(&modules))?;
    tools::output(Command::new("chroot").arg(directory).args(["depmod", &kernel.release]))?;
    // The bench goes there, and BusyBox by the name of an init.
    fs::create_dir_all(directory.join("bench")).context("failed to make a directory")?;
    std::os::unix::fs::symlink("/bin/busybox", directory.join("bench/init"))
        .context("failed to link to BusyBox")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_the_one_that_all_others_add_to() {
        let told =
            "http://a bookworm-updates main\nhttp://b bookworm contrib\nhttp://c bookworm main\n";
        assert_eq!(parse(told), Some(("bookworm".to_owned(), "http://c".to_owned())));
        assert_eq!(parse(""), None);
    }
}
