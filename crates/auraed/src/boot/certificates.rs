//! The node's certificates: from the initramfs, or from a config disk.
//!
//! A config disk is a block device with the file-system label `AURAE` (vfat, ext2/3/4, iso9660), or
//! the one that `aurae.config` names (squashfs too, which has no label). Its directory `pki` holds the
//! files; they are copied to memory, and the disk is unmounted again.
//!
//! The directory may hold a revocation list and trust bundles beside them. Where they were to be had
//! and could not be, the API does not come up: it would let in whom they keep out.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aurae_kernel::mount::{self, Mount, MountFlags};

use super::command_line::Settings;
use super::label;
use super::modules::Modules;
use super::report;
use crate::reply::text;
use crate::server::{MAX_FILE_BYTES, MAX_LIST_BYTES, bundles_in};
use crate::status::Status;

const PHASE: &str = "certificates";

/// Where the daemon looks for its certificates by default.
const PKI: &str = "/etc/aurae/pki";

/// The lists of what authorities have revoked, as `aer pki revoke` calls the file.
const LIST: &str = "crl.pem";

/// The directory of trust bundles, as `--trust-dir` has it.
const BUNDLES: &str = "trust";

/// Where a config disk is mounted for as long as it is read.
const MOUNT_POINT: &str = "/run/aurae-config";

/// The files, and who may read them: a private key is its owner's alone.
const FILES: &[(&str, u32)] =
    &[("ca.crt", 0o644), ("_signed.server.crt", 0o644), ("server.key", 0o600)];

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

/// What a directory with certificates has beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Beside {
    list: bool,
    bundles: bool,
}

impl Beside {
    /// What the node's own directory has.
    pub(super) fn in_place() -> Self {
        Self::inside(Path::new(PKI))
    }

    fn inside(directory: &Path) -> Self {
        Self { list: is_there(&directory.join(LIST)), bundles: is_there(&directory.join(BUNDLES)) }
    }

    /// Has the daemon use it, beside the lists that it was told of. Bundles are those of one directory:
    /// another one that was named goes before.
    pub(super) fn add_to(self, settings: &mut Settings) {
        let (list, bundles) = (Path::new(PKI).join(LIST), Path::new(PKI).join(BUNDLES));
        if self.list && !settings.revocation_lists.contains(&list) {
            settings.revocation_lists.push(list);
        }
        if self.bundles && settings.trust_directory.is_none() {
            settings.trust_directory = Some(bundles);
        }
    }
}

/// What cannot be looked at is there, and whoever reads it will say what is wrong with it.
fn is_there(path: &Path) -> bool {
    !matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// Puts the certificates in place, and tells what there is beside them, or should be.
pub(super) fn run(named: Option<&Path>, modules: &mut Modules, status: &Status) -> Beside {
    let mut beside = Beside::default();
    let found = missing(Path::new(PKI)).is_empty();
    // The disk that was named wins over what every node's image holds.
    let disk = match named {
        Some(device) => Some(device.to_owned()),
        None if found => None,
        None => label::find_config_disk(),
    };
    if let Some(device) = disk
        && let Err(message) = copy_from_disk(&device, modules, status, &mut beside)
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
    let found = Beside::in_place();
    Beside { list: beside.list || found.list, bundles: beside.bundles || found.bundles }
}

fn missing(directory: &Path) -> Vec<&'static str> {
    FILES.iter().map(|(name, _)| *name).filter(|name| !directory.join(name).is_file()).collect()
}

/// `beside` is what the disk has beside the certificates, whether or not it could be copied.
fn copy_from_disk(
    device: &Path,
    modules: &mut Modules,
    status: &Status,
    beside: &mut Beside,
) -> Result<(), String> {
    wait_for(device)?;
    let mount_point = Path::new(MOUNT_POINT);
    fs::create_dir_all(mount_point)
        .map_err(|error| format!("failed to make the directory {MOUNT_POINT}: {error}"))?;
    mount_read_only(device, mount_point, modules, status)?;
    let (from, to) = (mount_point.join("pki"), Path::new(PKI));
    *beside = Beside::inside(&from);
    let copied = copy_all(&from, to, *beside);
    let unmounted = mount::unmount(mount_point).map_err(|error| text(&error));
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
        format!("failed to read the config disk {}: {}", device.display(), text(&error))
    })
}

fn copy_all(from: &Path, to: &Path, beside: Beside) -> Result<(), String> {
    fs::create_dir_all(to)
        .map_err(|error| format!("failed to make the directory {}: {error}", to.display()))?;
    if beside.list {
        copy_list(from, to)?;
    }
    if beside.bundles {
        copy_bundles(&from.join(BUNDLES), &to.join(BUNDLES))?;
    }
    for (name, mode) in FILES {
        copy(&from.join(name), &to.join(name), *mode, MAX_FILE_BYTES)
            .map_err(|error| not_copied(name, to, &error))?;
    }
    Ok(())
}

/// The one that is there goes first: an older one must not stand for one that cannot be had.
fn copy_list(from: &Path, to: &Path) -> Result<(), String> {
    let (source, target) = (from.join(LIST), to.join(LIST));
    absent(fs::remove_file(&target))
        .and_then(|()| copy(&source, &target, 0o644, MAX_LIST_BYTES))
        .map_err(|error| not_copied(LIST, to, &error))
}

