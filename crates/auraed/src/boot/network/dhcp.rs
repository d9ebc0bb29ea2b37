//! An IPv4 lease from a DHCP server: acquired, applied, renewed, and verified again when the link was
//! gone in between. The protocol is `mozim`'s; what a lease means to the interface is ours.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::time::Duration;

use mozim::{DhcpError, DhcpV4Client, DhcpV4Config, DhcpV4Lease, DhcpV4State};
use rtnetlink::packet_route::route::RouteProtocol;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Port;
use super::backoff::Backoff;
use super::methods::{wait_for_carrier, wait_for_loss};
use super::netlink::{Address, Error, Route};
use crate::reply::text;

/// How long a server may take to answer before that is a failure. The client goes on asking, less and
/// less often, up to a minute apart.
const ANSWER_GRACE: Duration = Duration::from_secs(10);

/// The smallest MTU that a server may ask for (RFC 2132, section 5.1, has 68; IPv6 needs this).
const MIN_MTU: u16 = 1280;

/// At most this many routes of one lease are made.
const MAX_ROUTES: usize = 32;

/// Keeps a lease, for as long as the interface is there.
pub(super) async fn keep(port: &Port, carrier: &mut watch::Receiver<bool>) {
    let mut holder = Holder { port, lease: None, backoff: Backoff::default() };
    while wait_for_carrier(port, carrier).await.is_ok() {
        tokio::select! {
            reason = holder.hold() => {
                port.failed(reason);
                holder.backoff.wait().await;
            }
            lost = wait_for_loss(carrier) => if lost.is_err() {
                return;
            },
        }
    }
}

struct Holder<'a> {
    port: &'a Port,
    lease: Option<DhcpV4Lease>,
    backoff: Backoff,
}

impl Holder<'_> {
    /// Acquires a lease, or verifies the one we had, and renews it. Ends with the reason why it could
    /// not go on.
    async fn hold(&mut self) -> String {
        let mut client = match self.client().await {
            Ok(client) => client,
            Err(error) => return format!("failed to start the DHCP client: {error}"),
        };
        loop {
            match self.step(&mut client).await {
                Ok(DhcpV4State::Done(lease)) => {
                    if let Err(reason) = self.apply(*lease).await {
                        return reason;
                    }
                }
                // Back at the start: the lease ran out, or the server took it back.
                Ok(DhcpV4State::InitReboot) => {
                    self.lose("the DHCP lease has ended; asking for another").await
                }
                Ok(state) => tracing::debug!(interface = self.port.link.name, %state, "DHCP"),
                Err(error) => {
                    let reason = format!("no DHCP lease: {error}");
                    self.lose(&reason).await;
                    return reason;
                }
            }
        }
    }

    async fn client(&self) -> Result<DhcpV4Client, DhcpError> {
        let mut config = DhcpV4Config::new(&self.port.link.name);
        config.set_iface_index(self.port.link.index);
        config.set_iface_mac_raw(&self.port.link.hardware_address)?;
        config.use_mac_as_client_id();
        config.set_host_name(&rustix::system::uname().nodename().to_string_lossy());
        DhcpV4Client::init(config, self.lease.clone()).await
    }

    /// One change of the client's state. While there is no lease, a long silence is a failure; the
    /// client is not disturbed by our saying so.
    async fn step(&self, client: &mut DhcpV4Client) -> Result<DhcpV4State, DhcpError> {
        let mut running = pin!(client.run());
        if self.lease.is_none() {
            tokio::select! {
                result = &mut running => return result,
                () = sleep(ANSWER_GRACE) => {
                    self.port.failed("no DHCP server has answered; asking on".to_owned());
                }
            }
        }
        running.await
    }

    async fn apply(&mut self, lease: DhcpV4Lease) -> Result<(), String> {
        let Port { netlink, resolver, link, .. } = self.port;
        let address = address_of(&lease)?;
        let old = self.lease.as_ref().and_then(|lease| address_of(lease).ok());
        if let Some(old) = old.filter(|old| old.address != address.address) {
            netlink.remove_address(link, old).await.map_err(|error| text(&error))?;
        }
        self.configure(&lease, address).await.map_err(|error| text(&error))?;
        let servers = lease.dns_srvs.iter().flatten().copied().map(IpAddr::V4).collect();
        let domains = lease.domain_search.iter().flatten().chain(&lease.domain_name).cloned();
        resolver.set(&link.name, servers, domains.collect());
        tracing::info!(
            interface = link.name,
            address = %address.address,
            prefix = address.prefix,
            seconds = lease.lease_time_sec,
            "leased"
        );
        self.lease = Some(lease);
        self.backoff = Backoff::default();
        self.port.works();
        Ok(())
    }

    /// Takes back what the lease gave. Its routes go with its address.
    async fn lose(&mut self, reason: &str) {
        let Some(address) = self.lease.take().and_then(|lease| address_of(&lease).ok()) else {
            return;
        };
        if let Err(error) = self.port.netlink.remove_address(&self.port.link, address).await {
            tracing::warn!(
                interface = self.port.link.name,
                error = text(&error),
                "kept a lost address"
            );
        }
        self.port.resolver.set(&self.port.link.name, Vec::new(), Vec::new());
        self.port.failed(reason.to_owned());
    }

    async fn configure(&self, lease: &DhcpV4Lease, address: Address) -> Result<(), Error> {
        let Port { netlink, link, .. } = self.port;
        if let Some(mtu) = lease.mtu.filter(|mtu| *mtu >= MIN_MTU) {
            netlink.set_mtu(link, mtu).await?;
        }
        netlink.add_address(link, address).await?;
        for route in routes_of(lease, address) {
            netlink.add_route(link, route).await?;
        }
        Ok(())
    }
}

