//! What a Makefile would be, in Rust: the test bed that boots nodes in QEMU, the test suite, the demo.
//!
//! - [`workspace`]: where things are; [`tools`]: how other programs are run; [`debian`]: what they
//!   are installed from.
//! - [`testbed`]: a kernel, an initramfs, a machine, a node. `vm-tests` boots its nodes with it too.
//! - [`suite`]: `make test`, step by step, down to its last line.
//! - [`bench`]: `make bench`, a node beside its peers.
//! - [`build`]: `make build`; [`demo`]: `make demo`; [`fuzz`]: `make fuzz`; [`codegen`]: the TypeScript SDK's messages.

#![forbid(unsafe_code)]

pub mod bench;
pub mod build;
pub mod codegen;
pub mod debian;
pub mod demo;
pub mod fuzz;
pub mod suite;
pub mod testbed;
pub mod tools;
pub mod workspace;
