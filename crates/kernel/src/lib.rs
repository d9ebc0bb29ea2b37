//! Safe wrappers over what the daemon needs of Linux: the only home of `unsafe` beside the VMM.
//!
//! **Invariants**: every descriptor is owned (`OwnedFd`) and close-on-exec; none starts a
//! thread, and only `readiness` and `signals` know of an async runtime; an error names the operation and carries the kernel's own word.

mod error;

pub mod cgroup;
pub mod cgroup_namespace;
pub mod confine;
pub mod console;
pub mod device;
pub mod kernel_log;
pub mod landlock;
pub mod memory_file;
pub mod module;
pub mod mount;
pub mod power;
pub mod probe;
pub mod process;
pub mod readiness;
pub mod seccomp;
pub mod seqpacket;
pub mod signals;
pub mod spawn;
pub mod takeover;
pub mod terminal;
pub mod users;
pub mod zone;

pub use error::{Error, Result};
pub use rustix::io::Errno;
