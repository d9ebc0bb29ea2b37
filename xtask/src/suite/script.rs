//! The script runtime beside deno: the time to say hello, in turns, in one run.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Context;
use super::runtimes::Runtimes;
use crate::tools;

/// Hello has to take at most this share of deno's time.
const SHARE: f64 = 1.0 / 3.0;
/// Enough for a median that a busy machine does not move.
const ROUNDS: usize = 15;

const HELLO: &str = "const name: string = \"node\";\nconsole.log(`hello, ${name}`);\n";

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
    let result = compare(&context.shipping()?.binary(), &runtimes.deno(), &script);
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
