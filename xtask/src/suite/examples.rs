//! Every example, run against a node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Context;
use crate::testbed::node::{Node, Options};
use crate::testbed::qemu::Lifetime;
use crate::tools;
use crate::workspace::Workspace;

/// Runs each with auraescript.
pub(super) fn run(context: &mut Context) -> Result<()> {
    let workspace = context.workspace.clone();
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
    node.machine().kill();
    Ok(())
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
