//! What a daemon and the daemon of a zone tell each other over their line, beside the API.
//!
//! ```text
//! parent ─ Config ──────────▶ zone      before it is started; it reads it first
//! parent ◀───── Ready | Failed ─ zone   once
//! parent ◀──────────── Started ─ zone   for each process, named by SCM_CREDENTIALS
//! parent ─ Shutdown ────────▶ zone      end of the line means the same
//! ```
//!
//! Messages are protobuf, so that a newer daemon may add fields that an older zone leaves alone.

use std::time::Duration;

use prost::Message;

/// The version of this protocol; a zone refuses a configuration of another one.
pub const VERSION: u32 = 1;

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
}

/// From the parent to the zone, after [`Config`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Shutdown {
    /// What executables have between SIGTERM and SIGKILL, in milliseconds. Always there: without it
    /// the message would be empty, which on the line is its end.
    #[prost(uint64, optional, tag = "1")]
    grace_millis: Option<u64>,
}

impl Shutdown {
    /// An encoded request to end.
    #[must_use]
    pub fn encode(grace: Duration) -> Vec<u8> {
        let grace_millis = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        Self { grace_millis: Some(grace_millis) }.encode_to_vec()
    }

    /// What executables have between SIGTERM and SIGKILL.
    #[must_use]
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_millis.unwrap_or_default())
    }
}

/// From the zone to the parent.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Report {
    /// What it tells.
    #[prost(oneof = "Event", tags = "1, 2, 3")]
    pub event: Option<Event>,
}

/// What a zone tells.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Event {
    /// It takes requests.
    #[prost(bool, tag = "1")]
    Ready(bool),
    /// It could not be set up, and ends.
    #[prost(string, tag = "2")]
    Failed(String),
    /// It started a process: its pid in the zone. The message's credentials name it to the parent.
    #[prost(int32, tag = "3")]
    Started(i32),
}

/// An encoded "ready".
#[must_use]
pub fn ready() -> Vec<u8> {
    Report { event: Some(Event::Ready(true)) }.encode_to_vec()
}

/// An encoded "failed".
#[must_use]
pub fn failed(message: String) -> Vec<u8> {
    Report { event: Some(Event::Failed(message)) }.encode_to_vec()
}

/// An encoded "started".
#[must_use]
pub fn started(pid: i32) -> Vec<u8> {
    Report { event: Some(Event::Started(pid)) }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_to_end_at_once_is_not_the_end_of_the_line() {
        let order = Shutdown::encode(Duration::ZERO);
        assert!(!order.is_empty());
        assert_eq!(Shutdown::decode(order.as_slice()).unwrap().grace(), Duration::ZERO);
    }
}
