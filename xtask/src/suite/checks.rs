//! Formatting and lints.

use anyhow::Result;

use super::Context;
use crate::build::cargo;
use crate::tools;

/// Checks the formatting.
pub(super) fn fmt(context: &mut Context) -> Result<()> {
    let result = tools::run(&mut cargo(&context.workspace, &["fmt", "--all", "--check"]));
    context.tally.check("formatting", result);
    Ok(())
}

/// Runs clippy over everything, in the profile of all else, so that build scripts and macros are
/// shared with it.
pub(super) fn clippy(context: &mut Context) -> Result<()> {
    let arguments =
        ["clippy", "--release", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
    let result = tools::run(&mut cargo(&context.workspace, &arguments));
    context.tally.check("clippy", result);
    Ok(())
}
