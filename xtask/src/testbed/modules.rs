//! Kernel modules: which ones a node carries, and the index files that `depmod` would write, so that
//! neither it nor root is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::tools;

/// What a node may have to load, and why. Their dependencies come with them.
const WANTED: [(&str, &str); 12] = [
    ("virtio_pci", "the bus of every virtio device"),
    ("virtio_net", "the network"),
    ("virtio_blk", "disks"),
    ("virtio_rng", "entropy"),
    ("overlay", "root file systems in layers"),
    ("isofs", "a configuration disk"),
    ("vfat", "a configuration disk"),
    ("nls_ascii", "what vfat asks for when it is mounted"),
    ("button", "the power button"),
    ("evdev", "the power button"),
    ("kvm_amd", "virtual machines inside the node"),
    ("kvm_intel", "virtual machines inside the node"),
];

/// A module file.
#[derive(Clone, Debug)]
pub struct Module {
    /// Where it is below `/lib/modules/RELEASE`.
    pub path: String,
    /// Its bytes, never compressed.
    pub bytes: Vec<u8>,
    /// The names of the modules it needs itself.
    needs: Vec<String>,
    /// The devices it is for.
    aliases: Vec<String>,
}

/// The modules of a node by their names, dependencies included.
#[derive(Clone, Debug, Default)]
pub struct Modules {
    by_name: BTreeMap<String, Module>,
}

impl Modules {
    /// Collects what a node carries from `lib/modules/RELEASE` of a kernel package. A module that
    /// this kernel has built in, or not at all, is left out: the node says so if it misses it.
    ///
    /// # Errors
    /// When the directory cannot be read, or a module has a dependency that is not there.
    pub fn collect(directory: &Path) -> Result<Self> {
        Self::named(directory, &WANTED.map(|(name, _)| name))
    }

    /// Collects modules by their names, as [`Self::collect`] does.
    ///
    /// # Errors
    /// As there.
    pub fn named(directory: &Path, names: &[&str]) -> Result<Self> {
        let files = find_modules(directory)?;
        let mut modules = Self::default();
        for name in names {
            if files.contains_key(*name) {
                modules.add(name, directory, &files)?;
            }
        }
        Ok(modules)
    }

    /// The modules, each behind those that it needs.
    pub fn in_order(&self) -> Vec<&Module> {
        let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
        for name in self.by_name.keys() {
            self.visit(name, &mut seen, &mut order);
        }
        let at = |path: &String| self.by_name.values().find(|module| module.path == *path);
        order.iter().filter_map(at).collect()
    }

    /// The modules, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Module> {
        self.by_name.values()
    }

    /// `modules.dep`: what each needs, what needs most first, so that loading goes from right to left.
    pub fn dep(&self) -> String {
        let mut text = String::new();
        for (name, module) in &self.by_name {
            let mut order = Vec::new();
            self.visit(name, &mut BTreeSet::new(), &mut order);
            // The last one in the order is the module itself.
            let needs: Vec<&str> = order.iter().rev().skip(1).map(String::as_str).collect();
            text.push_str(&format!("{}: {}\n", module.path, needs.join(" ")));
        }
        text.replace(": \n", ":\n")
    }

    /// `modules.alias`: which module is for which device.
    pub fn alias(&self) -> String {
        let mut text = String::new();
        for (name, module) in &self.by_name {
            for alias in &module.aliases {
                text.push_str(&format!("alias {alias} {name}\n"));
            }
        }
        text
    }

    fn add(
        &mut self,
        name: &str,
        directory: &Path,
        files: &BTreeMap<String, PathBuf>,
    ) -> Result<()> {
        if self.by_name.contains_key(name) {
            return Ok(());
        }
        let file = files.get(name).with_context(|| format!("there is no kernel module {name}"))?;
        let module = read(directory, file)?;
        let needs = module.needs.clone();
        self.by_name.insert(name.to_owned(), module);
        needs.iter().try_for_each(|need| self.add(need, directory, files))
    }

    /// Puts the paths of a module's needs, then its own, behind the order.
    fn visit(&self, name: &str, seen: &mut BTreeSet<String>, order: &mut Vec<String>) {
        let Some(module) = self.by_name.get(name) else { return };
        if seen.insert(name.to_owned()) {
            for need in &module.needs {
                self.visit(need, seen, order);
            }
            order.push(module.path.clone());
        }
    }
}

