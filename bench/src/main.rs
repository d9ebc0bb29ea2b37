//! `aurae-bench`: measures a node beside container runtimes and systemd, in turns, in one run.
//!
//! ```text
//! run ──▶ machine.json, figures/*.json ─┐
//! boots, scripts ──▶ figures/*.json ────┴─ report ──▶ report.json, report.md, *.png
//! ```
//!
//! `cargo xtask bench` runs these where they belong: in a virtual machine that has the peers, or on this
//! machine itself.

#![forbid(unsafe_code)]

mod bare;
mod bench;
mod calls;
mod contest;
mod daemon;
mod figures;
mod floor;
mod peers;
mod process;
mod report;
mod series;

use std::fs;
use std::io::{BufRead, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use bench::{Bench, Group, Pace, progress};
use contest::Rounds;
use figures::{FLEET, GROUPS, look};
use report::{Figure, Machine, Report};

/// Measures a node beside container runtimes and systemd.
#[derive(Parser)]
#[command(name = "aurae-bench")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measures on this machine; writes what came of it into a directory.
    Run(Run),
    /// Makes the figures of boots from lines of standard input, as `look` writes them.
    Boots {
        /// The directory of the report.
        #[arg(long)]
        out: PathBuf,
    },
    /// Measures scripts under several runtimes.
    Scripts(Scripts),
    /// Makes report.json, report.md and plots of what was measured, and prints the tables.
    Report {
        /// The directory of the report.
        directory: PathBuf,
        /// The TrueType font of the plots. Unset: there are none.
        #[arg(long)]
        font: Option<PathBuf>,
    },
    /// Tells how this machine's process 1 came up; run it when the machine can be used.
    Look {
        /// Who is process 1.
        init: String,
        /// When it could be used, as the time of this day in UTC, 21:42:36.931. Unset: now.
        #[arg(long)]
        ready: Option<String>,
        /// The CPU time of process 1 until then. Unset: until now.
        #[arg(long)]
        cpu_ms: Option<u64>,
    },
    /// Serves an empty call and nothing else.
    #[command(hide = true)]
    ServeBare { address: String, pki: PathBuf },
    /// Has so many connections on which nothing happens, then more on which calls are made.
    #[command(hide = true)]
    Crowd { address: String, pki: PathBuf, idle: usize, busy: usize },
    /// Writes so many lines.
    #[command(hide = true)]
    Emit { lines: u64 },
}

#[derive(clap::Args)]
struct Run {
    /// Our binary.
    #[arg(long)]
    aurae: PathBuf,
    /// A static BusyBox, which is what runs in cells and containers.
    #[arg(long, default_value = "/bin/busybox")]
    busybox: PathBuf,
    /// The directory of the report.
    #[arg(long)]
    out: PathBuf,
    /// How much is measured.
    #[arg(long, value_enum, default_value = "full")]
    pace: Pace,
    /// What the report says of how the machine runs.
    #[arg(long, default_value = "the host itself")]
    how: String,
    /// Measures these groups of figures alone: names with commas, or more than once.
    #[arg(long, value_delimiter = ',', value_parser = group_names())]
    only: Vec<String>,
}

#[derive(clap::Args)]
struct Scripts {
    /// The directory of the report.
    #[arg(long)]
    out: PathBuf,
    /// Our binary.
    #[arg(long)]
    aurae: PathBuf,
    /// deno.
    #[arg(long)]
    deno: PathBuf,
    /// node.
    #[arg(long)]
    node: PathBuf,
    /// The configuration of clients of a node.
    #[arg(long)]
    config: PathBuf,
    /// The directory with hello.ts and calls.ts.
    #[arg(long)]
    scripts: PathBuf,
}

fn groups() -> impl Iterator<Item = &'static Group> {
    GROUPS.iter().chain([&FLEET])
}

fn group_names() -> clap::builder::PossibleValuesParser {
    groups().map(|group| group.name).collect::<Vec<_>>().into()
}

