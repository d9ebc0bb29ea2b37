//! What a node does, asked from outside.
//!
//! One program, so that one node serves all tests that can share it.

#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a test that does not get what it needs fails")]

mod bad_input;
mod copies;
mod costs;
mod cycles;
mod escape;
mod executables;
mod freeze;
mod isolation;
mod killed;
mod limits;
mod logs;
mod machine;
mod policies;
mod power;
mod restarts;
mod revocation;
mod routing;
mod sessions;
mod tls;
mod update;
mod upgrade;
mod users;
mod watch;
mod zones;
