//! Output: from what writes it to who reads it.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;

use super::memory::Conmon;
use crate::bench::Bench;
use crate::calls::isolated;
use crate::contest::Contest;
use crate::peers::{Runtime, fresh, systemd};
use crate::process::{output, run, wait};
use crate::report::{Figure, Unit};

/// A line that `emit` writes, with its end.
pub(crate) const LINE: usize = 100;

const OURS: &str = "GetExecutableLogs";
const CONMON: &str = "conmon to a file";

pub(super) fn logs(bench: &Bench) -> Result<Vec<Figure>> {
    let lines = bench.paced(10_000_u64, 20_000, 1_000_000);
    Ok(vec![one(bench, lines)?, fifty(bench, lines / 50)?])
}

/// The command line that writes so many lines.
fn emit(lines: u64) -> Result<Vec<String>> {
    let program = std::env::current_exe().context("this program has no path")?;
    Ok(vec![program.display().to_string(), "emit".to_owned(), lines.to_string()])
}

fn rate(start: std::time::Instant, bytes: u64) -> f64 {
    bytes as f64 / start.elapsed().as_secs_f64()
}

fn one(bench: &Bench, lines: u64) -> Result<Figure> {
    let api = bench.api()?;
    let cell = fresh("logs");
    bench.runtime.block_on(api.allocate(isolated(&cell, false)))?;
    let words = emit(lines)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (mut missed, mut lost_by_conmon, mut lost_by_journald) = (0, 0, 0);
    let mut figure = Figure::new(
        "logs",
        "The output of one executable",
        Unit::BytesPerSecond,
        &format!(
            "{lines} lines of {LINE} bytes, from the start of the program that writes them until the client has them all, over mutual TLS; conmon and journald until they have written them to a file."
        ),
    );
    let bundle = emitter(bench, lines);
    let mut contest = Contest::default();
    contest.ours(OURS, || {
        let api = bench.api()?;
        let start = std::time::Instant::now();
        let got = bench.runtime.block_on(async {
            api.start(&cell, "emit", &words).await?;
            api.output(&cell, "emit").await
        })?;
        missed += got.missed;
        if got.text + got.missed != lines * (LINE as u64 - 1) {
            bail!(
                "{} bytes came and {} were told as missed, of {lines} lines",
                got.text,
                got.missed
            );
        }
        Ok(rate(start, got.bytes()))
    });
    let can = Runtime::Crun.can(bench.limits()).and_then(|()| crate::process::find("conmon"));
    contest.peer_if(CONMON, can, || {
        let bundle = bundle.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let container = Conmon::create(&bench.bundles, bundle, &bench.work)?;
        let start = std::time::Instant::now();
        container.start(&bench.bundles)?;
        wait(container.pid)?;
        let rate = rate(start, lines * LINE as u64);
        let written = fs::read(&container.log).context("conmon wrote no log")?;
        let count = written.iter().filter(|byte| **byte == b'\n').count() as u64;
        lost_by_conmon += lines.saturating_sub(count) * LINE as u64;
        let log = container.log.clone();
        container.delete(&bench.bundles)?;
        fs::remove_file(log).context("failed to remove a log")?;
        Ok(rate)
    });
    contest.peer_if("journald", systemd(), || {
        let unit = fresh("bench-logs");
        let start = std::time::Instant::now();
        let mut command = Command::new("systemd-run");
        command.args(["--quiet", "--wait", "--collect", "-p", "LogRateLimitIntervalSec=0"]);
        run(command.arg("--unit").arg(&unit).arg("--").args(&words))?;
        run(Command::new("journalctl").arg("--sync"))?;
        let rate = rate(start, lines * LINE as u64);
        let kept = output(
            Command::new("journalctl").args(["--quiet", "--output", "cat", "--unit"]).arg(&unit),
        )?;
        let count = kept.lines().filter(|line| line.len() == LINE - 1).count() as u64;
        lost_by_journald += lines.saturating_sub(count) * LINE as u64;
        Ok(rate)
    });
    figure.sides = contest.run(bench.rounds(30, 90));
    bench.runtime.block_on(bench.api()?.free(&cell))?;
    for (name, lost) in [(OURS, missed), (CONMON, lost_by_conmon), ("journald", lost_by_journald)] {
        if figure.side(name).is_some_and(|side| side.values.len() > 0) {
            figure.notes.push(format!("{name}: {lost} bytes lost in all rounds together"));
        }
    }
    figure.notes.push("what is written faster than it is read is dropped by ours beyond the capacity that is kept (1 MiB), counted and told to the reader; conmon and journald hold up the writer".to_owned());
    Ok(figure)
}

/// A container's bundle that writes lines: this program in its root file system.
fn emitter(bench: &Bench, lines: u64) -> Result<std::path::PathBuf> {
    let program = std::env::current_exe().context("this program has no path")?;
    fs::copy(program, bench.bundles.root().join("bin/emit")).context("failed to copy")?;
    bench.bundles.bundle("emit", &["/bin/emit", "emit", &lines.to_string()])
}

fn fifty(bench: &Bench, lines: u64) -> Result<Figure> {
    let api = bench.api()?;
    let cells: Vec<String> = (0..50).map(|_| fresh("logs")).collect();
    for cell in &cells {
        bench.runtime.block_on(api.allocate(isolated(cell, false)))?;
    }
    let words = emit(lines)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut missed = 0;
    let mut figure = Figure::new(
        "logs-50",
        "The output of fifty cells to one client",
        Unit::BytesPerSecond,
        &format!("As above, {lines} lines from each of 50 cells at once, over one connection."),
    );
    let mut contest = Contest::default();
    contest.ours(OURS, || {
        let start = std::time::Instant::now();
        let all = cells.iter().map(|cell| async {
            api.start(cell, "emit", &words).await?;
            api.output(cell, "emit").await
        });
        let got = bench.runtime.block_on(try_join_all(all))?;
        missed += got.iter().map(|got| got.missed).sum::<u64>();
        Ok(rate(start, got.iter().map(|got| got.bytes()).sum()))
    });
    figure.sides = contest.run(bench.rounds(15, 60));
    figure.notes.push(format!("{OURS}: {missed} bytes lost in all rounds together"));
    for cell in &cells {
        bench.runtime.block_on(api.free(cell))?;
    }
    Ok(figure)
}
