//! One principal's calls beside a crowd of another's.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::bench::Bench;
use crate::calls::Api;
use crate::daemon::{ADDRESS, Pki};
use crate::process::run;
use crate::report::{Figure, Side, Unit};
use crate::series::Series;

/// The pause between two calls of the quiet client, which is no load itself.
const PAUSE: Duration = Duration::from_millis(2);
/// Who the crowd is.
const CROWD: &str = "crowd";

const ALONE: &str = "alone";
/// What the crowd says, in that order.
const IDLE: &str = "idle";
const BUSY: &str = "busy";

pub(super) fn fairness(bench: &Bench) -> Result<Vec<Figure>> {
    let (idle, busy) = bench.paced((50, 10), (500, 50), (2000, 200));
    let beside_idle = format!("beside {idle} idle connections");
    let beside_busy = format!("beside {idle} idle connections and {busy} busy ones");
    let mut figure = Figure::new(
        "fairness",
        "An empty call beside another principal's",
        Unit::Seconds,
        "Discover every 2 ms on one connection: alone, then while another principal has connections on which nothing happens, then while it has more on which one call follows the other. A value is the median of a span. The other principal is a process with one thread on the same machine.",
    )
    .share(&beside_busy, 2.0, ALONE);

    run(Command::new(&bench.aurae)
        .args(["aer", "pki", "client"])
        .arg(bench.pki.file(""))
        .args([CROWD, "--role", "reader"]))?;
    let quiet = bench.api()?;
    let spans = || spans(bench, &quiet);
    let alone = spans()?;
    let mut crowd = Crowd::start(bench, idle, busy)?;
    crowd.reaches(IDLE)?;
    let with_idle = spans()?;
    crowd.reaches(BUSY)?;
    let with_busy = spans()?;
    drop(crowd);
    let mut slowest = Figure::new(
        "fairness-p99",
        "The slowest of a hundred empty calls beside another principal's",
        Unit::Seconds,
        "As above; a value is the 99th percentile of a span.",
    );
    let measured = [(ALONE, alone), (&beside_idle, with_idle), (&beside_busy, with_busy)];
    for (name, Spans { medians, slowest: values }) in measured {
        figure.sides.push(Side { values: medians, ..Side::new(name, true) });
        slowest.sides.push(Side { values, ..Side::new(name, true) });
    }
    Ok(vec![figure, slowest])
}

/// What the quiet client's calls take, a value a span.
#[derive(Default)]
struct Spans {
    medians: Series,
    slowest: Series,
}

fn spans(bench: &Bench, quiet: &Api) -> Result<Spans> {
    let (spans, span) = bench.paced((3, 100), (6, 3000), (10, 1000));
    let span = Duration::from_millis(span);
    bench.runtime.block_on(async {
        let mut measured = Spans::default();
        for _ in 0..spans {
            let (mut latencies, end) = (Series::default(), Instant::now() + span);
            while Instant::now() < end {
                let start = Instant::now();
                quiet.discover().await?;
                latencies.push(start.elapsed().as_secs_f64());
                tokio::time::sleep(PAUSE).await;
            }
            measured.medians.push(latencies.median().context("no call was made")?);
            measured.slowest.push(latencies.percentile(99).context("no call was made")?);
        }
        Ok(measured)
    })
}

/// The process of the crowd; dropped, it is ended.
struct Crowd {
    child: Child,
    orders: ChildStdin,
    states: Lines<BufReader<ChildStdout>>,
}

impl Crowd {
    fn start(bench: &Bench, idle: usize, busy: usize) -> Result<Self> {
        let program = std::env::current_exe().context("this program has no path")?;
        let mut child = Command::new(program)
            .args(["crowd", ADDRESS])
            .arg(bench.pki.file(""))
            .args([idle.to_string(), busy.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start the crowd")?;
        let orders = child.stdin.take().context("the crowd has no input")?;
        let states = child.stdout.take().context("the crowd has no output")?;
        Ok(Self { child, orders, states: BufReader::new(states).lines() })
    }

    /// Tells it to go on, and waits until it is there.
    fn reaches(&mut self, state: &str) -> Result<()> {
        writeln!(self.orders).context("failed to tell the crowd")?;
        match self.states.next() {
            Some(said) if said.as_deref().ok() == Some(state) => Ok(()),
            other => bail!("the crowd did not become {state}, and said {other:?}"),
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is the crowd: goes on with each line of standard input, and says what it is then.
pub(crate) fn crowd(address: &str, pki: &Path, idle: usize, busy: usize) -> Result<()> {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).context("failed to raise the limit of open files")?;
    let pki = Pki::of(pki);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to make a runtime")?;
    runtime.block_on(async {
        let connect = async || {
            let api = Api::new(&pki.connect_as(CROWD, address).await?);
            api.discover().await?;
            anyhow::Ok(api)
        };
        order().await?;
        let mut connections = Vec::new();
        for _ in 0..idle {
            connections.push(connect().await?);
        }
        println!("{IDLE}");
        order().await?;
        for _ in 0..busy {
            let api = connect().await?;
            tokio::spawn(async move { while api.discover().await.is_ok() {} });
        }
        println!("{BUSY}");
        order().await
    })
}

/// Waits for a line, while connections answer pings.
async fn order() -> Result<()> {
    let line = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    match line.await.context("nobody waited")?.context("failed to read an order")? {
        0 => bail!("there are no more orders"),
        _ => Ok(()),
    }
}
