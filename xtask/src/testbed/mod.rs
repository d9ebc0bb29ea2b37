//! Nodes in QEMU, without root: what they boot, the machines they run in, and their state.
//!
//! A node is made in this order: [`kernel`] (downloaded once), [`initramfs`] (our binary as `/init`,
//! the [`modules`] it loads, BusyBox, certificates from [`pki`]) packed by [`cpio`], a machine from
//! [`qemu`] with the acceleration that [`accel`] found to work, spoken to over [`qmp`]; [`node`]
//! puts them together and waits until the API answers; [`fleet`] keeps those that people name.

pub mod accel;
pub mod console;
pub mod cpio;
pub mod fleet;
pub mod initramfs;
pub mod kernel;
pub mod modules;
pub mod node;
pub mod pki;
pub mod qemu;
pub mod qmp;
