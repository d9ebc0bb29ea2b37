//! The test bed's certificates: one authority and one client for all nodes, made by our own
//! `aer pki`, kept until they are older than [`MAX_AGE`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::testbed::cpio::Archive;
use crate::tools;
use crate::workspace::Workspace;

/// Far below what `aer pki` gives a certificate to live.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Who the client is.
const CLIENT: &str = "testbed";
/// The files of a node, in `/etc/aurae/pki` and in the directory that `aer pki init` fills.
pub const NODE_FILES: [&str; 3] = ["ca.crt", "_signed.server.crt", "server.key"];

/// A directory with an authority, a node's certificate and a client's.
#[derive(Clone, Debug)]
pub struct Pki {
    directory: PathBuf,
}

impl Pki {
    /// The test bed's certificates, made when there are none or they are old.
    ///
    /// # Errors
    /// When `aer pki` fails.
    pub fn ensure(workspace: &Workspace) -> Result<Self> {
        // Not `pki`: certificates that older versions made there have no role.
        let pki = Self { directory: workspace.testbed().join("pki-with-roles") };
        if pki.is_fresh() {
            return Ok(pki);
        }
        let _lock = workspace.lock()?;
        if !pki.is_fresh() {
            pki.make(&workspace.binary())?;
        }
        Ok(pki)
    }

    /// Makes an authority of its own in an empty or missing directory.
    ///
    /// # Errors
    /// When `aer pki` fails.
    pub fn create(binary: &Path, directory: &Path) -> Result<Self> {
        let pki = Self { directory: directory.to_owned() };
        pki.make(binary)?;
        Ok(pki)
    }

    /// A file of the directory, `ca.crt` or `ca.key` for example.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The client's certificate.
    pub fn client_crt(&self) -> PathBuf {
        self.file(&format!("{CLIENT}.crt"))
    }

    /// The client's private key.
    pub fn client_key(&self) -> PathBuf {
        self.file(&format!("{CLIENT}.key"))
    }

    /// Puts a node's files where the daemon looks for them.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn add_to(&self, archive: &mut Archive) -> Result<()> {
        archive.directory("etc/aurae/pki", 0o700);
        for name in NODE_FILES {
            let path = self.file(name);
            let bytes =
                fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
            archive.file(&format!("etc/aurae/pki/{name}"), 0o600, bytes);
        }
        Ok(())
    }

    /// The text of a configuration file for clients of a node.
    pub fn configuration(&self, port: u16) -> String {
        let quoted = |path: PathBuf| format!("{:?}", path.display().to_string());
        format!(
            "[auth]\nca_crt = {}\nclient_crt = {}\nclient_key = {}\n\n[system]\nsocket = \"127.0.0.1:{port}\"\n",
            quoted(self.file("ca.crt")),
            quoted(self.client_crt()),
            quoted(self.client_key()),
        )
    }

    fn is_fresh(&self) -> bool {
        // The client's key is made last.
        let made = fs::metadata(self.client_key()).and_then(|metadata| metadata.modified());
        made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age < MAX_AGE))
    }

    fn make(&self, binary: &Path) -> Result<()> {
        if self.directory.exists() {
            fs::remove_dir_all(&self.directory)
                .with_context(|| format!("failed to remove {}", self.directory.display()))?;
        }
        tools::progress("making certificates");
        tools::output(
            Command::new(binary).args(["aer", "pki", "init"]).arg(&self.directory).args([
                "--node-name",
                "node",
                "--address",
                "127.0.0.1",
                "--client",
                CLIENT,
            ]),
        )?;
        Ok(())
    }
}
