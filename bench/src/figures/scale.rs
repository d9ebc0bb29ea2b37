//! Whether a cell costs the same however many there are.

use anyhow::Result;
use aurae_proto::cells::Cell;
use futures_util::{StreamExt, stream};

use crate::bench::Bench;
use crate::calls::{Api, isolated};
use crate::contest::seconds;
use crate::peers::fresh;
use crate::report::{Figure, Side, Unit};

/// How many cells are made at once.
pub(super) const AT_ONCE: usize = 16;

pub(super) fn scale(bench: &Bench) -> Result<Vec<Figure>> {
    let api = bench.api()?;
    let steps: &[usize] = bench.paced(&[5, 10], &[10, 100, 500], &[10, 100, 1000, 5000]);
    let mut figure = Figure::new(
        "scale",
        "One more cell while others exist",
        Unit::Seconds,
        "Allocate and Free of an isolated cell on an open connection, while so many other cells exist.",
    );
    let mut names = Vec::new();
    for step in steps {
        bench.runtime.block_on(fill(&api, &mut names, *step))?;
        let mut side = Side::new(&named(*step), true);
        for round in 0..=bench.rounds(50, 60).wanted {
            let name = fresh("scale");
            let time = seconds(|| {
                bench.runtime.block_on(async {
                    api.allocate(isolated(&name, bench.limits())).await?;
                    api.free(&name).await
                })
            })?;
            if round > 0 {
                side.values.push(time);
            }
        }
        figure.sides.push(side);
    }
    if let (Some(first), Some(last)) = (steps.first(), steps.last()) {
        figure = figure.share(&named(*last), 1.5, &named(*first));
    }
    bench.runtime.block_on(free_all(&api, names))?;
    Ok(vec![figure])
}

fn named(step: usize) -> String {
    format!("with {step} cells")
}

/// Makes cells until there are so many.
pub(super) async fn fill(api: &Api, names: &mut Vec<String>, until: usize) -> Result<()> {
    let new: Vec<String> = (names.len()..until).map(|_| fresh("idle")).collect();
    let made = new.iter().map(|name| api.allocate(Cell { name: name.clone(), ..Cell::default() }));
    let results: Vec<Result<()>> = stream::iter(made).buffer_unordered(AT_ONCE).collect().await;
    names.extend(new);
    results.into_iter().collect()
}

/// Frees cells.
pub(super) async fn free_all(api: &Api, names: Vec<String>) -> Result<()> {
    let freed = names.iter().map(|name| api.free(name));
    let results: Vec<Result<()>> = stream::iter(freed).buffer_unordered(AT_ONCE).collect().await;
    results.into_iter().collect()
}
