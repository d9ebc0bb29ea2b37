//! A daemon's rehearsal: it is run with this node's settings, gets as far as it can without taking
//! anything that there is one of, says what it is, and exits.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;

use std::time::Duration;

use aurae_kernel::cgroup::Cgroup;
use aurae_kernel::confine::Confinement;
use aurae_kernel::memory_file::Output;
use aurae_kernel::process::{Exit, signal_pidfd};
use aurae_kernel::spawn::{Child, Image, Namespaces, Spawn, SpawnError, Step};
use aurae_kernel::{Errno, Error};
use rustix::process::Signal;

use super::{Stage, UpgradeError};
use crate::runtime::cells::Cells;
use crate::runtime::cgroup::Watched;
use crate::runtime::reaper::{ExitReceiver, Reaper};

/// How long a rehearsal may take: it reads a few files.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What is left of it may take so long to die.
const CLEAR_TIMEOUT: Duration = Duration::from_secs(10);
/// How much it may say, in bytes, on each of its outputs.
pub const MAX_SAID: u64 = 4096;
/// Its leaf. A daemon that is started removes one that was left.
const LEAF: &str = "_upgrade";

/// A process that another thread is starting may hold the file open for writing until it executes its
/// own program, which is a matter of microseconds: so often it is tried again, and so far apart.
const BUSY_RETRIES: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// What a daemon says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// Its version.
    pub version: String,
    /// The versions of the zone protocol that it speaks: the oldest, the newest.
    pub zone_protocol: [u64; 2],
    /// The versions of the handover that it understands: the oldest, the newest.
    pub handover: [u64; 2],
}

impl Findings {
    /// In one line.
    #[must_use]
    pub fn to_line(&self) -> String {
        let Self { version, zone_protocol, handover } = self;
        serde_json::json!({
            "version": version, "zone_protocol": zone_protocol, "handover": handover,
        })
        .to_string()
    }

    fn parse(line: &str) -> Option<Self> {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        let range = |name: &str| {
            let range = value.get(name)?;
            Some([range.get(0)?.as_u64()?, range.get(1)?.as_u64()?])
        };
        let version = value.get("version")?.as_str()?.to_owned();
        Some(Self { version, zone_protocol: range("zone_protocol")?, handover: range("handover")? })
    }

    /// What this daemon says.
    #[must_use]
    pub fn own() -> Self {
        use crate::daemon::handover;
        use crate::zone::protocol;
        Self {
            version: crate::VERSION.to_owned(),
            zone_protocol: [protocol::OLDEST.into(), protocol::VERSION.into()],
            handover: [handover::OLDEST.into(), handover::VERSION.into()],
        }
    }

    /// Whether it can take over from this daemon, with its zones, of which the oldest speaks the version
    /// `zone` of their protocol.
    fn fits(&self, own: &Self, zone: Option<u32>) -> Result<(), String> {
        let speaks = |what: &str, theirs: [u64; 2], who: &str, version: u64| {
            if (theirs[0]..=theirs[1]).contains(&version) {
                return Ok(());
            }
            let [oldest, newest] = theirs;
            Err(format!(
                "version {} speaks versions {oldest} to {newest} of the {what}, and {who} {version}; upgrade by way of a version in between",
                self.version
            ))
        };
        if let Some(zone) = zone {
            speaks("zone protocol", self.zone_protocol, "the oldest cell", zone.into())?;
        }
        speaks("zone protocol", self.zone_protocol, "this daemon", own.zone_protocol[1])?;
        speaks("handover", self.handover, "this daemon", own.handover[1])
    }
}

/// Runs the rehearsal of `image`.
pub(super) async fn run(image: &File, stage: &Stage) -> Result<Findings, UpgradeError> {
    let (out, err) = (Output::new(MAX_SAID)?, Output::new(MAX_SAID)?);
    let leaf = stage.cgroup.as_deref().map(Leaf::make).transpose()?;
    let ended = perform(image, stage, leaf.as_ref(), &out, &err).await;
    if let Some(leaf) = leaf {
        leaf.remove().await;
    }
    let ended = ended?;
    let (out, err) = (out.text()?, err.text()?);
    let zone = stage.cells.as_ref().and_then(Cells::oldest_protocol);
    judge(ended, &out, &err, zone).map_err(UpgradeError::Failed)
}

/// `ended` is `None` where it took too long. The oldest zone speaks the version `zone`.
fn judge(ended: Option<Exit>, out: &str, err: &str, zone: Option<u32>) -> Result<Findings, String> {
    let err = err.trim();
    let said = if err.is_empty() { String::new() } else { format!("; it said: {err}") };
    match ended {
        None => Err(format!("it took more than {} s{said}", TIMEOUT.as_secs())),
        Some(Exit::Signal(signal)) => Err(format!("signal {signal} ended it{said}")),
        Some(Exit::Code(0)) => {
            let findings = out.lines().next_back().and_then(Findings::parse);
            let findings = findings.ok_or_else(|| format!("it is no daemon of ours{said}"))?;
            findings.fits(&Findings::own(), zone)?;
            Ok(findings)
        }
        Some(Exit::Code(code)) => Err(format!("it exited with code {code}{said}")),
    }
}

