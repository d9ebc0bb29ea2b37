//! `make test`: everything that this machine can test, to the end even after failures, and one line
//! of counts last.
//!
//! A [`Step`] counts what it finds in the [`Tally`]; a step that breaks off counts as a failure. What
//! this machine cannot do is skipped with the reason, and is never counted as passed.

mod bench;
mod binary;
mod checks;
mod examples;
mod libtest;
mod runtimes;
mod script;
mod tally;
mod v0_client;

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::build;
use crate::debian;
use crate::testbed::accel::Accel;
use crate::testbed::kernel::{self, Kernel};
use crate::tools;
use crate::workspace::Workspace;
use libtest::Suites;
pub(crate) use runtimes::Runtimes;
use tally::Tally;

/// What the steps share.
struct Context {
    workspace: Workspace,
    tally: Tally,
}

impl Context {
    /// The workspace with the binary that ships, which is built where it is not yet.
    fn shipping(&self) -> Result<Workspace> {
        build::shipped(&self.workspace)?;
        Ok(self.workspace.shipping())
    }
}

/// A part of the suite.
struct Step {
    name: &'static str,
    what: &'static str,
    run: fn(&mut Context) -> Result<()>,
}

/// In the order in which they run: what fails fast comes first, what needs a node last.
const STEPS: [Step; 11] = [
    Step { name: "setup", what: "gets QEMU, a kernel and BusyBox", run: set_up },
    Step { name: "fmt", what: "checks the formatting", run: checks::fmt },
    Step { name: "clippy", what: "runs clippy; warnings are errors", run: checks::clippy },
    Step { name: "build", what: "builds the release binary and all tests", run: build_all },
    Step { name: "unit", what: "runs the tests that need no node", run: unit },
    Step {
        name: "binary",
        what: "builds the binary that ships, and checks it: static, small, all names",
        run: binary::check,
    },
    Step {
        name: "script",
        what: "compares the start of auraescript and of deno",
        run: script::compare_start,
    },
    Step { name: "bench", what: "measures every figure of the bench a few times", run: bench::run },
    Step { name: "vm", what: "runs the tests that boot nodes", run: vm },
    Step {
        name: "examples",
        what: "runs every example against a node, under deno and node too",
        run: examples::run,
    },
    Step {
        name: "v0-client",
        what: "drives a node with a client made from the API's description",
        run: v0_client::run,
    },
];

/// Runs the steps of these names, or all.
///
/// # Errors
/// When there is no step of a name.
pub fn run(workspace: &Workspace, names: &[String]) -> Result<ExitCode> {
    for name in names {
        if !STEPS.iter().any(|step| step.name == name) {
            let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
            bail!("there is no step `{name}`: there are {}", known.join(", "));
        }
    }
    let mut context = Context { workspace: workspace.clone(), tally: Tally::default() };
    for step in STEPS.iter().filter(|step| names.is_empty() || names.iter().any(|n| n == step.name))
    {
        run_step(step, &mut context);
    }
    print!("{}", context.tally.summary());
    Ok(if context.tally.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the steps.
pub fn list() {
    for step in &STEPS {
        println!("{:10} {}", step.name, step.what);
    }
}

fn run_step(step: &Step, context: &mut Context) {
    println!("\n== {}: {}", step.name, step.what);
    let start = Instant::now();
    let before = context.tally.failed();
    if let Err(error) = (step.run)(context) {
        context.tally.fail(step.name, &format!("{error:#}"));
    }
    let failed = context.tally.failed() - before;
    let verdict = if failed == 0 { "ok".to_owned() } else { format!("{failed} failed") };
    println!("== {}: {verdict} ({:.1} s)", step.name, start.elapsed().as_secs_f64());
}

fn set_up(context: &mut Context) -> Result<()> {
    debian::ensure(&[debian::C_COMPILER, debian::QEMU])?;
    let kernel = Kernel::ensure(&context.workspace)?;
    kernel::busybox(&context.workspace)?;
    let accel = Accel::best(&context.workspace, &kernel)?;
    tools::progress(&format!("nodes boot Linux {} with {}", kernel.release, accel.name()));
    Ok(())
}

fn build_all(context: &mut Context) -> Result<()> {
    build::release(&context.workspace)?;
    Suites::build(&context.workspace)?;
    context.tally.pass("build");
    Ok(())
}

fn unit(context: &mut Context) -> Result<()> {
    let suites = Suites::build(&context.workspace)?;
    suites.run(&mut context.tally, |suite| !suite.needs_nodes())?;
    libtest::run_documentation(&context.workspace, &mut context.tally)
}

fn vm(context: &mut Context) -> Result<()> {
    let suites = Suites::build(&context.workspace)?;
    // What the nodes of earlier runs left.
    let leftovers = context.workspace.testbed().join("vm-tests");
    if leftovers.exists() {
        fs::remove_dir_all(&leftovers).context("failed to remove the nodes of earlier runs")?;
    }
    suites.run(&mut context.tally, libtest::Suite::needs_nodes)
}
