//! Line charts, drawn as SVG by hand.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::summary::format_si;

/// Size of a chart and its margins, in SVG user units.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 72.0;
const BOTTOM: f64 = 44.0;
const TOP: f64 = 14.0;
const RIGHT: f64 = 16.0;
/// Maximum points of a series.
const MAX_POINTS: usize = 80;
/// Minimum length of a rate interval, in seconds.
const MIN_INTERVAL: f64 = 0.02;
/// Colours in the style sheet.
const COLOURS: usize = 4;

/// A line chart.
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) series: Vec<Series>,
    x: Axis,
    y: Axis,
}

/// A named series of points.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

struct Axis {
    label: &'static str,
    scale: Scale,
}

/// Scale of an axis.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// Linear, from 0.
    Linear,
    /// Logarithmic.
    Logarithmic,
    /// Logarithmic in 1/(1 − percentile): 100 is 99 %.
    Percentile,
}

impl Chart {
    /// A chart of values over time.
    pub(crate) fn over_time(
        title: &'static str,
        time: &'static str,
        label: &'static str,
        series: Vec<Series>,
    ) -> Chart {
        Chart {
            title,
            series,
            x: Axis { label: time, scale: Scale::Linear },
            y: Axis { label, scale: Scale::Linear },
        }
    }

    /// A chart of latency by percentile, from histograms in nanoseconds.
    pub(crate) fn percentiles(histograms: &[(&'static str, &Histogram<u64>)]) -> Chart {
        let series = histograms.iter().map(|&(name, histogram)| Series {
            name,
            points: histogram
                .iter_quantiles(4)
                .filter(|step| step.quantile_iterated_to() < 1.0)
                .map(|step| {
                    let inverse_tail = 1.0 / (1.0 - step.quantile_iterated_to());
                    (inverse_tail, step.value_iterated_to() as f64 / 1000.0)
                })
                .collect(),
        });
        Chart {
            title: "Latency by percentile",
            series: series.collect(),
            x: Axis { label: "percentile", scale: Scale::Percentile },
            y: Axis { label: "µs", scale: Scale::Logarithmic },
        }
    }

    pub(super) fn draw(&self) -> String {
        let all = || self.series.iter().flat_map(|line| &line.points);
        let x = AxisMap::of(self.x.scale, all().map(|point| point.0), LEFT, WIDTH - RIGHT);
        let y = AxisMap::of(self.y.scale, all().map(|point| point.1), HEIGHT - BOTTOM, TOP);
        let mut drawing = format!(
            "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{}\">\n",
            self.title, self.title
        );
        self.draw_grid(&x, &y, &mut drawing);
        for (number, line) in self.series.iter().enumerate() {
            let mut path = String::new();
            for point in &line.points {
                let _ = write!(path, "{:.1},{:.1} ", x.map(point.0), y.map(point.1));
            }
            let colour = number % COLOURS;
            let _ = writeln!(drawing, "<polyline class=\"line c{colour}\" points=\"{path}\"/>");
        }
        drawing.push_str("</svg>");
        if self.series.len() > 1 {
            drawing.push_str("<p class=\"legend\">");
            for (number, line) in self.series.iter().enumerate() {
                let colour = number % COLOURS;
                let _ = write!(drawing, "<span class=\"c{colour}\">■</span> {} ", line.name);
            }
            drawing.push_str("</p>");
        }
        drawing.push_str("</figure>\n");
        drawing
    }

    fn draw_grid(&self, x: &AxisMap, y: &AxisMap, drawing: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in y.ticks() {
            let (at, label) = (y.map(tick), tick_name(tick));
            let _ = writeln!(
                drawing,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT - 6.0,
                at + 4.0
            );
        }
        for tick in x.ticks() {
            let at = x.map(tick);
            let label = match self.x.scale {
                Scale::Percentile => percentile_name(tick),
                _ => tick_name(tick),
            };
            let _ = writeln!(
                drawing,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                bottom + 16.0
            );
        }
        let _ = writeln!(
            drawing,
            "<text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            HEIGHT - 8.0,
            self.x.label,
            LEFT + 6.0,
            TOP + 12.0,
            self.y.label
        );
    }
}

/// Mapping of values to coordinates along one axis.
struct AxisMap {
    scale: Scale,
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl AxisMap {
    fn of(scale: Scale, values: impl Iterator<Item = f64>, start: f64, end: f64) -> AxisMap {
        let (mut min, mut max) = (f64::INFINITY, 0.0_f64);
        for value in values {
            (min, max) = (min.min(value), max.max(value));
        }
        let (low, high) = match scale {
            Scale::Linear => (0.0, if max > 0.0 { max * 1.05 } else { 1.0 }),
            Scale::Percentile => (1.0, max.max(100.0)),
            Scale::Logarithmic => {
                let low = 10_f64.powf(min.clamp(0.001, 1e9).log10().floor());
                (low, 10_f64.powf(max.max(low).log10().ceil()).max(low * 10.0))
            }
        };
        AxisMap { scale, low, high, start, end }
    }

    fn map(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic | Scale::Percentile => {
                (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
            }
        };
        self.start + share.clamp(0.0, 1.0) * (self.end - self.start)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = round_step(self.high / 5.0);
                (0..=10).map(|n| f64::from(n) * step).filter(|&tick| tick <= self.high).collect()
            }
            Scale::Logarithmic => powers_of_ten(self.low, self.high),
            Scale::Percentile => {
                let mut ticks = vec![2.0];
                ticks.extend(powers_of_ten(10.0, self.high));
                ticks
            }
        }
    }
}

fn powers_of_ten(low: f64, high: f64) -> Vec<f64> {
    std::iter::successors(Some(low), |tick| Some(tick * 10.0))
        .take_while(|&tick| tick <= high * 1.0001)
        .collect()
}

/// Rounds up to the next of 1, 2, 5, 10 …
fn round_step(step: f64) -> f64 {
    let magnitude = 10_f64.powf(step.log10().floor());
    let fitting = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * magnitude >= step);
    fitting.unwrap_or(10.0) * magnitude
}

