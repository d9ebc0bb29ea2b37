//! The places that the tasks read and write.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::FlockOperation;

/// The target that `.cargo/config.toml` names.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Names a binary to boot and test instead of the release build, a debug build for example.
pub const BINARY_VARIABLE: &str = "AURAE_BINARY";

/// The repository and its target directory.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
    /// The directory below `target` of the profile whose binary is run.
    profile: &'static str,
}

impl Workspace {
    /// The workspace this program was built from.
    ///
    /// # Errors
    /// When the repository is no longer where it was at build time.
    pub fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().context(
            "the repository was moved since xtask was built: run `cargo clean -p xtask`",
        )?;
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(directory) => root.join(directory),
            None => root.join("target"),
        };
        Ok(Self { root, target, profile: "release" })
    }

    /// The root of the repository.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The same, with the binary that ships in the place of the tests'.
    #[must_use]
    pub fn shipping(&self) -> Self {
        Self { profile: "dist", ..self.clone() }
    }

    /// The binary, or the one that `AURAE_BINARY` names.
    pub fn binary(&self) -> PathBuf {
        match std::env::var_os(BINARY_VARIABLE) {
            Some(path) => self.root.join(path),
            None => self.target.join(TARGET).join(self.profile).join("aurae"),
        }
    }

    /// What the test bed downloads and builds once.
    pub fn testbed(&self) -> PathBuf {
        self.target.join("testbed")
    }

    /// Where the fuzzer keeps what it has found interesting for a target.
    pub fn grown_corpus(&self, target: &str) -> PathBuf {
        self.target.join("fuzz").join(target)
    }

    /// The state of the nodes that `node up` started, a directory each.
    pub fn nodes(&self) -> PathBuf {
        self.target.join("nodes")
    }

    /// Where the bench writes its report.
    pub fn bench(&self) -> PathBuf {
        self.target.join("bench")
    }

    /// Keeps other tasks from preparing the same things until the result is dropped.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn lock(&self) -> Result<File> {
        let directory = self.testbed();
        fs::create_dir_all(&directory)
            .with_context(|| format!("failed to make {}", directory.display()))?;
        let path = directory.join("lock");
        let file =
            File::create(&path).with_context(|| format!("failed to open {}", path.display()))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .with_context(|| format!("failed to lock {}", path.display()))?;
        Ok(file)
    }
}

/// Writes a file so that nobody sees half of it: beside it first, then renamed.
///
/// # Errors
/// When the file cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(name);
    fs::write(&beside, bytes).with_context(|| format!("failed to write {}", beside.display()))?;
    fs::rename(&beside, path).with_context(|| format!("failed to write {}", path.display()))
}
