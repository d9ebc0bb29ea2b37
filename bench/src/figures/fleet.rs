//! One client and many nodes, some of them dead.
//!
//! Everything is in network namespaces that this makes: the nodes' behind a bridge in the one that it runs
//! in itself, which has no way out.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bench::Bench;
use crate::contest::Contest;
use crate::daemon;
use crate::process::{self, run};
use crate::report::{Figure, Unit};

/// One of so many is dead: it has an address that nobody answers at.
const DEAD_IN: usize = 20;
/// What a call may take, for both sides: it is what a dead node costs.
const TIMEOUT: &str = "2s";
/// How many processes the other side runs at once.
const WORKERS: &str = "32";
/// How long all nodes together have to come up.
const TIME_TO_ANSWER: Duration = Duration::from_secs(600);

const OURS: &str = "aer --all";
const XARGS: &str = "xargs -P 32, a process a node";

/// Nodes; dropped, they are ended.
struct Fleet {
    nodes: Vec<Child>,
    directory: PathBuf,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // They have no workloads, and their directories are ours.
            let _ = node.kill();
            let _ = node.wait();
        }
        for number in 1..=self.nodes.len() {
            let _ = run(Command::new("ip").args(["netns", "delete", &namespace(number)]));
        }
    }
}

fn namespace(number: usize) -> String {
    format!("aurae-bench-{number}")
}

fn ip(number: usize) -> String {
    format!("10.77.{}.{}", number / 250, number % 250 + 1)
}

fn socket(number: usize) -> String {
    format!("{}:8080", ip(number))
}

impl Fleet {
    /// Starts so many nodes, each in a network namespace of its own.
    fn start(bench: &Bench, count: usize) -> Result<Self> {
        let mut fleet = Self { nodes: Vec::new(), directory: bench.work.join("fleet") };
        for number in 1..=count {
            // One of a run that was killed.
            let _ = run(Command::new("ip").args(["netns", "delete", &namespace(number)]));
            run(Command::new("ip").args(["netns", "add", &namespace(number)]))?;
        }
        let mut batch = String::from(
            "link add bench type bridge\naddr add 10.77.250.1/16 dev bench\nlink set bench up\n",
        );
        for number in 1..=count {
            let name = namespace(number);
            let _ = writeln!(batch, "link add v{number} type veth peer name eth0 netns {name}");
            let _ = writeln!(batch, "link set v{number} master bench up");
        }
        ip_batch(&[], &batch)?;
        for number in 1..=count {
            let batch =
                format!("link set lo up\naddr add {}/16 dev eth0\nlink set eth0 up\n", ip(number));
            ip_batch(&["-n", &namespace(number)], &batch)?;
            let directory = fleet.directory.join(number.to_string());
            fs::create_dir_all(&directory).context("failed to make a directory")?;
            let node = daemon::command(&bench.aurae, &directory, &bench.pki, &socket(number));
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/run/netns/{}", namespace(number))).arg("--");
            command.arg(node.get_program()).args(node.get_args());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            fleet.nodes.push(command.spawn().context("failed to start a node")?);
        }
        Ok(fleet)
    }

    /// Writes a configuration of so many nodes, of which so many are dead, and returns its path.
    fn configuration(&self, bench: &Bench, count: usize, dead: usize) -> Result<PathBuf> {
        let nodes: Vec<(String, String)> = (1..=count)
            .map(|number| {
                let alive = number + dead <= count;
                // Beyond all addresses that somebody has.
                let socket = if alive { socket(number) } else { socket(number + 20_000) };
                (format!("n{number}"), socket)
            })
            .collect();
        let path = self.directory.join(format!("config-{count}-{dead}"));
        fs::write(&path, bench.pki.configuration(&socket(1), &nodes))
            .context("failed to write a configuration")?;
        Ok(path)
    }
}

fn ip_batch(arguments: &[&str], batch: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(arguments)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("failed to run ip")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(batch.as_bytes()).context("failed to tell ip")?;
    }
    let status = child.wait().context("failed to wait for ip")?;
    if !status.success() {
        bail!("ip ended with {status}");
    }
    Ok(())
}

/// How many nodes said that they are well, and how long that took.
fn ask(command: &mut Command) -> Result<(usize, f64)> {
    let start = Instant::now();
    // It fails where a node is dead; what counts is who answered.
    let output = command.stdin(Stdio::null()).output().context("failed to run aer")?;
    let time = start.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stdout);
    let words: String = said.split_whitespace().collect();
    Ok((words.matches("\"healthy\":true").count(), time))
}

fn all(bench: &Bench, config: &std::path::Path) -> Command {
    let mut command = Command::new(&bench.aurae);
    command.args(["aer", "--output", "json", "--timeout", TIMEOUT, "--config"]).arg(config);
    command.args(["--all", "discovery", "discover"]);
    command
}

fn each(bench: &Bench, config: &std::path::Path, count: usize) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!(
        r#"seq -f n%.0f {count} | xargs -P {WORKERS} -I NODE "$1" aer --output json --timeout {TIMEOUT} --config "$2" --node NODE discovery discover"#
    ));
    command.arg("sh").arg(&bench.aurae).arg(config);
    command.stderr(Stdio::null());
    command
}

pub(super) fn fleet(bench: &Bench) -> Result<Vec<Figure>> {
    let counts: &[usize] = bench.paced(&[1, 3], &[1, 20], &[1, 10, 50, 200]);
    let most = counts.last().copied().unwrap_or_default();
    let fleet = Fleet::start(bench, most)?;
    let config = fleet.configuration(bench, most, 0)?;
    process::until(TIME_TO_ANSWER, || {
        let (answered, _) = ask(&mut all(bench, &config))?;
        if answered == most { Ok(()) } else { bail!("{answered} of {most} nodes answer") }
    })?;
    let mut figures = Vec::new();
    for count in counts {
        figures.push(one_call(bench, &fleet, *count, 0)?);
        if *count >= DEAD_IN {
            figures.push(one_call(bench, &fleet, *count, count / DEAD_IN)?);
        }
    }
    Ok(figures)
}

fn one_call(bench: &Bench, fleet: &Fleet, count: usize, dead: usize) -> Result<Figure> {
    let config = fleet.configuration(bench, count, dead)?;
    let (id, title) = match dead {
        0 => (format!("fleet-{count}"), format!("One call on {count} nodes")),
        _ => (
            format!("fleet-{count}-dead"),
            format!("One call on {count} nodes, {dead} of them dead"),
        ),
    };
    let mut figure = Figure::new(
        &id,
        &title,
        Unit::Seconds,
        &format!(
            "Discover over mutual TLS, daemons in their own network namespaces on one machine; a call may take {TIMEOUT}, which is what a dead node costs both sides."
        ),
    );
    let check = move |(answered, time): (usize, f64)| {
        if answered + dead < count {
            bail!("{answered} of {count} nodes answered");
        }
        Ok(time)
    };
    let mut contest = Contest::default();
    contest.ours(OURS, || check(ask(&mut all(bench, &config))?));
    contest.peer(XARGS, || check(ask(&mut each(bench, &config, count))?));
    figure.sides = contest.run(bench.rounds(30, 60));
    Ok(figure)
}
