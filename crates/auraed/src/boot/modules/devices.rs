//! What the devices of the machine say they are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The devices that were seen. Every look reads only those that are new: each costs a few system calls,
/// and a machine has hundreds.
#[derive(Debug, Default)]
pub(super) struct Devices {
    seen: BTreeSet<PathBuf>,
}

impl Devices {
    /// The modaliases of the devices that have appeared since the last look.
    pub(super) fn look(&mut self) -> BTreeSet<String> {
        devices()
            .into_iter()
            .filter(|device| self.seen.insert(device.clone()))
            .filter_map(|device| read_modalias(&device))
            .collect()
    }
}

fn devices() -> Vec<PathBuf> {
    let mut devices = Vec::new();
    for bus in entries(Path::new("/sys/bus")) {
        devices.extend(entries(&bus.join("devices")));
    }
    // Input devices sit on no bus; the one that the power button is seen through is among them.
    devices.extend(entries(Path::new("/sys/class/input")));
    devices
}

fn read_modalias(device: &Path) -> Option<String> {
    let text = fs::read_to_string(device.join("modalias")).ok()?;
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}
