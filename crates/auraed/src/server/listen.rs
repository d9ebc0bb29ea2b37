//! Addresses, and the sockets that listen on them.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::UCred;
use tokio::net::{TcpListener, UnixListener};

use super::sources::Source;
use crate::private;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 512;

/// Where to listen: a path, or an address and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// What is neither an address nor a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is neither a path (with a `/`) nor an address and port (`127.0.0.1:8080`, `[::]:8080`)"
)]
pub struct BadAddress(String);

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        if text.contains('/') && !text.contains('\0') {
            return Ok(Self::Unix(text.into()));
        }
        Err(BadAddress(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => path.display().fmt(formatter),
        }
    }
}

/// Why there is no socket that listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A step failed.
    #[error("failed to {operation} {object}")]
    Failed {
        /// The step.
        operation: &'static str,
        /// What with.
        object: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process listens there.
    #[error("{0} is in use by another process; stop it, or choose another with --socket")]
    InUse(Address),
    /// A file that is no socket is in the way.
    #[error("{} exists and is not a socket; remove it, or choose another with --socket", .0.display())]
    InTheWay(PathBuf),
}

fn failed(operation: &'static str, object: &Path) -> impl FnOnce(io::Error) -> ListenError {
    let object = object.display().to_string();
    move |source| ListenError::Failed { operation, object, source }
}

/// A socket that listens. A unix socket's file is removed when it is dropped.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket, and its file if it is ours.
    Unix(UnixListener, Option<SocketFile>),
}

/// A socket's file, removed at the end. The path is empty once it is somebody else's.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A daemon that has to give it back leaves it.
        if self.0.as_os_str().is_empty() || aurae_kernel::takeover::is_armed() {
            return;
        }
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "failed to remove the socket");
        }
    }
}

/// A byte stream of a connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Listener {
    /// Listens on `address`. An IPv6 wildcard takes IPv4 as well. The caller holds the lock of the
    /// runtime directory.
    ///
    /// # Errors
    /// The address is in use or cannot be had.
    pub fn bind(address: &Address) -> Result<Self, ListenError> {
        match address {
            Address::Tcp(tcp) => {
                bind_tcp(*tcp).map(Self::Tcp).map_err(|error| match error.kind() {
                    io::ErrorKind::AddrInUse => ListenError::InUse(address.clone()),
                    _ => failed("listen on", Path::new(&address.to_string()))(error),
                })
            }
            Address::Unix(path) => bind_unix(path),
        }
    }

    /// The listener on `address` that an earlier version of the daemon had.
    ///
    /// # Errors
    /// It cannot be polled, or is no such socket.
    pub fn adopt(address: &Address, socket: OwnedFd) -> Result<Self, ListenError> {
        let object = address.to_string();
        match address {
            Address::Tcp(_) => TcpListener::from_std(socket.into()).map(Self::Tcp),
            Address::Unix(path) => UnixListener::from_std(socket.into())
                .map(|listener| Self::Unix(listener, Some(SocketFile(path.clone())))),
        }
        .map_err(failed("take over the socket of", Path::new(&object)))
    }

    /// The socket, for a later version of the daemon: it goes on taking connections, and a unix
    /// socket's file stays.
    ///
    /// # Errors
    /// It is polled no more, and cannot be used otherwise.
    pub fn hand_on(self) -> Result<OwnedFd, ListenError> {
        let object = self.address().map(|address| address.to_string()).unwrap_or_default();
        match self {
            Self::Tcp(listener) => listener.into_std().map(OwnedFd::from),
            Self::Unix(listener, file) => {
                if let Some(mut file) = file {
                    file.0 = PathBuf::new();
                }
                listener.into_std().map(OwnedFd::from)
            }
        }
        .map_err(failed("hand on the socket of", Path::new(&object)))
    }

    /// The address it listens on: the port is the real one where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(Address::Tcp),
            Self::Unix(_, file) => file.as_ref().map(|file| Address::Unix(file.0.clone())),
        }
    }

    /// The next connection and what is known of its peer before it says anything.
    pub(super) async fn accept(&self) -> io::Result<(Box<dyn Stream>, String, Source)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Small messages go out at once; a failure only costs time.
                let _ = stream.set_nodelay(true);
                Ok((Box::new(stream), peer.to_string(), Source::of(peer.ip())))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred().ok();
                let source = Source::User(peer.as_ref().map(UCred::uid));
                let peer = match peer {
                    Some(peer) => {
                        format!("unix:uid={},pid={}", peer.uid(), peer.pid().unwrap_or(0))
                    }
                    None => "unix".to_owned(),
                };
                Ok((Box::new(stream), peer, source))
            }
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        match rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP)) {
            // A kernel without IPv6: its wildcard means IPv4 alone.
            Err(rustix::io::Errno::AFNOSUPPORT)
                if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) =>
            {
                return bind_tcp(SocketAddr::from(([0, 0, 0, 0], address.port())));
            }
            socket => socket?,
        };
    // A restart must not wait for the connections of the one before.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        let wildcard = address.ip().is_unspecified();
        sockopt::set_ipv6_v6only(&socket, !wildcard)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn bind_unix(path: &Path) -> Result<Listener, ListenError> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        private::create(directory).map_err(failed("create the socket's directory", directory))?;
    }
    remove_stale(path)?;
    let listener = UnixListener::bind(path).map_err(failed("listen on", path))?;
    let file = SocketFile(path.to_owned());
    // The directory keeps others out already; this holds where it was made by somebody else.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(failed("restrict the permissions of", path))?;
    Ok(Listener::Unix(listener, Some(file)))
}

/// Removes a socket that nobody listens on any more.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", path)(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::InTheWay(path.to_owned()));
        }
        Ok(_) => {}
    }
    match StdUnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed("remove the stale socket", path))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // It answers, or its backlog is full: somebody is there.
        Ok(_) | Err(_) => Err(ListenError::InUse(Address::Unix(path.to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_paths_are_told_apart() {
        let parse = |text: &str| text.parse::<Address>();
        assert_eq!(parse("127.0.0.1:80"), Ok(Address::Tcp(([127, 0, 0, 1], 80).into())));
        assert!(matches!(parse("[::]:8080"), Ok(Address::Tcp(SocketAddr::V6(_)))));
        assert_eq!(parse("/run/a.sock"), Ok(Address::Unix("/run/a.sock".into())));
        assert_eq!(parse("./a.sock"), Ok(Address::Unix("./a.sock".into())));
        for bad in ["", "localhost:80", "8080", "127.0.0.1", "::1:99999"] {
            assert_eq!(parse(bad), Err(BadAddress(bad.into())));
        }
    }

    #[tokio::test]
    async fn a_socket_in_use_is_not_stolen() {
        let directory = tempfile::tempdir().unwrap();
        let address = Address::Unix(directory.path().join("a/b.sock"));
        let first = Listener::bind(&address).unwrap();
        assert!(matches!(Listener::bind(&address), Err(ListenError::InUse(_))));
        drop(first);
        assert!(!directory.path().join("a/b.sock").exists(), "the socket is removed at the end");
        Listener::bind(&address).unwrap();
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(&Address::Unix(path.clone())).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(listener);
        fs::write(&path, "precious").unwrap();
        let refused = Listener::bind(&Address::Unix(path.clone()));
        assert!(matches!(refused, Err(ListenError::InTheWay(_))));
        assert_eq!(fs::read_to_string(path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let first = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.address().unwrap();
        let error = Listener::bind(&address).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{address} is in use")), "{error}");
    }
}
