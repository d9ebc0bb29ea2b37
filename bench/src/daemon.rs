//! Our daemon beside whatever is this machine's init, and a connection to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aurae_client::{Address, Client, Identity, Node};
use rustix::process::{Pid, Signal, kill_process};

use crate::process;

/// Who measures.
const CLIENT: &str = "bench";
/// How long a daemon has to answer.
const TIME_TO_ANSWER: Duration = Duration::from_secs(60);
/// How long it has to end.
const TIME_TO_END: Duration = Duration::from_secs(60);

/// Certificates of one authority, and the files that name them.
#[derive(Clone, Debug)]
pub(crate) struct Pki {
    directory: PathBuf,
}

impl Pki {
    /// New ones, by our own command line, for servers that are reached at these addresses.
    pub(crate) fn make(aurae: &Path, directory: &Path, addresses: &[String]) -> Result<Self> {
        let mut command = Command::new(aurae);
        command.args(["aer", "pki", "init"]).arg(directory).args(["--client", CLIENT]);
        for address in addresses {
            command.args(["--address", address]);
        }
        process::run(&mut command)?;
        Ok(Self::of(directory))
    }

    /// Those of a directory.
    pub(crate) fn of(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity_of(CLIENT)
    }

    fn identity_of(&self, client: &str) -> Identity {
        Identity {
            ca_crt: self.file("ca.crt"),
            client_crt: self.file(&format!("{client}.crt")),
            client_key: self.file(&format!("{client}.key")),
        }
    }

    /// A connection as this client.
    pub(crate) async fn connect_as(&self, client: &str, address: &str) -> Result<Client> {
        let address: Address = address.parse().context("no address")?;
        let node = Node::new("bench", address, self.identity_of(client));
        Client::connect(&node).await.context("failed to connect")
    }

    /// The text of a client's configuration file, for nodes by name and address.
    pub(crate) fn configuration(&self, system: &str, nodes: &[(String, String)]) -> String {
        let identity = self.identity();
        let mut text = format!(
            "[auth]\nca_crt = {:?}\nclient_crt = {:?}\nclient_key = {:?}\n\n[system]\nsocket = {system:?}\n",
            identity.ca_crt, identity.client_crt, identity.client_key
        );
        for (name, socket) in nodes {
            text.push_str(&format!("\n[nodes.{name}]\nsocket = {socket:?}\n"));
        }
        text
    }
}

/// A daemon; dropped, it is ended.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    pki: Pki,
    directory: PathBuf,
    /// The configuration file of its clients.
    pub(crate) configuration: PathBuf,
}

/// Where the daemon listens, beside a socket in its directory.
pub(crate) const ADDRESS: &str = "127.0.0.1:18080";

impl Daemon {
    /// Starts one, which has a directory of its own, and waits until it answers.
    pub(crate) fn start(aurae: &Path, directory: &Path, pki: &Pki) -> Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("failed to make {}", directory.display()))?;
        let mut command = command(aurae, directory, pki, ADDRESS);
        command.arg("-s").arg(directory.join("aurae.sock"));
        let child = command.spawn().context("failed to start auraed")?;
        let configuration = directory.join("config");
        fs::write(&configuration, pki.configuration(ADDRESS, &[]))
            .context("failed to write the clients' configuration")?;
        let mut daemon =
            Self { child, pki: pki.clone(), directory: directory.to_owned(), configuration };
        daemon.wait(aurae)?;
        Ok(daemon)
    }

    fn wait(&mut self, aurae: &Path) -> Result<()> {
        let ended = process::until(TIME_TO_ANSWER, || {
            let mut discover = Command::new(aurae);
            discover.args(["aer", "--config"]).arg(&self.configuration);
            let told = process::run(discover.args(["discovery", "discover"]));
            match (told, self.child.try_wait().context("failed to look at auraed")?) {
                (Ok(()), _) => Ok(None),
                (Err(_), Some(status)) => Ok(Some(status)),
                (Err(error), None) => Err(error),
            }
        });
        match ended.context("auraed does not answer")? {
            None => Ok(()),
            Some(status) => {
                bail!("auraed ended with {status}; see {}", self.directory.display())
            }
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or_default()
    }

    /// The CPU time that it has had, and all that it has ever started.
    pub(crate) fn cpu(&self) -> Result<process::Cpu> {
        process::Cpu::around(self.pid())
    }

    /// A connection over TCP.
    pub(crate) async fn tcp(&self) -> Result<Client> {
        self.connect(ADDRESS).await
    }

    /// A connection over its unix socket.
    pub(crate) async fn unix(&self) -> Result<Client> {
        self.connect(&self.directory.join("aurae.sock").display().to_string()).await
    }

    async fn connect(&self, address: &str) -> Result<Client> {
        connect(&self.pki, address).await
    }
}

/// A connection with these certificates.
pub(crate) async fn connect(pki: &Pki, address: &str) -> Result<Client> {
    pki.connect_as(CLIENT, address).await
}

/// A command line that starts a daemon.
pub(crate) fn command(aurae: &Path, directory: &Path, pki: &Pki, address: &str) -> Command {
    let mut command = Command::new(aurae);
    command
        .args(["auraed", "-s", address, "-r"])
        .arg(directory.join("run"))
        .arg("-l")
        .arg(directory.join("lib"))
        .arg("--server-crt")
        .arg(pki.file("_signed.server.crt"))
        .arg("--server-key")
        .arg(pki.file("server.key"))
        .arg("--ca-crt")
        .arg(pki.file("ca.crt"))
        .stdin(Stdio::null());
    match fs::File::create(directory.join("auraed.log")) {
        Ok(log) => {
            command.stdout(Stdio::null()).stderr(log);
        }
        Err(_) => {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
    }
    command
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.pid()) {
            // It may have ended.
            let _ = kill_process(pid, Signal::TERM);
        }
        let ended = process::until(TIME_TO_END, || match self.child.try_wait() {
            Ok(None) => bail!("auraed does not end"),
            _ => Ok(()),
        });
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