/// All module files by the names that the kernel calls them.
fn find_modules(directory: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("failed to list {}", directory.display()))?;
        for entry in entries {
            let path =
                entry.with_context(|| format!("failed to list {}", directory.display()))?.path();
            if path.is_dir() {
                left.push(path);
            } else if let Some(name) = module_name(&path) {
                found.insert(name, path);
            }
        }
    }
    Ok(found)
}

/// `virtio_rng` for `…/virtio-rng.ko.xz`.
fn module_name(path: &Path) -> Option<String> {
    let (name, rest) = path.file_name()?.to_str()?.split_once('.')?;
    matches!(rest, "ko" | "ko.xz").then(|| name.replace('-', "_"))
}

fn read(directory: &Path, file: &Path) -> Result<Module> {
    let relative = file.strip_prefix(directory).unwrap_or(file).to_string_lossy().into_owned();
    let bytes = if relative.ends_with(".xz") {
        let output = Command::new("xz").arg("-dc").arg(file).output();
        output.with_context(|| format!("failed to run xz on {}", file.display()))?.stdout
    } else {
        fs::read(file).with_context(|| format!("failed to read {}", file.display()))?
    };
    Ok(Module {
        path: relative.trim_end_matches(".xz").to_owned(),
        needs: module_info(&bytes, "depends")
            .iter()
            .flat_map(|value| value.split(','))
            .filter(|name| !name.is_empty())
            .map(|name| name.replace('-', "_"))
            .collect(),
        aliases: module_info(&bytes, "alias"),
        bytes,
    })
}

/// The values of a key in a module's `.modinfo` section, whose entries are `key=value` with a NUL at
/// either end. The section is not looked up: nothing else in a module looks like that.
fn module_info(bytes: &[u8], key: &str) -> Vec<String> {
    let prefix = format!("{key}=");
    bytes
        .split(|byte| *byte == 0)
        .filter_map(|entry| std::str::from_utf8(entry.strip_prefix(prefix.as_bytes())?).ok())
        .map(str::to_owned)
        .collect()
}

/// Whether modules are compressed and the program that unpacks them is missing.
pub fn needs_xz(directory: &Path) -> bool {
    tools::find("xz").is_none()
        && find_modules(directory).is_ok_and(|files| {
            files.values().any(|path| path.extension().is_some_and(|e| e == "xz"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str, needs: &[&str]) -> Module {
        Module {
            path: path.to_owned(),
            bytes: Vec::new(),
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
            aliases: vec![format!("virtio:{path}")],
        }
    }

    #[test]
    fn dependencies_stand_so_that_loading_goes_from_right_to_left() {
        let mut modules = Modules::default();
        for (name, needs) in [
            ("ring", &[][..]),
            ("virtio", &["ring"]),
            ("net", &["failover", "virtio", "ring"]),
            ("failover", &[]),
        ] {
            modules.by_name.insert(name.to_owned(), module(&format!("{name}.ko"), needs));
        }
        let text = modules.dep();
        assert!(text.contains("net.ko: virtio.ko ring.ko failover.ko\n"), "{text}");
        assert!(text.contains("ring.ko:\n"), "{text}");
        assert!(modules.alias().contains("alias virtio:net.ko net\n"));
    }

    #[test]
    fn names_are_spelled_as_the_kernel_does() {
        assert_eq!(module_name(Path::new("/a/virtio-rng.ko.xz")).as_deref(), Some("virtio_rng"));
        assert_eq!(module_name(Path::new("/a/kvm.ko")).as_deref(), Some("kvm"));
        assert_eq!(module_name(Path::new("/a/modules.dep")), None);
    }

    #[test]
    fn module_information_is_read_from_the_bytes() {
        let bytes =
            b"\x7fELF\0license=GPL\0depends=virtio,virtio_ring\0alias=virtio:d1v*\0depends_not=x\0";
        assert_eq!(module_info(bytes, "depends"), ["virtio,virtio_ring"]);
        assert_eq!(module_info(bytes, "alias"), ["virtio:d1v*"]);
    }
}
