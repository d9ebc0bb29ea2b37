//! `cargo xtask`: the repository's tasks.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use xtask::testbed::fleet::{self, DEFAULT_NAME, Up};
use xtask::workspace::Workspace;
use xtask::{bench, build, codegen, demo, fuzz, suite};

/// The repository's tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measures a node beside container runtimes and systemd, and writes target/bench/report.md.
    Bench(BenchArguments),
    /// Builds the binary that ships.
    Build,
    /// Boots a node, runs examples/hello.ts against it, powers it off.
    Demo,
    /// Generates the TypeScript SDK's messages from `api/`; needs Node.
    Codegen {
        /// Changes nothing; fails when what is committed is out of date.
        #[arg(long)]
        check: bool,
    },
    /// Runs the fuzz targets under libFuzzer; installs cargo-fuzz where it is missing.
    Fuzz {
        /// Runs only the targets of these names.
        targets: Vec<String>,
        /// How long each runs, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        time: u64,
    },
    /// Checks formatting and runs clippy.
    Lint,
    /// Runs everything that can be tested on this machine.
    Test(TestArguments),
    /// Nodes in QEMU.
    #[command(subcommand)]
    Node(NodeTask),
}

#[derive(Args)]
struct BenchArguments {
    /// Measures on this machine itself, as root, and not in a virtual one.
    #[arg(long)]
    host: bool,
    /// Measures these groups of figures alone: names with commas, or more than once.
    #[arg(long, value_name = "GROUP", value_delimiter = ',', value_parser = bench::GROUPS)]
    only: Vec<String>,
}

#[derive(Args)]
struct TestArguments {
    /// Runs only the steps of these names (`cargo xtask test --list` shows them).
    steps: Vec<String>,
    /// Lists the steps and does nothing.
    #[arg(long)]
    list: bool,
}

#[derive(Subcommand)]
enum NodeTask {
    /// Boots a node and waits until its API answers.
    Up(UpArguments),
    /// Shuts a node down in order.
    Down {
        /// The node's name.
        #[arg(default_value = DEFAULT_NAME)]
        name: String,
    },
    /// Shows a node's console.
    Console {
        /// The node's name.
        #[arg(default_value = DEFAULT_NAME)]
        name: String,
    },
    /// Lists the nodes that run.
    List,
}

#[derive(Args)]
struct UpArguments {
    /// The node's name, and its host name.
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
    /// How many CPUs it has.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Its memory in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(128..))]
    memory: u32,
    /// A kernel argument, `aurae.net=none` for example. May be given more than once.
    #[arg(long, value_name = "ARGUMENT")]
    append: Vec<String>,
    /// Leaves the node running in the background.
    #[arg(long)]
    detach: bool,
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match task {
        Task::Bench(BenchArguments { host, only }) => {
            bench::run(&workspace, &bench::Wanted { host, only })?
        }
        Task::Build => build::shipped(&workspace)?,
        Task::Codegen { check } => codegen::run(workspace.root(), check)?,
        Task::Demo => demo::run(&workspace)?,
        Task::Fuzz { targets, time } => fuzz::run(&workspace, &targets, time)?,
        Task::Lint => return suite::run(&workspace, &["fmt".to_owned(), "clippy".to_owned()]),
        Task::Test(TestArguments { list: true, .. }) => suite::list(),
        Task::Test(TestArguments { steps, .. }) => return suite::run(&workspace, &steps),
        Task::Node(task) => run_node(&workspace, task)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run_node(workspace: &Workspace, task: NodeTask) -> Result<()> {
    match task {
        NodeTask::Up(UpArguments { name, cpus, memory, append, detach }) => {
            build::release(workspace)?;
            fleet::up(workspace, Up { name, cpus, memory_mib: memory, append, detach })
        }
        NodeTask::Down { name } => fleet::down(workspace, &name),
        NodeTask::Console { name } => fleet::show_console(workspace, &name),
        NodeTask::List => fleet::list(workspace),
    }
}
