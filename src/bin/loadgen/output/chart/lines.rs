//! Line charts.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::axis::{Axis, AxisMap};
use super::points::thinned;
use super::{COLOURS, text_width};
use crate::output::html::escaped;

/// Height of a chart, and the space around its plot.
const HEIGHT: f64 = 250.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 42.0;
const RIGHT: f64 = 22.0;
/// Lines of up to this many points show each of them.
const MAX_MARKED: usize = 40;

/// Lines over a common axis.
#[derive(Clone, Debug)]
pub(crate) struct LineChart {
    x: Axis,
    y: Axis,
    unit: &'static str,
    series: Vec<Series>,
    /// A value of the vertical axis that is marked, with its name.
    bound: Option<(f64, &'static str)>,
}

/// A named line.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

impl LineChart {
    /// A chart without lines; `unit` is the vertical axis's, unless its labels have units.
    pub(crate) fn new(x: Axis, y: Axis, unit: &'static str) -> LineChart {
        LineChart { x, y, unit, series: Vec::new(), bound: None }
    }

    /// A chart of values over a run of `seconds`: it chooses the unit of time.
    pub(crate) fn over_time(y: Axis, unit: &'static str, mut series: Vec<Series>) -> LineChart {
        let ends = series.iter().filter_map(|line| line.points.last());
        let seconds = ends.map(|point| point.0).fold(0.0, f64::max);
        let (divisor, label) = match seconds {
            s if s >= 3.0 * 3600.0 => (3600.0, "hours"),
            s if s >= 300.0 => (60.0, "minutes"),
            s if s < 0.5 => (0.001, "milliseconds"),
            _ => (1.0, "seconds"),
        };
        for point in series.iter_mut().flat_map(|line| &mut line.points) {
            point.0 /= divisor;
        }
        LineChart { series, ..LineChart::new(Axis::linear(label), y, unit) }
    }

    /// A chart of latency by percentile, from histograms in nanoseconds.
    pub(crate) fn percentiles(histograms: &[(&'static str, &Histogram<u64>)]) -> LineChart {
        let line = |&(name, histogram): &(&'static str, &Histogram<u64>)| Series {
            name,
            points: histogram
                .iter_quantiles(4)
                .filter(|step| step.quantile_iterated_to() < 1.0)
                .map(|step| {
                    let inverse_tail = 1.0 / (1.0 - step.quantile_iterated_to());
                    (inverse_tail, step.value_iterated_to() as f64 / 1000.0)
                })
                .collect(),
        };
        let chart = LineChart::new(Axis::percentile(), Axis::latency(), "");
        LineChart { series: histograms.iter().map(line).collect(), ..chart }
    }

    pub(crate) fn with_series(self, series: Vec<Series>) -> LineChart {
        LineChart { series, ..self }
    }

    pub(crate) fn with_bound(self, value: f64, name: &'static str) -> LineChart {
        LineChart { bound: Some((value, name)), ..self }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.series.iter().all(|line| thinned(&line.points).is_empty())
    }

    pub(super) fn unit(&self) -> &str {
        self.unit
    }

    /// Returns the name of the marked value.
    pub(super) fn bound(&self) -> Option<&str> {
        self.bound.map(|(_, name)| name)
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.series.iter().map(|line| line.name).collect()
    }

    /// Draws the chart `width` wide; returns its height and its elements.
    pub(super) fn draw(&self, width: f64) -> (f64, String) {
        let lines: Vec<Vec<(f64, f64)>> =
            self.series.iter().map(|line| thinned(&line.points)).collect();
        let all = || lines.iter().flatten();
        let bound = self.bound.map(|(value, _)| value);
        let values = all().map(|point| point.1).chain(bound);
        let y = self.y.map(values, HEIGHT - BOTTOM, TOP);
        let labels = y.vertical_ticks();
        let left = labels.iter().map(|(_, label)| text_width(label)).fold(20.0, f64::max) + 8.0;
        let x = self.x.map(all().map(|point| point.0), left, width - RIGHT);

        let mut drawing = String::new();
        for (at, label) in labels {
            let _ = writeln!(
                drawing,
                "<line class=\"grid\" x1=\"{left:.1}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                width - RIGHT,
                left - 6.0,
                at + 4.0
            );
        }
        self.draw_horizontal_axis(&x, (left, width - RIGHT), &mut drawing);
        if let Some(bound) = bound {
            let (at, right) = (y.at(bound), width - RIGHT);
            let _ = writeln!(
                drawing,
                "<line class=\"bound\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"
            );
        }
        for (index, points) in lines.iter().enumerate() {
            draw_line(points, (&x, &y), index % COLOURS, &mut drawing);
        }
        (HEIGHT, drawing)
    }

    fn draw_horizontal_axis(&self, x: &AxisMap, (left, right): (f64, f64), drawing: &mut String) {
        let bottom = HEIGHT - BOTTOM;
        for (at, label) in x.horizontal_ticks() {
            let _ = writeln!(
                drawing,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                bottom + 18.0
            );
        }
        let _ = writeln!(
            drawing,
            "<text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(left, right),
            HEIGHT - 8.0,
            escaped(self.x.label)
        );
    }
}

fn draw_line(
    points: &[(f64, f64)],
    (x, y): (&AxisMap, &AxisMap),
    colour: usize,
    drawing: &mut String,
) {
    let mut path = String::new();
    for point in points {
        let _ = write!(path, "{:.1},{:.1} ", x.at(point.0), y.at(point.1));
    }
    let _ =
        writeln!(drawing, "<polyline class=\"line c{colour}\" points=\"{}\"/>", path.trim_end());
    if points.len() > MAX_MARKED {
        return;
    }
    for point in points {
        let (x, y) = (x.at(point.0), y.at(point.1));
        let _ =
            writeln!(drawing, "<circle class=\"c{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
    }
}
