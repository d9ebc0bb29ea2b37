//! The ways in which an interface gets its addresses.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rtnetlink::packet_route::route::RouteProtocol;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::netlink::{Address, Error, Route};
use super::settings::{Method, StaticAddress};
use super::{Port, dhcp};
use crate::reply::text;

/// How long a link that was brought up may be without a carrier before that is a failure: negotiation
/// takes a few seconds.
const CARRIER_GRACE: Duration = Duration::from_secs(5);

/// How long after that a router may take to advertise a prefix: the kernel asks three times, four
/// seconds apart (RFC 4861, section 10).
const ADVERTISEMENT_GRACE: Duration = Duration::from_secs(15);
/// How often it is looked for meanwhile.
const ADVERTISEMENT_INTERVAL: Duration = Duration::from_millis(500);

/// The kernel's table of IPv6 addresses.
const ADDRESSES: &str = "/proc/net/if_inet6";

/// Keeps an interface configured in one way, for as long as it is there.
pub(super) async fn keep(port: &Port, method: &Method, mut carrier: watch::Receiver<bool>) {
    if *method == Method::None {
        return;
    }
    bring_up(port).await;
    match method {
        Method::None => {}
        Method::Static(address) => keep_address(port, address, &mut carrier).await,
        Method::Slaac => keep_advertised(port, &mut carrier).await,
        Method::Dhcp => dhcp::keep(port, &mut carrier).await,
    }
}

/// Waits for the carrier, and says so where it takes long. The error: the interface is gone.
pub(super) async fn wait_for_carrier(
    port: &Port,
    carrier: &mut watch::Receiver<bool>,
) -> Result<(), watch::error::RecvError> {
    if let Ok(result) = timeout(CARRIER_GRACE, carrier.wait_for(|up| *up)).await {
        return result.map(drop);
    }
    port.failed("the link has no carrier; waiting for one".to_owned());
    carrier.wait_for(|up| *up).await.map(drop)
}

/// Waits until the carrier is lost. The error: the interface is gone.
pub(super) async fn wait_for_loss(
    carrier: &mut watch::Receiver<bool>,
) -> Result<(), watch::error::RecvError> {
    carrier.wait_for(|up| !*up).await.map(drop)
}

async fn bring_up(port: &Port) {
    let mut backoff = Backoff::default();
    while let Err(error) = port.netlink.bring_up(&port.link).await {
        port.failed(text(&error));
        backoff.wait().await;
    }
}

async fn keep_address(port: &Port, address: &StaticAddress, carrier: &mut watch::Receiver<bool>) {
    let mut backoff = Backoff::default();
    loop {
        // Before there is a carrier as well: programs may bind to the address at once.
        if let Err(error) = set_address(port, address).await {
            port.failed(text(&error));
            backoff.wait().await;
            continue;
        }
        if wait_for_carrier(port, carrier).await.is_err() {
            return;
        }
        port.works();
        tracing::info!(interface = port.link.name, address = %address.address, "configured");
        if wait_for_loss(carrier).await.is_err() {
            return;
        }
        backoff = Backoff::default();
    }
}

async fn set_address(
    port: &Port,
    StaticAddress { address, prefix, gateway }: &StaticAddress,
) -> Result<(), Error> {
    let address = Address { address: *address, prefix: *prefix, lifetime: None };
    port.netlink.add_address(&port.link, address).await?;
    let Some(gateway) = *gateway else { return Ok(()) };
    let any = match gateway {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let route = Route {
        destination: (any, 0),
        gateway: Some(gateway),
        // Some hosters give a single address and a next hop outside of it.
        on_link: gateway.is_ipv4(),
        protocol: RouteProtocol::Static,
    };
    port.netlink.add_route(&port.link, route).await
}

/// The kernel forms the addresses itself; we only see whether it could.
async fn keep_advertised(port: &Port, carrier: &mut watch::Receiver<bool>) {
    while wait_for_carrier(port, carrier).await.is_ok() {
        let watched = async {
            wait_for_advertisement(port).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = watched => {}
            lost = wait_for_loss(carrier) => if lost.is_err() {
                return;
            },
        }
    }
}

async fn wait_for_advertisement(port: &Port) {
    let deadline = Instant::now() + ADVERTISEMENT_GRACE;
    loop {
        match fs::read_to_string(ADDRESSES) {
            Ok(table) if has_global_address(&table, &port.link.name) => return port.works(),
            Ok(_) if Instant::now() < deadline => {}
            Ok(_) => {
                port.failed("no router has advertised an IPv6 prefix; waiting for one".to_owned());
            }
            Err(error) => port.failed(format!("failed to read {ADDRESSES}: {error}")),
        }
        sleep(ADVERTISEMENT_INTERVAL).await;
    }
}

/// Whether an interface has an address that reaches beyond its link, in the kernel's table: address,
/// index, prefix length, scope and flags in hexadecimal, and the interface's name.
fn has_global_address(table: &str, interface: &str) -> bool {
    const LINK_SCOPE: &str = "20";
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        matches!(fields[..], [_, _, _, scope, _, name] if name == interface && scope != LINK_SCOPE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_the_link_alone_is_not_global() {
        let table = "\
00000000000000000000000000000001 01 80 10 80       lo
fe80000000000000505400fffe123457 03 40 20 80     eth1
fe80000000000000505400fffe123456 02 40 20 80     eth0
20010db800000000505400fffe123456 02 40 00 00     eth0
";
        assert!(has_global_address(table, "eth0"));
        assert!(!has_global_address(table, "eth1"));
        assert!(!has_global_address("", "eth0"));
        assert!(!has_global_address("not a table", "eth0"));
    }
}