/// All of them, or no directory: without one, its trust domain would be that of other authorities.
fn copy_bundles(from: &Path, to: &Path) -> Result<(), String> {
    let failed = |error: io::Error| not_copied(BUNDLES, to, &error);
    let beside = to.with_extension("new");
    absent(fs::remove_dir_all(to)).map_err(failed)?;
    absent(fs::remove_dir_all(&beside)).map_err(failed)?;
    DirBuilder::new().mode(0o755).create(&beside).map_err(failed)?;
    for source in bundles_in(from).map_err(|error| text(&error))? {
        let name = source.file_name().unwrap_or_default();
        copy(&source, &beside.join(name), 0o644, MAX_FILE_BYTES)
            .map_err(|error| not_copied(&name.display().to_string(), to, &error))?;
    }
    fs::rename(&beside, to).map_err(failed)
}

/// What is not there need not be removed.
fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn not_copied(name: &str, to: &Path, error: &io::Error) -> String {
    format!("failed to copy {name} from the config disk to {}: {error}", to.display())
}

/// Writes beside the target and renames, so that a half-written key is never there under its name.
fn copy(source: &Path, target: &Path, mode: u32, max: u64) -> io::Result<()> {
    let mut content = Vec::new();
    File::open(source)?.take(max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > max {
        return Err(io::Error::other(format!("it is larger than {max} bytes")));
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
        copy_all(&from, &to, Beside::inside(&from)).unwrap();
        assert!(missing(&to).is_empty());
        assert_eq!(fs::read_to_string(to.join("ca.crt")).unwrap(), "ca.crt");
        let mode = fs::metadata(to.join("server.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&to).unwrap().count(), FILES.len());
    }

    #[test]
    fn a_file_that_is_missing_on_the_disk_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("none"), directory.path().join("to"));
        let error = copy_all(&from, &to, Beside::inside(&from)).unwrap_err();
        assert!(error.starts_with("failed to copy ca.crt from the config disk"), "{error}");
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("large");
        File::create(&source).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
        let target = directory.path().join("copy");
        let error = copy(&source, &target, 0o600, MAX_FILE_BYTES).unwrap_err();
        assert!(error.to_string().contains("larger than"), "{error}");
    }

    /// A disk's directory with all files, and an empty one to copy to.
    fn disk() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("pki"), directory.path().join("etc"));
        fs::create_dir_all(from.join(BUNDLES)).unwrap();
        fs::create_dir_all(&to).unwrap();
        for (name, _) in FILES {
            fs::write(from.join(name), name).unwrap();
        }
        fs::write(from.join(LIST), "revoked").unwrap();
        for name in ["example.org.pem", "other.example.crt", "README", ".hidden.pem"] {
            fs::write(from.join(BUNDLES).join(name), name).unwrap();
        }
        (directory, from, to)
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_revocation_list_and_bundles_come_along_in_the_place_of_older_ones() {
        let (_directory, from, to) = disk();
        fs::create_dir(to.join(BUNDLES)).unwrap();
        fs::write(to.join(BUNDLES).join("older.org.pem"), "older").unwrap();
        fs::write(to.join(LIST), "older").unwrap();
        copy_all(&from, &to, Beside::inside(&from)).unwrap();
        assert_eq!(fs::read_to_string(to.join(LIST)).unwrap(), "revoked");
        assert_eq!(names(&to.join(BUNDLES)), ["example.org.pem", "other.example.crt"]);
        assert_eq!(names(&to).len(), FILES.len() + 2);
        assert_eq!(Beside::inside(&to), Beside { list: true, bundles: true });
    }

    #[test]
    fn what_cannot_be_copied_leaves_nothing_older_in_its_place() {
        let (_directory, from, to) = disk();
        fs::create_dir(to.join(BUNDLES)).unwrap();
        fs::write(to.join(LIST), "older").unwrap();
        File::create(from.join(LIST)).unwrap().set_len(MAX_LIST_BYTES + 1).unwrap();
        let beside = Beside::inside(&from);
        let error = copy_all(&from, &to, beside).unwrap_err();
        assert!(error.starts_with("failed to copy crl.pem from the config disk"), "{error}");
        assert!(!to.join(LIST).exists() && !to.join("server.key").exists());

        fs::write(from.join(LIST), "revoked").unwrap();
        let large = File::create(from.join(BUNDLES).join("large.pem")).unwrap();
        large.set_len(MAX_FILE_BYTES + 1).unwrap();
        let error = copy_all(&from, &to, beside).unwrap_err();
        assert!(error.starts_with("failed to copy large.pem from the config disk"), "{error}");
        assert!(!to.join(BUNDLES).exists() && !to.join("server.key").exists());
    }

    #[test]
    fn the_daemon_uses_what_is_there_and_named_bundles_go_before() {
        let mut settings = Settings::default();
        Beside::default().add_to(&mut settings);
        assert_eq!(settings, Settings::default());
        let all = Beside { list: true, bundles: true };
        all.add_to(&mut settings);
        all.add_to(&mut settings);
        assert_eq!(settings.revocation_lists, [Path::new("/etc/aurae/pki/crl.pem")]);
        assert_eq!(settings.trust_directory.as_deref(), Some(Path::new("/etc/aurae/pki/trust")));
        let named = Some(PathBuf::from("/named"));
        let mut settings = Settings { trust_directory: named.clone(), ..Settings::default() };
        all.add_to(&mut settings);
        assert_eq!(settings.trust_directory, named);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_there_and_will_be_complained_of() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", directory.path().join(LIST)).unwrap();
        assert_eq!(Beside::inside(directory.path()), Beside { list: true, bundles: false });
    }
}
