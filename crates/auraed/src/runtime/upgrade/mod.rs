//! Another version of the daemon: received, checked, and chosen to take over.
//!
//! ```text
//! idle ─begin─▶ Receiving ─finish─▶ Received ─check─▶ Checked ─take_over─▶ chosen: Intent::Replace
//!   ▲               └── dropped, or refused ─┴──────────────┘                the daemon executes it
//! ```
//!
//! One at a time: each state holds the turn, and dropping it gives the turn back.

mod errors;
mod image;
mod rehearsal;

pub use errors::UpgradeError;
pub use rehearsal::{Findings, MAX_SAID};

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::memory_file::ImageWriter;
use ring::digest::{Context, SHA256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::runtime::cells::Cells;
use crate::runtime::reaper::Reaper;
use crate::shutdown::{Intent, Shutdown};

/// The largest file: several times a daemon, and no more than any node's memory has room for.
pub const MAX_SIZE: u64 = 256 << 20;
/// The most bytes of a message.
pub const MAX_PIECE: usize = 1 << 20;

/// How an attempt to replace the daemon ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The version before.
    pub from: String,
    /// The version that was to take over.
    pub to: String,
    /// When it ended.
    pub time: SystemTime,
    /// Why the version before took back over; empty where it did not.
    pub rolled_back: String,
}

/// What a check needs.
#[derive(Debug)]
pub struct Stage {
    /// Below it the program that is checked has a leaf of its own; `None`: it has none.
    pub cgroup: Option<Arc<Cgroup>>,
    /// The cells that it is to take over; `None`: there can be none.
    pub cells: Option<Cells>,
    /// Who tells its end.
    pub reaper: Reaper,
    /// Its arguments.
    pub arguments: Vec<CString>,
    /// Its environment.
    pub environment: Vec<CString>,
}

/// A handle to the upgrades of this daemon; clones share them.
#[derive(Clone, Debug)]
pub struct Upgrades {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stage: Stage,
    shutdown: Shutdown,
    last: Option<Outcome>,
    turn: Arc<Semaphore>,
    chosen: Mutex<Option<Checked>>,
}

/// What a file is said to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Its size in bytes, at most [`MAX_SIZE`].
    pub size: u64,
    /// Its SHA-256 digest.
    pub sha256: [u8; 32],
    /// It is checked, and no more.
    pub check_only: bool,
}

/// A file that is on its way.
pub struct Receiving {
    turn: Turn,
    announced: Announced,
    writer: ImageWriter,
    digest: Context,
    left: u64,
}

/// A file that is there, and what it was said to be.
#[derive(Debug)]
pub struct Received {
    turn: Turn,
    image: File,
    size: u64,
}

/// A daemon that passed its check.
#[derive(Debug)]
pub struct Checked {
    turn: Turn,
    image: File,
    findings: Findings,
}

#[derive(Debug)]
struct Turn {
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Upgrades {
    /// Upgrades that are checked on `stage`. `last` is how the last one ended, for [`Self::last`].
    #[must_use]
    pub fn new(stage: Stage, shutdown: Shutdown, last: Option<Outcome>) -> Self {
        let (turn, chosen) = (Arc::new(Semaphore::new(1)), Mutex::default());
        Self { shared: Arc::new(Shared { stage, shutdown, last, turn, chosen }) }
    }

    /// How the last attempt to replace the daemon ended.
    #[must_use]
    pub fn last(&self) -> Option<&Outcome> {
        self.shared.last.as_ref()
    }

    /// Begins an upgrade.
    ///
    /// # Errors
    /// Another one is under way, or there is no memory.
    pub fn begin(&self, announced: Announced) -> Result<Receiving, UpgradeError> {
        let permit = Arc::clone(&self.shared.turn).try_acquire_owned();
        let permit = permit.map_err(|_| UpgradeError::Busy)?;
        let turn = Turn { shared: Arc::clone(&self.shared), _permit: permit };
        let (writer, left) = (ImageWriter::new()?, announced.size);
        Ok(Receiving { turn, announced, writer, digest: Context::new(&SHA256), left })
    }

    /// The daemon that was chosen to take over, and its version. There is one once the shutdown's
    /// intent is [`Intent::Replace`].
    #[must_use]
    pub fn chosen(&self) -> Option<(OwnedFd, String)> {
        let mut chosen = self.shared.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        chosen.take().map(|checked| (checked.image.into(), checked.findings.version))
    }
}

impl Receiving {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// They are more than was said, or there is no memory.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), UpgradeError> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or(UpgradeError::Longer(self.announced.size))?;
        self.digest.update(bytes);
        Ok(self.writer.write(bytes)?)
    }

    /// All was sent.
    ///
    /// # Errors
    /// It is not what it was said to be.
    pub fn finish(self) -> Result<Received, UpgradeError> {
        let size = self.announced.size;
        if self.left > 0 {
            return Err(UpgradeError::Shorter { received: size - self.left, size });
        }
        if self.digest.finish().as_ref() != self.announced.sha256 {
            return Err(UpgradeError::Digest);
        }
        Ok(Received { turn: self.turn, image: self.writer.finish()?.into(), size })
    }
}

impl Received {
    /// Checks that it is a daemon for this machine which gets ready with this node's settings. It goes
    /// on to its end, which is bounded, even where the answer is no longer waited for.
    ///
    /// # Errors
    /// It is not.
    pub async fn check(self) -> Result<Checked, UpgradeError> {
        image::check(&self.image, self.size)?;
        let checking = tokio::spawn(async move {
            let findings = rehearsal::run(&self.image, &self.turn.shared.stage).await?;
            Ok(Checked { turn: self.turn, image: self.image, findings })
        });
        checking.await.unwrap_or_else(|panic| Err(UpgradeError::Bug(panic.to_string())))
    }
}

impl Checked {
    /// Its version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.findings.version
    }

    /// Chooses it: the daemon ends what is open and executes it.
    pub fn take_over(self) {
        let shared = Arc::clone(&self.turn.shared);
        tracing::info!(version = self.findings.version, "another version takes over");
        *shared.chosen.lock().unwrap_or_else(PoisonError::into_inner) = Some(self);
        shared.shutdown.request(Intent::Replace);
    }
}
