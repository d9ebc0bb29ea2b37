//! The index that `depmod(8)` writes beside the modules: `modules.dep` and `modules.alias`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::pattern;

/// A module's file and the files it needs, as `modules.dep` has them: relative to the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    path: PathBuf,
    needs: Vec<String>,
}

/// Which modules there are, what they need, and which devices they serve.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// By name, with `_` for `-`.
    modules: BTreeMap<String, Entry>,
    /// By the text before the first `:` of the pattern (`pci`, `virtio`), or all of it up to the first
    /// wildcard where that comes earlier: only those with the device's own prefix have to be tried.
    aliases: BTreeMap<String, Vec<Alias>>,
    /// The names of modules that are part of the kernel.
    builtin: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Alias {
    pattern: String,
    module: String,
}

/// One module to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The module's name.
    pub(super) name: String,
    /// Its file, relative to the index.
    pub(super) path: PathBuf,
}

impl Index {
    /// Reads the index in a directory. A file that is missing where there are modules is an error.
    pub(super) fn read(directory: &Path) -> Result<Self, String> {
        let mut index = Self::default();
        index.parse_dependencies(&read(directory, "modules.dep")?);
        index.parse_aliases(&read(directory, "modules.alias")?);
        // Only to tell a module that is built in from one that is missing, so it may be missing itself.
        index.parse_builtin(&read(directory, "modules.builtin").unwrap_or_default());
        Ok(index)
    }

    /// Whether there is such a module, or the kernel has it built in.
    pub(super) fn has(&self, name: &str) -> bool {
        let name = normal(name);
        self.modules.contains_key(&name) || self.builtin.contains(&name)
    }

    /// Whether the index knows which modules serve which devices.
    pub(super) fn has_aliases(&self) -> bool {
        !self.aliases.is_empty()
    }

    /// The modules that serve a device, or any other alias (`fs-vfat`).
    pub(super) fn modules_for(&self, modalias: &str) -> Vec<String> {
        let candidates = [head(modalias), ""].into_iter().filter_map(|head| self.aliases.get(head));
        candidates
            .flatten()
            .filter(|alias| pattern::matches(&alias.pattern, modalias))
            .map(|alias| alias.module.clone())
            .collect()
    }

    /// The module and all that it needs, each after what it needs itself. Empty if there is no such
    /// module. A circle, which depmod does not write, is cut where it closes.
    pub(super) fn loading_order(&self, name: &str) -> Vec<Step> {
        let mut order = Vec::new();
        let mut visited = BTreeSet::new();
        // A stack of our own: the index is a file, and must not decide how deep we call ourselves.
        let mut stack = vec![(normal(name), false)];
        while let Some((name, done)) = stack.pop() {
            let Some(entry) = self.modules.get(&name) else { continue };
            if done {
                order.push(Step { name, path: entry.path.clone() });
            } else if visited.insert(name.clone()) {
                stack.push((name, true));
                stack.extend(entry.needs.iter().map(|need| (need.clone(), false)));
            }
        }
        order
    }

    /// `kernel/a/b.ko: kernel/c.ko kernel/d.ko`
    fn parse_dependencies(&mut self, text: &str) {
        for (path, needs) in text.lines().filter_map(|line| line.split_once(':')) {
            let needs = needs.split_ascii_whitespace().map(name_of).collect();
            let entry = Entry { path: PathBuf::from(path.trim()), needs };
            self.modules.insert(name_of(path.trim()), entry);
        }
    }

    /// `alias PATTERN MODULE`
    fn parse_aliases(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some("alias"), Some(pattern), Some(module)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let alias = Alias { pattern: pattern.to_owned(), module: normal(module) };
            self.aliases.entry(head(pattern).to_owned()).or_default().push(alias);
        }
    }

    fn parse_builtin(&mut self, text: &str) {
        self.builtin.extend(text.lines().map(name_of));
    }
}

fn read(directory: &Path, file: &str) -> Result<String, String> {
    let path = directory.join(file);
    match fs::read(&path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(format!(
            "{} is missing, so no module can be loaded; run depmod on the image",
            path.display()
        )),
        Err(error) => Err(format!("failed to read {}: {error}", path.display())),
    }
}

/// A pattern's or a device's kind: what comes before the first `:`. Empty where a wildcard comes first,
/// as such a pattern may serve any kind.
fn head(text: &str) -> &str {
    match text.find([':', '*', '?', '[']) {
        Some(end) if text.as_bytes().get(end) == Some(&b':') => &text[..end],
        Some(_) => "",
        None => text,
    }
}

