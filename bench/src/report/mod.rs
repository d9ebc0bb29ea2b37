//! What was measured, as data: `report.json`. [`markdown`] and [`plot`] show it to people.

mod markdown;
mod plot;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::series::Series;

/// The file for programs.
pub(crate) const JSON: &str = "report.json";
/// The file for people.
const MARKDOWN: &str = "report.md";

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// What it ran on; `None`: boots or scripts were measured alone.
    pub(crate) machine: Option<Machine>,
    /// What was measured, in the order in which it was.
    pub(crate) figures: Vec<Figure>,
}

/// What a run ran on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// What `uname -r` says.
    pub(crate) kernel: String,
    /// How many CPUs there are.
    pub(crate) cpus: usize,
    /// Its memory, in bytes.
    pub(crate) memory: u64,
    /// How it runs: "emulated", "the host itself".
    pub(crate) how: String,
    /// The versions of what was compared.
    pub(crate) programs: Vec<String>,
    /// The size of our binary, in bytes.
    pub(crate) binary: u64,
}

/// What the values of a figure are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Seconds,
    Bytes,
    PerSecond,
    BytesPerSecond,
    Count,
}

/// Something that was measured on several sides, in turns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// Its name for programs, and for `--only`.
    pub(crate) id: String,
    /// Its name for people.
    pub(crate) title: String,
    /// What one value is, and how it was measured.
    pub(crate) what: String,
    /// What the values are.
    pub(crate) unit: Unit,
    /// Who was measured.
    pub(crate) sides: Vec<Side>,
    /// What is wanted.
    pub(crate) bounds: Vec<Bound>,
    /// The side that nobody can beat: what the kernel alone costs.
    pub(crate) floor: Option<String>,
    /// What else there is to say.
    pub(crate) notes: Vec<String>,
}

/// Who was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Side {
    /// Its name.
    pub(crate) name: String,
    /// It is this project.
    pub(crate) ours: bool,
    /// What it does not do that others do.
    pub(crate) without: Option<String>,
    /// What was measured, round by round; nothing where it was skipped.
    pub(crate) values: Series,
    /// Why there is nothing, or no more.
    pub(crate) skipped: Option<String>,
}

/// What is wanted of a side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Bound {
    /// The side.
    pub(crate) side: String,
    /// The side that it is a share of; `None`: the value itself is bounded.
    pub(crate) of: Option<String>,
    /// The median is at most that.
    pub(crate) at_most: Option<f64>,
    /// The median is at least that.
    pub(crate) at_least: Option<f64>,
}

/// How a bound stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Standing {
    /// It holds, with that value.
    Holds(f64),
    /// It does not.
    Broken(f64),
    /// A side was not measured.
    Unknown,
}

impl Figure {
    pub(crate) fn new(id: &str, title: &str, unit: Unit, what: &str) -> Self {
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            what: what.to_owned(),
            unit,
            sides: Vec::new(),
            bounds: Vec::new(),
            floor: None,
            notes: Vec::new(),
        }
    }

    /// Our side's median is to be at most that share of another's.
    pub(crate) fn share(mut self, side: &str, at_most: f64, of: &str) -> Self {
        let of = Some(of.to_owned());
        self.bounds.push(Bound {
            side: side.to_owned(),
            of,
            at_most: Some(at_most),
            at_least: None,
        });
        self
    }

    /// A side's median is to be at most that.
    pub(crate) fn at_most(mut self, side: &str, value: f64) -> Self {
        let side = side.to_owned();
        self.bounds.push(Bound { side, of: None, at_most: Some(value), at_least: None });
        self
    }

    /// A side's median is to be at least that, or at least that share of another's.
    pub(crate) fn at_least(mut self, side: &str, value: f64, of: Option<&str>) -> Self {
        let (side, of) = (side.to_owned(), of.map(str::to_owned));
        self.bounds.push(Bound { side, of, at_most: None, at_least: Some(value) });
        self
    }

    /// That side is the floor.
    pub(crate) fn floor(mut self, side: &str) -> Self {
        self.floor = Some(side.to_owned());
        self
    }

    /// The share that the floor is of the side that a bound compares with.
    pub(crate) fn floor_of(&self, bound: &Bound) -> Option<f64> {
        let floor = self.side(self.floor.as_deref()?)?;
        floor.values.pair_by_pair(&self.side(bound.of.as_deref()?)?.values).median()
    }

    pub(crate) fn side(&self, name: &str) -> Option<&Side> {
        self.sides.iter().find(|side| side.name == name)
    }

    /// The side of ours that the others are compared with.
    pub(crate) fn ours(&self) -> Option<&Side> {
        self.sides.iter().find(|side| side.ours && side.values.len() > 0)
    }

    pub(crate) fn standing(&self, bound: &Bound) -> Standing {
        let value = || {
            let values = &self.side(&bound.side)?.values;
            match &bound.of {
                Some(of) => values.pair_by_pair(&self.side(of)?.values).median(),
                None => values.median(),
            }
        };
        let Some(value) = value() else { return Standing::Unknown };
        let holds = bound.at_most.is_none_or(|most| value <= most)
            && bound.at_least.is_none_or(|least| value >= least);
        if holds { Standing::Holds(value) } else { Standing::Broken(value) }
    }
}

