//! What a daemon hands to the version that takes over from it in the same process, and back if that
//! does not get ready.
//!
//! ```text
//! old ─Handover::execute─▶ new: Taken::from_environment ─▶ … ─▶ Taken::ready
//!  ▲                              └─ not ready in time, crashed, failed ─┐
//!  └──────────── the same descriptors and message, and why ──────────────┘
//! ```
//!
//! The message is in a sealed file in memory, whose descriptor [`VARIABLE`] tells. It is protobuf, so
//! that a newer daemon may add fields that an older one leaves alone; what an older one would
//! misunderstand takes another [`VERSION`]. Cells are not in it: a daemon finds them by itself.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aurae_kernel::memory_file::sealed;
use aurae_kernel::takeover::{self, Program, ROLLED_BACK};
use aurae_kernel::{Errno, Error, process, zone};
use prost::Message as _;

use crate::VERSION as OWN_VERSION;
use crate::runtime::base::Place;
use crate::runtime::upgrade::Outcome;
use crate::server::Address;
use crate::status::Degraded;

/// The version of [`Message`].
pub(crate) const VERSION: u32 = 1;
/// The oldest version that this daemon understands.
pub(crate) const OLDEST: u32 = 1;

/// The environment variable with the number of the message's descriptor.
const VARIABLE: &str = "AURAE_HANDOVER";
/// A message has a few hundred bytes; more than this is none.
const MAX_MESSAGE: u64 = 64 << 10;

/// What is handed on.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Message {
    /// [`VERSION`] of who hands on.
    #[prost(uint32, tag = "1")]
    version: u32,
    /// The versions of both daemons.
    #[prost(string, tag = "2")]
    from: String,
    #[prost(string, tag = "3")]
    to: String,
    /// The descriptor of the old daemon's program. It is not there on the way back.
    #[prost(int32, tag = "4")]
    image: RawFd,
    /// The descriptor of the lock on the runtime directory.
    #[prost(int32, optional, tag = "5")]
    lock: Option<RawFd>,
    #[prost(message, repeated, tag = "6")]
    sockets: Vec<Socket>,
    /// The daemon's place in the cgroup tree.
    #[prost(message, optional, tag = "7")]
    place: Option<CgroupPlace>,
    /// What failed in phases that the new daemon does not repeat.
    #[prost(message, repeated, tag = "8")]
    degraded: Vec<Failure>,
}

/// A socket that listens.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Socket {
    /// The address as it was asked for.
    #[prost(string, tag = "1")]
    address: String,
    #[prost(int32, tag = "2")]
    descriptor: RawFd,
}

/// As [`Place`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct CgroupPlace {
    #[prost(string, tag = "1")]
    base: String,
    #[prost(string, optional, tag = "2")]
    origin: Option<String>,
    #[prost(bool, tag = "3")]
    made: bool,
}

/// As [`Degraded`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Failure {
    #[prost(string, tag = "1")]
    phase: String,
    #[prost(string, tag = "2")]
    message: String,
}

/// What this daemon hands on.
#[derive(Debug)]
pub(super) struct Handover {
    /// The new daemon's program, and its version.
    pub(super) image: OwnedFd,
    pub(super) version: String,
    pub(super) lock: Option<OwnedFd>,
    pub(super) sockets: Vec<(Address, OwnedFd)>,
    pub(super) place: Option<Place>,
    pub(super) degraded: Vec<Degraded>,
}

impl Handover {
    /// Executes the new daemon. If the kernel does not, this one is executed again: its sockets wait.
    /// Returns only if that failed, too.
    pub(super) fn execute(self, arguments: &[OsString]) -> Error {
        let own = match zone::own_image() {
            Ok(own) => own,
            Err(error) => return error,
        };
        let message = match sealed(&self.message(&own).encode_to_vec()) {
            Ok(message) => message,
            Err(error) => return error,
        };
        let mut kept: Vec<BorrowedFd<'_>> = vec![own.as_fd(), message.as_fd()];
        kept.extend(self.lock.as_ref().map(AsFd::as_fd));
        kept.extend(self.sockets.iter().map(|(_, socket)| socket.as_fd()));
        let handover = variable(VARIABLE, &message.as_raw_fd().to_string());
        let program = |image, more: Option<CString>| Program {
            image,
            arguments: strings(arguments),
            environment: environment().into_iter().chain([handover.clone()]).chain(more).collect(),
        };
        let copy = |image: &OwnedFd| image.try_clone();
        let (Ok(new), Ok(old)) = (copy(&self.image), copy(&own)) else {
            return Error::new("copy a descriptor", Errno::MFILE);
        };
        let error = takeover::execute(&program(new, None), &kept);
        tracing::error!(error = crate::reply::text(&error), "the new daemon was not executed");
        let reason = variable(ROLLED_BACK, &crate::reply::text(&error));
        takeover::execute(&program(old, Some(reason)), &kept)
    }

    fn message(&self, own: &OwnedFd) -> Message {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let place = self.place.as_ref().map(|place| CgroupPlace {
            base: text(&place.base),
            origin: place.origin.as_ref().map(text),
            made: place.made,
        });
        let sockets = self.sockets.iter().map(|(address, socket)| Socket {
            address: address.to_string(),
            descriptor: socket.as_raw_fd(),
        });
        let degraded = self.degraded.iter().map(|degraded| Failure {
            phase: degraded.phase.clone().into_owned(),
            message: degraded.message.clone(),
        });
        Message {
            version: VERSION,
            from: OWN_VERSION.to_owned(),
            to: self.version.clone(),
            image: own.as_raw_fd(),
            lock: self.lock.as_ref().map(AsRawFd::as_raw_fd),
            sockets: sockets.collect(),
            place,
            degraded: degraded.collect(),
        }
    }
}

