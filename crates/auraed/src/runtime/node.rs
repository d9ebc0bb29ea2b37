//! The machine: what it is, what its kernel says, and who may switch it off.

use std::collections::{BTreeSet, VecDeque};
use std::time::SystemTime;

use aurae_kernel::Errno;
use aurae_kernel::kernel_log::{KernelLog, Record};
use aurae_kernel::probe::{self, Interface, Kernel, Memory};
use aurae_kernel::readiness;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::shutdown::{Intent, Shutdown};

/// What the daemon is to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its init: it owns the power switch.
    Init,
    /// A daemon beside another init.
    Beside,
    /// The daemon inside a zone of it.
    Zone,
}

/// A handle to the machine; clones share it.
#[derive(Clone, Debug)]
pub struct Machine {
    role: Role,
    controllers: BTreeSet<String>,
    shutdown: Shutdown,
    /// When this daemon was started, or took over.
    started: SystemTime,
}

/// What the machine is.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its kernel.
    pub kernel: Kernel,
    /// When the kernel was started, in seconds since the epoch; 0 where that is not known.
    pub boot_time: i64,
    /// CPUs that are online.
    pub cpus: u32,
    /// Its memory.
    pub memory: Memory,
    /// The cgroup controllers that cells can have.
    pub controllers: BTreeSet<String>,
    /// When this daemon was started, or took over.
    pub started: SystemTime,
    /// The daemon is its init.
    pub is_init: bool,
    /// `/dev/kvm` can be opened.
    pub kvm: bool,
    /// The `bpf` system call is permitted.
    pub bpf: bool,
    /// The Landlock ABI, 0 where there is none.
    pub landlock_abi: u32,
    /// Its network interfaces, in the kernel's order.
    pub interfaces: Vec<Interface>,
}

/// Why the machine was not switched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PowerError {
    /// Another process is the machine's init.
    #[error("this daemon does not own the machine's power: process 1 is {0:?}; ask that one")]
    NotInit(String),
    /// The daemon is in a zone.
    #[error("a zone has no power switch; ask the node's daemon")]
    InZone,
}

/// Why the kernel's log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KernelLogError {
    /// The daemon is in a zone.
    #[error("a zone does not show the kernel's log; ask the node's daemon")]
    InZone,
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] aurae_kernel::Error),
    /// The log cannot be waited for.
    #[error("failed to poll the kernel's log")]
    Poll(#[source] std::io::Error),
}

impl Machine {
    /// The machine, as a daemon of this role sees it.
    #[must_use]
    pub fn new(role: Role, controllers: BTreeSet<String>, shutdown: Shutdown) -> Self {
        Self { role, controllers, shutdown, started: SystemTime::now() }
    }

    /// Looks at the machine.
    ///
    /// # Errors
    /// A file of the kernel's cannot be read.
    pub fn facts(&self) -> aurae_kernel::Result<Facts> {
        Ok(Facts {
            kernel: probe::kernel(),
            boot_time: probe::boot_time()?,
            cpus: probe::cpus_online()?,
            memory: probe::memory()?,
            controllers: self.controllers.clone(),
            started: self.started,
            is_init: self.role == Role::Init,
            kvm: probe::kvm(),
            bpf: probe::bpf(),
            landlock_abi: probe::landlock_abi(),
            interfaces: probe::interfaces()?,
        })
    }

    /// Begins to shut the node down.
    ///
    /// # Errors
    /// The daemon does not own the machine's power.
    pub fn switch(&self, intent: Intent) -> Result<(), PowerError> {
        match self.role {
            Role::Zone => Err(PowerError::InZone),
            Role::Beside => {
                let name = probe::init_name().unwrap_or_else(|_| "unknown".to_owned());
                Err(PowerError::NotInit(name))
            }
            Role::Init => {
                let holds = self.shutdown.request(intent);
                tracing::info!(asked = ?intent, ?holds, "shutting the node down");
                Ok(())
            }
        }
    }

    /// Opens the kernel's log: the last `tail` of the kept records or all of them, and then, with
    /// `follow`, what comes until the daemon stops.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn kernel_log(
        &self,
        tail: Option<u32>,
        follow: bool,
    ) -> Result<KernelLogReader, KernelLogError> {
        if self.role == Role::Zone {
            return Err(KernelLogError::InZone);
        }
        let log = KernelLog::open()?;
        let kept = tail.map(|count| last(&log, count)).transpose()?.unwrap_or_default();
        let log = readiness::register(log, Interest::READABLE).map_err(KernelLogError::Poll)?;
        Ok(KernelLogReader { log, kept, follow, shutdown: self.shutdown.clone() })
    }
}

/// The last `count` of the records that there are.
fn last(log: &KernelLog, count: u32) -> aurae_kernel::Result<VecDeque<Record>> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut kept = VecDeque::new();
    while let Some(record) = log.next()? {
        kept.push_back(record);
        if kept.len() > count {
            kept.pop_front();
        }
    }
    Ok(kept)
}

/// Reads the kernel's log at its own pace.
#[derive(Debug)]
pub struct KernelLogReader {
    log: AsyncFd<KernelLog>,
    /// Read already, to be given out first.
    kept: VecDeque<Record>,
    follow: bool,
    shutdown: Shutdown,
}

impl KernelLogReader {
    /// The next record; `None` when there will be none.
    ///
    /// # Errors
    /// The log cannot be read any more.
    pub async fn next(&mut self) -> Result<Option<Record>, KernelLogError> {
        if let Some(record) = self.kept.pop_front() {
            return Ok(Some(record));
        }
        loop {
            // Before reading, so that a record between reading and waiting is not lost.
            let read = self.log.get_ref().next()?;
            if read.is_some() || !self.follow {
                return Ok(read);
            }
            tokio::select! {
                _ = self.shutdown.wait_for_end() => return Ok(None),
                ready = self.log.readable() => ready.map_err(KernelLogError::Poll)?.clear_ready(),
            }
        }
    }
}

/// Whether the kernel said that it is not permitted.
pub(crate) fn is_refusal(errno: Errno) -> bool {
    matches!(errno, Errno::PERM | Errno::ACCESS)
}
