//! Kernel modules: those that the command line names, and those that the devices found need.
//!
//! A device says what it is in its `modalias`; `modules.alias` says which module serves it;
//! `modules.dep` says what has to be loaded before that. Loading a driver makes new devices appear (a
//! virtio transport, its network card), so the search goes on until it finds nothing new.

mod devices;
mod index;
mod pattern;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use aurae_kernel::module;

use self::devices::Devices;
use self::index::Index;
use super::report;
use crate::status::Status;

const PHASE: &str = "modules";

/// How often the devices are looked at again. A chain of buses is rarely three deep; more rounds mean
/// devices that keep appearing, and those are not worth holding up the boot for.
const MAX_ROUNDS: usize = 8;

/// The modules of the kernel that runs: what there is, and what is loaded.
#[derive(Debug, Default)]
pub(super) struct Modules {
    directory: PathBuf,
    index: Index,
    parameters: Vec<(String, String)>,
    /// What was loaded, or refused, and so is not tried again.
    tried: BTreeSet<String>,
}

impl Modules {
    /// Reads the index of the running kernel's modules. A kernel that has none needs none.
    pub(super) fn open(parameters: Vec<(String, String)>, status: &Status) -> Self {
        let release = rustix::system::uname();
        let directory =
            Path::new("/lib/modules").join(OsStr::from_bytes(release.release().to_bytes()));
        let index = if directory.is_dir() {
            Index::read(&directory).unwrap_or_else(|error| {
                report::degrade(status, PHASE, &error);
                Index::default()
            })
        } else {
            Index::default()
        };
        Self { directory, index, parameters, tried: BTreeSet::new() }
    }

    /// Loads the modules that were named, then those that the devices need.
    pub(super) fn run(&mut self, named: &[String], status: &Status) {
        for name in named {
            if !self.index.has(name) {
                let message = format!(
                    "there is no module {name} in {}; see aurae.modules on the kernel command line",
                    self.directory.display()
                );
                report::degrade(status, PHASE, &message);
            }
            self.load(name, status);
        }
        self.load_for_devices(status);
    }

    /// Loads a module after all that it depends on. One that the kernel has built in, or that is not
    /// there, is passed over.
    pub(super) fn load(&mut self, name: &str, status: &Status) {
        for step in self.index.loading_order(name) {
            if !self.tried.insert(step.name.clone()) {
                continue;
            }
            let parameters = self.parameters_of(&step.name);
            if let Err(error) = module::load(&self.directory.join(&step.path), &parameters) {
                report::degrade_with(status, PHASE, &error);
            }
        }
    }

    fn load_for_devices(&mut self, status: &Status) {
        if !self.index.has_aliases() {
            return;
        }
        let mut devices = Devices::default();
        for _ in 0..MAX_ROUNDS {
            let new = devices.look();
            let wanted: BTreeSet<String> =
                new.iter().flat_map(|alias| self.index.modules_for(alias)).collect();
            let before = self.tried.len();
            for name in wanted {
                self.load(&name, status);
            }
            if self.tried.len() == before {
                return;
            }
        }
        let message =
            format!("devices kept appearing after {MAX_ROUNDS} rounds of loading modules");
        report::degrade(status, PHASE, &message);
    }

    fn parameters_of(&self, name: &str) -> String {
        let parameters: Vec<&str> = self
            .parameters
            .iter()
            .filter(|(module, _)| module == name)
            .map(|(_, parameter)| parameter.as_str())
            .collect();
        parameters.join(" ")
    }
}
