//! What the binary that ships promises of itself.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Context;
use crate::tools;

/// The budget: all of it, in bytes.
const SIZE_LIMIT: u64 = 20 * 1000 * 1000;
/// The names it answers to. `--help` of each has to say the name.
const NAMES: [&str; 4] = ["auraed", "init", "aer", "auraescript"];

/// Checks that it is static, small, and starts as each of its names.
pub(super) fn check(context: &mut Context) -> Result<()> {
    let binary = context.shipping()?.binary();
    let tally = &mut context.tally;
    tally.check("the binary is static", is_static(&binary));
    tally.check("the binary is within its size", is_small(&binary));
    let directory = context.workspace.testbed().join("names");
    fs::create_dir_all(&directory)
        .with_context(|| format!("failed to make {}", directory.display()))?;
    for name in NAMES {
        let mut as_argument = Command::new(&binary);
        as_argument.arg(name);
        tally.check(&format!("`aurae {name}` starts"), starts(as_argument, name));
        let link = directory.join(name);
        let _ = fs::remove_file(&link);
        symlink(&binary, &link).with_context(|| format!("failed to make {}", link.display()))?;
        tally.check(&format!("a link `{name}` starts"), starts(Command::new(&link), name));
    }
    Ok(())
}

/// `ldd` fails for a static program, and says so.
fn is_static(binary: &Path) -> Result<()> {
    let output = Command::new("ldd").arg(binary).output().context("failed to run ldd")?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if !said.contains("not a dynamic executable") && !said.contains("statically linked") {
        bail!("ldd {} says: {said}", binary.display());
    }
    Ok(())
}

fn is_small(binary: &Path) -> Result<()> {
    let size = fs::metadata(binary)
        .with_context(|| format!("{} is missing: run `make build`", binary.display()))?
        .len();
    println!("the binary has {:.1} MB", size as f64 / 1e6);
    if size > SIZE_LIMIT {
        bail!("{} has {size} bytes, of {SIZE_LIMIT} that it may have", binary.display());
    }
    Ok(())
}

fn starts(mut command: Command, name: &str) -> Result<()> {
    let help = tools::output(command.arg("--help"))?;
    // `init` is `auraed`.
    if !help.contains(name) && !help.contains("auraed") {
        bail!("its help does not say what it is: {help}");
    }
    Ok(())
}
