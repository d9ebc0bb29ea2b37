//! What a node boots: an initramfs with our binary as `/init`.
//!
//! It has two parts, which the kernel unpacks one after the other: a base that all nodes share
//! (binary, modules, BusyBox), packed once, and what is a node's own (certificates, and whatever a
//! test wants to be different), where a later file replaces an earlier one.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::testbed::cpio::Archive;
use crate::testbed::kernel::{self, Kernel};
use crate::testbed::modules::Modules;
use crate::tools;
use crate::workspace::{Workspace, write_whole};

/// Changed when the layout changes, so that an older base is not used.
const LAYOUT: &str = "1";

/// The directories of a node that have to be there.
const DIRECTORIES: [(&str, u32); 10] = [
    ("dev", 0o755),
    ("etc/aurae/pki", 0o700),
    ("home", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var/lib/aurae", 0o755),
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

/// Packs the base when one of its parts changed, and returns where it is.
///
/// # Errors
/// When a part is missing: the binary (build it first), the kernel or BusyBox.
pub fn base(workspace: &Workspace, kernel: &Kernel) -> Result<PathBuf> {
    let binary = workspace.binary();
    let busybox = kernel::busybox(workspace)?;
    let wanted = key(&binary, &busybox, kernel)?;
    let path = workspace.testbed().join("base.cpio");
    let key_path = workspace.testbed().join("base.key");
    let _lock = workspace.lock()?;
    if path.exists() && fs::read_to_string(&key_path).is_ok_and(|found| found == wanted) {
        return Ok(path);
    }
    tools::progress("packing the initramfs");
    write_whole(&path, &pack(&binary, &busybox, kernel)?)?;
    write_whole(&key_path, wanted.as_bytes())?;
    Ok(path)
}

/// Writes base and own part, in this order, as one file.
///
/// # Errors
/// When the base cannot be read or the file not be written.
pub fn with_own_part(base: &Path, own: &Archive, into: &Path) -> Result<()> {
    let mut bytes = fs::read(base).with_context(|| format!("failed to read {}", base.display()))?;
    bytes.extend(own.pack());
    write_whole(into, &bytes)
}

fn pack(binary: &Path, busybox: &Path, kernel: &Kernel) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for (path, permissions) in DIRECTORIES {
        archive.directory(path, permissions);
    }
    archive.character_device("dev/console", 0o600, (5, 1));
    archive.file("etc/passwd", 0o644, PASSWD.into());
    archive.file("etc/group", 0o644, GROUP.into());

    archive.file("bin/aurae", 0o755, read(binary)?);
    archive.link("init", "bin/aurae");
    for applet in applets(busybox)? {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    archive.file("bin/busybox", 0o755, read(busybox)?);
    for name in ["auraed", "aer", "auraescript"] {
        archive.link(&format!("bin/{name}"), "aurae");
    }

    let modules = Modules::collect(&kernel.modules)?;
    let directory = format!("lib/modules/{}", kernel.release);
    for module in modules.iter() {
        archive.file(&format!("{directory}/{}", module.path), 0o644, module.bytes.clone());
    }
    archive.file(&format!("{directory}/modules.dep"), 0o644, modules.dep().into_bytes());
    archive.file(&format!("{directory}/modules.alias"), 0o644, modules.alias().into_bytes());
    let built_in = kernel.modules.join("modules.builtin");
    archive.file(&format!("{directory}/modules.builtin"), 0o644, read(&built_in)?);
    Ok(archive.pack())
}

/// The tools that BusyBox is.
fn applets(busybox: &Path) -> Result<Vec<String>> {
    let list = tools::output(Command::new(busybox).arg("--list"))?;
    Ok(list.lines().filter(|name| *name != "busybox").map(str::to_owned).collect())
}

/// Tells one state of the parts from another.
fn key(binary: &Path, busybox: &Path, kernel: &Kernel) -> Result<String> {
    let about = |path: &Path| -> Result<String> {
        let metadata: Metadata = fs::metadata(path)
            .with_context(|| format!("{} is missing: run `make build`", path.display()))?;
        Ok(format!(
            "{} {} {}.{}",
            path.display(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec()
        ))
    };
    Ok([LAYOUT.to_owned(), about(binary)?, about(busybox)?, about(&kernel.image)?].join("\n"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("failed to read {}", path.display()))
}
