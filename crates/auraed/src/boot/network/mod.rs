//! The node's network: loopback, addresses, default routes and name servers, over netlink.
//!
//! One task owns the netlink connection and watches the links come and go. Every method of every
//! interface has a task of its own beside it:
//!
//! ```text
//! absent ──link──▶ bring up ──▶ no carrier ⇄ carrier ──▶ configured       per interface and method
//!                     ▲              (an error: back-off, then again)
//! ```
//!
//! Nothing here is waited for by the API. What does not work yet is a failed phase `network` in the
//! [`Status`], and is taken back when it works.

mod backoff;
mod dhcp;
mod health;
mod link;
mod methods;
mod netlink;
mod resolver;
pub(super) mod settings;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::backoff::Backoff;
use self::health::Health;
use self::link::Link;
use self::netlink::Netlink;
use self::resolver::Resolver;
use self::settings::{Method, NetworkSettings};
use crate::status::Status;

/// How long an interface that the settings name may be absent before that is a failure: a driver may
/// still be looking for its device.
const ABSENT_GRACE: Duration = Duration::from_secs(5);

/// Sets the network up and keeps it up, for as long as it runs.
pub async fn run(settings: NetworkSettings, status: Status) {
    let health = Health::new(status);
    let mut backoff = Backoff::default();
    loop {
        let error = watch(&settings, &health).await;
        health.failed("netlink", error);
        backoff.wait().await;
    }
}

/// One interface and one way of configuring it, with what its task works with.
#[derive(Clone, Debug)]
struct Port {
    link: Link,
    /// Under what the failures of this task are kept: `eth0 (dhcp)`.
    subject: String,
    netlink: Netlink,
    health: Health,
    resolver: Resolver,
}

impl Port {
    /// Keeps the interface configured in one way. What a DHCP server sends is read here: a panic over it
    /// would be a bug, and costs one attempt.
    async fn keep(self, method: Method, carrier: watch::Receiver<bool>) {
        let mut backoff = Backoff::default();
        loop {
            let attempt = methods::keep(&self, &method, carrier.clone());
            if AssertUnwindSafe(attempt).catch_unwind().await.is_ok() {
                return;
            }
            self.failed("the task panicked, which is a bug; starting it again".to_owned());
            backoff.wait().await;
        }
    }

    fn works(&self) {
        self.health.works(&self.subject);
    }

    fn failed(&self, reason: String) {
        self.health.failed(&self.subject, reason);
    }
}

/// An interface that is there, with the tasks that keep it configured. Dropping it ends them.
struct Tracked {
    name: String,
    subjects: Vec<String>,
    carrier: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

/// Watches the links until the netlink connection fails, and says why it did.
async fn watch(settings: &NetworkSettings, health: &Health) -> String {
    let (connection, handle, mut messages) =
        match rtnetlink::new_multicast_connection(&[MulticastGroup::Link]) {
            Ok(connection) => connection,
            Err(error) => return format!("failed to open a netlink socket: {error}"),
        };
    tokio::spawn(connection);
    health.works("netlink");
    let mut links = Links {
        settings,
        netlink: Netlink::new(handle),
        health: health.clone(),
        resolver: Resolver::new(&settings.name_servers),
        tracked: HashMap::new(),
    };
    if let Err(error) = links.look().await {
        return error;
    }
    let grace = tokio::time::sleep(ABSENT_GRACE);
    tokio::pin!(grace);
    let mut graceful = true;
    loop {
        tokio::select! {
            message = messages.next() => {
                let Some((message, _)) = message else {
                    return "the netlink connection was closed".to_owned();
                };
                if let Err(error) = links.hear(message.payload).await {
                    return error;
                }
            }
            () = &mut grace, if graceful => {
                graceful = false;
                links.report_absent();
            }
        }
    }
}

/// Whether a message is about a link itself. A bridge speaks of its ports in the same words: a port that
/// leaves it is "deleted", and is still there.
fn is_of_link(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

/// The links of the machine, by index.
struct Links<'a> {
    settings: &'a NetworkSettings,
    netlink: Netlink,
    health: Health,
    resolver: Resolver,
    tracked: HashMap<u32, Tracked>,
}

impl Links<'_> {
    /// Asks the kernel for all links, and takes up those that are new.
    async fn look(&mut self) -> Result<(), String> {
        let links = self.netlink.links().await.map_err(|error| crate::reply::text(&error))?;
        let is_there = |index: &u32| links.iter().any(|link| link.index == *index);
        let gone: Vec<u32> =
            self.tracked.keys().copied().filter(|index| !is_there(index)).collect();
        gone.into_iter().for_each(|index| self.vanished(index));
        for link in links {
            self.appeared(link).await;
        }
        Ok(())
    }

    /// The kernel says that something changed.
    async fn hear(&mut self, payload: NetlinkPayload<RouteNetlinkMessage>) -> Result<(), String> {
        match payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message))
                if is_of_link(&message) =>
            {
                self.appeared(Link::from_message(&message)).await;
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message))
                if is_of_link(&message) =>
            {
                self.vanished(message.header.index);
            }
            // The kernel dropped messages: what we know may be out of date.
            NetlinkPayload::Overrun(_) => self.look().await?,
            _ => {}
        }
        Ok(())
    }

    /// A link is new, or changed.
    async fn appeared(&mut self, link: Link) {
        match self.tracked.get(&link.index) {
            Some(tracked) if tracked.name == link.name => {
                tracked
                    .carrier
                    .send_if_modified(|up| std::mem::replace(up, link.carrier) != link.carrier);
                return;
            }
            // Another name may mean other settings.
            Some(_) => self.vanished(link.index),
            None => {}
        }
        if link.loopback {
            self.track(link.clone(), Vec::new());
            let result = self.netlink.bring_up(&link).await;
            self.health.record(&link.name, result);
            return;
        }
        let methods = self.settings.methods(&link.name, link.is_device());
        self.track(link, methods);
    }

    fn track(&mut self, link: Link, methods: Vec<Method>) {
        let (carrier, watch) = watch::channel(link.carrier);
        let mut tasks = JoinSet::new();
        let mut subjects = Vec::new();
        for method in methods {
            let subject = format!("{} ({method})", link.name);
            subjects.push(subject.clone());
            let port = Port {
                link: link.clone(),
                subject,
                netlink: self.netlink.clone(),
                health: self.health.clone(),
                resolver: self.resolver.clone(),
            };
            tasks.spawn(port.keep(method, watch.clone()));
        }
        // It may have been missed before.
        self.health.works(&link.name);
        let tracked = Tracked { name: link.name, subjects, carrier, _tasks: tasks };
        self.tracked.insert(link.index, tracked);
    }

    fn vanished(&mut self, index: u32) {
        let Some(Tracked { name, subjects, .. }) = self.tracked.remove(&index) else { return };
        self.resolver.set(&name, Vec::new(), Vec::new());
        subjects.iter().for_each(|subject| self.health.works(subject));
        if self.settings.named().contains(&name.as_str()) {
            self.report_absent();
        }
    }

    fn report_absent(&self) {
        for name in self.settings.named() {
            if !link::exists(name) {
                self.health.failed(
                    name,
                    format!("there is no interface {name} yet; waiting for it (see aurae.net on the kernel command line)"),
                );
            }
        }
    }
}
