//! A call: what everything between the socket and the service adds.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use aurae_model::ZonePath;
use futures_util::future::try_join_all;

use crate::bench::Bench;
use crate::calls::{Api, isolated};
use crate::contest::{Contest, seconds};
use crate::daemon::connect;
use crate::peers::fresh;
use crate::process::{run, until};
use crate::report::{Figure, Unit};

const ADDRESS: &str = "127.0.0.1:18081";
const IN_FLIGHT: usize = 64;
/// How long the bare server has to answer.
const TIME_TO_ANSWER: Duration = Duration::from_secs(30);

const TCP: &str = "a node, over TCP";
const CELL: &str = "a cell of that node, over TCP";
const UNIX: &str = "a node, over its unix socket";
const BARE: &str = "bare tonic, over TCP";

/// The bare server in a process of its own; dropped, it is ended.
struct Bare(Child);

impl Drop for Bare {
    fn drop(&mut self) {
        // It ends with its listener at the latest.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bare {
    fn start(bench: &Bench) -> Result<Self> {
        let program = std::env::current_exe().context("this program has no path")?;
        let child = Command::new(program)
            .args(["serve-bare", ADDRESS])
            .arg(bench.pki.file(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("failed to start the bare server")?;
        let bare = Self(child);
        let connect = || bench.runtime.block_on(connect(&bench.pki, ADDRESS));
        until(TIME_TO_ANSWER, connect).context("the bare server does not answer")?;
        Ok(bare)
    }
}

pub(super) fn rpc(bench: &Bench) -> Result<Vec<Figure>> {
    let tcp = bench.api()?;
    let cell = fresh("rpc");
    bench.runtime.block_on(tcp.allocate(isolated(&cell, false)))?;
    let _server = Bare::start(bench)?;
    let sides = [TCP, CELL, BARE, UNIX];
    // Each turn has a connection of its own: one that is kept meanwhile answers no pings, and is closed.
    let open = |side: &str| {
        bench.runtime.block_on(async {
            let client = match side {
                BARE => connect(&bench.pki, ADDRESS).await?,
                UNIX => bench.daemon()?.unix().await?,
                _ => bench.daemon()?.tcp().await?,
            };
            let api = match side {
                CELL => Api::new(&client.in_zone(&ZonePath::parse(&format!("cells/{cell}"))?)),
                _ => Api::new(&client),
            };
            // The first call finds out whether the client is let in.
            api.discover().await?;
            anyhow::Ok(api)
        })
    };
    let calls = bench.paced(50_u32, 200, 2000);

    let mut latency = Figure::new(
        "rpc",
        "An empty call on an open connection",
        Unit::Seconds,
        &format!("Discover, one call after the other, with mutual TLS 1.3; a value is the mean of {calls}. The bare server does what tonic and rustls do, and has no gate, route, rules or records."),
    )
    .share(TCP, 1.1, BARE)
    .share(CELL, 2.0, TCP)
    .at_most(TCP, 80e-6);
    let mut contest = Contest::default();
    for name in sides {
        let turn = || {
            let api = open(name)?;
            let time = seconds(|| {
                bench.runtime.block_on(async {
                    for _ in 0..calls {
                        api.discover().await?;
                    }
                    Ok(())
                })
            })?;
            Ok(time / f64::from(calls))
        };
        match name {
            BARE => contest.peer(name, turn),
            _ => contest.ours(name, turn),
        };
    }
    latency.sides = contest.run(bench.rounds(60, 60));

    let each = bench.paced(10_u32, 30, 400);
    let mut throughput = Figure::new(
        "rpc-64",
        "Empty calls, 64 in flight on one connection",
        Unit::PerSecond,
        &format!("As above, 64 tasks that make {each} calls each; the client has one thread on the same machine."),
    )
    .at_least(TCP, 0.9, Some(BARE))
    .at_least(TCP, 80_000.0, None);
    let mut contest = Contest::default();
    for name in sides {
        let turn = || {
            let api = open(name)?;
            let tasks = (0..IN_FLIGHT).map(|_| async {
                for _ in 0..each {
                    api.discover().await?;
                }
                anyhow::Ok(())
            });
            let time = seconds(|| bench.runtime.block_on(try_join_all(tasks)))?;
            Ok(f64::from(each) * IN_FLIGHT as f64 / time)
        };
        match name {
            BARE => contest.peer(name, turn),
            _ => contest.ours(name, turn),
        };
    }
    throughput.sides = contest.run(bench.rounds(60, 60));
    bench.runtime.block_on(bench.api()?.free(&cell))?;
    Ok(vec![latency, throughput, cold(bench)?])
}

fn cold(bench: &Bench) -> Result<Figure> {
    let truth = bench.bundles.program("true");
    let mut figure = Figure::new(
        "cold",
        "A command line call, from start to exit",
        Unit::Seconds,
        "`aer discovery discover` over TCP and mutual TLS: a process, its configuration, a handshake, a call; beside a static `true`.",
    )
    .at_most("aer discovery discover", 2e-3);
    let mut contest = Contest::default();
    contest.ours("aer discovery discover", || {
        let mut command = bench.aer()?;
        seconds(|| run(command.args(["discovery", "discover"])))
    });
    contest.peer("spawn and wait", || seconds(|| run(&mut Command::new(&truth))));
    figure.sides = contest.run(bench.rounds(100, 60));
    Ok(figure)
}