impl Side {
    pub(crate) fn new(name: &str, ours: bool) -> Self {
        Self {
            name: name.to_owned(),
            ours,
            without: None,
            values: Series::default(),
            skipped: None,
        }
    }

    /// A side that could not be measured.
    pub(crate) fn skipped(name: &str, why: impl Into<String>) -> Self {
        Self { skipped: Some(why.into()), ..Self::new(name, false) }
    }
}

impl Report {
    /// Writes `report.json`.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join(JSON);
        let text = serde_json::to_vec_pretty(self).context("failed to encode the report")?;
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
    }

    /// Writes `report.md` and the plots, and returns the text.
    pub(crate) fn show(&self, directory: &Path, font: Option<&Path>) -> Result<String> {
        let plots = match font {
            Some(font) => plot::all(self, directory, font)?,
            None => Vec::new(),
        };
        let text = markdown::of(self, &plots);
        let path = directory.join(MARKDOWN);
        fs::write(&path, &text).with_context(|| format!("failed to write {}", path.display()))?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn figure() -> Figure {
        let side = |name: &str, ours, values: &[f64]| Side {
            values: values.iter().copied().collect(),
            ..Side::new(name, ours)
        };
        let mut figure = Figure::new("cycle", "A cycle", Unit::Seconds, "from start to exit")
            .floor("bare")
            .share("ours", 0.25, "theirs")
            .at_most("ours", 0.0005);
        figure.sides = vec![
            side("ours", true, &[0.001, 0.001]),
            side("theirs", false, &[0.005, 0.004]),
            side("bare", false, &[0.0005, 0.0004]),
            Side::skipped("others", "not installed"),
        ];
        figure
    }

    #[test]
    fn a_bound_is_held_by_the_median_of_the_pairs() {
        let figure = figure();
        let [share, most] = &figure.bounds[..] else { panic!("{:?}", figure.bounds) };
        assert_eq!(figure.standing(share), Standing::Holds(0.2));
        assert_eq!(figure.standing(most), Standing::Broken(0.001));
        assert_eq!((figure.floor_of(share), figure.floor_of(most)), (Some(0.1), None));
        let unknown = figure.clone().share("ours", 1.0, "others");
        assert_eq!(unknown.standing(&unknown.bounds[2]), Standing::Unknown);
    }

    #[test]
    fn what_is_written_is_read_again() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let machine = Machine {
            kernel: "6.1".into(),
            cpus: 2,
            memory: 1 << 30,
            how: "emulated".into(),
            programs: vec!["crun 1.8".into()],
            binary: 20_000_000,
        };
        let report = Report { machine: Some(machine), figures: vec![figure()] };
        report.write(directory.path())?;
        let written = fs::read(directory.path().join(JSON))?;
        let again: Report = serde_json::from_slice(&written)?;
        let text = again.show(directory.path(), None)?;
        for part in [
            "1.00 ms",
            "0.20",
            "not installed",
            "holds",
            "does not hold",
            "0.10 × theirs is the floor",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        Ok(())
    }
}
