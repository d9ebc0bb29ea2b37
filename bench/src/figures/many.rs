//! Many at once.

use std::cell::RefCell;
use std::process::Command;

use anyhow::Result;
use futures_util::future::try_join_all;

use super::scale::free_all;
use crate::bench::Bench;
use crate::calls::isolated;
use crate::contest::{Contest, Rounds, seconds};
use crate::peers::{Runtime, fresh};
use crate::process::{busy, run, run_detached};
use crate::report::{Figure, Side, Unit};
use crate::series::Series;

/// How many runtimes the shell's loop runs at once.
const WORKERS: &str = "8";
const OURS: &str = "one client";
const CRUN: &str = "crun from a shell";

pub(super) fn many(bench: &Bench) -> Result<Vec<Figure>> {
    let counts = bench.paced([5, 10], [50, 100], [50, 500]);
    let mut figures = Vec::new();
    for (count, rounds) in counts.into_iter().zip([10, 3]) {
        figures.extend(at_once(bench, count, bench.rounds(rounds, 150))?);
    }
    Ok(figures)
}

fn at_once(bench: &Bench, count: usize, rounds: Rounds) -> Result<[Figure; 2]> {
    let sleep = bench.bundles.program("sleep").display().to_string();
    let bundle = bench.bundles.bundle("many", &["/bin/sleep", "100000"]);
    let (our_cpu, their_cpu) = (RefCell::new(Series::default()), RefCell::new(Series::default()));
    let mut contest = Contest::default();
    contest.ours(OURS, || {
        let names: Vec<String> = (0..count).map(|_| fresh("many")).collect();
        let api = bench.api()?;
        let before = busy()?;
        let time = seconds(|| {
            let started = names.iter().map(|name| async {
                api.allocate(isolated(name, bench.limits())).await?;
                api.start(name, "sleep", &[&sleep, "100000"]).await
            });
            bench.runtime.block_on(try_join_all(started))
        })?;
        our_cpu.borrow_mut().push(busy()? - before);
        bench.runtime.block_on(free_all(&api, names))?;
        Ok(time)
    });
    let can = Runtime::Crun.can(bench.limits()).and_then(|()| match &bundle {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{error:#}")),
    });
    contest.peer_if(CRUN, can, || {
        let ids: Vec<String> = (0..count).map(|_| fresh("many")).collect();
        let mut one = bench.bundles.command(Runtime::Crun);
        one.args(["run", "--detach", "--bundle"]).args(bundle.as_ref().ok());
        let before = busy()?;
        let time = seconds(|| run_detached(&mut each(&one, &ids)))?;
        their_cpu.borrow_mut().push(busy()? - before);
        let mut one = bench.bundles.command(Runtime::Crun);
        one.args(["delete", "--force"]);
        run(&mut each(&one, &ids))?;
        Ok(time)
    });
    let mut time = Figure::new(
        &format!("many-{count}"),
        &format!("{count} cells at once, until all run"),
        Unit::Seconds,
        "One client allocates cells and starts a `sleep` in each, all at once over one connection; `crun run --detach` from `xargs` with 8 workers.",
    );
    if count == 500 {
        time = time.at_most(OURS, 1.0);
    }
    time.sides = contest.run(rounds);
    let mut cpu = Figure::new(
        &format!("many-{count}-cpu"),
        &format!("{count} cells at once: the CPU time of all"),
        Unit::Seconds,
        "What the whole machine was busy in the figure above, the clients included (/proc/stat, in hundredths of a second).",
    );
    for (name, ours, series) in [(OURS, true, our_cpu), (CRUN, false, their_cpu)] {
        let values = series.into_inner().after_first();
        cpu.sides.push(Side { values, ..Side::new(name, ours) });
    }
    Ok([time, cpu])
}

/// A command line for each of these, eight at once, by `xargs`.
fn each(one: &Command, ids: &[String]) -> Command {
    let mut words = vec![one.get_program().to_string_lossy().into_owned()];
    words.extend(one.get_args().map(|word| word.to_string_lossy().into_owned()));
    let mut command = Command::new("sh");
    command.arg("-c").arg(r#"list=$1; shift; printf '%s\n' $list | xargs -P "$WORKERS" -n 1 "$@""#);
    command.env("WORKERS", WORKERS).arg("sh").arg(ids.join(" ")).args(words);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::output;

    #[test]
    fn each_gets_a_command_line_of_its_own() -> Result<()> {
        let ids = ["a".to_owned(), "b".to_owned()];
        let said = output(&mut each(Command::new("echo").arg("one two"), &ids))?;
        let mut lines: Vec<&str> = said.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["one two a", "one two b"]);
        Ok(())
    }
}
