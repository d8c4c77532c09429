//! Figures of both sides, and whether they became better or worse.

use serde_json::Value;

use super::load::Side;
use crate::output::format::{format_bytes, format_micros, format_seconds, format_si};
use crate::output::summary::median;

/// Which values of a figure are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Higher,
    Lower,
    /// An amount, such as the number of events.
    Neither,
}

/// What became of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Better,
    Worse,
    /// Within the tolerance.
    Same,
}

/// A figure of both sides.
#[derive(Clone, Debug)]
struct Row {
    /// Names of the objects around it.
    group: String,
    name: String,
    before: Values,
    after: Values,
    change: Change,
}

/// The values of a figure in all runs of a side.
#[derive(Clone, Debug)]
struct Values {
    median: f64,
    /// Half the range over the median; `None` for a single run.
    spread: Option<f64>,
}

/// The figures that both sides have, in the order of the first.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    rows: Vec<Row>,
    /// Outermost names of figures that one side lacks.
    unmatched: Vec<String>,
}

impl Comparison {
    /// Compares the figures whose path contains one of `names`, or all without names. `tolerance` is
    /// a share of the value before.
    pub(super) fn new(before: &Side, after: &Side, names: &[String], tolerance: f64) -> Comparison {
        let (before, after) = (samples(&before.runs()), samples(&after.runs()));
        let is_selected =
            |path: &str| names.is_empty() || names.iter().any(|name| path.contains(name.as_str()));
        let row = |(path, values): &(String, Vec<f64>)| {
            let (_, others) = after.iter().find(|(other, _)| other == path)?;
            let direction = direction(path);
            if direction == Direction::Neither || !is_selected(path) {
                return None;
            }
            let (group, name) = path.rsplit_once('.').unwrap_or(("", path));
            let (before, after) = (Values::of(values), Values::of(others));
            let change = change(before.median, after.median, direction, tolerance);
            Some(Row { group: group.to_owned(), name: name.to_owned(), before, after, change })
        };
        Comparison {
            rows: before.iter().filter_map(row).collect(),
            unmatched: unmatched(&before, &after),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the number of figures with this change.
    pub(super) fn count(&self, change: Change) -> usize {
        self.rows.iter().filter(|row| row.change == change).count()
    }

    /// Formats the figures as a table of at most 80 columns.
    pub(super) fn table(&self) -> String {
        let mut text = line("", "A", "B", "B/A", "");
        let mut group = None;
        for row in &self.rows {
            if group != Some(&row.group) && !row.group.is_empty() {
                text.push_str(&format!("{}\n", row.group));
            }
            group = Some(&row.group);
            let indent = if row.group.is_empty() { "" } else { "  " };
            let ratio = row.after.median / row.before.median;
            let ratio = match ratio {
                ratio if !ratio.is_finite() => "–".to_owned(),
                ratio if ratio < 0.1 => format!("{ratio:.3}"),
                ratio => format!("{ratio:.2}"),
            };
            let path = format!("{}.{}", row.group, row.name);
            text.push_str(&line(
                &format!("{indent}{}", row.name),
                &row.before.text(&path),
                &row.after.text(&path),
                &ratio,
                match row.change {
                    Change::Better => "better",
                    Change::Worse => "WORSE",
                    Change::Same => "same",
                },
            ));
        }
        if !self.unmatched.is_empty() {
            text.push_str(&format!("not in both: {}\n", self.unmatched.join(", ")));
        }
        text.push('\n');
        text
    }
}

fn line(name: &str, before: &str, after: &str, ratio: &str, change: &str) -> String {
    let line = format!("{name:<29}{before:>18}{after:>18}{ratio:>7} {change}");
    format!("{}\n", line.trim_end())
}

impl Values {
    /// `values` has at least one.
    fn of(values: &[f64]) -> Values {
        let middle = median(values.to_vec());
        let (min, max) = values
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), &n| (min.min(n), max.max(n)));
        let spread = (max - min) / 2.0 / middle;
        Values {
            median: middle,
            spread: (values.len() > 1 && spread.is_finite()).then_some(spread),
        }
    }

    fn text(&self, path: &str) -> String {
        let value = format_figure(path, self.median);
        match self.spread {
            Some(spread) => format!("{value} ±{:.0} %", spread * 100.0),
            None => value,
        }
    }
}

/// Returns the numbers of all runs by path, in the order of the first run that has them.
fn samples(runs: &[&Value]) -> Vec<(String, Vec<f64>)> {
    let mut samples: Vec<(String, Vec<f64>)> = Vec::new();
    for run in runs {
        collect("", run, &mut samples);
    }
    samples
}

/// Returns the outermost names of the figures that only one side has.
fn unmatched(before: &[(String, Vec<f64>)], after: &[(String, Vec<f64>)]) -> Vec<String> {
    let is_in =
        |path: &str, side: &[(String, Vec<f64>)]| side.iter().any(|(other, _)| other == path);
    let mut names = Vec::new();
    for (path, _) in before.iter().chain(after) {
        let name = path.split('.').next().unwrap_or(path).to_owned();
        let is_matched = is_in(path, before) && is_in(path, after);
        if !is_matched && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn collect(path: &str, value: &Value, into: &mut Vec<(String, Vec<f64>)>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(&path, value, into);
            }
        }
        value => {
            let Some(number) = value.as_f64() else { return };
            match into.iter_mut().find(|(other, _)| other == path) {
                Some((_, numbers)) => numbers.push(number),
                None => into.push((path.to_owned(), vec![number])),
            }
        }
    }
}

