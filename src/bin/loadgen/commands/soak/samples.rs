//! Samples over time, and the trend of the server's memory.

use std::time::Duration;

use serde::Serialize;

use crate::output::chart::{Axis, Chart, LineChart, Series};
use crate::output::format::{format_bytes, format_si};

/// Minimum length of a run whose memory is judged: earlier, buffers and the graph still fill.
const MIN_JUDGED_RUN: Duration = Duration::from_secs(60);
/// Maximum growth of the second half over the first, because the longest of a few pauses decides
/// how much is ever buffered …
const MAX_GROWTH_BYTES: u64 = 1024 * 1024;
/// … or this share of the first half, if that is more.
const MAX_GROWTH_SHARE: f64 = 0.02;

/// Minimum time between two samples whose difference is a rate.
const MIN_RATE_SECONDS: f64 = 0.05;

/// The state at the end of one interval.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sample {
    /// Since the start.
    pub(crate) seconds: f64,
    /// Events sent since the start.
    pub(crate) events: u64,
    /// Churn clients since the start.
    #[serde(rename = "visits")]
    pub(crate) churn_clients: u64,
    /// The server's resident memory in bytes, and its open descriptors.
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) descriptors: Option<usize>,
    /// Connections, as counted by the server.
    pub(crate) clients: Option<u64>,
    pub(crate) sources: Option<u64>,
    /// Latencies of the interval in microseconds, from the due time of a tick; `None` if nothing
    /// arrived.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) max_us: Option<f64>,
    /// Share of one core in the interval.
    pub(crate) server_busy_percent: Option<f64>,
    /// Resident memory of this program.
    pub(crate) own_memory_bytes: Option<u64>,
}

impl Sample {
    /// Returns the column headings of [`Sample::row`].
    pub(super) fn head() -> String {
        format!(
            "{:>7}{:>9}{:>7}{:>8}{:>6}{:>8}{:>8}{:>7}{:>7}{:>7}{:>6}\n",
            "seconds",
            "events",
            "visits",
            "mem KB",
            "fds",
            "clients",
            "sources",
            "p50 µs",
            "p99 µs",
            "max µs",
            "CPU %"
        )
    }

    /// Formats the sample as a row.
    pub(super) fn row(&self) -> String {
        let kilobytes = |bytes: Option<u64>| known(bytes.map(|bytes| bytes / 1024));
        // In seven columns with a space.
        let micros = |micros: Option<f64>| {
            known(micros.map(|micros| match micros {
                n if n < 1e6 => format!("{n:.0}"),
                n => format!("{:.1} s", n / 1e6),
            }))
        };
        format!(
            "{:>7.0}{:>9}{:>7}{:>8}{:>6}{:>8}{:>8}{:>7}{:>7}{:>7}{:>6}\n",
            self.seconds,
            format_si(self.events as f64),
            self.churn_clients,
            kilobytes(self.memory_bytes),
            known(self.descriptors),
            known(self.clients),
            known(self.sources),
            micros(self.p50_us),
            micros(self.p99_us),
            micros(self.max_us),
            known(self.server_busy_percent.map(|busy| format!("{busy:.1}"))),
        )
    }
}

