//! The nodes' kernel and their BusyBox: packages of Debian's archive, unpacked and not installed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::debian::{self, Archive};
use crate::testbed::modules;
use crate::tools;
use crate::workspace::{Workspace, write_whole};

/// The package that stands for Debian's newest kernel for virtual machines.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";
/// The package with the shell and the tools of the nodes.
const BUSYBOX_PACKAGE: &str = "busybox-static";

/// A kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What `uname -r` says.
    pub release: String,
    /// The image to boot.
    pub image: PathBuf,
    /// Its `lib/modules/RELEASE`.
    pub modules: PathBuf,
}

impl Kernel {
    /// The kernel, downloaded when it is not there yet.
    ///
    /// # Errors
    /// When it cannot be downloaded or unpacked.
    pub fn ensure(workspace: &Workspace) -> Result<Self> {
        let directory = workspace.testbed().join("kernel");
        unpacked(workspace, &directory, || {
            let archive = Archive::open(&workspace.testbed())?;
            let package = archive.stands_for(KERNEL_PACKAGE, "linux-image-")?;
            tools::progress(&format!("downloading {package}"));
            archive.unpack(&package, &directory)
        })?;
        let kernel = Self::in_directory(&directory)?;
        if modules::needs_xz(&kernel.modules) {
            debian::install(&["xz-utils"])?;
        }
        Ok(kernel)
    }

    fn in_directory(directory: &Path) -> Result<Self> {
        let boot = directory.join("boot");
        for entry in
            fs::read_dir(&boot).with_context(|| format!("failed to list {}", boot.display()))?
        {
            let image = entry.with_context(|| format!("failed to list {}", boot.display()))?.path();
            let name = image.file_name().map(|name| name.to_string_lossy().into_owned());
            if let Some(release) = name.as_deref().and_then(|name| name.strip_prefix("vmlinuz-")) {
                let modules = ["lib/modules", "usr/lib/modules"]
                    .map(|parent| directory.join(parent).join(release))
                    .into_iter()
                    .find(|path| path.is_dir())
                    .with_context(|| format!("kernel {release} came without modules"))?;
                return Ok(Self { release: release.to_owned(), image, modules });
            }
        }
        bail!("there is no kernel in {}: remove the directory and try again", boot.display())
    }
}

/// A static BusyBox, downloaded when it is not there yet.
///
/// # Errors
/// When it cannot be downloaded or unpacked.
pub fn busybox(workspace: &Workspace) -> Result<PathBuf> {
    let directory = workspace.testbed().join("busybox");
    unpacked(workspace, &directory, || {
        tools::progress(&format!("downloading {BUSYBOX_PACKAGE}"));
        Archive::open(&workspace.testbed())?.unpack(BUSYBOX_PACKAGE, &directory)
    })?;
    ["bin/busybox", "usr/bin/busybox"]
        .map(|path| directory.join(path))
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("there is no busybox in {}", directory.display()))
}

/// Fills a directory once; a marker that is written last tells that it is whole.
fn unpacked(
    workspace: &Workspace,
    directory: &Path,
    fill: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let marker = directory.join(".complete");
    if marker.exists() {
        return Ok(());
    }
    let _lock = workspace.lock()?;
    if marker.exists() {
        return Ok(());
    }
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("failed to remove {}", directory.display()))?;
    }
    fill()?;
    write_whole(&marker, b"")
}