async fn perform(
    image: &File,
    stage: &Stage,
    leaf: Option<&Leaf<'_>>,
    out: &Output,
    err: &Output,
) -> Result<Option<Exit>, UpgradeError> {
    let mut retries = BUSY_RETRIES;
    let (child, exit) = loop {
        let actor = Actor::new(image, stage, leaf, out, err)?;
        let started = tokio::task::spawn_blocking(move || actor.start()).await;
        match started.map_err(|panic| UpgradeError::Bug(panic.to_string()))? {
            Err(error) if error.errno == Errno::TXTBSY && retries > 0 => {
                retries -= 1;
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            Err(error) if error.step == Step::Execute => {
                let reason = format!("the kernel does not execute it: {}", error.errno);
                return Err(UpgradeError::NotForHere(reason));
            }
            started => break started?,
        }
    };
    match tokio::time::timeout(TIMEOUT, exit).await {
        Ok(Ok(exit)) => Ok(Some(exit)),
        Ok(Err(_)) => Err(UpgradeError::Bug("nobody reaps".to_owned())),
        Err(_) => {
            // With a leaf, what it started is killed as well; this is for where there is none.
            let _ = signal_pidfd(child.pidfd.as_fd(), Signal::KILL);
            Ok(None)
        }
    }
}

/// What a rehearsal is started with, owned, so that it can be moved to a thread that may block.
struct Actor {
    image: File,
    reaper: Reaper,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    cgroup: Option<std::os::fd::OwnedFd>,
    outputs: [std::os::fd::OwnedFd; 2],
}

impl Actor {
    fn new(
        image: &File,
        stage: &Stage,
        leaf: Option<&Leaf<'_>>,
        out: &Output,
        err: &Output,
    ) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::from_io("copy a descriptor", &error);
        let copy = |descriptor: std::os::fd::BorrowedFd<'_>| {
            descriptor.try_clone_to_owned().map_err(failed)
        };
        Ok(Self {
            image: image.try_clone().map_err(failed)?,
            reaper: stage.reaper.clone(),
            arguments: stage.arguments.clone(),
            environment: stage.environment.clone(),
            cgroup: leaf.map(|leaf| copy(leaf.cgroup.as_fd())).transpose()?,
            outputs: [copy(out.as_fd())?, copy(err.as_fd())?],
        })
    }

    fn start(self) -> Result<(Child, ExitReceiver), SpawnError> {
        let failed = |error: std::io::Error| SpawnError {
            step: Step::Prepare,
            errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        };
        let null = File::open("/dev/null").map_err(failed)?;
        let [out, err] = &self.outputs;
        let spawn = Spawn {
            image: Image::Descriptor(self.image.as_fd()),
            arguments: &self.arguments,
            environment: &self.environment,
            cgroup: self.cgroup.as_ref().map(AsFd::as_fd),
            namespaces: Namespaces::default(),
            cgroup_namespace: None,
            descriptors: &[null.as_fd(), out.as_fd(), err.as_fd()],
            directory: None,
            uid: None,
            gid: None,
            oom_score: Some(c"0"),
            open_files: None,
            terminal: false,
            confinement: Confinement::default(),
        };
        self.reaper.spawn(&spawn)
    }
}

/// The cgroup of a rehearsal.
struct Leaf<'a> {
    above: &'a Cgroup,
    cgroup: Cgroup,
}

impl<'a> Leaf<'a> {
    fn make(above: &'a Cgroup) -> Result<Self, Error> {
        let cgroup = match above.create_child(LEAF) {
            Err(error) if error.errno == Errno::EXIST => above.open_child(LEAF),
            made => made,
        };
        Ok(Self { above, cgroup: cgroup? })
    }

    /// Kills what is in it, and removes it. A failure is logged, and costs an empty cgroup.
    async fn remove(self) {
        let removed = async {
            Watched::new(&self.cgroup)?.kill(&self.cgroup).await?;
            self.above.remove_child(LEAF)
        };
        let removed = tokio::time::timeout(CLEAR_TIMEOUT, removed).await;
        if let Err(error) = removed.unwrap_or(Err(Error::new("end a check", Errno::TIMEDOUT))) {
            tracing::error!(error = crate::reply::text(&error), "a check left something behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_daemon_says_is_understood() {
        let own = Findings::own();
        let said = format!("a word before\n{}\n", own.to_line());
        assert_eq!(judge(Some(Exit::Code(0)), &said, "", Some(1)), Ok(own));
    }

    #[test]
    fn what_went_wrong_is_told_in_its_own_words() {
        let judged = |ended, out, err| judge(ended, out, err, None).unwrap_err();
        assert_eq!(
            judged(Some(Exit::Code(2)), "", "error: no certificate\n"),
            "it exited with code 2; it said: error: no certificate"
        );
        assert_eq!(judged(Some(Exit::Signal(11)), "", ""), "signal 11 ended it");
        assert_eq!(judged(None, "{}", ""), "it took more than 10 s");
        assert_eq!(judged(Some(Exit::Code(0)), "{}", ""), "it is no daemon of ours");
        assert_eq!(judged(Some(Exit::Code(0)), "", ""), "it is no daemon of ours");
    }

    #[test]
    fn a_daemon_that_does_not_speak_as_this_one_does_is_refused() {
        let own = Findings::own();
        let newer = Findings { version: "9".into(), zone_protocol: [7, 8], ..own.clone() };
        let refused = newer.fits(&own, None).unwrap_err();
        assert!(refused.contains("7 to 8 of the zone protocol"), "{refused}");
        let wider = Findings { handover: [0, 99], ..own.clone() };
        assert_eq!(wider.fits(&own, None), Ok(()));
    }

    #[test]
    fn a_daemon_that_does_not_speak_as_the_oldest_cell_does_is_refused() {
        let own = Findings { zone_protocol: [1, 3], ..Findings::own() };
        let newer = Findings { zone_protocol: [2, 4], ..own.clone() };
        assert_eq!(newer.fits(&own, Some(2)), Ok(()));
        let refused = newer.fits(&own, Some(1)).unwrap_err();
        assert!(refused.contains("and the oldest cell 1"), "{refused}");
    }
}
