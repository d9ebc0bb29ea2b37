//! Measures what one client's load costs another: `fairness QUIET_CONFIG BUSY_CONFIG [DAEMON_PID]`.
//!
//! The two configurations are of two principals of one node. The quiet one calls one after the other, on
//! one connection; first alone, then while another process holds 2,000 idle connections of the busy one,
//! then while it calls on 200 more without a pause. Prints the latencies of the quiet one and their ratio,
//! and what the daemon's memory did where its process is told.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aurae_client::{Client, Config};
use aurae_proto::discovery::DiscoverRequest;
use aurae_proto::discovery::discovery_service_client::DiscoveryServiceClient;
use rustix::process::{Resource, getrlimit, setrlimit};

const IDLE: usize = 2000;
const BUSY: usize = 200;
/// How long each state is measured.
const SPAN: Duration = Duration::from_secs(10);
/// The pause between two calls of the quiet client: it is no load itself.
const PAUSE: Duration = Duration::from_millis(2);

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--load", config] => runtime.block_on(load(Path::new(config))),
        [quiet, busy] => runtime.block_on(measure(Path::new(quiet), busy, None)),
        [quiet, busy, daemon] => runtime.block_on(measure(Path::new(quiet), busy, Some(daemon))),
        _ => Err("usage: fairness QUIET_CONFIG BUSY_CONFIG [DAEMON_PID]".into()),
    }
}

async fn connect(config: &Path) -> Outcome<Client> {
    let client = Client::connect(&Config::read(config)?.default_node()?).await?;
    call(&client).await?;
    Ok(client)
}

async fn call(client: &Client) -> Outcome<()> {
    DiscoveryServiceClient::new(client.channel()).discover(DiscoverRequest {}).await?;
    Ok(())
}

/// The busy client's process: a line on standard output for each state that it has reached, and on from
/// there with each line of standard input.
async fn load(config: &Path) -> Outcome<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(connect(config).await?);
    }
    say("idle")?;
    order()?;
    let calls = Arc::new(AtomicU64::new(0));
    for _ in 0..BUSY {
        let (client, calls) = (connect(config).await?, Arc::clone(&calls));
        tokio::spawn(async move {
            while call(&client).await.is_ok() {
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    say("busy")?;
    let start = Instant::now();
    calls.store(0, Ordering::Relaxed);
    tokio::task::spawn_blocking(order).await??;
    let rate = calls.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    say(&format!("{rate:.0} calls/s of the busy client"))?;
    std::process::exit(0)
}

/// Waits for a line.
fn order() -> std::io::Result<usize> {
    std::io::stdin().read_line(&mut String::new())
}

fn say(line: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

async fn measure(quiet: &Path, busy: &str, daemon: Option<&str>) -> Outcome<()> {
    let client = connect(quiet).await?;
    let alone = latencies("alone", &client, daemon).await?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--load", busy])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut orders = child.stdin.take().ok_or("the load has no input")?;
    let mut states = BufReader::new(child.stdout.take().ok_or("the load has no output")?).lines();
    states.next().ok_or("the load did not connect")??;
    latencies("2,000 idle", &client, daemon).await?;
    writeln!(orders)?;
    states.next().ok_or("the load did not begin")??;
    let loaded = latencies("2,000 idle and 200 busy", &client, daemon).await?;
    writeln!(orders)?;
    println!("{}", states.next().ok_or("the load did not end")??);
    child.wait()?;
    for (name, of) in [("p50", 50), ("p99", 99)] {
        let ratio = percentile(&loaded, of).as_secs_f64() / percentile(&alone, of).as_secs_f64();
        println!("ratio {name}: {ratio:.2}");
    }
    Ok(())
}

/// The latencies of calls over a span, sorted.
async fn latencies(state: &str, client: &Client, daemon: Option<&str>) -> Outcome<Vec<Duration>> {
    let (mut latencies, end) = (Vec::new(), Instant::now() + SPAN);
    while Instant::now() < end {
        let start = Instant::now();
        call(client).await?;
        latencies.push(start.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    latencies.sort_unstable();
    let [half, most] = [50, 99].map(|of| percentile(&latencies, of).as_micros());
    let memory = daemon.map(memory).transpose()?.unwrap_or_default();
    println!("{state}: {} calls, p50 {half} µs, p99 {most} µs{memory}", latencies.len());
    Ok(latencies)
}

fn percentile(sorted: &[Duration], of: usize) -> Duration {
    sorted.get(sorted.len() * of / 100).copied().unwrap_or_default()
}

/// The resident memory of a process (proc_pid_status(5)).
fn memory(pid: &str) -> Outcome<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(format!(", daemon's memory {}", resident.ok_or("no VmRSS")?.trim()))
}
