//! The node's certificates: from the initramfs, or from a config disk.
//!
//! A config disk is a block device with the file-system label `AURAE` (vfat, ext2/3/4, iso9660), or
//! the one that `aurae.config` names (squashfs too, which has no label). Its directory `pki` holds the
//! files; they are copied to memory, and the disk is unmounted again.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aurae_kernel::mount::{self, Mount, MountFlags};

use super::label;
use super::modules::Modules;
use super::report;
use crate::status::Status;

const PHASE: &str = "certificates";

/// Where the daemon looks for its certificates by default.
const PKI: &str = "/etc/aurae/pki";

/// Where a config disk is mounted for as long as it is read.
const MOUNT_POINT: &str = "/run/aurae-config";

/// The files, and who may read them: a private key is its owner's alone.
const FILES: &[(&str, u32)] =
    &[("ca.crt", 0o644), ("_signed.server.crt", 0o644), ("server.key", 0o600)];

/// A certificate chain has a few KiB; more than this is not one.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// How long a device that was named is waited for: its driver may still be looking for it.
const DEVICE_DEADLINE: Duration = Duration::from_secs(5);
/// How often it is looked for meanwhile.
const DEVICE_INTERVAL: Duration = Duration::from_millis(20);

/// The modules that a file system needs, where they are not built in. The kernel cannot ask for
/// character sets itself while there is no `modprobe`.
const MODULES: &[(&str, &[&str])] = &[
    ("ext4", &["ext4"]),
    ("vfat", &["vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"]),
    ("iso9660", &["isofs"]),
    ("squashfs", &["squashfs"]),
];

/// Puts the certificates in place.
pub(super) fn run(named: Option<&Path>, modules: &mut Modules, status: &Status) {
    let found = missing(Path::new(PKI)).is_empty();
    // The disk that was named wins over what every node's image holds.
    let disk = match named {
        Some(device) => Some(device.to_owned()),
        None if found => None,
        None => label::find_config_disk(),
    };
    if let Some(device) = disk
        && let Err(message) = copy_from_disk(&device, modules, status)
    {
        report::degrade(status, PHASE, &message);
    }
    let missing = missing(Path::new(PKI));
    if !missing.is_empty() {
        let message = format!(
            "{} missing in {PKI}; put them into the initramfs, or on a disk labelled {} (directory pki)",
            missing.join(", "),
            label::LABEL
        );
        report::degrade(status, PHASE, &message);
    }
}

fn missing(directory: &Path) -> Vec<&'static str> {
    FILES.iter().map(|(name, _)| *name).filter(|name| !directory.join(name).is_file()).collect()
}

fn copy_from_disk(device: &Path, modules: &mut Modules, status: &Status) -> Result<(), String> {
    wait_for(device)?;
    let mount_point = Path::new(MOUNT_POINT);
    fs::create_dir_all(mount_point)
        .map_err(|error| format!("failed to make the directory {MOUNT_POINT}: {error}"))?;
    mount_read_only(device, mount_point, modules, status)?;
    let copied = copy_files(&mount_point.join("pki"), Path::new(PKI));
    let unmounted = mount::unmount(mount_point).map_err(|error| crate::reply::text(&error));
    copied.and(unmounted)
}

fn wait_for(device: &Path) -> Result<(), String> {
    let deadline = Instant::now() + DEVICE_DEADLINE;
    while !device.exists() {
        if Instant::now() >= deadline {
            return Err(format!(
                "the config disk {} did not appear within {} s; see aurae.config on the kernel command line",
                device.display(),
                DEVICE_DEADLINE.as_secs()
            ));
        }
        std::thread::sleep(DEVICE_INTERVAL);
    }
    Ok(())
}

fn mount_read_only(
    device: &Path,
    target: &Path,
    modules: &mut Modules,
    status: &Status,
) -> Result<(), String> {
    let Some(found) = label::probe(device) else {
        return Err(format!(
            "the config disk {} holds none of ext4, vfat, iso9660 and squashfs",
            device.display()
        ));
    };
    let needed = MODULES.iter().filter(|(filesystem, _)| *filesystem == found.filesystem);
    for module in needed.flat_map(|(_, modules)| *modules) {
        modules.load(module, status);
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mount = Mount { source: device, target, filesystem: found.filesystem, flags, options: "" };
    mount.mount().map_err(|error| {
        format!(
            "failed to read the config disk {}: {}",
            device.display(),
            crate::reply::text(&error)
        )
    })
}

fn copy_files(from: &Path, to: &Path) -> Result<(), String> {
    fs::create_dir_all(to)
        .map_err(|error| format!("failed to make the directory {}: {error}", to.display()))?;
    for (name, mode) in FILES {
        let (source, target) = (from.join(name), to.join(name));
        copy(&source, &target, *mode).map_err(|error| {
            format!("failed to copy {name} from the config disk to {}: {error}", to.display())
        })?;
    }
    Ok(())
}

/// Writes beside the target and renames, so that a half-written key is never there under its name.
fn copy(source: &Path, target: &Path, mode: u32) -> io::Result<()> {
    let mut content = Vec::new();
    File::open(source)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    let beside: PathBuf = target.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(&content)?;
    fs::rename(&beside, target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_copied_and_the_key_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("pki"), directory.path().join("etc/pki"));
        fs::create_dir(&from).unwrap();
        assert_eq!(missing(&from).len(), FILES.len());
        for (name, _) in FILES {
            fs::write(from.join(name), name).unwrap();
        }
        copy_files(&from, &to).unwrap();
        assert!(missing(&to).is_empty());
        assert_eq!(fs::read_to_string(to.join("ca.crt")).unwrap(), "ca.crt");
        let mode = fs::metadata(to.join("server.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&to).unwrap().count(), FILES.len());
    }

    #[test]
    fn a_file_that_is_missing_on_the_disk_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error =
            copy_files(&directory.path().join("none"), &directory.path().join("to")).unwrap_err();
        assert!(error.starts_with("failed to copy ca.crt from the config disk"), "{error}");
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("large");
        File::create(&source).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
        let error = copy(&source, &directory.path().join("copy"), 0o600).unwrap_err();
        assert!(error.to_string().contains("larger than"), "{error}");
    }
}
