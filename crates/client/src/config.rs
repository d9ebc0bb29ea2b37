//! The client configuration: who we are, and which nodes there are.
//!
//! ```toml
//! [auth]                                  # who we are
//! ca_crt = "~/.aurae/pki/ca.crt"
//! client_crt = "~/.aurae/pki/client.crt"
//! client_key = "~/.aurae/pki/client.key"
//!
//! [system]                                # the node that is meant where none is named
//! socket = "[fe80::1%eth0]:8080"          # a path, or an IP address and a port
//!
//! [nodes.db1]                             # `--node db1`
//! socket = "10.0.0.7:8080"
//! ca_crt = "db/ca.crt"                    # optional, as client_crt and client_key: [auth]'s
//! ```
//!
//! A leading `~` is the home directory; other relative paths are relative to the file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use aurae_model::ZonePath;
use serde::Deserialize;

use crate::address::{Address, AddressError};

/// The socket of a daemon on this machine, used where the configuration names no node.
pub const DEFAULT_SOCKET: &str = "/var/run/aurae/aurae.sock";

/// The environment variable that names the configuration file.
pub const CONFIG_VARIABLE: &str = "AURAE_CONFIG";

/// Where a configuration is looked for below the home directory, before [`SYSTEM_PLACES`].
const HOME_PLACE: &str = ".aurae/config";

/// Where a configuration is looked for, in this order.
const SYSTEM_PLACES: [&str; 2] = ["/etc/aurae/config", "/var/lib/aurae/config"];

/// What a node is called in the configuration; for the node of `[system]`, its address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(String);

impl NodeName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The files that prove who we are, and by which we know a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificates of the authorities that a node's certificate may be signed by (PEM).
    pub ca_crt: PathBuf,
    /// Our certificate, with the chain below the authority (PEM).
    pub client_crt: PathBuf,
    /// Our private key (PEM).
    pub client_key: PathBuf,
}

/// A node: where it listens, and who we are to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The name.
    pub name: NodeName,
    /// Where its daemon listens.
    pub address: Address,
    /// The files for mutual TLS.
    pub identity: Identity,
    /// The zone below it that calls are for. Unset: the node's own.
    pub zone: Option<ZonePath>,
}

impl Node {
    /// A node without a configuration file.
    pub fn new(name: impl Into<String>, address: Address, identity: Identity) -> Self {
        Self { name: NodeName(name.into()), address, identity, zone: None }
    }
}