fn known(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Returns charts of all columns over time.
pub(super) fn charts(samples: &[Sample]) -> Vec<Chart> {
    type Value = fn(&Sample) -> Option<f64>;
    let points = |value: Value| -> Vec<(f64, f64)> {
        let points = samples.iter().filter_map(|sample| Some((sample.seconds, value(sample)?)));
        points.collect()
    };
    let chart = |title, axis: Axis, unit, lines: &[(&'static str, Value)]| {
        let line = |&(name, value): &(&'static str, Value)| Series { name, points: points(value) };
        let series = lines.iter().map(line).collect();
        Chart::lines(title, LineChart::over_time(axis, unit, series))
    };
    let rate = |title, value: Value| {
        let series = vec![Series { name: "rate", points: interval_rates(&points(value)) }];
        Chart::lines(title, LineChart::over_time(Axis::linear(""), "per second", series))
    };
    vec![
        chart(
            "Latency of each interval",
            Axis::latency(),
            "",
            &[
                ("p50", |sample| sample.p50_us),
                ("p99", |sample| sample.p99_us),
                ("max", |sample| sample.max_us),
            ],
        ),
        chart(
            "Resident memory",
            Axis::linear(""),
            "MB",
            &[
                ("server", |sample| Some(sample.memory_bytes? as f64 / 1e6)),
                ("load generator", |sample| Some(sample.own_memory_bytes? as f64 / 1e6)),
            ],
        ),
        chart(
            "CPU of the server",
            Axis::linear(""),
            "% of a core",
            &[("busy", |sample| sample.server_busy_percent)],
        ),
        chart(
            "Connections and descriptors of the server",
            Axis::linear(""),
            "",
            &[
                ("clients", |sample| Some(sample.clients? as f64)),
                ("sources", |sample| Some(sample.sources? as f64)),
                ("descriptors", |sample| Some(sample.descriptors? as f64)),
            ],
        ),
        rate("Events sent", |sample| Some(sample.events as f64)),
        rate("Visits", |sample| Some(sample.churn_clients as f64)),
    ]
}

/// Returns the rate of change per second between consecutive points; the first one grows from 0.
fn interval_rates(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut before = (0.0, 0.0);
    let mut rates = Vec::with_capacity(points.len());
    for &(seconds, value) in points {
        // The sample at the end may follow another at once.
        if seconds - before.0 >= MIN_RATE_SECONDS {
            rates.push((seconds, (value - before.1) / (seconds - before.0)));
            before = (seconds, value);
        }
    }
    rates
}

/// Trend of the server's memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MemoryTrend {
    first_half_max_bytes: u64,
    second_half_max_bytes: u64,
    /// Of the second half, by least squares; `None` if the run was too short.
    growth_bytes_per_hour: Option<f64>,
    /// `None` if the run was too short.
    #[serde(skip)]
    is_flat: Option<bool>,
}

impl MemoryTrend {
    /// Evaluates a run; `None` if the server's memory is unknown.
    pub(super) fn evaluate(samples: &[Sample]) -> Option<MemoryTrend> {
        let points: Vec<(f64, u64)> = samples
            .iter()
            .filter_map(|sample| Some((sample.seconds, sample.memory_bytes?)))
            .collect();
        let (end, _) = *points.last()?;
        let (first, second) = points.split_at(points.partition_point(|point| point.0 <= end / 2.0));
        let max = |points: &[(f64, u64)]| points.iter().map(|point| point.1).max();
        let (first_half_max, second_half_max) = (max(first)?, max(second)?);
        let allowed = MAX_GROWTH_BYTES.max((first_half_max as f64 * MAX_GROWTH_SHARE) as u64);
        let is_within_bound = second_half_max <= first_half_max + allowed;
        let is_long_enough = end >= MIN_JUDGED_RUN.as_secs_f64();
        Some(MemoryTrend {
            first_half_max_bytes: first_half_max,
            second_half_max_bytes: second_half_max,
            growth_bytes_per_hour: is_long_enough.then(|| slope(second) * 3600.0),
            is_flat: is_long_enough.then_some(is_within_bound),
        })
    }

    /// Returns whether no growth was found.
    pub(super) fn passed(&self) -> bool {
        self.is_flat != Some(false)
    }

    /// Formats the trend as text.
    pub(super) fn verdict(&self) -> String {
        let words = match self.is_flat {
            Some(true) => "FLAT",
            Some(false) => "NOT FLAT",
            None => "too short to judge growth (60 s)",
        };
        let slope = self.growth_bytes_per_hour.map_or_else(String::new, |bytes| {
            format!(", slope there {:.0} KB/hour", bytes / 1024.0)
        });
        format!(
            "  memory      {words}: at most {} KB in the first half, {} KB in the second{slope}\n",
            self.first_half_max_bytes / 1024,
            self.second_half_max_bytes / 1024,
        )
    }

    /// Describes the trend as a sentence.
    pub(super) fn describe(&self) -> String {
        let [first, second] =
            [self.first_half_max_bytes, self.second_half_max_bytes].map(|n| format_bytes(n as f64));
        match self.is_flat {
            Some(true) => {
                format!(
                    "The server's memory is flat: at most {first} in the first half, {second} in the second."
                )
            }
            Some(false) => format!(
                "The server's memory grew: at most {first} in the first half, {second} in the second."
            ),
            None => "The run was too short to judge the server's memory.".to_owned(),
        }
    }
}

/// Returns the least-squares slope of `points`; 0 for fewer than two.
fn slope(points: &[(f64, u64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |value: fn(&(f64, u64)) -> f64| points.iter().map(value).sum::<f64>() / count;
    let (middle_x, middle_y) = (mean(|point| point.0), mean(|point| point.1 as f64));
    let (mut covariance, mut variance) = (0.0, 0.0);
    for &(x, y) in points {
        covariance += (x - middle_x) * (y as f64 - middle_y);
        variance += (x - middle_x).powi(2);
    }
    if variance > 0.0 { covariance / variance } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples with an interval of ten seconds.
    fn samples(memory: impl IntoIterator<Item = u64>) -> Vec<Sample> {
        let sample = |(index, bytes)| Sample {
            seconds: 10.0 * (index + 1) as f64,
            events: 0,
            churn_clients: 0,
            memory_bytes: Some(bytes),
            descriptors: None,
            clients: None,
            sources: None,
            p50_us: None,
            p99_us: None,
            max_us: None,
            server_busy_percent: None,
            own_memory_bytes: None,
        };
        memory.into_iter().enumerate().map(sample).collect()
    }

    #[test]
    fn a_slope_is_that_of_the_line() {
        assert!((slope(&[(1.0, 10), (2.0, 30), (3.0, 50)]) - 20.0).abs() < 1e-9);
        assert!(slope(&[(1.0, 10)]).abs() < 1e-9);
        assert!(slope(&[]).abs() < 1e-9);
    }

    #[test]
    fn memory_that_grows_is_not_flat() {
        let flat = MemoryTrend::evaluate(&samples([9 << 20; 20])).unwrap();
        assert_eq!(flat.is_flat, Some(true));
        assert!(flat.growth_bytes_per_hour.unwrap().abs() < 1e-9);
        let growing = (0..20).map(|index| (9 << 20) + index * (128 << 10));
        let growing = MemoryTrend::evaluate(&samples(growing)).unwrap();
        assert_eq!(growing.is_flat, Some(false));
        assert!((growing.growth_bytes_per_hour.unwrap() - 12.8 * 1024.0 * 3600.0).abs() < 1e-3);
        assert!(!growing.passed());
        let filling = (0..20).map(|index| (9 << 20) + index.min(5) * (1 << 20));
        assert_eq!(MemoryTrend::evaluate(&samples(filling)).unwrap().is_flat, Some(true));
    }

    #[test]
    fn a_short_run_tells_nothing() {
        let growing = MemoryTrend::evaluate(&samples([1 << 20, 9 << 20])).unwrap();
        assert_eq!((growing.is_flat, growing.growth_bytes_per_hour), (None, None));
        assert!(growing.passed());
        assert_eq!(MemoryTrend::evaluate(&[]), None);
    }
}
