//! `auraed spawn`: an OCI bundle (runtime-spec 1.2) whose init is this program.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The program that runs; the kernel finds it even where its file was removed.
const OWN_IMAGE: &str = "/proc/self/exe";

/// Directories of the root file system that mounts and the daemon need.
const DIRECTORIES: [&str; 7] = ["bin", "dev", "etc/aurae/pki", "proc", "run", "sys", "tmp"];

/// What the daemon needs to own what is inside: cgroups, mounts, namespaces, users, signals.
const CAPABILITIES: [&str; 16] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_RESOURCE",
];

/// A bundle cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    /// There is something already.
    #[error("{} is not empty; choose a directory that does not exist", .0.display())]
    NotEmpty(PathBuf),
    /// A step failed.
    #[error("failed to {operation} {}", path.display())]
    Failed {
        /// The step.
        operation: &'static str,
        /// What with.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Writes a bundle into `directory`, which must not exist or be empty.
///
/// # Errors
/// The step that failed. What was written by then is left to be looked at.
pub(crate) fn write(directory: &Path) -> Result<(), BundleError> {
    if fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(BundleError::NotEmpty(directory.to_owned()));
    }
    let root = directory.join("rootfs");
    for name in DIRECTORIES {
        let path = root.join(name);
        fs::create_dir_all(&path).map_err(failed("create the directory", &path))?;
    }
    let program = root.join("bin/auraed");
    fs::copy(OWN_IMAGE, &program).map_err(failed("copy this program to", &program))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
        .map_err(failed("make executable", &program))?;
    let init = root.join("bin/init");
    symlink("auraed", &init).map_err(failed("link", &init))?;
    let configuration = directory.join("config.json");
    // Printing a value that was made here cannot fail; pretty, because people edit it.
    let text = format!("{:#}\n", configuration_value());
    fs::write(&configuration, text).map_err(failed("write", &configuration))
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BundleError {
    let path = path.to_owned();
    move |source| BundleError::Failed { operation, path, source }
}

fn configuration_value() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/init"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
            "noNewPrivileges": false,
        },
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "aurae",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/run", "tmpfs", &["nosuid", "nodev", "mode=755"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "rw"]),
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" },
                { "type": "network" },
                { "type": "ipc" },
                { "type": "uts" },
                { "type": "mount" },
                { "type": "cgroup" },
            ],
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
        },
    })
}

fn mount(destination: &str, kind: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": kind, "options": options })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_has_a_configuration_and_the_program_as_init() {
        let directory = tempfile::tempdir().unwrap();
        let bundle = directory.path().join("bundle");
        write(&bundle).unwrap();
        let text = fs::read_to_string(bundle.join("config.json")).unwrap();
        let configuration: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(configuration["process"]["args"][0], "/bin/init");
        let own = fs::metadata(OWN_IMAGE).unwrap().len();
        let init = fs::metadata(bundle.join("rootfs/bin/init")).unwrap();
        assert_eq!(init.len(), own);
        assert_eq!(init.permissions().mode() & 0o777, 0o755);
        assert!(matches!(write(&bundle), Err(BundleError::NotEmpty(_))));
    }
}
