//! The daemon's place in the cgroup tree: below it its cells and executables are made.
//!
//! ```text
//! init of the machine        /            the root may have processes beside its children
//! a service of its own       its cgroup   the daemon moves into the leaf `_auraed`
//! in a leaf `_auraed`, alone  its parent   the daemon was put where it belongs
//! in somebody else's cgroup  /aurae       the daemon moves into /aurae/_auraed, and back at its end
//! ```
//!
//! A daemon with a runtime directory of its own has a base of its own, `/aurae-` and a number made
//! from the directory's path: the lock on the directory then guards the base too, and what is found
//! below it at the start was left by an earlier daemon that was killed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aurae_kernel::cgroup::{self, Cgroup};
use aurae_kernel::{Errno, Error};
use aurae_model::CellName;

use super::cells::{DAEMON_LEAF, LEAF_MARK};
use super::cgroup::Watched;
use crate::settings::DEFAULT_RUNTIME_DIRECTORY;

/// The cgroup of a daemon that was started in somebody else's: from a shell, for example.
const SHARED_BASE: &str = "aurae";
/// How long what an earlier daemon left may take to die.
const CLEAR_TIMEOUT: Duration = Duration::from_secs(10);
/// A file that every cgroup but the root has.
const NOT_IN_ROOT: &str = "cgroup.type";

/// The base cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// There is no cgroup v2.
    #[error(
        "no cgroup v2 file system is mounted; start the kernel with it (systemd.unified_cgroup_hierarchy=1), or mount it: mount -t cgroup2 none /sys/fs/cgroup"
    )]
    NoCgroup2,
    /// The kernel refused a step.
    #[error("failed to set up the daemon's cgroup (it needs root)")]
    Kernel(#[from] Error),
}

/// The daemon's place in the cgroup tree.
#[derive(Debug)]
pub struct Base {
    cgroup: Arc<Cgroup>,
    controllers: BTreeSet<String>,
    /// Where the daemon came from, if it moved.
    origin: Option<Cgroup>,
    /// The parent of the base, if the base was made here, and its name there.
    above: Option<(Cgroup, String)>,
}

/// A base in words: paths below the mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The base.
    pub base: PathBuf,
    /// Where the daemon came from, if it moved.
    pub origin: Option<PathBuf>,
    /// The base was made here.
    pub made: bool,
}

impl Base {
    /// Takes the place that an earlier version of the daemon took in this process.
    ///
    /// # Errors
    /// There is no cgroup v2, or the kernel refuses.
    pub fn resume(place: &Place) -> Result<Self, BaseError> {
        let mount = cgroup::mount_point()?.ok_or(BaseError::NoCgroup2)?;
        let base = Cgroup::open(&mount, &place.base)?;
        let origin = place.origin.as_ref();
        let origin = origin.map(|path| Cgroup::open(&mount, path)).transpose()?;
        let name = place.base.file_name().filter(|_| place.made);
        let above = match name {
            None => None,
            Some(name) => {
                let above = place.base.parent().unwrap_or(Path::new(""));
                Some((Cgroup::open(&mount, above)?, name.to_string_lossy().into_owned()))
            }
        };
        Self::enable(base, origin, above)
    }

    /// Where this is, for a later version of the daemon.
    #[must_use]
    pub fn place(&self) -> Place {
        Place {
            base: self.cgroup.path().to_owned(),
            origin: self.origin.as_ref().map(|origin| origin.path().to_owned()),
            made: self.above.is_some(),
        }
    }

    /// Takes the place: makes the base where there is none, moves this process out of the way and
    /// enables every controller there is.
    ///
    /// # Errors
    /// There is no cgroup v2, or the kernel refuses.
    pub fn take(is_init: bool, runtime_directory: &Path) -> Result<Self, BaseError> {
        let mount = cgroup::mount_point()?.ok_or(BaseError::NoCgroup2)?;
        let own = Cgroup::open(&mount, &cgroup::own_path()?)?;
        if is_init {
            return Self::enable(own, None, None);
        }
        if let Some(base) = around(&mount, &own)? {
            return Self::enable(base, None, None);
        }
        if own.has(NOT_IN_ROOT) && is_alone(&own)? {
            let origin = own.try_clone()?;
            child(&own, DAEMON_LEAF)?.enter()?;
            return Self::enable(own, Some(origin), None);
        }
        Self::shared(&mount, own, shared_name(runtime_directory))
    }

    fn shared(mount: &Path, origin: Cgroup, name: String) -> Result<Self, BaseError> {
        let root = Cgroup::open(mount, &PathBuf::new())?;
        // A shared root may keep controllers to itself; limits then name the missing one.
        root.enable_controllers()?;
        let base = child(&root, &name)?;
        child(&base, DAEMON_LEAF)?.enter()?;
        Self::enable(base, Some(origin), Some((root, name)))
    }

