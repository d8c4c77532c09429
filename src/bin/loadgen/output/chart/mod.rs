//! Charts of a report, drawn as SVG.
//!
//! Drawn here and not by a library (plotters), because a library writes each colour and size into
//! the drawing: one picture could not follow a light or dark page and a narrow screen.

mod axis;
mod bars;
mod lines;
mod points;

use std::fmt::Write as _;

pub(crate) use self::axis::Axis;
pub(crate) use self::bars::{BarChart, BarGroup};
pub(crate) use self::lines::{LineChart, Series};
pub(crate) use self::points::rates;

use super::html::escaped;

/// Number of series colours in the style sheet.
const COLOURS: usize = 4;
/// Width of a character of a label, at most, in a font of 12 units.
const CHARACTER_WIDTH: f64 = 6.9;

/// A chart with its title.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    title: String,
    plot: Plot,
}

#[derive(Clone, Debug)]
enum Plot {
    Lines(LineChart),
    Bars(BarChart),
}

/// The width for which a chart is drawn, in SVG user units, and its class in the style sheet.
#[derive(Clone, Copy, Debug)]
struct Canvas {
    width: f64,
    class: &'static str,
}

/// Each chart is drawn for both; the style sheet shows the one that fits the screen.
const CANVASES: [Canvas; 2] =
    [Canvas { width: 720.0, class: "wide" }, Canvas { width: 350.0, class: "narrow" }];

impl Chart {
    pub(crate) fn lines(title: impl Into<String>, chart: LineChart) -> Chart {
        Chart { title: title.into(), plot: Plot::Lines(chart) }
    }

    pub(crate) fn bars(title: impl Into<String>, chart: BarChart) -> Chart {
        Chart { title: title.into(), plot: Plot::Bars(chart) }
    }

    /// Returns whether there is nothing to draw.
    pub(super) fn is_empty(&self) -> bool {
        match &self.plot {
            Plot::Lines(chart) => chart.is_empty(),
            Plot::Bars(chart) => chart.is_empty(),
        }
    }

    /// Draws the chart as an HTML figure.
    pub(super) fn draw(&self) -> String {
        let (unit, names, bound) = match &self.plot {
            Plot::Lines(chart) => (chart.unit(), chart.names(), chart.bound()),
            Plot::Bars(chart) => (chart.unit(), chart.names(), None),
        };
        let title = escaped(&self.title);
        let mut figure = format!("<figure><figcaption>{title}");
        if !unit.is_empty() {
            let _ = write!(figure, "<span class=\"unit\">, {}</span>", escaped(unit));
        }
        figure.push_str("</figcaption>\n");
        if names.len() > 1 || bound.is_some() {
            figure.push_str("<p class=\"legend\">");
            for (index, name) in names.iter().enumerate() {
                let (colour, name) = (index % COLOURS, escaped(name));
                let _ = write!(figure, "<span><i class=\"c{colour}\"></i>{name}</span> ");
            }
            if let Some(name) = bound {
                let name = escaped(name);
                let _ = write!(figure, "<span><i class=\"bound-key\"></i>{name}</span>");
            }
            figure.push_str("</p>\n");
        }
        for canvas in CANVASES {
            let (height, body) = match &self.plot {
                Plot::Lines(chart) => chart.draw(canvas.width),
                Plot::Bars(chart) => chart.draw(canvas.width),
            };
            let Canvas { width, class } = canvas;
            let _ = writeln!(
                figure,
                "<svg class=\"{class}\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" \
                 aria-label=\"{title}\">\n{body}</svg>"
            );
        }
        figure.push_str("</figure>\n");
        figure
    }
}

/// Returns the width of a label, estimated from above.
fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER_WIDTH
}
