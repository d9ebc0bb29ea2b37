//! What the kernel command line says about the network: `aurae.net` and `aurae.dns`.
//!
//! ```text
//! aurae.net = METHOD | INTERFACE:METHOD
//! METHOD    = dhcp | slaac | none | ADDRESS/PREFIX[,GATEWAY]
//! ```
//! Without an interface, the method holds for every network device that no other setting names.
//! Settings add up: one interface may have several addresses, or `dhcp` and `slaac` at once.

use std::fmt;
use std::net::IpAddr;

/// At most this many name servers are used; the C library's resolver looks at three.
const MAX_NAME_SERVERS: usize = 8;

/// The longest name of an interface, in bytes (`IFNAMSIZ` without its NUL).
const MAX_INTERFACE_NAME: usize = 15;

/// How an interface gets its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// The interface is left alone.
    None,
    /// DHCP for IPv4.
    Dhcp,
    /// The interface is brought up, and the kernel forms IPv6 addresses from router advertisements.
    Slaac,
    /// An address of its own.
    Static(StaticAddress),
}

/// An address that was given by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticAddress {
    /// The address.
    pub address: IpAddr,
    /// The length of its network's prefix.
    pub prefix: u8,
    /// The default route's next hop, of the same family.
    pub gateway: Option<IpAddr>,
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("none"),
            Self::Dhcp => formatter.write_str("dhcp"),
            Self::Slaac => formatter.write_str("slaac"),
            Self::Static(StaticAddress { address, prefix, .. }) => {
                write!(formatter, "{address}/{prefix}")
            }
        }
    }
}

/// One `aurae.net`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSetting {
    /// The interface's name. `None`: every network device that no other setting names.
    pub interface: Option<String>,
    /// How it gets its addresses.
    pub method: Method,
}

/// All that is said about the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSettings {
    /// The interfaces, in the order of the command line. Empty: `dhcp`.
    pub interfaces: Vec<InterfaceSetting>,
    /// Name servers that are asked before those that DHCP names.
    pub name_servers: Vec<IpAddr>,
}

impl NetworkSettings {
    /// How this interface gets its addresses. `device`: it is a network device, and not one that
    /// software made up (a bridge or one end of a veth pair, for example).
    #[must_use]
    pub fn methods(&self, interface: &str, device: bool) -> Vec<Method> {
        let of = |name: Option<&str>| -> Vec<Method> {
            let settings = self.interfaces.iter();
            settings
                .filter(|setting| setting.interface.as_deref() == name)
                .map(|setting| setting.method.clone())
                .collect()
        };
        let named = of(Some(interface));
        if !named.is_empty() {
            return named;
        }
        if !device {
            return Vec::new();
        }
        if self.interfaces.is_empty() { vec![Method::Dhcp] } else { of(None) }
    }

