//! What an RPC costs, and what the same one costs on a bare tonic server with the same TLS.
//!
//! ```text
//! rpc serve SOCKET CA_CRT SERVER_CRT SERVER_KEY   a bare server, until it is killed
//! rpc measure CONFIG                              one JSON object of figures
//! rpc compare CONFIG BARE_CONFIG [ROUNDS]         both in turns, a line a round, then the medians
//! ```
//!
//! SOCKET is an address and port, or the path of a unix socket; a configuration is that of a client. The RPC is
//! `DiscoveryService/Discover`, whose messages are nearly empty. One client calls one after the other on
//! one connection; then there are always 64 calls on one connection; then on eight.

mod bare;
mod load;

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use aurae_client::{Client, Config};
use load::{Figures, figures};

/// How long each figure is measured in a round: some ten thousand calls.
const SPAN: Duration = Duration::from_millis(700);
/// The rounds of a comparison, unless told otherwise.
const ROUNDS: usize = 15;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["serve", socket, ca, certificate, key] => {
                bare::serve(socket, Path::new(ca), Path::new(certificate), Path::new(key)).await
            }
            ["measure", config] => {
                println!("{}", measured(config, SPAN).await?);
                Ok(())
            }
            ["compare", ours, bare] => compare(ours, bare, ROUNDS).await,
            ["compare", ours, bare, rounds] => compare(ours, bare, rounds.parse()?).await,
            _ => Err("usage: rpc {serve SOCKET CA_CRT SERVER_CRT SERVER_KEY | measure CONFIG | compare CONFIG BARE_CONFIG [ROUNDS]}".into()),
        }
    })
}

/// The figures of a node, on connections of their own.
async fn measured(config: &str, span: Duration) -> Outcome<Figures> {
    let node = Config::read(Path::new(config))?.default_node()?;
    let mut clients = Vec::new();
    for _ in 0..load::CONNECTIONS {
        clients.push(Client::connect(&node).await?);
    }
    figures(&clients, span).await
}

async fn compare(ours: &str, bare: &str, rounds: usize) -> Outcome<()> {
    // Both warm up: what was never called is slow.
    for config in [ours, bare] {
        measured(config, SPAN / 4).await?;
    }
    let (mut all, mut floor) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Who comes first changes, so that what follows on what is no difference.
        let order = if round % 2 == 0 { [ours, bare] } else { [bare, ours] };
        for config in order {
            let figures = measured(config, SPAN).await?;
            println!("{} {figures}", if config == ours { "ours" } else { "bare" });
            if config == ours { &mut all } else { &mut floor }.push(figures);
        }
    }
    for (name, of) in Figures::NAMES {
        let median = |all: &[Figures]| median(all.iter().map(of).collect());
        let ratios = all.iter().zip(&floor).map(|(ours, bare)| of(ours) / of(bare)).collect();
        let (ours, bare, ratio) = (median(&all), median(&floor), self::median(ratios));
        println!("{name}: {ours:.1} ours, {bare:.1} bare, ratio {ratio:.3}");
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
