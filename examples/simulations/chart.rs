//! Lines over time, as SVG.

use std::fmt::{self, Display};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 360.0;
/// Left, right, top, bottom of the field.
const MARGIN: [f64; 4] = [64.0, 16.0, 64.0, 36.0];
const COLOURS: [&str; 5] = ["#9aa0a6", "#d93025", "#f29900", "#1a73e8", "#188038"];

/// A value for each second.
#[derive(Debug)]
pub(crate) struct Line {
    name: &'static str,
    values: Vec<f64>,
}

impl Line {
    pub(crate) const fn new(name: &'static str, values: Vec<f64>) -> Self {
        Self { name, values }
    }
}

/// Displays as an SVG document.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) lines: Vec<Line>,
}

impl Display for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [left, right, top, bottom] = MARGIN;
        let (wide, high) = (WIDTH - left - right, HEIGHT - top - bottom);
        let values = self.lines.iter().flat_map(|line| &line.values);
        let most = values.fold(1.0_f64, |most, value| most.max(*value)) * 1.05;
        let seconds = self.lines.iter().map(|line| line.values.len()).max();
        let seconds = seconds.unwrap_or(1).max(2) as f64 - 1.0;
        let x = |second: f64| left + wide * second / seconds;
        let y = |value: f64| top + high * (1.0 - value / most);
        writeln!(
            f,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">"#
        )?;
        writeln!(f, r##"<rect width="100%" height="100%" fill="#fff"/>"##)?;
        writeln!(
            f,
            r#"<text x="{left}" y="20" font-size="15">{}</text>"#,
            self.title
        )?;
        for step in 0..=4 {
            let value = most * f64::from(step) / 4.0;
            writeln!(
                f,
                r##"<line x1="{left}" x2="{:.1}" y1="{:.1}" y2="{:.1}" stroke="#e0e0e0"/><text x="{:.1}" y="{:.1}" text-anchor="end">{value:.0}</text>"##,
                WIDTH - right,
                y(value),
                y(value),
                left - 6.0,
                y(value) + 4.0,
            )?;
            let second = seconds * f64::from(step) / 4.0;
            writeln!(
                f,
                r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{second:.0} s</text>"#,
                x(second),
                HEIGHT - bottom + 18.0,
            )?;
        }
        writeln!(
            f,
            r#"<text transform="translate(14 {:.1}) rotate(-90)" text-anchor="middle">{}</text>"#,
            top + high / 2.0,
            self.unit,
        )?;
        for (at, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            write!(
                f,
                r#"<polyline fill="none" stroke="{colour}" stroke-width="1.8" points=""#
            )?;
            for (second, value) in line.values.iter().enumerate() {
                write!(f, "{:.1},{:.1} ", x(second as f64), y(*value))?;
            }
            writeln!(f, r#""/>"#)?;
            let legend = left + at as f64 * wide / self.lines.len() as f64;
            writeln!(
                f,
                r#"<rect x="{legend:.1}" y="36" width="14" height="4" fill="{colour}"/><text x="{:.1}" y="42">{}</text>"#,
                legend + 20.0,
                line.name,
            )?;
        }
        writeln!(f, "</svg>")
    }
}