    /// The interfaces that are named, each once.
    #[must_use]
    pub fn named(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .interfaces
            .iter()
            .filter(|setting| setting.method != Method::None)
            .filter_map(|setting| setting.interface.as_deref())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Adds the name servers of an `aurae.dns`: addresses, separated by commas.
    pub(in crate::boot) fn add_name_servers(&mut self, value: &str) -> Result<(), String> {
        let servers = value.split(',').map(parse_address).collect::<Result<Vec<_>, _>>()?;
        if self.name_servers.len() + servers.len() > MAX_NAME_SERVERS {
            return Err(format!("more than {MAX_NAME_SERVERS} name servers"));
        }
        self.name_servers.extend(servers);
        Ok(())
    }
}

impl InterfaceSetting {
    /// Reads the value of an `aurae.net`.
    pub(in crate::boot) fn parse(value: &str) -> Result<Self, String> {
        if let Some(method) = parse_word(value) {
            return Ok(Self { interface: None, method });
        }
        let Some((interface, method)) = value.split_once(':') else {
            return Err(format!(
                "`{value}` is neither `dhcp`, `slaac`, `none` nor INTERFACE:METHOD"
            ));
        };
        if !is_interface_name(interface) {
            return Err(format!("`{interface}` is not the name of an interface"));
        }
        let method = match parse_word(method) {
            Some(method) => method,
            None => Method::Static(StaticAddress::parse(method)?),
        };
        Ok(Self { interface: Some(interface.to_owned()), method })
    }
}

impl StaticAddress {
    fn parse(text: &str) -> Result<Self, String> {
        let (network, gateway) = match text.split_once(',') {
            Some((network, gateway)) => (network, Some(parse_address(gateway)?)),
            None => (text, None),
        };
        let Some((address, prefix)) = network.split_once('/') else {
            return Err(format!(
                "`{network}` is not an address with a prefix, 10.0.0.2/24 for example"
            ));
        };
        let address = parse_address(address)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix
            .parse()
            .ok()
            .filter(|prefix| (1..=longest).contains(prefix))
            .ok_or_else(|| format!("`{prefix}` is not a prefix length from 1 to {longest}"))?;
        if gateway.is_some_and(|gateway| gateway.is_ipv4() != address.is_ipv4()) {
            return Err("the address and its gateway are of different families".to_owned());
        }
        Ok(Self { address, prefix, gateway })
    }
}

fn parse_word(text: &str) -> Option<Method> {
    match text {
        "none" => Some(Method::None),
        "dhcp" => Some(Method::Dhcp),
        "slaac" => Some(Method::Slaac),
        _ => None,
    }
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an IP address"))
}

fn is_interface_name(name: &str) -> bool {
    (1..=MAX_INTERFACE_NAME).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(values: &[&str]) -> NetworkSettings {
        let interfaces = values.iter().map(|value| InterfaceSetting::parse(value).unwrap());
        NetworkSettings { interfaces: interfaces.collect(), name_servers: Vec::new() }
    }

    #[test]
    fn without_a_setting_every_device_uses_dhcp_and_nothing_else_does() {
        assert_eq!(network(&[]).methods("eth0", true), [Method::Dhcp]);
        assert_eq!(network(&[]).methods("veth0", false), []);
    }

    #[test]
    fn a_named_interface_is_taken_out_of_the_general_setting() {
        let network = network(&["dhcp", "slaac", "eth1:none", "br0:10.1.0.1/16"]);
        assert_eq!(network.methods("eth0", true), [Method::Dhcp, Method::Slaac]);
        assert_eq!(network.methods("eth1", true), [Method::None]);
        assert_eq!(network.methods("br0", false).len(), 1);
        assert_eq!(network.named(), ["br0"]);
    }

    #[test]
    fn only_what_is_named_is_set_up_when_no_general_setting_is_there() {
        assert_eq!(network(&["eth1:dhcp"]).methods("eth0", true), []);
        assert_eq!(network(&["none"]).methods("eth0", true), [Method::None]);
    }

    #[test]
    fn static_addresses_of_both_families_are_understood() {
        let setting = InterfaceSetting::parse("eth0:10.0.2.15/24,10.0.2.2").unwrap();
        assert_eq!(setting.interface.as_deref(), Some("eth0"));
        assert_eq!(
            setting.method,
            Method::Static(StaticAddress {
                address: "10.0.2.15".parse().unwrap(),
                prefix: 24,
                gateway: Some("10.0.2.2".parse().unwrap()),
            })
        );
        let setting = InterfaceSetting::parse("eth0:2001:db8::2/64,2001:db8::1").unwrap();
        assert!(matches!(setting.method, Method::Static(address) if address.prefix == 64));
    }

    #[test]
    fn what_is_wrong_with_a_setting_is_said() {
        for (value, rule) in [
            ("eth0", "`eth0` is neither `dhcp`, `slaac`, `none` nor INTERFACE:METHOD"),
            ("a/b:dhcp", "`a/b` is not the name of an interface"),
            (
                "averyveryverylongname:dhcp",
                "`averyveryverylongname` is not the name of an interface",
            ),
            (
                "eth0:10.0.0.1",
                "`10.0.0.1` is not an address with a prefix, 10.0.0.2/24 for example",
            ),
            ("eth0:10.0.0.1/33", "`33` is not a prefix length from 1 to 32"),
            ("eth0:10.0.0.1/0", "`0` is not a prefix length from 1 to 32"),
            ("eth0:10.0.0/24", "`10.0.0` is not an IP address"),
            ("eth0:10.0.0.1/24,fe80::1", "the address and its gateway are of different families"),
        ] {
            assert_eq!(InterfaceSetting::parse(value).unwrap_err(), rule);
        }
    }
}
