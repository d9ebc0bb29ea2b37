//! The few requests that we make of the kernel's network, each with an error that names its object.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, CacheInfo};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use super::link::Link;

/// Where routes of several interfaces compete, the interface that the kernel found first wins.
const FIRST_METRIC: u32 = 100;

/// The kernel refused a request.
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation}")]
pub(super) struct Error {
    operation: String,
    source: io::Error,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) address: IpAddr,
    pub(super) prefix: u8,
    /// For how many seconds the kernel keeps it. `None`: for ever.
    pub(super) lifetime: Option<u32>,
}

/// A route through an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// `0.0.0.0/0` or `::/0`: the default route.
    pub(super) destination: (IpAddr, u8),
    /// The next hop. `None`: the destination is on the link itself.
    pub(super) gateway: Option<IpAddr>,
    /// Whether the next hop is reached although no address's network holds it.
    pub(super) on_link: bool,
    /// Who made the route.
    pub(super) protocol: RouteProtocol,
}

/// The connection to the kernel's network; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Netlink {
    handle: Handle,
}

impl Netlink {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle }
    }

    /// All interfaces.
    pub(super) async fn links(&self) -> Result<Vec<Link>, Error> {
        let messages: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(failed(|| "list the network interfaces".to_owned()))?;
        Ok(messages.iter().map(Link::from_message).collect())
    }

    pub(super) async fn bring_up(&self, link: &Link) -> Result<(), Error> {
        let message = LinkUnspec::new_with_index(link.index).up().build();
        let operation = || format!("bring up {}", link.name);
        self.handle.link().set(message).execute().await.map_err(failed(operation))
    }

    pub(super) async fn set_mtu(&self, link: &Link, mtu: u16) -> Result<(), Error> {
        let message = LinkUnspec::new_with_index(link.index).mtu(mtu.into()).build();
        let operation = || format!("set the MTU of {} to {mtu}", link.name);
        self.handle.link().set(message).execute().await.map_err(failed(operation))
    }

    /// Gives the interface an address, or renews its lifetime.
    pub(super) async fn add_address(&self, link: &Link, address: Address) -> Result<(), Error> {
        let Address { address, prefix, lifetime } = address;
        let mut request = self.handle.address().add(link.index, address, prefix).replace();
        if let Some(seconds) = lifetime {
            let mut info = CacheInfo::default();
            info.ifa_valid = seconds;
            info.ifa_preferred = seconds;
            request.message_mut().attributes.push(AddressAttribute::CacheInfo(info));
        }
        let operation = || format!("add the address {address}/{prefix} to {}", link.name);
        request.execute().await.map_err(failed(operation))
    }

    /// Takes an address from the interface. One that is gone already is no error.
    pub(super) async fn remove_address(&self, link: &Link, address: Address) -> Result<(), Error> {
        let Address { address, prefix, .. } = address;
        let mut request = self.handle.address().add(link.index, address, prefix);
        let message = request.message_mut().clone();
        let operation = || format!("remove the address {address}/{prefix} from {}", link.name);
        match self.handle.address().del(message).execute().await.map_err(failed(operation)) {
            Err(error) if error.source.raw_os_error() == Some(EADDRNOTAVAIL) => Ok(()),
            other => other,
        }
    }

    pub(super) async fn add_route(&self, link: &Link, route: Route) -> Result<(), Error> {
        let metric = FIRST_METRIC.saturating_add(link.index);
        let message = match route.destination {
            (IpAddr::V4(destination), prefix) => {
                let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
                    .destination_prefix(destination, prefix)
                    .output_interface(link.index)
                    .protocol(route.protocol)
                    .priority(metric);
                if let Some(IpAddr::V4(gateway)) = route.gateway {
                    builder = builder.gateway(gateway);
                }
                if route.on_link { builder.onlink().build() } else { builder.build() }
            }
            (IpAddr::V6(destination), prefix) => {
                let mut builder = RouteMessageBuilder::<Ipv6Addr>::new()
                    .destination_prefix(destination, prefix)
                    .output_interface(link.index)
                    .protocol(route.protocol)
                    .priority(metric);
                if let Some(IpAddr::V6(gateway)) = route.gateway {
                    builder = builder.gateway(gateway);
                }
                if route.on_link { builder.onlink().build() } else { builder.build() }
            }
        };
        let (destination, prefix) = route.destination;
        let operation = || format!("add the route to {destination}/{prefix} through {}", link.name);
        self.handle.route().add(message).replace().execute().await.map_err(failed(operation))
    }
}

/// `EADDRNOTAVAIL`: there is no such address on the interface.
const EADDRNOTAVAIL: i32 = rustix::io::Errno::ADDRNOTAVAIL.raw_os_error();

fn failed(operation: impl FnOnce() -> String) -> impl FnOnce(rtnetlink::Error) -> Error {
    |error| {
        let source = match &error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other.to_string()),
        };
        Error { operation: operation(), source }
    }
}
