//! Samples over time, and the trend of the server's memory.

use std::time::Duration;

use serde::Serialize;

use crate::output::chart::{Chart, Series};

/// Minimum length of a run whose memory is judged: earlier, buffers and the graph still fill.
const MIN_JUDGED_RUN: Duration = Duration::from_secs(60);
/// Maximum growth of the second half over the first, because the longest of a few pauses decides
/// how much is ever buffered …
const MAX_GROWTH_BYTES: u64 = 1024 * 1024;
/// … or this share of the first half, if that is more.
const MAX_GROWTH_SHARE: f64 = 0.02;

/// The state at the end of one interval.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sample {
    /// Since the start.
    pub(crate) seconds: f64,
    /// Events sent since the start.
    pub(crate) events: u64,
    /// Churn clients since the start.
    #[serde(rename = "visitors")]
    pub(crate) churn_clients: u64,
    /// The server's resident memory in bytes, and its open descriptors.
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) descriptors: Option<usize>,
    /// Connections, as counted by the server.
    pub(crate) clients: Option<u64>,
    pub(crate) sources: Option<u64>,
    /// Latencies of the interval in microseconds, from the due time of a tick.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    /// Share of one core in the interval.
    pub(crate) server_busy: Option<f64>,
    /// Resident memory of this program.
    pub(crate) own_memory_bytes: Option<u64>,
}

impl Sample {
    /// Returns the column headings of [`Sample::row`].
    pub(super) fn head() -> String {
        format!(
            "{:>8}{:>12}{:>9}{:>10}{:>6}{:>8}{:>8}{:>9}{:>9}{:>10}{:>7}{:>9}\n",
            "seconds",
            "events",
            "visits",
            "memory KB",
            "fds",
            "clients",
            "sources",
            "p50 µs",
            "p99 µs",
            "max µs",
            "CPU %",
            "own KB"
        )
    }

    /// Formats the sample as a row.
    pub(super) fn row(&self) -> String {
        let kilobytes = |bytes: Option<u64>| known(bytes.map(|bytes| bytes / 1024));
        format!(
            "{:>8.0}{:>12}{:>9}{:>10}{:>6}{:>8}{:>8}{:>9.0}{:>9.0}{:>10.0}{:>7}{:>9}\n",
            self.seconds,
            self.events,
            self.churn_clients,
            kilobytes(self.memory_bytes),
            known(self.descriptors),
            known(self.clients),
            known(self.sources),
            self.p50_us,
            self.p99_us,
            self.max_us,
            known(self.server_busy.map(|busy| format!("{:.1}", busy * 100.0))),
            kilobytes(self.own_memory_bytes),
        )
    }
}

fn known(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Returns the charts of memory and latency over time.
pub(super) fn charts(samples: &[Sample]) -> Vec<Chart> {
    let line = |name, value: fn(&Sample) -> Option<f64>| {
        let points = samples.iter().filter_map(|sample| Some((sample.seconds, value(sample)?)));
        Series { name, points: points.collect() }
    };
    vec![
        Chart::over_time(
            "Resident memory",
            "seconds",
            "MB",
            vec![
                line("server", |sample| Some(sample.memory_bytes? as f64 / 1e6)),
                line("load generator", |sample| Some(sample.own_memory_bytes? as f64 / 1e6)),
            ],
        ),
        Chart::over_time(
            "Latency, by interval",
            "seconds",
            "µs",
            vec![
                line("p50", |sample| Some(sample.p50_us)),
                line("p99", |sample| Some(sample.p99_us)),
            ],
        ),
    ]
}

/// Trend of the server's memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MemoryTrend {
    #[serde(rename = "firstHalfMost")]
    first_half_max: u64,
    #[serde(rename = "secondHalfMost")]
    second_half_max: u64,
    /// Of the second half, by least squares.
    kilobytes_per_hour: f64,
    /// `None` if the run was too short.
    #[serde(rename = "flat")]
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
        Some(MemoryTrend {
            first_half_max,
            second_half_max,
            kilobytes_per_hour: slope(second) * 3600.0 / 1024.0,
            is_flat: (end >= MIN_JUDGED_RUN.as_secs_f64()).then_some(is_within_bound),
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
            None => "run too short to tell",
        };
        format!(
            "  memory      {words}: at most {} KB in the first half, {} KB in the second, slope there \
             {:.0} KB/hour\n",
            self.first_half_max / 1024,
            self.second_half_max / 1024,
            self.kilobytes_per_hour
        )
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
            p50_us: 0.0,
            p99_us: 0.0,
            max_us: 0.0,
            server_busy: None,
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
        assert!(flat.kilobytes_per_hour.abs() < 1e-9);
        let growing = (0..20).map(|index| (9 << 20) + index * (128 << 10));
        let growing = MemoryTrend::evaluate(&samples(growing)).unwrap();
        assert_eq!(growing.is_flat, Some(false));
        assert!((growing.kilobytes_per_hour - 12.8 * 3600.0).abs() < 1e-6);
        assert!(!growing.passed());
        let filling = (0..20).map(|index| (9 << 20) + index.min(5) * (1 << 20));
        assert_eq!(MemoryTrend::evaluate(&samples(filling)).unwrap().is_flat, Some(true));
    }

    #[test]
    fn a_short_run_tells_nothing() {
        let growing = MemoryTrend::evaluate(&samples([1 << 20, 9 << 20])).unwrap();
        assert_eq!(growing.is_flat, None);
        assert!(growing.passed());
        assert_eq!(MemoryTrend::evaluate(&[]), None);
    }
}
