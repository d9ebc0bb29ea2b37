//! One client's calls of Discover, and how long they take.

use std::fmt;
use std::time::{Duration, Instant};

use aurae_client::Client;
use aurae_proto::discovery::DiscoverRequest;
use aurae_proto::discovery::discovery_service_client::DiscoveryServiceClient;
use tokio::task::JoinSet;

use crate::Outcome;

/// So many calls are open at once.
const IN_FLIGHT: usize = 64;
/// So many connections share them in the last figure.
pub(crate) const CONNECTIONS: usize = 8;

/// What was measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Of calls one after the other, in microseconds.
    p50: f64,
    p99: f64,
    /// Calls a second with [`IN_FLIGHT`] open, on one connection.
    one: f64,
    /// The same, on [`CONNECTIONS`].
    several: f64,
}

type Figure = fn(&Figures) -> f64;

impl Figures {
    pub(crate) const NAMES: [(&str, Figure); 4] = [
        ("latency p50, µs", |it| it.p50),
        ("latency p99, µs", |it| it.p99),
        ("64 in flight on one connection, calls/s", |it| it.one),
        ("64 in flight on eight connections, calls/s", |it| it.several),
    ];
}

impl fmt::Display for Figures {
    /// JSON.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p99, one, several } = self;
        write!(
            formatter,
            "{{\"p50_us\":{p50:.1},\"p99_us\":{p99:.1},\"one_connection_per_s\":{one:.0},\
             \"eight_connections_per_s\":{several:.0}}}"
        )
    }
}

/// Measures each figure for so long. There are [`CONNECTIONS`] clients.
pub(crate) async fn figures(clients: &[Client], span: Duration) -> Outcome<Figures> {
    let first = clients.first().ok_or("there is no connection")?;
    let latencies = latencies(first.clone(), span).await?;
    let at = |of: usize| {
        let found = latencies.get(latencies.len() * of / 100).copied().unwrap_or_default();
        found.as_secs_f64() * 1e6
    };
    Ok(Figures {
        p50: at(50),
        p99: at(99),
        one: throughput(std::slice::from_ref(first), span).await?,
        several: throughput(clients, span).await?,
    })
}

/// The latencies of calls one after the other, sorted.
async fn latencies(client: Client, span: Duration) -> Outcome<Vec<Duration>> {
    // A task, as the calls of a program are: what `block_on` runs, another thread would have to wake.
    let calls = tokio::spawn(async move {
        let (mut latencies, end) = (Vec::new(), Instant::now() + span);
        while Instant::now() < end {
            let start = Instant::now();
            call(&client).await?;
            latencies.push(start.elapsed());
        }
        latencies.sort_unstable();
        Outcome::Ok(latencies)
    });
    calls.await?
}

/// The calls a second of [`IN_FLIGHT`] callers on these connections.
async fn throughput(clients: &[Client], span: Duration) -> Outcome<f64> {
    let (mut callers, start) = (JoinSet::new(), Instant::now());
    for client in clients.iter().cycle().take(IN_FLIGHT) {
        let client = Client::clone(client);
        callers.spawn(async move {
            let mut calls = 0_u32;
            while start.elapsed() < span {
                call(&client).await?;
                calls += 1;
            }
            Outcome::Ok(calls)
        });
    }
    let mut calls = 0;
    while let Some(made) = callers.join_next().await {
        calls += made??;
    }
    Ok(f64::from(calls) / start.elapsed().as_secs_f64())
}

async fn call(client: &Client) -> Outcome<()> {
    DiscoveryServiceClient::new(client.channel()).discover(DiscoverRequest {}).await?;
    Ok(())
}