/// The name of the module in a file: `kernel/drivers/virtio/virtio-pci.ko.xz` is `virtio_pci`.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normal(file.split('.').next().unwrap_or(file))
}

/// The kernel takes `-` and `_` in a module's name as the same.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEPENDENCIES: &str = "\
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_pci_modern_dev.ko kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_pci_modern_dev.ko:
kernel/drivers/net/virtio_net.ko.xz: kernel/net/core/failover.ko kernel/drivers/net/net_failover.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko
kernel/net/core/failover.ko:
kernel/arch/x86/kvm/kvm-amd.ko: kernel/arch/x86/kvm/kvm.ko
kernel/arch/x86/kvm/kvm.ko:
";
    const ALIASES: &str = "\
# Aliases extracted from modules themselves.
alias virtio:d00000001v* virtio_net
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias acpi*:LNXPWRBN:* button
alias fs-vfat vfat
";

    fn index() -> Index {
        let mut index = Index::default();
        index.parse_dependencies(DEPENDENCIES);
        index.parse_aliases(ALIASES);
        index.parse_builtin("kernel/fs/ext4/ext4.ko\n");
        index
    }

    fn order(name: &str) -> Vec<String> {
        index().loading_order(name).into_iter().map(|step| step.name).collect()
    }

    #[test]
    fn what_a_module_needs_comes_before_it() {
        let order = order("virtio_net");
        let place = |name: &str| order.iter().position(|step| step == name).unwrap();
        assert!(place("virtio_ring") < place("virtio"));
        assert!(place("failover") < place("net_failover"));
        assert!(place("net_failover") < place("virtio_net"));
        assert!(place("virtio") < place("virtio_net"));
        assert_eq!(order.len(), 5);
    }

    #[test]
    fn hyphens_and_underscores_are_the_same() {
        assert_eq!(order("kvm-amd"), ["kvm", "kvm_amd"]);
        assert_eq!(order("kvm_amd"), ["kvm", "kvm_amd"]);
        assert_eq!(
            index().loading_order("kvm-amd")[1].path,
            Path::new("kernel/arch/x86/kvm/kvm-amd.ko")
        );
    }

    #[test]
    fn a_module_that_is_built_in_is_known_and_never_loaded() {
        assert!(index().has("ext4"));
        assert_eq!(order("ext4"), Vec::<String>::new());
        assert!(!index().has("nope"));
    }

    #[test]
    fn a_device_finds_its_module() {
        let index = index();
        assert_eq!(index.modules_for("virtio:d00000001v00001AF4"), ["virtio_net"]);
        assert_eq!(index.modules_for("acpi:LNXPWRBN:"), ["button"]);
        assert_eq!(index.modules_for("fs-vfat"), ["vfat"]);
        assert!(index.modules_for("virtio:d00000063v00001AF4").is_empty());
    }

    #[test]
    fn a_missing_index_is_named_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let error = Index::read(directory.path()).unwrap_err();
        assert!(error.contains("modules.dep is missing"), "{error}");
        assert!(error.contains("depmod"), "{error}");
    }

    proptest! {
        /// Any graph, circles included: every module comes once, and after what it needs unless the
        /// two need each other.
        #[test]
        fn any_graph_has_an_order(
            edges in proptest::collection::vec(proptest::collection::vec(0_usize..12, 0..4), 1..12)
        ) {
            let mut text = String::new();
            for (module, needs) in edges.iter().enumerate() {
                let needs: Vec<String> = needs.iter().map(|need| format!("m{need}.ko")).collect();
                text.push_str(&format!("m{module}.ko: {}\n", needs.join(" ")));
            }
            let mut index = Index::default();
            index.parse_dependencies(&text);
            let acyclic = edges.iter().enumerate().all(|(module, needs)| needs.iter().all(|need| *need < module));
            for module in 0..edges.len() {
                let order: Vec<String> =
                    index.loading_order(&format!("m{module}")).into_iter().map(|step| step.name).collect();
                let unique: BTreeSet<&String> = order.iter().collect();
                prop_assert_eq!(unique.len(), order.len());
                prop_assert_eq!(order.last(), Some(&format!("m{module}")));
                if acyclic {
                    for (place, name) in order.iter().enumerate() {
                        for need in &index.modules[name].needs {
                            prop_assert!(order[..place].contains(need));
                        }
                    }
                }
            }
        }

        #[test]
        fn no_index_breaks_the_parser(dependencies in "\\PC*", aliases in "\\PC*") {
            let mut index = Index::default();
            index.parse_dependencies(&dependencies);
            index.parse_aliases(&aliases);
            let _ = index.modules_for(&aliases);
        }
    }
}
