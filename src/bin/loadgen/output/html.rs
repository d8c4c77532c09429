//! `--report`: one page about a run, without anything from elsewhere, drawn by hand.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde_json::Value;

use crate::commands::run::Sample;
use crate::commands::soak;
use crate::output::summary::count;

/// A drawing's size and the room for its labels, in the units of the drawing.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 72.0;
const BOTTOM: f64 = 44.0;
const TOP: f64 = 14.0;
const RIGHT: f64 = 16.0;
/// A course is drawn through at most this many points …
const MOST_POINTS: usize = 80;
/// … each of which is a rate over no fewer seconds than this.
const SHORTEST_INTERVAL: f64 = 0.02;
/// Colours in the style sheet.
const COLOURS: usize = 4;

/// A drawing of lines.
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) lines: Vec<Line>,
    x: Axis,
    y: Axis,
}

/// A line of a [`Chart`].
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

struct Axis {
    label: &'static str,
    scale: Scale,
}

/// How values are placed along an axis.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// From 0, evenly.
    Linear,
    /// By powers of ten.
    Logarithmic,
    /// By powers of ten, labelled as percentiles: 100 is 99 %.
    Percentile,
}

impl Chart {
    /// Deliveries and events by the second, over the run.
    pub(crate) fn throughput(samples: &[Sample]) -> Vec<Chart> {
        let over_time = |title, label, name, value: fn(&Sample) -> f64| Chart {
            title,
            lines: vec![Line { name, points: rates(samples, value) }],
            x: Axis { label: "seconds measured", scale: Scale::Linear },
            y: Axis { label, scale: Scale::Linear },
        };
        vec![
            over_time("Events sent", "events/s", "events/s", |sample| sample.events),
            over_time("Bytes delivered", "MB/s", "MB/s", |sample| {
                sample.delivered_bytes as f64 / 1e6
            }),
        ]
    }

    /// What is under way between source and clients, and the server's memory where it is known.
    pub(crate) fn queues(samples: &[Sample]) -> Vec<Chart> {
        let over_time = |title, value: fn(&Sample) -> Option<f64>| {
            let points = samples.iter().filter_map(|sample| Some((sample.seconds, value(sample)?)));
            let points: Vec<(f64, f64)> = points.collect();
            Chart {
                title,
                lines: vec![Line { name: "MB", points: thinned(&points) }],
                x: Axis { label: "seconds measured", scale: Scale::Linear },
                y: Axis { label: "MB", scale: Scale::Linear },
            }
        };
        vec![
            over_time("Under way: due to clients for what was sent, not received yet", |sample| {
                Some(sample.bytes_under_way / 1e6)
            }),
            over_time("Resident memory of the server", |sample| {
                Some(sample.memory_bytes? as f64 / 1e6)
            }),
        ]
    }

    /// The server's memory, and latency, over a soak.
    pub(crate) fn soak(samples: &[soak::Sample]) -> Vec<Chart> {
        let over_time = |title, label, lines: Vec<Line>| Chart {
            title,
            lines,
            x: Axis { label: "seconds", scale: Scale::Linear },
            y: Axis { label, scale: Scale::Linear },
        };
        let line = |name, value: fn(&soak::Sample) -> Option<f64>| {
            let points = samples.iter().filter_map(|sample| Some((sample.seconds, value(sample)?)));
            Line { name, points: points.collect() }
        };
        vec![
            over_time(
                "Resident memory",
                "MB",
                vec![
                    line("server", |sample| Some(sample.memory_bytes? as f64 / 1e6)),
                    line("load generator", |sample| Some(sample.own_memory_bytes? as f64 / 1e6)),
                ],
            ),
            over_time(
                "Latency, by interval",
                "µs",
                vec![
                    line("p50", |sample| Some(sample.p50_us)),
                    line("p99", |sample| Some(sample.p99_us)),
                ],
            ),
        ]
    }

