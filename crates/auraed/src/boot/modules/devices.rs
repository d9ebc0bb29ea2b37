//! What the devices of the machine say they are.

use std::fs;
use std::path::{Path, PathBuf};

/// The modaliases of all devices, in no order.
pub(super) fn modaliases() -> Vec<String> {
    let mut files = Vec::new();
    for bus in entries(Path::new("/sys/bus")) {
        files.extend(entries(&bus.join("devices")));
    }
    // Input devices sit on no bus; the one that the power button is seen through is among them.
    files.extend(entries(Path::new("/sys/class/input")));
    files.iter().filter_map(|device| read_modalias(device)).collect()
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
