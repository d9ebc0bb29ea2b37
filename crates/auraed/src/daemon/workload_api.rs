//! The node's identity from a SPIFFE Workload API, which renews it before half its life is over.
//!
//! ```text
//! connecting ──▶ following ──an SVID──▶ published; following
//!     ▲              │
//!     └──a pause─────┴── the agent is gone, or refuses: degraded, what was published stays
//! ```

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use spiffe::transport::Endpoint;
use spiffe::{WorkloadApiClient, WorkloadApiError, X509Context};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::reply;
use crate::server::{Svid, Tls};
use crate::shutdown::Shutdown;
use crate::status::Status;

/// The phase that is degraded while there is no answer.
const PHASE: &str = "spiffe";
/// The pauses between attempts double from the first to the last: an agent that starts beside the node
/// is there within seconds, and one that is gone for long is not pestered.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// How long the start waits for the first identity. A daemon that takes over has 10 s in all.
const FIRST_TIMEOUT: Duration = Duration::from_secs(5);

/// The identities, as they come.
#[derive(Clone, Debug)]
pub(crate) struct Identities(watch::Receiver<Option<Arc<Svid>>>);

impl Identities {
    /// Follows the Workload API until the shutdown is asked for.
    pub(crate) fn follow(endpoint: Endpoint, status: Status, shutdown: Shutdown) -> Self {
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            tokio::select! {
                _ = shutdown.wait() => {}
                () = follow(endpoint, &status, &sender) => {}
            }
        });
        Self(receiver)
    }

    /// Waits for the first one, within bounds.
    pub(crate) async fn first(&mut self) {
        let first = self.0.wait_for(Option::is_some);
        if timeout(FIRST_TIMEOUT, first).await.is_err() {
            tracing::warn!("the SPIFFE Workload API has given no identity yet");
        }
    }

    /// The last one.
    pub(crate) fn current(&self) -> Option<Arc<Svid>> {
        self.0.borrow().clone()
    }

    /// Has each one taken up, from now on. What cannot be taken up is tried again: a file may be what is wrong.
    pub(crate) async fn renew(mut self, tls: Tls, status: Status) {
        loop {
            let mut again = Duration::MAX;
            if let Some(svid) = self.current() {
                match tls.take(svid) {
                    Ok(()) => {
                        status.recover(PHASE);
                        status.set_certificate_expiry(tls.expiry());
                    }
                    Err(error) => {
                        degrade(&status, reply::text(&error));
                        again = LAST_PAUSE;
                    }
                }
            }
            if let Ok(Err(_)) = timeout(again, self.0.changed()).await {
                return;
            }
        }
    }
}

async fn follow(endpoint: Endpoint, status: &Status, sender: &watch::Sender<Option<Arc<Svid>>>) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Err(error) = stream(&endpoint, status, sender, &mut pause).await {
            degrade(
                status,
                format!("no identity from the SPIFFE Workload API: {}", reply::text(&error)),
            );
        }
        sleep(pause).await;
        pause = (2 * pause).min(LAST_PAUSE);
    }
}

/// Publishes what comes, until the agent ends it.
async fn stream(
    endpoint: &Endpoint,
    status: &Status,
    sender: &watch::Sender<Option<Arc<Svid>>>,
    pause: &mut Duration,
) -> Result<(), WorkloadApiError> {
    let client = WorkloadApiClient::connect(endpoint.clone()).await?;
    let mut contexts = client.stream_x509_contexts().await?;
    while let Some(context) = contexts.next().await {
        if let Some(svid) = svid(&context?) {
            *pause = FIRST_PAUSE;
            status.recover(PHASE);
            sender.send_replace(Some(Arc::new(svid)));
        }
    }
    Ok(())
}

/// The default identity and the bundles.
fn svid(context: &X509Context) -> Option<Svid> {
    let svid = context.default_svid()?;
    let bundles = context.bundle_set().iter().map(|(domain, bundle)| {
        let authorities = bundle.authorities().iter();
        let authorities = authorities.map(|authority| authority.as_bytes().to_vec());
        (domain.to_string(), authorities.collect())
    });
    let chain = svid.cert_chain().iter().map(|certificate| certificate.as_bytes().to_vec());
    Some(Svid {
        id: svid.spiffe_id().to_string(),
        chain: chain.collect(),
        key: svid.private_key().as_bytes().to_vec(),
        bundles: bundles.collect(),
    })
}

/// Once for each reason: an agent that is gone for long is told of once.
fn degrade(status: &Status, message: String) {
    let degraded = status.degraded();
    if degraded.iter().any(|known| known.phase == PHASE && known.message == message) {
        return;
    }
    status.recover(PHASE);
    status.degrade(PHASE, message);
}