    /// Latency by percentile, of histograms in nanoseconds.
    pub(crate) fn percentiles(histograms: &[(&'static str, &Histogram<u64>)]) -> Chart {
        let lines = histograms.iter().map(|&(name, histogram)| Line {
            name,
            points: histogram
                .iter_quantiles(4)
                .filter(|step| step.quantile_iterated_to() < 1.0)
                .map(|step| {
                    let rarity = 1.0 / (1.0 - step.quantile_iterated_to());
                    (rarity, step.value_iterated_to() as f64 / 1000.0)
                })
                .collect(),
        });
        Chart {
            title: "Latency by percentile",
            lines: lines.collect(),
            x: Axis { label: "percentile", scale: Scale::Percentile },
            y: Axis { label: "µs", scale: Scale::Logarithmic },
        }
    }

    fn draw(&self) -> String {
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let x = Placing::of(self.x.scale, all().map(|point| point.0), LEFT, WIDTH - RIGHT);
        let y = Placing::of(self.y.scale, all().map(|point| point.1), HEIGHT - BOTTOM, TOP);
        let mut drawing = format!(
            "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{}\">\n",
            self.title, self.title
        );
        self.draw_grid(&x, &y, &mut drawing);
        for (number, line) in self.lines.iter().enumerate() {
            let mut path = String::new();
            for point in &line.points {
                let _ = write!(path, "{:.1},{:.1} ", x.place(point.0), y.place(point.1));
            }
            let colour = number % COLOURS;
            let _ = writeln!(drawing, "<polyline class=\"line c{colour}\" points=\"{path}\"/>");
        }
        drawing.push_str("</svg>");
        if self.lines.len() > 1 {
            drawing.push_str("<p class=\"legend\">");
            for (number, line) in self.lines.iter().enumerate() {
                let colour = number % COLOURS;
                let _ = write!(drawing, "<span class=\"c{colour}\">■</span> {} ", line.name);
            }
            drawing.push_str("</p>");
        }
        drawing.push_str("</figure>\n");
        drawing
    }

    fn draw_grid(&self, x: &Placing, y: &Placing, drawing: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in y.ticks() {
            let (at, label) = (y.place(tick), tick_name(tick));
            let _ = writeln!(
                drawing,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT - 6.0,
                at + 4.0
            );
        }
        for tick in x.ticks() {
            let at = x.place(tick);
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

/// Maps values to places along one axis.
struct Placing {
    scale: Scale,
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Placing {
    fn of(scale: Scale, values: impl Iterator<Item = f64>, start: f64, end: f64) -> Placing {
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for value in values {
            (least, most) = (least.min(value), most.max(value));
        }
        let (low, high) = match scale {
            Scale::Linear => (0.0, if most > 0.0 { most * 1.05 } else { 1.0 }),
            Scale::Percentile => (1.0, most.max(100.0)),
            Scale::Logarithmic => {
                let low = 10_f64.powf(least.clamp(0.001, 1e9).log10().floor());
                (low, 10_f64.powf(most.max(low).log10().ceil()).max(low * 10.0))
            }
        };
        Placing { scale, low, high, start, end }
    }

    fn place(&self, value: f64) -> f64 {
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

/// The next of 1, 2, 5, 10 … at or above `step`.
fn round_step(step: f64) -> f64 {
    let magnitude = 10_f64.powf(step.log10().floor());
    let fitting = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * magnitude >= step);
    fitting.unwrap_or(10.0) * magnitude
}

fn percentile_name(rarity: f64) -> String {
    let percent = 100.0 * (1.0 - 1.0 / rarity);
    let digits = (rarity.log10().round() as usize).saturating_sub(2);
    format!("{percent:.digits$} %")
}

/// A tick's number, without zeros that say nothing.
fn tick_name(number: f64) -> String {
    let text = if number > 0.0 && number < 10.0 { format!("{number:.3}") } else { count(number) };
    let (digits, unit) = text.split_once(' ').unwrap_or((&text, ""));
    let digits = match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => digits,
    };
    format!("{digits} {unit}").trim_end().to_owned()
}

/// How fast `value` grows, by the second, over even intervals of the run.
fn rates(samples: &[Sample], value: fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    let Some(last) = samples.last() else { return Vec::new() };
    let intervals = ((last.seconds / SHORTEST_INTERVAL) as usize).clamp(1, MOST_POINTS);
    let length = last.seconds / intervals as f64;
    let mut grown = (0..=intervals).map(|end| interpolated(samples, end as f64 * length, value));
    let mut before = grown.next().unwrap_or_default();
    let rate = |(interval, now): (usize, f64)| {
        let rate = (now - before) / length;
        before = now;
        ((interval as f64 + 0.5) * length, rate)
    };
    grown.enumerate().map(rate).collect()
}

/// `value` at a moment between two samples; before the first one it grows from 0.
fn interpolated(samples: &[Sample], seconds: f64, value: fn(&Sample) -> f64) -> f64 {
    let next = samples.partition_point(|sample| sample.seconds < seconds);
    let (from, low) = next
        .checked_sub(1)
        .map_or((0.0, 0.0), |last| (samples[last].seconds, value(&samples[last])));
    match samples.get(next) {
        Some(sample) if sample.seconds > from => {
            low + (value(sample) - low) * (seconds - from) / (sample.seconds - from)
        }
        _ => low,
    }
}

fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    points.iter().step_by(points.len().div_ceil(MOST_POINTS).max(1)).copied().collect()
}

/// The page for `result`, which is what `--json` writes.
pub(crate) fn page(title: &str, result: &Value, charts: &[Chart]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{0}</title>\n<style>{STYLE}</style>\n<h1>{0}</h1>\n",
        escaped(title)
    );
    if let Some(right) = result.get("ok").and_then(Value::as_bool) {
        let (class, words) = if right {
            ("right", "Every byte that every client received was right.")
        } else {
            ("wrong", "Not everything was as expected.")
        };
        let _ = writeln!(page, "<p class=\"{class}\">{words}</p>");
    }
    let drawn = charts.iter().filter(|chart| chart.lines.iter().any(|line| line.points.len() > 1));
    drawn.for_each(|chart| page.push_str(&chart.draw()));
    for (name, value) in result.as_object().into_iter().flatten() {
        let mut rows = String::new();
        add_rows("", value, &mut rows);
        // Plain values stand in the title.
        if !rows.is_empty() && (value.is_object() || value.is_array()) {
            let _ = writeln!(page, "<h2>{}</h2>\n<table>{rows}</table>", escaped(name));
        }
    }
    page
}

/// Adds a row for each plain value in `value`.
fn add_rows(name: &str, value: &Value, rows: &mut String) {
    let inner =
        |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name} › {key}") };
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| add_rows(&inner(key), value, rows));
        }
        Value::Array(items) => {
            for (place, value) in items.iter().enumerate() {
                add_rows(&inner(&(place + 1).to_string()), value, rows);
            }
        }
        plain => {
            let text = plain.as_str().map_or_else(|| plain.to_string(), str::to_owned);
            let _ = writeln!(rows, "<tr><th>{}<td>{}", escaped(name), escaped(&text));
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "
:root { --ink: #1c2127; --soft: #5c6670; --paper: #fff; --rule: #dde2e6;
  --c0: #0b62c4; --c1: #c2410c; --c2: #157f3c; --c3: #8b2fc9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #98a2ac; --paper: #14181c; --rule: #2d343b;
    --c0: #6cb0ff; --c1: #ff9a62; --c2: #5ed58a; --c3: #cf9bff; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 800px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
figure { margin: 1.5rem 0; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 11px; }
svg .axis { fill: var(--ink); } .grid { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.line.c0 { stroke: var(--c0); } .line.c1 { stroke: var(--c1); }
.line.c2 { stroke: var(--c2); } .line.c3 { stroke: var(--c3); }
span.c0 { color: var(--c0); } span.c1 { color: var(--c1); }
span.c2 { color: var(--c2); } span.c3 { color: var(--c3); }
.legend { margin: 0; color: var(--soft); } .right { color: var(--c2); } .wrong { color: var(--c1); }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { text-align: left; font-weight: normal; border-top: 1px solid var(--rule);
  padding: .2rem .5rem; vertical-align: top; overflow-wrap: anywhere; }
th { color: var(--soft); width: 45%; } td { font-variant-numeric: tabular-nums; }
";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_holds_its_figures_and_nothing_from_elsewhere() {
        let samples: Vec<Sample> = (0..500_u32)
            .map(|n| Sample {
                seconds: f64::from(n) / 100.0,
                events: f64::from(n) * 1000.0,
                delivered_bytes: u64::from(n) * 50_000,
                bytes_under_way: 100.0,
                memory_bytes: Some(4_000_000),
            })
            .collect();
        let mut charts = Chart::throughput(&samples);
        charts.extend(Chart::queues(&samples));
        let result = json!({ "ok": true, "settings": { "mix": "<even>", "seed": 666 } });
        let page = page("a run", &result, &charts);
        assert_eq!(page.matches("<svg").count(), 4);
        assert!(page.contains("<th>mix<td>&lt;even&gt;"));
        assert!(!page.contains("http") && !page.contains("<script"));
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

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
