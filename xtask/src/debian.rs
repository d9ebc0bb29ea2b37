//! Debian's archive: programs are installed from it where we are root, and packages that need no
//! installing (a kernel, a static BusyBox) are downloaded and unpacked where we are not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools;

/// A program and the package that has it.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// The program's name.
    pub program: &'static str,
    /// The package to install.
    pub package: &'static str,
}

/// What booting a node needs of the host.
pub const QEMU: Need = Need { program: "qemu-system-x86_64", package: "qemu-system-x86" };
/// What compiling needs beside Rust.
pub const C_COMPILER: Need = Need { program: "cc", package: "build-essential" };

/// What makes a config disk.
pub const MKE2FS: Need = Need { program: "mke2fs", package: "e2fsprogs" };

/// Sees to it that programs are installed.
///
/// # Errors
/// When one is missing and cannot be installed; the text says what to type.
pub fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<&str> = needs
        .iter()
        .filter(|need| tools::find(need.program).is_none())
        .map(|need| need.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
}

/// Installs packages.
///
/// # Errors
/// When we are not root, apt is missing, or the installation fails; the text says what to type.
pub fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if tools::find("apt-get").is_none() {
        bail!("missing on this machine, which is no Debian: install what Debian calls {list}");
    }
    if !tools::is_root() {
        bail!("missing on this machine: run `sudo apt-get install --no-install-recommends {list}`");
    }
    tools::progress(&format!("installing {list}"));
    // Package lists may be missing (containers) or old; a failure here shows in the installation.
    let _ = tools::output(Command::new("apt-get").args(["update", "-q"]));
    tools::output(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "-q", "-y", "--no-install-recommends"])
            .args(packages),
    )
    .with_context(|| format!("failed to install {list}"))?;
    Ok(())
}

/// Downloads packages and unpacks them without installing anything.
#[derive(Debug)]
pub struct Archive {
    directory: PathBuf,
    options: Vec<String>,
}

impl Archive {
    /// An archive that keeps its own state below a directory, so that it works without root.
    ///
    /// # Errors
    /// When this is no Debian, or the directory cannot be made.
    pub fn open(directory: &Path) -> Result<Self> {
        for program in ["apt-get", "apt-cache", "dpkg-deb"] {
            if tools::find(program).is_none() {
                bail!(
                    "the nodes' kernel comes from Debian's archive, and {program} is missing here"
                );
            }
        }
        let mut archive = Self { directory: directory.to_owned(), options: Vec::new() };
        if !tools::is_root() {
            archive.options = archive.own_state()?;
        }
        Ok(archive)
    }

    /// Where apt keeps its lists when it cannot write to the system's.
    fn own_state(&self) -> Result<Vec<String>> {
        let mut options = Vec::new();
        for (option, name) in
            [("Dir::State::lists", "apt/lists"), ("Dir::Cache::archives", "apt/archives")]
        {
            let directory = self.directory.join(name);
            make_directory(&directory.join("partial"))?;
            options.extend(["-o".to_owned(), format!("{option}={}", directory.display())]);
        }
        Ok(options)
    }

    /// The package that a package without content of its own stands for: `linux-image-cloud-amd64`
    /// stands for the newest `linux-image-…-cloud-amd64`.
    ///
    /// # Errors
    /// When apt does not know it, even after an update.
    pub fn stands_for(&self, package: &str, prefix: &str) -> Result<String> {
        if let Some(found) = self.dependency(package, prefix) {
            return Ok(found);
        }
        self.update()?;
        self.dependency(package, prefix)
            .with_context(|| format!("apt knows no package that {package} stands for"))
    }

    /// Downloads a package and unpacks it into a directory.
    ///
    /// # Errors
    /// When it cannot be downloaded, even after an update, or unpacked.
    pub fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        let downloads = self.directory.join("downloads");
        if downloads.exists() {
            fs::remove_dir_all(&downloads).context("failed to remove old downloads")?;
        }
        make_directory(&downloads)?;
        if self.download(package, &downloads).is_err() {
            self.update()?;
            self.download(package, &downloads)?;
        }
        let file = fs::read_dir(&downloads)
            .context("failed to list the downloads")?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .with_context(|| format!("apt downloaded no package for {package}"))?;
        make_directory(into)?;
        tools::output(Command::new("dpkg-deb").arg("-x").arg(&file).arg(into))?;
        fs::remove_dir_all(&downloads).context("failed to remove the downloads")
    }

    fn download(&self, package: &str, into: &Path) -> Result<()> {
        tools::output(
            Command::new("apt-get")
                .args(&self.options)
                .args(["-q", "-o", "APT::Sandbox::User=root", "download", package])
                .current_dir(into),
        )?;
        Ok(())
    }

    fn update(&self) -> Result<()> {
        tools::progress("updating apt's package lists");
        tools::output(Command::new("apt-get").args(&self.options).args(["update", "-q"]))?;
        Ok(())
    }

    fn dependency(&self, package: &str, prefix: &str) -> Option<String> {
        let text = tools::output(Command::new("apt-cache").args(&self.options).args([
            "depends",
            "--important",
            package,
        ]))
        .ok()?;
        parse_dependency(&text, prefix)
    }
}

/// The first dependency that starts with a prefix, in what `apt-cache depends` prints.
fn parse_dependency(text: &str, prefix: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .map(str::trim)
        .find(|name| name.starts_with(prefix))
        .map(str::to_owned)
}

fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("failed to make {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_package_is_read_from_the_dependencies() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-base\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(
            parse_dependency(text, "linux-image-").as_deref(),
            Some("linux-image-6.1.0-56-cloud-amd64")
        );
        assert_eq!(parse_dependency("N: Unable to locate package\n", "linux-image-"), None);
    }
}
