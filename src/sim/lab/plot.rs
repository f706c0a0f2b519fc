//! A plan's results as a picture: for each measure a panel, in it for each setting a dot at the mean, a line as long as the
//! spread, and a mark where it was expected.

use crate::sim::lab::findings::{Findings, Statistic};
use crate::sim::lab::plan::measure::Demand;
use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::prelude::{
    BLACK, Circle, Color, DrawingBackend, IntoDrawingArea, PathElement, RGBColor, Rectangle, SVGBackend,
    Text, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{IntoFont, TextStyle};

/// Pixels of a row, of a panel besides its rows, and of the whole picture's width.
const ROW: i32 = 18;
const PANEL: i32 = 52;
const WIDTH: i32 = 900;
/// Where a panel's names end and its axis begins.
const AXIS: i32 = 360;
/// Free at the right, for the number of the last row.
const RIGHT: i32 = 150;
const DOT: RGBColor = RGBColor(0x1f, 0x5a, 0xa6);
const EXPECTED: RGBColor = RGBColor(0xd0, 0x6a, 0x00);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);

/// Draws it.
///
/// # Errors
/// The drawing library's, in words.
pub fn draw(findings: &Findings<'_>) -> Result<String, String> {
    let settings: Vec<String> = findings.settings().map(|(setting, _)| setting.title()).collect();
    let measures = findings.measures();
    let rows = settings.len() as i32;
    let height = 34 + measures.len() as i32 * (PANEL + rows * ROW);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
        area.fill(&WHITE).map_err(|error| error.to_string())?;
        let title = format!("{}: {}", findings.plan().name, findings.plan().about);
        label(&area, &title, (12, 17), 15, HPos::Left)?;
        for (place, measure) in measures.iter().enumerate() {
            let top = 34 + place as i32 * (PANEL + rows * ROW);
            Panel { findings, measure, settings: &settings, top }.draw(&area)?;
        }
        area.present().map_err(|error| error.to_string())?;
    }
    Ok(svg)
}

fn label<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    text: &str,
    at: (i32, i32),
    size: i32,
    align: HPos,
) -> Result<(), String> {
    let style =
        TextStyle::from(("sans-serif", size).into_font()).color(&BLACK).pos(Pos::new(align, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style)).map_err(|error| error.to_string())
}

/// One measure.
struct Panel<'a> {
    findings: &'a Findings<'a>,
    measure: &'a str,
    settings: &'a [String],
    top: i32,
}

impl Panel<'_> {
    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Result<(), String> {
        let told = |error: plotters::drawing::DrawingAreaErrorKind<DB::ErrorType>| error.to_string();
        let statistics: Vec<Option<Statistic>> =
            (0..self.settings.len()).map(|place| self.findings.statistic(place, self.measure)).collect();
        let expected: Vec<Option<f64>> = (0..self.settings.len()).map(|place| self.expected(place)).collect();
        let ends = statistics.iter().flatten().map(|value| value.mean + value.spread);
        let most = ends.chain(expected.iter().flatten().copied()).fold(0.0, f64::max);
        let step = step(most);
        let end = (most / step).ceil().max(1.0) * step;
        let x = |value: f64| AXIS + (f64::from(WIDTH - AXIS - RIGHT) * value.clamp(0.0, end) / end) as i32;
        let (first, last) = (self.top + 24, self.top + 24 + self.settings.len() as i32 * ROW);
        label(area, self.measure, (12, self.top + 12), 13, HPos::Left)?;
        let mut tick = 0.0;
        while tick <= end * 1.001 {
            area.draw(&PathElement::new(vec![(x(tick), first), (x(tick), last)], GRID)).map_err(told)?;
            label(area, &tick_label(tick, step), (x(tick), last + 9), 11, HPos::Center)?;
            tick += step;
        }
        for (place, title) in self.settings.iter().enumerate() {
            let y = first + place as i32 * ROW + ROW / 2;
            label(area, title, (AXIS - 8, y), 11, HPos::Right)?;
            if let Some(expected) = expected[place] {
                let mark = [(x(expected) - 2, y - 7), (x(expected) + 2, y + 7)];
                area.draw(&Rectangle::new(mark, EXPECTED.filled())).map_err(told)?;
            }
            let Some(value) = statistics[place] else { continue };
            let spread = vec![(x(value.mean - value.spread), y), (x(value.mean + value.spread), y)];
            area.draw(&PathElement::new(spread, DOT.stroke_width(2))).map_err(told)?;
            area.draw(&Circle::new((x(value.mean), y), 4, DOT.filled())).map_err(told)?;
            label(area, &value.words(), (WIDTH - RIGHT + 12, y), 11, HPos::Left)?;
        }
        Ok(())
    }

    /// The value that is expected of a setting, if there is one.
    fn expected(&self, place: usize) -> Option<f64> {
        let plan = self.findings.plan();
        let mut about = plan
            .expect
            .iter()
            .filter(|one| one.measure == self.measure && plan.settings[place].matches(&one.when));
        about.find_map(|one| match one.demand() {
            Ok(Demand::Near(is, _)) => Some(is),
            _ => None,
        })
    }
}

/// A tick's number, with the digits that its distance from the next one needs.
fn tick_label(tick: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
    let label = format!("{tick:.digits$}");
    let is_zero = label.parse() == Ok(0.0);
    if is_zero {
        "0".into()
    } else if digits > 0 {
        label.trim_end_matches('0').trim_end_matches('.').into()
    } else {
        label
    }
}

/// A round distance of an axis' ticks: about six up to `most`.
fn step(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let rough = most / 6.0;
    let power = 10f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    factors.into_iter().map(|factor| factor * power).find(|step| *step >= rough).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_has_the_digits_that_it_needs() {
        for (tick, step, label) in [
            (0.0, 0.2, "0"),
            (0.6 + 1e-16, 0.2, "0.6"),
            (1.0, 0.2, "1"),
            (100.0, 20.0, "100"),
            (0.05, 0.05, "0.05"),
        ] {
            assert_eq!(tick_label(tick, step), label);
        }
    }

    #[test]
    fn ticks_are_round_and_about_six() {
        for (most, expected) in [(0.0, 1.0), (1.0, 0.2), (92.0, 20.0), (54.0, 10.0), (1234.0, 500.0)] {
            assert!((step(most) - expected).abs() < 1e-9, "{most}: {}", step(most));
        }
    }
}
