//! A client for v0 that shares nothing with this project but the description of the API: its own
//! `.proto` file, another language, another TLS library (`vm-tests/v0-client`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Context;
use crate::debian::{self, Need};
use crate::testbed::node::{Node, Options};
use crate::testbed::qemu::Lifetime;
use crate::tools;
use crate::workspace::{Workspace, write_whole};

const NAME: &str = "a client of v0 drives a node";
const PYTHON: Need = Need { program: "python3", package: "python3" };

/// Runs it against a node.
pub(super) fn run(context: &mut Context) -> Result<()> {
    let workspace = context.shipping()?;
    let source = workspace.root().join("vm-tests/v0-client");
    let python = match python(&workspace, &source) {
        Ok(python) => python,
        Err(error) => {
            context.tally.skip(NAME, &format!("there is no gRPC for Python: {error:#}"));
            return Ok(());
        }
    };
    let directory = workspace.testbed().join("v0-node");
    let mut node = Node::start(&workspace, Options::new("v0", directory, Lifetime::WithUs))?;
    node.wait_until_up()?;
    let result = tools::run(
        Command::new(python)
            .arg(source.join("client.py"))
            .arg(node.configuration())
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    );
    let result = result.map_err(|error| anyhow::anyhow!(node.report(&format!("{error:#}"))));
    context.tally.check(NAME, result);
    node.machine().kill();
    Ok(())
}

/// A Python with the packages that the client names, below the target directory.
fn python(workspace: &Workspace, source: &Path) -> Result<PathBuf> {
    let directory = workspace.testbed().join("python");
    let python = directory.join("bin/python3");
    let requirements = source.join("requirements.txt");
    let wanted = fs::read_to_string(&requirements)
        .with_context(|| format!("failed to read {}", requirements.display()))?;
    let marker = directory.join(".complete");
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    debian::ensure(&[PYTHON])?;
    if tools::output(Command::new("python3").args(["-c", "import ensurepip"])).is_err() {
        debian::install(&["python3-venv"])?;
    }
    tools::progress("installing gRPC for Python");
    tools::output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory))?;
    tools::output(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(&requirements),
    )?;
    write_whole(&marker, wanted.as_bytes())?;
    Ok(python)
}