fn percentile_name(inverse_tail: f64) -> String {
    let percent = 100.0 * (1.0 - 1.0 / inverse_tail);
    let digits = (inverse_tail.log10().round() as usize).saturating_sub(2);
    format!("{percent:.digits$} %")
}

/// Formats a tick label without trailing zeros.
fn tick_name(number: f64) -> String {
    let text =
        if number > 0.0 && number < 10.0 { format!("{number:.3}") } else { format_si(number) };
    let (digits, unit) = text.split_once(' ').unwrap_or((&text, ""));
    let digits = match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => digits,
    };
    format!("{digits} {unit}").trim_end().to_owned()
}

/// Returns the rate of change per second over even intervals. `points` are (seconds, value), with
/// ascending times.
pub(crate) fn rates(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let Some(&(end, _)) = points.last() else { return Vec::new() };
    let intervals = ((end / MIN_INTERVAL) as usize).clamp(1, MAX_POINTS);
    let length = end / intervals as f64;
    let mut grown = (0..=intervals).map(|number| interpolated(points, number as f64 * length));
    let mut before = grown.next().unwrap_or_default();
    let rate = |(interval, now): (usize, f64)| {
        let rate = (now - before) / length;
        before = now;
        ((interval as f64 + 0.5) * length, rate)
    };
    grown.enumerate().map(rate).collect()
}

/// Interpolates the value at `time`; before the first point it grows from 0.
fn interpolated(points: &[(f64, f64)], time: f64) -> f64 {
    let next = points.partition_point(|point| point.0 < time);
    let (from, low) = next.checked_sub(1).map_or((0.0, 0.0), |last| points[last]);
    match points.get(next) {
        Some(&(to, high)) if to > from => low + (high - low) * (time - from) / (to - from),
        _ => low,
    }
}

pub(crate) fn downsample(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    points.iter().step_by(points.len().div_ceil(MAX_POINTS).max(1)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_have_names() {
        let names: Vec<String> = [2.0, 10.0, 100.0, 1000.0, 10_000.0].map(percentile_name).to_vec();
        assert_eq!(names, ["50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn steps_are_round() {
        let steps: Vec<f64> = [0.03, 1.0, 1.2, 2.1, 7.0, 240.0].map(round_step).to_vec();
        assert_eq!(steps, [0.05, 1.0, 2.0, 5.0, 10.0, 500.0]);
    }
}