fn main() -> ExitCode {
    match act(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(task: Task) -> Result<()> {
    match task {
        Task::Run(run) => measure(&run),
        Task::Boots { out } => {
            let lines = std::io::stdin().lock().lines();
            let boots = lines
                .map(|line| serde_json::from_str(&line?).context("that is no boot"))
                .collect::<Result<Vec<_>>>()?;
            write_figures(&out, "2-boots", &figures::boots(&boots))
        }
        Task::Scripts(scripts) => measure_scripts(&scripts),
        Task::Report { directory, font } => {
            let machine = directory.join(MACHINE);
            let machine = machine.exists().then(|| read(&machine)).transpose()?;
            let report = Report { machine, figures: all(&directory)? };
            report.write(&directory)?;
            print!("{}", report.show(&directory, font.as_deref())?);
            Ok(())
        }
        Task::Look { init, ready, cpu_ms } => {
            let boot = look(&init, ready.as_deref(), cpu_ms)?;
            println!("{}", serde_json::to_string(&boot).context("failed to encode")?);
            Ok(())
        }
        Task::ServeBare { address, pki } => bare::serve(&address, &pki),
        Task::Crowd { address, pki, idle, busy } => figures::crowd(&address, &pki, idle, busy),
        Task::Emit { lines } => emit(lines),
    }
}

const MACHINE: &str = "machine.json";
const FIGURES: &str = "figures";

fn measure(run: &Run) -> Result<()> {
    let started = Instant::now();
    fs::create_dir_all(run.out.join(FIGURES)).context("failed to make the report's directory")?;
    let (out, aurae) = (run.out.canonicalize()?, run.aurae.canonicalize()?);
    let wanted = |group: &Group| match run.only.is_empty() {
        true => group.name != FLEET.name || !is_alone(),
        false => run.only.iter().any(|only| only == group.name),
    };
    let work = std::env::temp_dir().join(format!("aurae-bench-{}", std::process::id()));
    if is_alone() {
        // A network namespace begins with its loopback interface down (network_namespaces(7)).
        process::run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    }
    let bench = Bench::set_up(aurae, work.clone(), run.pace, &run.busybox)?;
    let machine: Machine = bench.machine(&run.how)?;
    write(&out.join(MACHINE), &machine)?;
    let mut failed = Vec::new();
    for (number, group) in groups().enumerate().filter(|(_, group)| wanted(group)) {
        progress(started, group.name);
        let measured = match group.name == FLEET.name && !is_alone() {
            true => alone(run),
            false => (group.measure)(&bench).and_then(|figures| {
                write_figures(&out, &format!("1-{number:02}-{}", group.name), &figures)?;
                figures.iter().try_for_each(ours_are_there)
            }),
        };
        if let Err(error) = measured {
            eprintln!("{} failed: {error:#}", group.name);
            failed.push(group.name);
        }
    }
    drop(bench);
    // What is left there is of no use; it is in a directory for such.
    let _ = fs::remove_dir_all(work);
    progress(started, "done");
    if failed.is_empty() { Ok(()) } else { bail!("these failed: {}", failed.join(", ")) }
}

/// What a peer cannot do is told in the report; what we cannot do is a failure.
fn ours_are_there(figure: &Figure) -> Result<()> {
    for side in figure.sides.iter().filter(|side| side.ours) {
        if let Some(why) = &side.skipped {
            bail!("{}: {}: {why}", figure.id, side.name);
        }
    }
    Ok(())
}

/// Set in the process that has a network namespace of its own.
const ALONE: &str = "AURAE_BENCH_ALONE";

fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// Measures a fleet in a network namespace of its own.
fn alone(run: &Run) -> Result<()> {
    let program = std::env::current_exe().context("this program has no path")?;
    let mut command = Command::new("unshare");
    command.arg("--net").arg("--").arg(program).arg("run").env(ALONE, "yes");
    command.arg("--aurae").arg(&run.aurae).arg("--out").arg(&run.out).args(["--only", FLEET.name]);
    command.arg("--busybox").arg(&run.busybox);
    command.arg("--how").arg(&run.how).arg("--pace");
    command.arg(match run.pace {
        Pace::Quick => "quick",
        Pace::Emulated => "emulated",
        Pace::Full => "full",
    });
    process::run(&mut command)
}

fn measure_scripts(scripts: &Scripts) -> Result<()> {
    let (hello, calls) = (scripts.scripts.join("hello.ts"), scripts.scripts.join("calls.ts"));
    let rounds = Rounds { wanted: 30, limit: std::time::Duration::from_secs(60) };
    let figures = figures::scripts(
        &figures::Scripts {
            aurae: &scripts.aurae,
            deno: &scripts.deno,
            node: &scripts.node,
            config: &scripts.config,
            hello: &hello,
            calls: &calls,
        },
        rounds,
    )?;
    write_figures(&scripts.out, "3-scripts", &figures)
}

fn write<T: serde::Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec(value).context("failed to encode")?;
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no report", path.display()))
}

/// The files of a group have its name, and stand in the order of their names.
fn write_figures(out: &Path, group: &str, figures: &[Figure]) -> Result<()> {
    let directory = out.join(FIGURES);
    fs::create_dir_all(&directory).context("failed to make the report's directory")?;
    write(&directory.join(format!("{group}.json")), &figures)
}

fn all(directory: &Path) -> Result<Vec<Figure>> {
    let directory = directory.join(FIGURES);
    let mut files: Vec<PathBuf> = fs::read_dir(&directory)
        .with_context(|| format!("failed to list {}", directory.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    let figures = files.iter().map(|file| read::<Vec<Figure>>(file)).collect::<Result<Vec<_>>>()?;
    Ok(figures.into_iter().flatten().collect())
}

/// Lines that are different from each other.
fn emit(lines: u64) -> Result<()> {
    let mut output = BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
    for number in 0..lines {
        writeln!(output, "{number:0width$}", width = figures::LINE - 1).context("nobody reads")?;
    }
    output.flush().context("nobody reads")
}
