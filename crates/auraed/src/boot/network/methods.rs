//! The ways in which an interface gets its addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rtnetlink::packet_route::route::RouteProtocol;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::link::Link;
use super::netlink::{Address, Error, Netlink, Route};
use super::settings::{Method, StaticAddress};
use super::{Context, dhcp};
use crate::boot::report::chain;

/// How long a link that was brought up may be without a carrier before that is a failure: negotiation
/// takes a few seconds.
const CARRIER_GRACE: Duration = Duration::from_secs(5);

/// How long after that a router may take to advertise a prefix: the kernel asks three times, four
/// seconds apart (RFC 4861, section 10).
const ADVERTISEMENT_GRACE: Duration = Duration::from_secs(15);
/// How often it is looked for meanwhile.
const ADVERTISEMENT_INTERVAL: Duration = Duration::from_millis(500);

/// Keeps an interface configured in one way, for as long as it is there.
pub(super) async fn keep(
    context: Context,
    link: Link,
    method: Method,
    mut carrier: watch::Receiver<bool>,
) {
    if method == Method::None {
        return;
    }
    bring_up(&context, &link).await;
    match method {
        Method::None => {}
        Method::Static(address) => keep_address(&context, &link, &address, &mut carrier).await,
        Method::Slaac => keep_advertised(&context, &link, &mut carrier).await,
        Method::Dhcp => dhcp::keep(&context, &link, &mut carrier).await,
    }
}

/// Waits for the carrier, and says so where it takes long. The error: the interface is gone.
pub(super) async fn wait_for_carrier(
    context: &Context,
    link: &Link,
    carrier: &mut watch::Receiver<bool>,
) -> Result<(), watch::error::RecvError> {
    if let Ok(result) = timeout(CARRIER_GRACE, carrier.wait_for(|up| *up)).await {
        return result.map(drop);
    }
    context.health.failed(&link.name, "the link has no carrier; waiting for one".to_owned());
    carrier.wait_for(|up| *up).await.map(drop)
}

/// Waits until the carrier is lost. The error: the interface is gone.
pub(super) async fn wait_for_loss(
    carrier: &mut watch::Receiver<bool>,
) -> Result<(), watch::error::RecvError> {
    carrier.wait_for(|up| !*up).await.map(drop)
}

async fn bring_up(context: &Context, link: &Link) {
    let mut backoff = Backoff::default();
    while let Err(error) = context.netlink.bring_up(link).await {
        context.health.failed(&link.name, chain(&error));
        backoff.wait().await;
    }
}

async fn keep_address(
    context: &Context,
    link: &Link,
    address: &StaticAddress,
    carrier: &mut watch::Receiver<bool>,
) {
    let mut backoff = Backoff::default();
    loop {
        // Before there is a carrier as well: programs may bind to the address at once.
        if let Err(error) = set_address(&context.netlink, link, address).await {
            context.health.failed(&link.name, chain(&error));
            backoff.wait().await;
            continue;
        }
        if wait_for_carrier(context, link, carrier).await.is_err() {
            return;
        }
        context.health.works(&link.name);
        tracing::info!(interface = link.name, address = %address.address, "configured");
        if wait_for_loss(carrier).await.is_err() {
            return;
        }
        backoff = Backoff::default();
    }
}

async fn set_address(
    netlink: &Netlink,
    link: &Link,
    StaticAddress { address, prefix, gateway }: &StaticAddress,
) -> Result<(), Error> {
    netlink
        .add_address(link, Address { address: *address, prefix: *prefix, lifetime: None })
        .await?;
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
    netlink.add_route(link, route).await
}

/// The kernel forms the addresses itself; we only see whether it could.
async fn keep_advertised(context: &Context, link: &Link, carrier: &mut watch::Receiver<bool>) {
    while wait_for_carrier(context, link, carrier).await.is_ok() {
        let watched = async {
            wait_for_advertisement(context, link).await;
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

async fn wait_for_advertisement(context: &Context, link: &Link) {
    let deadline = Instant::now() + ADVERTISEMENT_GRACE;
    loop {
        match context.netlink.has_global_ipv6(link).await {
            Ok(true) => return context.health.works(&link.name),
            Ok(false) if Instant::now() < deadline => {}
            Ok(false) => context.health.failed(
                &link.name,
                "no router has advertised an IPv6 prefix; waiting for one".to_owned(),
            ),
            Err(error) => context.health.failed(&link.name, chain(&error)),
        }
        sleep(ADVERTISEMENT_INTERVAL).await;
    }
}