/// The address that a lease gives, if it is one that a host can have.
fn address_of(lease: &DhcpV4Lease) -> Result<Address, String> {
    let address = lease.yiaddr;
    let mask = u32::from(lease.subnet_mask);
    let prefix = mask.leading_ones();
    let unusable = address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast();
    if unusable || prefix == 0 || mask.count_ones() != prefix {
        return Err(format!(
            "the DHCP server offered {address} with the mask {}, which no host can have",
            lease.subnet_mask
        ));
    }
    let prefix = u8::try_from(prefix).unwrap_or(32);
    Ok(Address { address: address.into(), prefix, lifetime: Some(lease.lease_time_sec) })
}

/// The routes of a lease: its classless ones where there are any (RFC 3442 lets them replace the
/// gateways), else the first gateway as the default route.
fn routes_of(lease: &DhcpV4Lease, address: Address) -> Vec<Route> {
    let route = |destination: Ipv4Addr, prefix: u8, gateway: Ipv4Addr| Route {
        destination: (destination.into(), prefix),
        gateway: (!gateway.is_unspecified()).then_some(gateway.into()),
        on_link: !gateway.is_unspecified() && !is_within(address, gateway),
        protocol: RouteProtocol::Dhcp,
    };
    match &lease.classless_routes {
        Some(routes) => routes
            .iter()
            .filter(|entry| entry.prefix_length <= 32)
            .take(MAX_ROUTES)
            .map(|entry| route(entry.destination, entry.prefix_length, entry.router))
            .collect(),
        None => {
            let first = lease.gateways.as_ref().and_then(|gateways| gateways.first());
            first.map(|gateway| route(Ipv4Addr::UNSPECIFIED, 0, *gateway)).into_iter().collect()
        }
    }
}

fn is_within(network: Address, host: Ipv4Addr) -> bool {
    let IpAddr::V4(address) = network.address else { return false };
    let mask = u32::MAX.checked_shl(32 - u32::from(network.prefix.min(32))).unwrap_or(0);
    u32::from(address) & mask == u32::from(host) & mask
}

#[cfg(test)]
mod tests {
    use mozim::DhcpV4ClasslessRoute;

    use super::*;

    fn lease(address: [u8; 4], mask: [u8; 4]) -> DhcpV4Lease {
        let mut lease = DhcpV4Lease::default();
        lease.yiaddr = address.into();
        lease.subnet_mask = mask.into();
        lease.lease_time_sec = 3600;
        lease
    }

    #[test]
    fn a_lease_becomes_an_address_that_ends_with_it() {
        let address = address_of(&lease([10, 0, 2, 15], [255, 255, 255, 0])).unwrap();
        assert_eq!(address.address, IpAddr::from([10, 0, 2, 15]));
        assert_eq!((address.prefix, address.lifetime), (24, Some(3600)));
    }

    #[test]
    fn an_address_that_no_host_can_have_is_refused() {
        for (address, mask) in [
            ([0, 0, 0, 0], [255, 255, 255, 0]),
            ([127, 0, 0, 1], [255, 0, 0, 0]),
            ([224, 0, 0, 1], [255, 0, 0, 0]),
            ([255, 255, 255, 255], [255, 0, 0, 0]),
            ([10, 0, 2, 15], [0, 0, 0, 0]),
            ([10, 0, 2, 15], [255, 0, 255, 0]),
        ] {
            assert!(address_of(&lease(address, mask)).is_err(), "{address:?} {mask:?}");
        }
    }

    #[test]
    fn the_first_gateway_is_the_default_route() {
        let mut lease = lease([10, 0, 2, 15], [255, 255, 255, 0]);
        lease.gateways = Some(vec![[10, 0, 2, 2].into(), [10, 0, 2, 3].into()]);
        let routes = routes_of(&lease, address_of(&lease).unwrap());
        assert_eq!(routes.len(), 1);
        assert_eq!(routes[0].destination, (IpAddr::from([0, 0, 0, 0]), 0));
        assert_eq!(routes[0].gateway, Some(IpAddr::from([10, 0, 2, 2])));
        assert!(!routes[0].on_link);
    }

    #[test]
    fn classless_routes_replace_the_gateways() {
        let mut lease = lease([10, 0, 2, 15], [255, 255, 255, 255]);
        lease.gateways = Some(vec![[10, 0, 2, 2].into()]);
        lease.classless_routes = Some(vec![
            DhcpV4ClasslessRoute {
                destination: [10, 0, 2, 1].into(),
                prefix_length: 32,
                router: [0, 0, 0, 0].into(),
            },
            DhcpV4ClasslessRoute {
                destination: [0, 0, 0, 0].into(),
                prefix_length: 0,
                router: [10, 0, 2, 1].into(),
            },
        ]);
        let routes = routes_of(&lease, address_of(&lease).unwrap());
        assert_eq!(routes.len(), 2);
        assert_eq!((routes[0].gateway, routes[0].on_link), (None, false));
        assert!(routes[1].on_link, "the gateway is outside of the address's network");
    }
}
