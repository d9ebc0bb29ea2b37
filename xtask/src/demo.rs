//! `make demo`: from a fresh clone to the line from a cell on a node.

use std::fs;
use std::process::Command;

use anyhow::{Result, bail};

use crate::build;
use crate::testbed::fleet::{self, TIME_TO_STOP};
use crate::testbed::node::{Node, Options};
use crate::testbed::qemu::Lifetime;
use crate::tools;
use crate::workspace::Workspace;

const EXAMPLE: &str = "examples/hello.ts";

/// Builds, boots a node, runs the example against it, powers the node off through the API.
///
/// # Errors
/// When any of that fails; what the node's console said is part of the text.
pub fn run(workspace: &Workspace) -> Result<()> {
    build::release(workspace)?;
    tools::progress("booting a node");
    // Beside the nodes that people name, and not in their way.
    let directory = workspace.testbed().join(format!("demo-{}", std::process::id()));
    let mut node =
        Node::start(workspace, Options::new("demo", directory.clone(), Lifetime::WithUs))?;
    node.wait_until_up()?;

    tools::progress(&format!("auraescript {EXAMPLE}"));
    let mut script = Command::new(workspace.binary());
    script
        .args(["auraescript", EXAMPLE])
        .current_dir(workspace.root())
        .env("AURAE_CONFIG", node.configuration());
    if let Err(error) = tools::run(&mut script) {
        bail!(node.report(&format!("{error:#}")));
    }

    tools::progress("aer node power-off");
    fleet::power_off(workspace, &node.configuration())?;
    match node.machine().wait(TIME_TO_STOP) {
        Some(status) if status.success() => {}
        Some(status) => bail!(node.report(&format!("the node's machine ended with {status}"))),
        None => bail!(node.report("the node did not power off")),
    }
    fs::remove_dir_all(&directory)?;
    tools::progress("done: the node is off");
    Ok(())
}
