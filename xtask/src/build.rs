//! Builds what ships.

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

/// Builds the release binary. The whole workspace is named, so that the dependencies get the same
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