    /// Kills and removes the leaves that an earlier daemon left in the base: commands that its clients
    /// ran. Cells are found again, not cleared. A failure is logged, and costs the name.
    pub async fn clear(&self) {
        let children = self.cgroup.children().unwrap_or_default();
        let kept = [DAEMON_LEAF.to_owned(), CellName::of_node().to_string()];
        for name in children {
            if !name.starts_with(LEAF_MARK) || kept.contains(&name) {
                continue;
            }
            let cleared = tokio::time::timeout(CLEAR_TIMEOUT, self.clear_child(&name)).await;
            match cleared.map_err(|_| Error::new(format!("end cgroup {name}"), Errno::TIMEDOUT)) {
                Ok(Ok(())) => tracing::warn!(name, "removed what an earlier daemon left"),
                Ok(Err(error)) | Err(error) => {
                    tracing::error!(error = crate::reply::text(&error), "something is left");
                }
            }
        }
    }

    async fn clear_child(&self, name: &str) -> Result<(), Error> {
        let child = self.cgroup.open_child(name)?;
        Watched::new(&child)?.kill(&child).await?;
        self.cgroup.remove_child(name)
    }

    fn enable(
        base: Cgroup,
        origin: Option<Cgroup>,
        above: Option<(Cgroup, String)>,
    ) -> Result<Self, BaseError> {
        let controllers = base.enable_controllers()?;
        Ok(Self { cgroup: Arc::new(base), controllers, origin, above })
    }

    /// The cgroup below which cells and executables are made.
    #[must_use]
    pub fn cgroup(&self) -> Arc<Cgroup> {
        Arc::clone(&self.cgroup)
    }

    /// The controllers that cells can have.
    #[must_use]
    pub fn controllers(&self) -> &BTreeSet<String> {
        &self.controllers
    }

    /// Moves this process back to where it came from, and removes what was made. For the end, when
    /// nothing runs below any more; a failure costs an empty cgroup and is logged.
    pub fn leave(self) {
        let Some(origin) = &self.origin else { return };
        // A cgroup that has processes may have no enabled children: first out of the way with those.
        let disable: Vec<String> = self.controllers.iter().map(|name| format!("-{name}")).collect();
        let left = if self.above.is_none() && !disable.is_empty() {
            self.cgroup.write("cgroup.subtree_control", &disable.join(" "))
        } else {
            Ok(())
        };
        let left = left
            .and_then(|()| origin.enter())
            .and_then(|()| self.cgroup.remove_child(DAEMON_LEAF))
            .and_then(|()| match &self.above {
                Some((above, name)) => above.remove_child(name),
                None => Ok(()),
            });
        match left {
            // Something of somebody else's is in it.
            Err(error) if matches!(error.errno, Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(error) => {
                tracing::warn!(error = crate::reply::text(&error), "the daemon's cgroup is left");
            }
            Ok(()) => {}
        }
    }
}

/// The name of the base of a daemon that was started in somebody else's cgroup.
fn shared_name(runtime_directory: &Path) -> String {
    // `/var/run` is a link on most machines, and a path may be relative.
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let runtime_directory = real(runtime_directory);
    if runtime_directory == real(Path::new(DEFAULT_RUNTIME_DIRECTORY)) {
        return SHARED_BASE.to_owned();
    }
    // FNV-1a: the name must be the same in every version of the daemon.
    let bytes = runtime_directory.as_os_str().as_encoded_bytes();
    let hash = bytes
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    format!("{SHARED_BASE}-{hash:08x}")
}

/// The cgroup around `own`, where that is a daemon's leaf already, and only this daemon's: the service
/// manager made it (systemd's `DelegateSubgroup=`), or an earlier daemon did that left cells behind.
fn around(mount: &Path, own: &Cgroup) -> Result<Option<Cgroup>, BaseError> {
    let (Some(name), Some(above)) = (own.path().file_name(), own.path().parent()) else {
        return Ok(None);
    };
    if name != DAEMON_LEAF || !is_alone(own)? {
        return Ok(None);
    }
    let above = Cgroup::open(mount, above)?;
    Ok((above.has(NOT_IN_ROOT) && above.processes()?.is_empty()).then_some(above))
}

fn is_alone(cgroup: &Cgroup) -> Result<bool, BaseError> {
    let own = rustix::process::getpid();
    Ok(cgroup.processes()?.iter().all(|process| *process == own))
}

/// The child `name`, made if it does not exist.
fn child(parent: &Cgroup, name: &str) -> Result<Cgroup, BaseError> {
    match parent.create_child(name) {
        Err(error) if error.errno == Errno::EXIST => Ok(parent.open_child(name)?),
        made => Ok(made?),
    }
}
