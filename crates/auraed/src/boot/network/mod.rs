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
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::backoff::Backoff;
use self::health::Health;
use self::link::Link;
use self::netlink::Netlink;
use self::resolver::Resolver;
use self::settings::NetworkSettings;
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

/// What the tasks of an interface work with; clones share it.
#[derive(Clone, Debug)]
struct Context {
    netlink: Netlink,
    health: Health,
    resolver: Resolver,
}

/// An interface that is there, with the tasks that keep it configured. Dropping it ends them.
struct Tracked {
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
    let context = Context {
        netlink: Netlink::new(handle),
        health: health.clone(),
        resolver: Resolver::new(&settings.name_servers),
    };
    let mut links = Links { settings, context, tracked: HashMap::new() };
    if let Err(error) = links.look().await {
        return error;
    }
    let grace = tokio::time::sleep(ABSENT_GRACE);
    tokio::pin!(grace);
    let mut graceful = true;
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some((message, _)) => match message.payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => {
                        links.appeared(Link::from_message(&message)).await;
                    }
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => {
                        links.vanished(message.header.index);
                    }
                    // The kernel dropped messages: what we know may be out of date.
                    NetlinkPayload::Overrun(_) => if let Err(error) = links.look().await {
                        return error;
                    },
                    _ => {}
                },
                None => return "the netlink connection was closed".to_owned(),
            },
            () = &mut grace, if graceful => {
                graceful = false;
                links.report_absent();
            }
        }
    }
}

/// The links of the machine, by index.
struct Links<'a> {
    settings: &'a NetworkSettings,
    context: Context,
    tracked: HashMap<u32, Tracked>,
}

impl Links<'_> {
    /// Asks the kernel for all links, and takes up those that are new.
    async fn look(&mut self) -> Result<(), String> {
        let links =
            self.context.netlink.links().await.map_err(|error| super::report::chain(&error))?;
        self.tracked.retain(|index, _| links.iter().any(|link| link.index == *index));
        for link in links {
            self.appeared(link).await;
        }
        Ok(())
    }

    /// A link is new, or changed.
    async fn appeared(&mut self, link: Link) {
        if let Some(tracked) = self.tracked.get(&link.index) {
            tracked
                .carrier
                .send_if_modified(|up| std::mem::replace(up, link.carrier) != link.carrier);
            return;
        }
        if link.loopback {
            let result = self.context.netlink.bring_up(&link).await;
            self.context.health.record(&link.name, result);
            self.track(link, Vec::new());
            return;
        }
        let methods = self.settings.methods(&link.name, link.is_device());
        self.track(link, methods);
    }

    fn track(&mut self, link: Link, methods: Vec<settings::Method>) {
        let (carrier, watch) = watch::channel(link.carrier);
        let mut tasks = JoinSet::new();
        if !methods.is_empty() && !link.loopback {
            self.context.health.works(&link.name);
        }
        for method in methods {
            tasks.spawn(methods::keep(self.context.clone(), link.clone(), method, watch.clone()));
        }
        self.tracked.insert(link.index, Tracked { carrier, _tasks: tasks });
    }

    fn vanished(&mut self, index: u32) {
        self.tracked.remove(&index);
    }

    fn report_absent(&self) {
        for name in self.settings.named() {
            if !link::exists(name) {
                self.context.health.failed(
                    name,
                    format!("there is no interface {name} yet; waiting for it (see aurae.net on the kernel command line)"),
                );
            }
        }
    }
}
