//! A report as tables.

use std::fmt::Write;

use super::{Bound, Figure, Report, Side, Standing, Unit};

/// The report. `plots` are pairs of a figure's name and its picture's.
pub(super) fn of(report: &Report, plots: &[(String, String)]) -> String {
    let mut text = String::from("# The bench\n\n");
    // Writing to a string does not fail.
    if let Some(machine) = &report.machine {
        let _ = writeln!(
            text,
            "Linux {}, {} CPUs, {}: {}. Our binary: {}. {}.\n",
            machine.kernel,
            machine.cpus,
            amount(machine.memory as f64, Unit::Bytes),
            machine.how,
            amount(machine.binary as f64, Unit::Bytes),
            machine.programs.join(", "),
        );
    }
    text.push_str(
        "All sides of a figure were measured in turns, in one run, after a round that is not counted. A ratio is the median of the ratios pair by pair, ours by theirs: below 1 we take less. *noise*: the middle half of the values is spread over more than half of the median; such a value is not to be quoted.\n\n",
    );
    for figure in &report.figures {
        add_figure(&mut text, figure, plots);
    }
    text
}

fn add_figure(text: &mut String, figure: &Figure, plots: &[(String, String)]) {
    let _ = writeln!(text, "## {}\n\n{}\n", figure.title, figure.what);
    text.push_str("| | median | p99 | spread | n | ratio |\n|---|---:|---:|---:|---:|---:|\n");
    let ours = figure.ours();
    for side in &figure.sides {
        add_side(text, figure, side, ours);
    }
    text.push('\n');
    for side in &figure.sides {
        if let Some(without) = &side.without {
            let _ = writeln!(text, "- {}: {without}.", side.name);
        }
    }
    for note in &figure.notes {
        let _ = writeln!(text, "- {note}.");
    }
    for bound in &figure.bounds {
        add_bound(text, figure, bound);
    }
    for (_, picture) in plots.iter().filter(|(id, _)| *id == figure.id) {
        let _ = writeln!(text, "\n![{}]({picture})", figure.title);
    }
    text.push('\n');
}

fn add_side(text: &mut String, figure: &Figure, side: &Side, ours: Option<&Side>) {
    let values = &side.values;
    let (Some(median), Some(most)) = (values.median(), values.percentile(99)) else {
        let why = side.skipped.as_deref().unwrap_or("nothing was measured");
        let _ = writeln!(text, "| {} | skipped: {why} | | | | |", side.name);
        return;
    };
    let noise = if values.is_noise() { " *noise*" } else { "" };
    let spread = values.spread().map_or(String::new(), |spread| format!("{:.0} %", spread * 100.0));
    let ratio = ours
        .filter(|ours| ours.name != side.name)
        .and_then(|ours| ours.values.pair_by_pair(values).median())
        .map_or(String::new(), |ratio| format!("{ratio:.2}"));
    let name = if side.ours { format!("**{}**", side.name) } else { side.name.clone() };
    let _ = writeln!(
        text,
        "| {name} | {}{noise} | {} | {spread} | {} | {ratio} |",
        amount(median, figure.unit),
        amount(most, figure.unit),
        values.len(),
    );
    if let Some(why) = &side.skipped {
        let _ = writeln!(text, "| | ended early: {why} | | | | |");
    }
}

fn add_bound(text: &mut String, figure: &Figure, bound: &Bound) {
    let shown = |value: f64| match &bound.of {
        Some(of) => format!("{value:.2} × {of}"),
        None => amount(value, figure.unit),
    };
    let (word, wanted) = match (bound.at_most, bound.at_least) {
        (Some(most), _) => ("at most", most),
        (None, Some(least)) => ("at least", least),
        (None, None) => return,
    };
    let standing = match figure.standing(bound) {
        Standing::Holds(value) => format!("holds ({})", shown(value)),
        Standing::Broken(value) => format!("**does not hold** ({})", shown(value)),
        Standing::Unknown => "not measured".to_owned(),
    };
    let floor = figure.floor_of(bound);
    let floor = floor.map_or(String::new(), |floor| format!("; {} is the floor", shown(floor)));
    let _ =
        writeln!(text, "- wanted of {}: {word} {}: {standing}{floor}", bound.side, shown(wanted));
}

/// A value as people read it.
pub(super) fn amount(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds if value < 1e-3 => format!("{:.1} µs", value * 1e6),
        Unit::Seconds if value < 1.0 => format!("{:.2} ms", value * 1e3),
        Unit::Seconds => format!("{value:.2} s"),
        Unit::Bytes => bytes(value),
        Unit::BytesPerSecond => format!("{}/s", bytes(value)),
        Unit::PerSecond => format!("{value:.0}/s"),
        Unit::Count => format!("{value:.1}"),
    }
}

fn bytes(value: f64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut value = value;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS.get(unit).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_the_unit_that_people_expect() {
        assert_eq!(amount(0.000_068, Unit::Seconds), "68.0 µs");
        assert_eq!(amount(0.0124, Unit::Seconds), "12.40 ms");
        assert_eq!(amount(2.5, Unit::Seconds), "2.50 s");
        assert_eq!(amount(153_600.0, Unit::Bytes), "150.0 KiB");
        assert_eq!(amount(85_000.0, Unit::PerSecond), "85000/s");
    }
}
