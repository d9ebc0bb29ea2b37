//! The script runtime beside deno: the time to say hello, in turns, in one run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Context;
use crate::debian::{self, Need};
use crate::tools;
use crate::workspace::Workspace;

const NPM: Need = Need { program: "npm", package: "npm" };
/// The runtimes that the scripts are compared with, by their npm packages.
const RUNTIMES: [&str; 2] = ["deno@2", "node@24"];
/// Hello has to take at most this share of deno's time.
const SHARE: f64 = 1.0 / 3.0;
/// Enough for a median that a busy machine does not move.
const ROUNDS: usize = 15;

const HELLO: &str = "const name: string = \"node\";\nconsole.log(`hello, ${name}`);\n";

/// Other runtimes for TypeScript.
pub(super) struct Runtimes {
    directory: PathBuf,
}

impl Runtimes {
    /// Installs them below the target directory, once.
    pub(super) fn ensure(workspace: &Workspace) -> Result<Self> {
        let directory = workspace.testbed().join("runtimes");
        let runtimes = Self { directory: directory.clone() };
        if runtimes.programs().iter().all(|program| program.exists()) {
            return Ok(runtimes);
        }
        debian::ensure(&[NPM])?;
        tools::progress(&format!("installing {}", RUNTIMES.join(" and ")));
        fs::create_dir_all(&directory)
            .with_context(|| format!("failed to make {}", directory.display()))?;
        tools::output(
            Command::new("npm")
                .args(["install", "--no-fund", "--no-audit", "--no-progress", "--prefix"])
                .arg(&directory)
                .args(RUNTIMES)
                .current_dir(&directory),
        )?;
        Ok(runtimes)
    }

    /// The directory with the programs, for `PATH`.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.join("node_modules/.bin")
    }

    fn programs(&self) -> [PathBuf; 2] {
        ["deno", "node"].map(|name| self.path().join(name))
    }
}

/// Times hello under both.
pub(super) fn compare_start(context: &mut Context) -> Result<()> {
    const NAME: &str = "auraescript says hello in a third of deno's time";
    let runtimes = match Runtimes::ensure(&context.workspace) {
        Ok(runtimes) => runtimes,
        Err(error) => {
            context.tally.skip(NAME, &format!("there is no deno: {error:#}"));
            return Ok(());
        }
    };
    let script = context.workspace.testbed().join("hello.ts");
    fs::write(&script, HELLO).with_context(|| format!("failed to write {}", script.display()))?;
    let result = compare(&context.workspace.binary(), &runtimes.path().join("deno"), &script);
    context.tally.check(NAME, result);
    Ok(())
}

fn compare(aurae: &Path, deno: &Path, script: &Path) -> Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // The first round fills caches and is not counted.
    for round in 0..=ROUNDS {
        let our_time = time(Command::new(aurae).arg("auraescript").arg(script))?;
        let their_time =
            time(Command::new(deno).args(["run", "--quiet", "--no-check"]).arg(script))?;
        if round > 0 {
            ours.push(our_time);
            theirs.push(their_time);
        }
    }
    let (ours, theirs) = (median(ours), median(theirs));
    println!("hello: auraescript {ours:.2?}, deno {theirs:.2?} (medians of {ROUNDS}, in turns)");
    if ours.as_secs_f64() > theirs.as_secs_f64() * SHARE {
        bail!("auraescript took {ours:.2?}, more than a third of deno's {theirs:.2?}");
    }
    Ok(())
}

fn time(command: &mut Command) -> Result<Duration> {
    let start = Instant::now();
    let said = tools::output(command)?;
    let time = start.elapsed();
    if said != "hello, node\n" {
        bail!("`{}` said {said:?}", tools::shown(command));
    }
    Ok(time)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_not_moved_by_one_slow_run() {
        let times = [1, 900, 2, 3, 4].map(Duration::from_millis).to_vec();
        assert_eq!(median(times), Duration::from_millis(3));
    }
}
