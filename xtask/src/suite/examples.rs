//! Every example, run against a node: with auraescript, and where they can be had with deno and node,
//! which have to do the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::Context;
use super::runtimes::Runtimes;
use crate::testbed::node::{Node, Options};
use crate::testbed::qemu::Lifetime;
use crate::tools;
use crate::workspace::Workspace;

/// Runs each with auraescript.
pub(super) fn run(context: &mut Context) -> Result<()> {
    let workspace = context.shipping()?;
    let examples = find(&workspace.root().join("examples"))?;
    let directory = workspace.testbed().join("examples-node");
    let mut node = Node::start(&workspace, Options::new("examples", directory, Lifetime::WithUs))?;
    node.wait_until_up()?;
    for example in examples {
        let name = example.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let result = run_one(&workspace, &example, &node.configuration());
        let result = result.map_err(|error| anyhow::anyhow!(node.report(&format!("{error:#}"))));
        context.tally.check(&format!("example {name}"), result);
    }
    match Runtimes::ensure(&workspace) {
        Ok(runtimes) => compare(context, &runtimes, &node)?,
        Err(error) => {
            let why = format!("there is no deno and no node: {error:#}");
            context.tally.skip("the examples do the same under deno and node", &why);
        }
    }
    node.machine().kill();
    Ok(())
}

/// Counts what the SDK's own test reports, a line each.
fn compare(context: &mut Context, runtimes: &Runtimes, node: &Node) -> Result<()> {
    let workspace = &context.shipping()?;
    let output = Command::new(runtimes.node())
        .args(["scripts/test.mjs", "--auraescript"])
        .arg(format!("{} auraescript", workspace.binary().display()))
        .current_dir(workspace.root().join("sdk/typescript"))
        .env("AURAE_CONFIG", node.configuration())
        .stdin(Stdio::null())
        .output()
        .context("failed to run node")?;
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}{}", String::from_utf8_lossy(&output.stderr));
    let (passed, failed) = count(&said);
    if failed.is_empty() && !output.status.success() {
        bail!("the SDK's test ended with {}", output.status);
    }
    context.tally.count(passed, failed, Vec::new());
    Ok(())
}

/// How many checks passed, and the names of those that failed.
fn count(said: &str) -> (usize, Vec<String>) {
    let passed = said.lines().filter(|line| line.starts_with("ok: ")).count();
    let failed = said.lines().filter_map(|line| line.strip_prefix("FAILED: "));
    (passed, failed.map(str::to_owned).collect())
}

fn run_one(workspace: &Workspace, example: &Path, configuration: &Path) -> Result<()> {
    let said = tools::output(
        Command::new(workspace.binary())
            .arg("auraescript")
            .arg(example)
            .env("AURAE_CONFIG", configuration),
    )?;
    print!("{said}");
    Ok(())
}

fn find(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .with_context(|| format!("failed to list {}", directory.display()))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "ts"))
        .collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdks_report_is_counted_line_by_line() {
        let (passed, failed) = count("ok: a\nFAILED: b\nwhy\nok: c\n2 passed, 1 failed\n");
        assert_eq!((passed, failed), (2, vec!["b".to_owned()]));
    }
}
