//! Builds the binary: for tests, and as it ships.

use std::process::Command;

use anyhow::Result;

use crate::debian;
use crate::tools;
use crate::workspace::{BINARY_VARIABLE, Workspace};

/// A `cargo` command in the repository. What it says of its own progress goes to standard error.
pub fn cargo(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(workspace.root());
    command
}

/// Builds the binary that ships: the same sources, optimized over all crates at once, which takes too long
/// for what is built again and again.
///
/// # Errors
/// When it does not compile.
pub fn shipped(workspace: &Workspace) -> Result<()> {
    if std::env::var_os(BINARY_VARIABLE).is_some() {
        return Ok(());
    }
    debian::ensure(&[debian::C_COMPILER])?;
    tools::progress(
        "building the binary that ships; the first time takes ten minutes on two cores",
    );
    let arguments = ["build", "--profile", "dist", "--locked", "--package", "aurae"];
    tools::run(&mut cargo(workspace, &arguments))
}

/// Builds the release binary, which the tests run. The whole workspace is named, so that the dependencies get the same
/// features as in the tests, and are compiled once for both.
///
/// # Errors
/// When it does not compile.
pub fn release(workspace: &Workspace) -> Result<()> {
    if std::env::var_os(BINARY_VARIABLE).is_some() {
        return Ok(());
    }
    debian::ensure(&[debian::C_COMPILER])?;
    tools::progress("building the release binary");
    tools::run(&mut cargo(workspace, &["build", "--release", "--locked", "--workspace"]))
}
