//! A picture of each figure: a row a side, on one logarithmic scale.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use super::markdown::amount;
use super::{Figure, Report, Side};

const FAMILY: &str = "sans-serif";
const WIDTH: i32 = 1000;
const ROW: i32 = 44;
/// For the names of the sides.
const LEFT: i32 = 360;
/// For the medians.
const RIGHT: i32 = 110;
const TITLE: i32 = 50;
/// For the scale.
const FOOT: i32 = 40;
const OURS: RGBColor = RGBColor(17, 94, 89);
const THEIRS: RGBColor = RGBColor(120, 120, 120);

/// Draws every figure that has values, and returns the names of figures and pictures.
pub(super) fn all(report: &Report, directory: &Path, font: &Path) -> Result<Vec<(String, String)>> {
    let bytes = fs::read(font).with_context(|| format!("failed to read {}", font.display()))?;
    // Plotters keeps a font for as long as the program runs.
    register_font(FAMILY, FontStyle::Normal, bytes.leak())
        .map_err(|_| anyhow!("{} is no font", font.display()))?;
    let mut plots = Vec::new();
    for figure in &report.figures {
        let sides: Vec<&Side> = figure.sides.iter().filter(|side| side.values.len() > 0).collect();
        if sides.is_empty() {
            continue;
        }
        let picture = format!("{}.png", figure.id);
        draw(figure, &sides, &directory.join(&picture))
            .map_err(|error| anyhow!("failed to draw {picture}: {error}"))?;
        plots.push((figure.id.clone(), picture));
    }
    Ok(plots)
}

/// The scale: where a value stands.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// Whole powers of ten around all values.
    fn of(sides: &[&Side]) -> Self {
        let values = || sides.iter().flat_map(|side| side.values.values());
        let positive = || values().copied().filter(|value| *value > 0.0);
        let (least, most) = (positive().fold(f64::MAX, f64::min), positive().fold(0.0, f64::max));
        if most <= 0.0 {
            return Self { low: 0.0, high: 1.0 };
        }
        let (low, high) = (least.log10().floor(), most.log10().ceil());
        Self { low, high: if high > low { high } else { low + 1.0 } }
    }

    fn place(&self, value: f64) -> i32 {
        let width = f64::from(WIDTH - LEFT - RIGHT);
        let share = (value.max(f64::MIN_POSITIVE).log10() - self.low) / (self.high - self.low);
        LEFT + (share.clamp(0.0, 1.0) * width) as i32
    }

    fn powers(&self) -> impl Iterator<Item = f64> {
        (self.low as i32..=self.high as i32).map(|power| 10f64.powi(power))
    }
}

fn draw(figure: &Figure, sides: &[&Side], path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let rows = sides.len() as i32 * ROW;
    let height = TITLE + rows + FOOT;
    let area = BitMapBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let text = |size: i32, color: RGBColor, at: HPos| {
        (FAMILY, size).into_font().color(&color).pos(Pos::new(at, VPos::Center))
    };
    area.draw(&Text::new(figure.title.clone(), (16, TITLE / 2), text(22, BLACK, HPos::Left)))?;
    let scale = Scale::of(sides);
    for power in scale.powers() {
        let x = scale.place(power);
        let line = vec![(x, TITLE), (x, TITLE + rows)];
        area.draw(&PathElement::new(line, RGBColor(225, 225, 225)))?;
        let label = amount(power, figure.unit);
        let at = (x, TITLE + rows + FOOT / 2);
        area.draw(&Text::new(label, at, text(14, BLACK, HPos::Center)))?;
    }
    for (row, side) in sides.iter().enumerate() {
        let color = if side.ours { OURS } else { THEIRS };
        let middle = TITLE + row as i32 * ROW + ROW / 2;
        let name = Text::new(side.name.clone(), (LEFT - 12, middle), text(16, BLACK, HPos::Right));
        area.draw(&name)?;
        let at = |of| side.values.percentile(of).map(|value| scale.place(value)).unwrap_or(LEFT);
        area.draw(&PathElement::new(
            vec![(at(1), middle), (at(99), middle)],
            color.stroke_width(2),
        ))?;
        area.draw(&Rectangle::new(
            [(at(25), middle - 9), (at(75) + 1, middle + 9)],
            color.mix(0.45).filled(),
        ))?;
        area.draw(&Rectangle::new(
            [(at(50) - 1, middle - 12), (at(50) + 2, middle + 12)],
            color.filled(),
        ))?;
        let median = side.values.median().map(|value| amount(value, figure.unit));
        let at = (WIDTH - 12, middle);
        area.draw(&Text::new(median.unwrap_or_default(), at, text(16, color, HPos::Right)))?;
    }
    area.present()?;
    Ok(())
}