/// A configuration that was read.
#[derive(Debug, Clone)]
pub struct Config {
    path: PathBuf,
    auth: Option<Identity>,
    system: Option<Address>,
    nodes: BTreeMap<String, Node>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No file at any of the places.
    #[error(
        "no client configuration found: looked at {}; write one of them (`aer pki init DIR --client NAME` makes certificates and a configuration), or name a file with --config or AURAE_CONFIG",
        list(.0)
    )]
    NotFound(Vec<PathBuf>),
    /// The file is there, or was named, and cannot be read.
    #[error("failed to read the client configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("the client configuration {} is wrong: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// A socket in the file is no address.
    #[error("the client configuration {} has a wrong {key}", path.display())]
    Address {
        /// The file.
        path: PathBuf,
        /// The key, `system.socket` for example.
        key: String,
        /// Why.
        source: AddressError,
    },
    /// A node has no certificates of its own and there is no `[auth]`.
    #[error(
        "the client configuration {} has no {key} for {of}: add it to [auth]",
        path.display()
    )]
    NoIdentity {
        /// The file.
        path: PathBuf,
        /// The missing key.
        key: &'static str,
        /// The node's table.
        of: String,
    },
    /// A node was named that the file does not have.
    #[error(
        "the client configuration {} has no node `{name}`: it has {}",
        path.display(),
        if known.is_empty() { "none; add a [nodes.NAME] table".to_owned() } else { known.join(", ") }
    )]
    UnknownNode {
        /// The file.
        path: PathBuf,
        /// The name that was asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// No node was named, and none is the one that is meant then.
    #[error(
        "which node? The client configuration {} has no [system] and more than one node: name one of {} with --node, or all with --all",
        path.display(),
        known.join(", ")
    )]
    Ambiguous {
        /// The file.
        path: PathBuf,
        /// The names there are.
        known: Vec<String>,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    auth: Option<IdentityKeys>,
    system: Option<SystemKeys>,
    #[serde(default)]
    nodes: BTreeMap<String, NodeKeys>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityKeys {
    ca_crt: PathBuf,
    client_crt: PathBuf,
    client_key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SystemKeys {
    socket: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeKeys {
    socket: String,
    ca_crt: Option<PathBuf>,
    client_crt: Option<PathBuf>,
    client_key: Option<PathBuf>,
}

impl Config {
    /// Reads `explicit` if it is given, else the file that `AURAE_CONFIG` names, else the first
    /// that exists of `$HOME/.aurae/config`, `/etc/aurae/config` and `/var/lib/aurae/config`.
    pub fn find(explicit: Option<&Path>) -> Result<Self, ConfigError> {
        if let Some(path) = explicit {
            return Self::read(path);
        }
        if let Some(path) = std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty()) {
            return Self::read(Path::new(&path));
        }
        Self::search(places())
    }

    /// Reads the first of `places` that exists.
    fn search(places: Vec<PathBuf>) -> Result<Self, ConfigError> {
        for path in &places {
            match Self::read(path) {
                Err(ConfigError::Read { source, .. }) if is_absent(&source) => {}
                found_or_failed => return found_or_failed,
            }
        }
        Err(ConfigError::NotFound(places))
    }

    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Parses a configuration; `path` is where it came from.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        let paths = Paths { file: path };
        let auth = file.auth.map(|keys| Identity {
            ca_crt: paths.expand(keys.ca_crt),
            client_crt: paths.expand(keys.client_crt),
            client_key: paths.expand(keys.client_key),
        });
        let system =
            file.system.map(|keys| paths.address("system.socket", &keys.socket)).transpose()?;
        let nodes = file
            .nodes
            .into_iter()
            .map(|(name, keys)| Ok((name.clone(), paths.node(&name, keys, auth.as_ref())?)))
            .collect::<Result<_, ConfigError>>()?;
        Ok(Self { path: path.to_owned(), auth, system, nodes })
    }

    /// The file that was read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The node that is meant where none is named: that of `[system]`; without `[system]`, the only
    /// one of `[nodes]`, or the daemon on this machine where there are none.
    pub fn default_node(&self) -> Result<Node, ConfigError> {
        let mut nodes = self.nodes.values();
        match (&self.system, nodes.next(), nodes.next()) {
            (Some(address), ..) => self.node_at(address.clone()),
            (None, None, _) => self.node_at(Address::Unix(DEFAULT_SOCKET.into())),
            (None, Some(only), None) => Ok(only.clone()),
            (None, Some(_), Some(_)) => {
                Err(ConfigError::Ambiguous { path: self.path.clone(), known: self.names() })
            }
        }
    }

    /// The node at an address that the configuration need not have, with the identity of `[auth]`.
    pub fn node_at(&self, address: Address) -> Result<Node, ConfigError> {
        let identity = self.auth.clone().ok_or_else(|| ConfigError::NoIdentity {
            path: self.path.clone(),
            key: "ca_crt",
            of: address.to_string(),
        })?;
        Ok(Node::new(address.to_string(), address, identity))
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Result<Node, ConfigError> {
        self.nodes.get(name).cloned().ok_or_else(|| ConfigError::UnknownNode {
            path: self.path.clone(),
            name: name.to_owned(),
            known: self.names(),
        })
    }

    /// All nodes that have a name, in the order of their names; where none has, the default node.
    pub fn all_nodes(&self) -> Result<Vec<Node>, ConfigError> {
        if self.nodes.is_empty() {
            return Ok(vec![self.default_node()?]);
        }
        Ok(self.nodes.values().cloned().collect())
    }

    fn names(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }
}

/// Whether it says that there is no such file.
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// The places where a configuration is looked for.
fn places() -> Vec<PathBuf> {
    let home = home().map(|home| home.join(HOME_PLACE));
    home.into_iter().chain(SYSTEM_PLACES.map(PathBuf::from)).collect()
}

/// What paths in a configuration file are relative to.
struct Paths<'a> {
    file: &'a Path,
}

impl Paths<'_> {
    fn expand(&self, path: PathBuf) -> PathBuf {
        if let (Ok(rest), Some(home)) = (path.strip_prefix("~"), home()) {
            return home.join(rest);
        }
        self.file.parent().map_or(path.clone(), |directory| directory.join(&path))
    }

    fn address(&self, key: &str, text: &str) -> Result<Address, ConfigError> {
        match text.parse() {
            Ok(Address::Unix(path)) => Ok(Address::Unix(self.expand(path))),
            Ok(tcp) => Ok(tcp),
            Err(source) => Err(ConfigError::Address {
                path: self.file.to_owned(),
                key: key.to_owned(),
                source,
            }),
        }
    }

    fn node(
        &self,
        name: &str,
        keys: NodeKeys,
        auth: Option<&Identity>,
    ) -> Result<Node, ConfigError> {
        let table = format!("nodes.{name}");
        let choose = |key, own: Option<PathBuf>, shared: Option<&PathBuf>| {
            own.map(|path| self.expand(path)).or_else(|| shared.cloned()).ok_or_else(|| {
                ConfigError::NoIdentity {
                    path: self.file.to_owned(),
                    key,
                    of: format!("[{table}]"),
                }
            })
        };
        let identity = Identity {
            ca_crt: choose("ca_crt", keys.ca_crt, auth.map(|auth| &auth.ca_crt))?,
            client_crt: choose("client_crt", keys.client_crt, auth.map(|auth| &auth.client_crt))?,
            client_key: choose("client_key", keys.client_key, auth.map(|auth| &auth.client_key))?,
        };
        let address = self.address(&format!("{table}.socket"), &keys.socket)?;
        Ok(Node::new(name, address, identity))
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
