//! The bench, in short: whether everything can be measured.

use anyhow::Result;

use super::Context;
use crate::bench;
use crate::tools;

/// Measures each figure a few times on this machine itself.
pub(super) fn run(context: &mut Context) -> Result<()> {
    const NAME: &str = "the bench measures every figure";
    if !tools::is_root() {
        context.tally.skip(NAME, "measuring on this machine itself needs root");
        return Ok(());
    }
    let result = bench::quick(&context.workspace);
    context.tally.check(NAME, result);
    Ok(())
}
