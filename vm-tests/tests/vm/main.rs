//! What a node does, asked from outside.
//!
//! One program, so that one node serves all tests that can share it.

#![forbid(unsafe_code)]

mod bad_input;
mod cycles;
mod executables;
mod isolation;
mod limits;
mod logs;
mod machine;
mod power;
mod restart;
mod tls;
mod zones;