/// What this daemon was handed.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) lock: Option<OwnedFd>,
    pub(super) sockets: Vec<(Address, OwnedFd)>,
    pub(super) place: Option<Place>,
    pub(super) degraded: Vec<Degraded>,
    /// How the attempt ended, unless something else comes of it.
    pub(super) outcome: Outcome,
}

impl Taken {
    /// What the environment tells of; `None` where this daemon was started afresh. Unless it is the old
    /// one that comes back, the way back is open from here on.
    ///
    /// # Errors
    /// It cannot be taken up.
    pub(super) fn from_environment(arguments: &[OsString]) -> Result<Option<Self>, Error> {
        let Some(number) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let number: RawFd = number
            .to_str()
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| Error::new(format!("read {VARIABLE}"), Errno::INVAL))?;
        let message = read(number)?;
        let rolled_back = std::env::var_os(ROLLED_BACK);
        let rolled_back = rolled_back.map(|reason| reason.to_string_lossy().into_owned());
        let mut numbers = vec![number];
        numbers.extend(message.lock);
        numbers.extend(message.sockets.iter().map(|socket| socket.descriptor));
        if rolled_back.is_none() {
            numbers.push(message.image);
        }
        let mut kept = takeover::take(&numbers)?;
        let image = if rolled_back.is_none() { kept.pop() } else { None };
        let copies = kept.iter().map(OwnedFd::try_clone).collect::<Result<Vec<_>, _>>();
        if let Some(image) = image {
            let handover = variable(VARIABLE, &number.to_string());
            let environment = environment().into_iter().chain([handover]).collect();
            takeover::arm(Program { image, arguments: strings(arguments), environment }, kept)?;
        } else {
            takeover::disarm();
        }
        keep_name(arguments);
        let copies = copies
            .map_err(|error| Error::from_io("copy a descriptor that was handed over", &error))?;
        Self::take_up(message, copies, rolled_back.unwrap_or_default()).map(Some)
    }

    /// `given` are the message, the lock if there is one, and the sockets.
    fn take_up(message: Message, given: Vec<OwnedFd>, rolled_back: String) -> Result<Self, Error> {
        if !(OLDEST..=VERSION).contains(&message.version) && rolled_back.is_empty() {
            return Err(Error::new("understand the version of what was handed over", Errno::PROTO));
        }
        let mut given = given.into_iter().skip(1);
        let lock = message.lock.and_then(|_| given.next());
        let mut sockets = Vec::new();
        for (socket, descriptor) in message.sockets.iter().zip(given) {
            let address = socket.address.parse().map_err(|_| {
                Error::new(format!("understand the address {}", socket.address), Errno::INVAL)
            })?;
            sockets.push((address, descriptor));
        }
        let place = message.place.map(|place| Place {
            base: place.base.into(),
            origin: place.origin.map(PathBuf::from),
            made: place.made,
        });
        let degraded = message
            .degraded
            .into_iter()
            .map(|failure| Degraded { phase: failure.phase.into(), message: failure.message });
        let (from, to, time) = (message.from, message.to, SystemTime::now());
        let outcome = Outcome { from, to, time, rolled_back };
        Ok(Self { lock, sockets, place, degraded: degraded.collect(), outcome })
    }

    /// The socket that was asked for at `address`.
    pub(super) fn socket(&mut self, address: &Address) -> Option<OwnedFd> {
        let index = self.sockets.iter().position(|(known, _)| known == address)?;
        Some(self.sockets.swap_remove(index).1)
    }

    /// This daemon is ready: there is no way back any more.
    pub(super) fn ready(self) {
        takeover::disarm();
        match self.outcome.rolled_back.as_str() {
            "" => tracing::info!(from = self.outcome.from, "took over"),
            reason => tracing::error!(to = self.outcome.to, reason, "took back over"),
        }
    }
}

/// The kernel names a process after the file that it executes, which here has no name. A failure costs
/// what `ps` shows.
fn keep_name(arguments: &[OsString]) {
    let name = arguments.first().and_then(|path| Path::new(path).file_name()).unwrap_or_default();
    if let Ok(name) = CString::new(name.as_bytes()) {
        let _ = process::set_name(&name);
    }
}

fn read(number: RawFd) -> Result<Message, Error> {
    const OPERATION: &str = "read what was handed over";
    let failed = |error: std::io::Error| Error::from_io(OPERATION, &error);
    // Opened anew, so that the other descriptor's position is left alone.
    let file = File::open(format!("/proc/self/fd/{number}")).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_MESSAGE).read_to_end(&mut bytes).map_err(failed)?;
    Message::decode(bytes.as_slice()).map_err(|_| Error::new(OPERATION, Errno::PROTO))
}

/// This process's environment without what is about a handover.
pub(super) fn environment() -> Vec<CString> {
    let own = std::env::vars_os();
    let own = own.filter(|(name, _)| name != VARIABLE && name != ROLLED_BACK);
    own.filter_map(|(name, value)| {
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
    })
    .collect()
}

/// As strings of C. The kernel gave them, so none has a zero in it.
pub(super) fn strings(words: &[OsString]) -> Vec<CString> {
    words.iter().filter_map(|word| CString::new(word.as_bytes()).ok()).collect()
}

fn variable(name: &str, value: &str) -> CString {
    CString::new(format!("{name}={value}").replace('\0', " ")).unwrap_or_default()
}
