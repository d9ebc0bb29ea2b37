//! What a daemon and the daemon of a zone tell each other over their line, beside the API.
//!
//! ```text
//! parent ─ Config ──────────▶ zone      before it is started; it reads it first. With it may come
//!                                       (SCM_RIGHTS) what holds programs to the usual devices
//! parent ◀───── Ready | Failed ─ zone   once
//! parent ◀──────────── Started ─ zone   for each process, named by SCM_CREDENTIALS
//! parent ─ Numbered ────────▶ zone      how the daemons above number that process
//! parent ─ Shutdown ────────▶ zone
//!
//! parent ─ Adopt ───────────▶ zone      through the door, with a new connection (SCM_RIGHTS):
//! parent ◀──── Adopted, Known… ─ zone   this line and that connection replace the old ones
//! ```
//!
//! The end of the line is no order: a parent that was killed, or is being replaced, comes back through
//! the door. Messages are protobuf, so that a newer daemon may add fields that an older zone leaves
//! alone; what an older one would misunderstand takes another [`VERSION`].

use std::time::Duration;

use aurae_model::IdRange;
use prost::Message;

/// The version of this protocol.
pub const VERSION: u32 = 1;

/// The oldest version that this daemon speaks with the other side.
pub const OLDEST: u32 = 1;

/// What a zone is to be.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Config {
    /// [`VERSION`] of the parent.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The zone's own name: the last label of its path.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Its cgroup below the mount, as the parent sees it.
    #[prost(string, tag = "3")]
    pub cgroup_path: String,
    /// It is pid 1 of its own pid namespace, with its own mounts, ipc and host name.
    #[prost(bool, tag = "4")]
    pub isolate_process: bool,
    /// It has its own network namespace.
    #[prost(bool, tag = "5")]
    pub isolate_network: bool,
    /// How much output of an executable is kept, in bytes, unless its start says otherwise.
    #[prost(uint64, tag = "6")]
    pub log_capacity: u64,
    /// Its path below the node, labels separated by `/`; empty for the zone of the node's own
    /// executables.
    #[prost(string, tag = "7")]
    pub path: String,
    /// Its executables may have its API on a socket.
    #[prost(bool, tag = "8")]
    pub api_socket: bool,
    /// The file systems that it sees are read-only to it.
    #[prost(bool, tag = "9")]
    pub read_only_root: bool,
    /// It has a `/tmp` of its own.
    #[prost(bool, tag = "10")]
    pub private_tmp: bool,
    /// `/proc` and `/sys` are as the kernel has them.
    #[prost(bool, tag = "11")]
    pub unmasked_paths: bool,
    /// It has a user namespace of its own, whose 0 is this user outside; see `users_count`.
    #[prost(uint32, tag = "12")]
    pub users_first: u32,
    /// How many users that namespace has. 0: there is no such namespace.
    #[prost(uint32, tag = "13")]
    pub users_count: u32,
}

impl Config {
    /// The users of its own user namespace.
    #[must_use]
    pub fn users(&self) -> Option<IdRange> {
        IdRange::new(self.users_first, self.users_count)
    }
}

/// From the parent to the zone, after [`Config`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Order {
    /// What it is told.
    #[prost(oneof = "Command", tags = "1, 2, 3")]
    pub command: Option<Command>,
}

/// What a zone is told.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Command {
    /// To end: what executables have between their stop signal and SIGKILL, in milliseconds.
    #[prost(uint64, tag = "1")]
    Shutdown(u64),
    /// How the daemons above number a process that it started.
    #[prost(message, tag = "2")]
    Numbered(Numbered),
    /// That it has a new parent, which speaks this version of the protocol.
    #[prost(uint32, tag = "3")]
    Adopt(u32),
}

/// The numbers of a process.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Numbered {
    /// As the zone numbers it.
    #[prost(int32, tag = "1")]
    pub pid: i32,
    /// As the daemons above number it: the parent first, the node last.
    #[prost(int32, repeated, tag = "2")]
    pub outer: Vec<i32>,
    /// In [`Known`]: when the zone was told them, in nanoseconds since the machine was started. 0: not
    /// said, which an older zone does not.
    #[prost(uint64, tag = "3")]
    pub since: u64,
}

/// From the zone to the parent.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Report {
    /// What it tells.
    #[prost(oneof = "Event", tags = "1, 2, 3, 4, 5")]
    pub event: Option<Event>,
}

/// What a zone tells.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Event {
    /// It takes requests, and speaks this version of the protocol: [`VERSION`] of the zone. Versions
    /// are told since 1, whose zones say `true`, which is written the same.
    #[prost(uint32, tag = "1")]
    Ready(u32),
    /// It could not be set up, and ends; or it does not take this parent.
    #[prost(string, tag = "2")]
    Failed(String),
    /// It started a process: its pid in the zone. The message's credentials name it to the parent.
    #[prost(int32, tag = "3")]
    Started(i32),
    /// It has taken its new parent. As with [`Event::Ready`].
    #[prost(uint32, tag = "4")]
    Adopted(u32),
    /// The numbers of processes, told before by an earlier parent.
    #[prost(message, tag = "5")]
    Known(Known),
}

/// The numbers of some processes.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Known {
    /// At most [`Known::MAX`], so that the message is short enough.
    #[prost(message, repeated, tag = "1")]
    pub processes: Vec<Numbered>,
}

impl Known {
    /// Each has at most 32 numbers of 11 bytes and a time, and a message 16 KiB.
    pub const MAX: usize = 32;
}

/// An encoded order to end.
#[must_use]
pub fn shutdown(grace: Duration) -> Vec<u8> {
    order(Command::Shutdown(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)))
}

/// An encoded order.
#[must_use]
pub fn order(command: Command) -> Vec<u8> {
    Order { command: Some(command) }.encode_to_vec()
}

/// An encoded report.
#[must_use]
pub fn report(event: Event) -> Vec<u8> {
    Report { event: Some(event) }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_says_no_version_speaks_the_first() {
        // Tag 1 and tag 4 as numbers that are not 0: how `true` is written.
        for (bytes, event) in [([0x08, 1], Event::Ready(1)), ([0x20, 1], Event::Adopted(1))] {
            assert_eq!(Report::decode(bytes.as_slice()).unwrap().event, Some(event));
        }
    }

    #[test]
    fn no_message_is_empty_which_on_the_line_is_its_end() {
        for command in
            [Command::Shutdown(0), Command::Numbered(Numbered::default()), Command::Adopt(0)]
        {
            let bytes = order(command.clone());
            assert!(!bytes.is_empty());
            assert_eq!(Order::decode(bytes.as_slice()).unwrap().command, Some(command));
        }
        for event in [Event::Ready(0), Event::Started(0), Event::Failed(String::new())] {
            assert!(!report(event).is_empty());
        }
    }
}
