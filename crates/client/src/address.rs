//! Where a daemon listens: a unix socket's path, or an IP address and a port.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::PathBuf;
use std::str::FromStr;

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// The address.
        ip: IpAddr,
        /// The port.
        port: u16,
        /// The interface of a link-local IPv6 address, as a name or a number.
        scope: Option<String>,
    },
}

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing was given.
    #[error(
        "an address is empty: give the path of a unix socket, or an IP address and a port (`127.0.0.1:8080`, `[::1]:8080`)"
    )]
    Empty,
    /// It ends like an address with a port and does not begin with an IP address.
    #[error(
        "`{0}` is not an address: give an IP address and a port (`127.0.0.1:8080`, `[::1]:8080`, `[fe80::1%eth0]:8080`), or the path of a unix socket with a `/` in it; host names are not looked up"
    )]
    NotAnIp(String),
    /// The interface after `%` does not exist here.
    #[error("no network interface `{0}` here")]
    NoInterface(String),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if let Ok(v4) = text.parse::<SocketAddrV4>() {
            return Ok(Self::Tcp { ip: IpAddr::V4(*v4.ip()), port: v4.port(), scope: None });
        }
        if text.starts_with('[') {
            return parse_v6(text).ok_or_else(|| AddressError::NotAnIp(text.to_owned()));
        }
        let ends_in_port =
            text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if ends_in_port && !text.contains('/') {
            return Err(AddressError::NotAnIp(text.to_owned()));
        }
        Ok(Self::Unix(PathBuf::from(text)))
    }
}

/// Parses `[address%scope]:port`.
fn parse_v6(text: &str) -> Option<Address> {
    let (inside, port) = text.strip_prefix('[')?.rsplit_once("]:")?;
    let (ip, scope) = match inside.split_once('%') {
        Some((ip, scope)) if !scope.is_empty() => (ip, Some(scope.to_owned())),
        Some(_) => return None,
        None => (inside, None),
    };
    Some(Address::Tcp { ip: IpAddr::V6(ip.parse().ok()?), port: port.parse().ok()?, scope })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp { ip: IpAddr::V4(ip), port, .. } => write!(f, "{ip}:{port}"),
            Self::Tcp { ip, port, scope: None } => write!(f, "[{ip}]:{port}"),
            Self::Tcp { ip, port, scope: Some(scope) } => write!(f, "[{ip}%{scope}]:{port}"),
        }
    }
}

/// The socket address that the kernel takes; a scope's name is looked up among this machine's
/// network interfaces.
pub(crate) fn resolve(
    ip: IpAddr,
    port: u16,
    scope: Option<&str>,
) -> Result<SocketAddr, AddressError> {
    match (ip, scope) {
        (IpAddr::V6(ip), Some(scope)) => scoped(ip, port, scope),
        _ => Ok(SocketAddr::new(ip, port)),
    }
}

fn scoped(ip: Ipv6Addr, port: u16, scope: &str) -> Result<SocketAddr, AddressError> {
    let index = match scope.parse() {
        Ok(index) => index,
        Err(_) => {
            interface_index(scope).ok_or_else(|| AddressError::NoInterface(scope.to_owned()))?
        }
    };
    Ok(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, index)))
}

fn interface_index(name: &str) -> Option<u32> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
    let socket =
        socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
    netdevice::name_to_index(&socket, name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(ip: &str, port: u16, scope: Option<&str>) -> Address {
        Address::Tcp { ip: ip.parse().unwrap(), port, scope: scope.map(str::to_owned) }
    }

    #[test]
    fn every_form_is_understood_and_written_back() {
        for (text, address) in [
            ("/run/a.sock", Address::Unix("/run/a.sock".into())),
            ("./a:1/b", Address::Unix("./a:1/b".into())),
            ("a.sock", Address::Unix("a.sock".into())),
            ("127.0.0.1:8080", tcp("127.0.0.1", 8080, None)),
            ("[::1]:8080", tcp("::1", 8080, None)),
            ("[fe80::1%eth0]:8080", tcp("fe80::1", 8080, Some("eth0"))),
        ] {
            assert_eq!(text.parse::<Address>().unwrap(), address, "{text}");
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_is_neither_path_nor_address_is_refused() {
        assert_eq!("".parse::<Address>(), Err(AddressError::Empty));
        for text in ["localhost:8080", "127.0.0.1.5:80", "[::1]", "[::1%]:80", "[x]:80", "[::1]:x"]
        {
            assert_eq!(text.parse::<Address>(), Err(AddressError::NotAnIp(text.to_owned())));
        }
    }

    #[test]
    fn a_scope_is_an_interface_of_this_machine() {
        let ip = "fe80::1".parse().unwrap();
        assert_eq!(resolve(ip, 1, Some("7")).unwrap().to_string(), "[fe80::1%7]:1");
        assert!(resolve(ip, 1, Some("lo")).is_ok());
        assert_eq!(
            resolve(ip, 1, Some("no-such-interface")),
            Err(AddressError::NoInterface("no-such-interface".to_owned()))
        );
    }
}