fn change(before: f64, after: f64, direction: Direction, tolerance: f64) -> Change {
    let (worse, better) = match direction {
        Direction::Higher => {
            (after < before * (1.0 - tolerance), after > before * (1.0 + tolerance))
        }
        Direction::Lower => {
            (after > before * (1.0 + tolerance), after < before * (1.0 - tolerance))
        }
        Direction::Neither => (false, false),
    };
    match (worse, better) {
        (true, _) => Change::Worse,
        (_, true) => Change::Better,
        _ => Change::Same,
    }
}

/// The unit of a figure: the longest ending that its path has at some level, nearest first.
fn unit(path: &str) -> &'static str {
    const UNITS: [&str; 10] = [
        "PerSecond",
        "BytesPerClient",
        "BytesPerHour",
        "CpuSeconds",
        "seconds",
        "Seconds",
        "Bytes",
        "Percent",
        "Us",
        "atio",
    ];
    let names = path.rsplit('.');
    names
        .flat_map(|name| UNITS.into_iter().filter(move |unit| name.ends_with(unit)))
        .next()
        .unwrap_or("")
}

fn direction(path: &str) -> Direction {
    // Neither the baseline nor this program is under test.
    let is_other = path.split('.').any(|name| name == "baseline" || name == "ownPollInterval");
    match unit(path) {
        _ if is_other => Direction::Neither,
        "PerSecond" => Direction::Higher,
        // A share of the baseline.
        "atio" if path.contains("throughputRatio") || path.contains("cpuTimeRatio") => {
            Direction::Higher
        }
        "atio" | "Us" | "CpuSeconds" | "BytesPerClient" => Direction::Lower,
        "Bytes" if path.ends_with("sourceBytes") || path.ends_with("deliveredBytes") => {
            Direction::Neither
        }
        "Bytes" => Direction::Lower,
        // A growth may be negative, so that no share of it means anything; and a flood keeps the
        // server busy.
        "Percent" if path.ends_with("idleCpuPercent") => Direction::Lower,
        _ => Direction::Neither,
    }
}

fn format_figure(path: &str, value: f64) -> String {
    match unit(path) {
        "PerSecond" if path.ends_with("MegabytesPerSecond") => {
            format!("{}/s", format_bytes(value * 1e6))
        }
        "PerSecond" => format!("{}/s", format_si(value)),
        "Us" => format_micros(value),
        "Bytes" | "BytesPerClient" => format_bytes(value),
        "BytesPerHour" => format!("{}/h", format_bytes(value)),
        "CpuSeconds" | "Seconds" | "seconds" => format_seconds(value),
        "Percent" => format!("{value:.2} %"),
        "atio" => format!("{value:.2}"),
        _ => format_si(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_direction_follows_from_the_name() {
        for (path, expected) in [
            ("eventsPerSecond", Direction::Higher),
            ("even.server.deliveriesPerSecond", Direction::Higher),
            ("even.throughputRatio", Direction::Higher),
            ("even.baseline.eventsPerSecond", Direction::Neither),
            ("server.correctedUs.p99", Direction::Lower),
            ("ratio.p99", Direction::Lower),
            ("serverCpuSeconds", Direction::Lower),
            ("serverPeakBytes", Direction::Lower),
            ("server.memoryBytesPerClient", Direction::Lower),
            ("signal.waitUs.max", Direction::Lower),
            ("memory.growthBytesPerHour", Direction::Neither),
            ("deliveredBytes", Direction::Neither),
            ("signal.count", Direction::Neither),
            ("seconds", Direction::Neither),
            ("serverBusyPercent", Direction::Neither),
        ] {
            assert_eq!(direction(path), expected, "{path}");
        }
    }

    #[test]
    fn a_change_is_judged_by_its_direction() {
        use Direction::{Higher, Lower};
        assert_eq!(change(100.0, 106.0, Higher, 0.05), Change::Better);
        assert_eq!(change(100.0, 94.0, Higher, 0.05), Change::Worse);
        assert_eq!(change(100.0, 106.0, Lower, 0.05), Change::Worse);
        assert_eq!(change(100.0, 94.0, Lower, 0.05), Change::Better);
        assert_eq!(change(100.0, 95.0, Lower, 0.05), Change::Same);
        assert_eq!(change(0.0, 0.0, Lower, 0.0), Change::Same);
        assert_eq!(change(0.0, 1.0, Lower, 0.05), Change::Worse);
    }

    #[test]
    fn the_spread_is_half_the_range() {
        let values = Values::of(&[90.0, 100.0, 110.0]);
        assert_eq!(values.text("eventsPerSecond"), "100/s ±10 %");
        assert_eq!(Values::of(&[5e6]).text("eventsPerSecond"), "5.00 M/s");
    }
}
