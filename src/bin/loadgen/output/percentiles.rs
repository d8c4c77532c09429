//! Percentiles of a latency distribution.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::summary::median;

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    pub(crate) p99_99: f64,
    pub(crate) max: f64,
}

/// Reads one of the percentiles.
type Field = fn(&Percentiles) -> f64;

impl Percentiles {
    /// The percentiles with their names.
    pub(crate) const COLUMNS: [(&str, Field); 6] = [
        ("50 %", |at| at.p50),
        ("90 %", |at| at.p90),
        ("99 %", |at| at.p99),
        ("99.9 %", |at| at.p99_9),
        ("99.99 %", |at| at.p99_99),
        ("maximum", |at| at.max),
    ];

    /// Reads the percentiles of a histogram in nanoseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Percentiles {
        let micros = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Percentiles {
            p50: micros(0.5),
            p90: micros(0.9),
            p99: micros(0.99),
            p99_9: micros(0.999),
            p99_99: micros(0.9999),
            max: micros(1.0),
        }
    }

    pub(crate) fn medians(all: &[Percentiles]) -> Percentiles {
        let middle = |figure: fn(&Percentiles) -> f64| median(all.iter().map(figure).collect());
        Percentiles {
            p50: middle(|run| run.p50),
            p90: middle(|run| run.p90),
            p99: middle(|run| run.p99),
            p99_9: middle(|run| run.p99_9),
            p99_99: middle(|run| run.p99_99),
            max: middle(|run| run.max),
        }
    }

    pub(crate) fn ratio_to(&self, other: &Percentiles) -> Percentiles {
        Percentiles {
            p50: self.p50 / other.p50,
            p90: self.p90 / other.p90,
            p99: self.p99 / other.p99,
            p99_9: self.p99_9 / other.p99_9,
            p99_99: self.p99_99 / other.p99_99,
            max: self.max / other.max,
        }
    }

    pub(crate) fn row(&self, name: &str, digits: usize) -> String {
        let Percentiles { p50, p90, p99, p99_9, p99_99, max } = self;
        format!(
            "  {name:<18}{p50:>10.digits$}{p90:>10.digits$}{p99:>10.digits$}{p99_9:>10.digits$}\
             {p99_99:>10.digits$}{max:>10.digits$}\n"
        )
    }
}
