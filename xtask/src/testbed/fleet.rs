//! The nodes that people start by name, and their state: `cargo xtask node …`.
//!
//! A node's directory is its state; it runs as long as QEMU's monitor in it answers.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::testbed::console;
use crate::testbed::node::{self, Node, Options};
use crate::testbed::qemu::{self, Lifetime};
use crate::tools;
use crate::workspace::Workspace;

/// How long an orderly shutdown may take before the plug is pulled.
pub const TIME_TO_STOP: Duration = Duration::from_secs(60);
/// The name of a node that was given none.
pub const DEFAULT_NAME: &str = "node";
/// The API's port in the node.
const API_PORT: u16 = 8080;

/// What `node up` was asked for.
#[derive(Clone, Debug)]
pub struct Up {
    /// The node's name.
    pub name: String,
    /// How many CPUs it has.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Kernel arguments, `aurae.…` for example.
    pub append: Vec<String>,
    /// Returns when the node is up instead of showing its console.
    pub detach: bool,
}

/// Starts a node and says where it is, in one line on standard output.
///
/// # Errors
/// When a node of that name runs, or it does not come up.
pub fn up(workspace: &Workspace, what: Up) -> Result<()> {
    check_name(&what.name)?;
    let directory = workspace.nodes().join(&what.name);
    if let Ok(mut monitor) = qemu::monitor(&directory) {
        let port = monitor.forwarded_port(API_PORT)?;
        bail!(
            "node {0} runs already, at 127.0.0.1:{port}: stop it with `cargo xtask node down {0}`, or choose another --name",
            what.name
        );
    }
    let lifetime = if what.detach { Lifetime::Detached } else { Lifetime::WithUs };
    let mut options = Options::new(&what.name, directory, lifetime);
    options.cpus = what.cpus;
    options.memory_mib = what.memory_mib;
    options.append = what.append;
    tools::progress(&format!("booting node {}", what.name));
    let mut node = Node::start(workspace, options)?;
    if let Err(error) = node.wait_until_up() {
        node.machine().kill();
        return Err(error);
    }
    println!(
        "node {} is up: 127.0.0.1:{}, configuration {}",
        node.name(),
        node.port(),
        node.configuration().display()
    );
    if what.detach { Ok(()) } else { stay(workspace, &mut node) }
}

/// Shows the console on standard error until the node ends; Ctrl-C shuts it down.
fn stay(workspace: &Workspace, node: &mut Node) -> Result<()> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .context("failed to listen to signals")?;
    }
    tools::progress("Ctrl-C powers the node off");
    let path = node.machine().console();
    let mut failed = None;
    console::follow(&path, &mut io::stderr(), || {
        if interrupted.swap(false, Ordering::Relaxed) && failed.is_none() {
            failed = down(workspace, node.name()).err();
        }
        failed.is_some() || node.machine().ended().is_some()
    })?;
    failed.map_or(Ok(()), Err)
}

/// Shuts a node down: through the API, else by its power button, else by pulling the plug.
///
/// # Errors
/// When no node of that name runs.
pub fn down(workspace: &Workspace, name: &str) -> Result<()> {
    check_name(name)?;
    let directory = workspace.nodes().join(name);
    let mut monitor =
        qemu::monitor(&directory).map_err(|_| anyhow::anyhow!("no node {name} runs"))?;
    tools::progress(&format!("powering node {name} off"));
    if power_off(workspace, &node::configuration(&directory)).is_err() {
        monitor.execute("system_powerdown", json!({}))?;
    }
    let ended = tools::wait_until(TIME_TO_STOP, || {
        Ok(monitor.execute("query-status", json!({})).is_err())
    })?;
    if !ended {
        tools::progress(&format!(
            "node {name} did not stop within {} s: pulling the plug",
            TIME_TO_STOP.as_secs()
        ));
        let _ = monitor.execute("quit", json!({}));
        bail!(qemu::report(&directory, &format!("node {name} did not shut down in order")));
    }
    Ok(())
}

/// Asks a node over its API to switch itself off.
///
/// # Errors
/// When it does not answer or refuses.
pub fn power_off(workspace: &Workspace, configuration: &std::path::Path) -> Result<String> {
    tools::output(
        Command::new(workspace.binary()).arg("aer").arg("--config").arg(configuration).args([
            "node",
            "power-off",
            "--yes",
        ]),
    )
}

/// Shows a node's console until it ends.
///
/// # Errors
/// When there never was a node of that name.
pub fn show_console(workspace: &Workspace, name: &str) -> Result<()> {
    check_name(name)?;
    let directory = workspace.nodes().join(name);
    let path = qemu::console_path(&directory);
    if !path.exists() {
        bail!("there is no node {name}: start it with `cargo xtask node up --name {name}`");
    }
    console::follow(&path, &mut io::stdout(), || qemu::monitor(&directory).is_err())
}

/// Lists the nodes that run, a line each.
///
/// # Errors
/// When the state cannot be read.
pub fn list(workspace: &Workspace) -> Result<()> {
    for (name, directory) in directories(workspace)? {
        if let Ok(mut monitor) = qemu::monitor(&directory) {
            let port = monitor.forwarded_port(API_PORT)?;
            println!(
                "node {name} is up: 127.0.0.1:{port}, configuration {}",
                node::configuration(&directory).display()
            );
        }
    }
    Ok(())
}

fn directories(workspace: &Workspace) -> Result<Vec<(String, PathBuf)>> {
    let parent = workspace.nodes();
    if !parent.exists() {
        return Ok(Vec::new());
    }
    let mut found: Vec<(String, PathBuf)> = fs::read_dir(&parent)
        .with_context(|| format!("failed to list {}", parent.display()))?
        .filter_map(Result::ok)
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .collect();
    found.sort();
    Ok(found)
}

/// A name becomes a directory and a host name.
fn check_name(name: &str) -> Result<()> {
    let fine = !name.is_empty()
        && name.len() <= 63
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !fine {
        bail!(
            "`{name}` is no name for a node: 1 to 63 letters, digits and `-`, which is not first or last"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_the_directory_are_refused() {
        for name in ["", "../x", "a/b", "-a", "a-", "a b"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("web-1").is_ok());
    }
}
