//! Throughput and cost of a run.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::format::{format_bytes, format_count, format_seconds, format_si};
use super::table::Table;

/// Pauses are shown from this share of the measured time.
const MIN_SHOWN_SHARE: f64 = 0.01;

/// Throughput and cost of a run, over the measured time only.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    pub(crate) events: u64,
    pub(crate) deliveries: u64,
    /// Bytes that the source sent.
    pub(crate) source_bytes: u64,
    /// Bytes that all clients received.
    pub(crate) delivered_bytes: u64,
    /// From the first byte sent to the last received, without pauses between segments.
    pub(crate) seconds: f64,
    /// Pauses between segments, in which this program prepared events.
    #[serde(skip)]
    pub(crate) preparing_seconds: f64,
    pub(crate) server_cpu_seconds: Option<f64>,
    pub(crate) server_peak_bytes: Option<u64>,
    /// Connections that a source has lost that speaks `SYNC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source_reconnects: Option<u64>,
    /// Clients that dropped their connections and came back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_reconnects: Option<u64>,
    pub(crate) events_per_second: f64,
    pub(crate) deliveries_per_second: f64,
    pub(crate) delivered_megabytes_per_second: f64,
}

impl Summary {
    /// Computes the rates from the other fields.
    pub(crate) fn with_rates(mut self, measured: Duration) -> Summary {
        self.seconds = measured.as_secs_f64();
        let rate =
            |amount: u64| if self.seconds > 0.0 { amount as f64 / self.seconds } else { 0.0 };
        self.events_per_second = rate(self.events);
        self.deliveries_per_second = rate(self.deliveries);
        self.delivered_megabytes_per_second = rate(self.delivered_bytes) / 1e6;
        self
    }
}

impl Summary {
    /// Returns the figures as a table of a report.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new("Throughput", &["", "total", "per second"]);
        let mut add = |name: &str, total: String, rate: String| {
            table.add([name.to_owned(), total, rate]);
        };
        let rate = |rate: f64| format!("{}/s", format_si(rate));
        add("Events sent", format_count(self.events), rate(self.events_per_second));
        add("Deliveries", format_count(self.deliveries), rate(self.deliveries_per_second));
        let per_second = |bytes: u64| match self.seconds > 0.0 {
            true => format!("{}/s", format_bytes(bytes as f64 / self.seconds)),
            false => String::new(),
        };
        for (name, bytes) in
            [("Bytes sent", self.source_bytes), ("Bytes delivered", self.delivered_bytes)]
        {
            add(name, format_bytes(bytes as f64), per_second(bytes));
        }
        add("Measured time", format_seconds(self.seconds), String::new());
        if let Some(seconds) = self.server_cpu_seconds {
            let share = if self.seconds > 0.0 { 100.0 * seconds / self.seconds } else { 0.0 };
            add(
                "CPU time of the server",
                format_seconds(seconds),
                format!("{share:.0} % of a core"),
            );
        }
        if let Some(bytes) = self.server_peak_bytes {
            add("Peak memory of the server", format_bytes(bytes as f64), String::new());
        }
        table
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  time        {:.3} s, from the first byte sent to the last delivery",
            self.seconds
        )?;
        if self.preparing_seconds > MIN_SHOWN_SHARE * self.seconds {
            writeln!(
                f,
                "              not counted: {:.3} s in between, to prepare events",
                self.preparing_seconds
            )?;
        }
        writeln!(f, "  events      {:<12} {}/s", self.events, format_si(self.events_per_second))?;
        writeln!(
            f,
            "  deliveries  {:<12} {}/s",
            self.deliveries,
            format_si(self.deliveries_per_second)
        )?;
        writeln!(
            f,
            "  bytes       {} in, {} out, {}/s out",
            format_bytes(self.source_bytes as f64),
            format_bytes(self.delivered_bytes as f64),
            format_bytes(self.delivered_megabytes_per_second * 1e6)
        )?;
        if let Some(seconds) = self.server_cpu_seconds {
            write!(f, "  server      {seconds:.3} s of CPU")?;
            if let Some(bytes) = self.server_peak_bytes {
                write!(f, ", {} of memory at most", format_bytes(bytes as f64))?;
            }
            writeln!(f)?;
        }
        if let Some(reconnects) = self.client_reconnects {
            writeln!(f, "  reconnects  {reconnects} of clients")?;
        }
        if let Some(reconnects) = self.source_reconnects {
            writeln!(f, "  source      everything committed, {reconnects} reconnects")?;
        }
        Ok(())
    }
}

/// Returns the median of `values`; of two middle ones, the lower.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(vec![]).is_nan());
    }
}
