//! Totals of the last minutes, so that a page that is opened shows what happened before.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

/// The time between two samples.
const INTERVAL: Duration = Duration::from_secs(1);

/// The maximum number of samples: five minutes, and one sample before.
const MAX_SAMPLES: usize = 301;

/// Totals since the start, at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Events applied.
    pub applied: u64,
    /// Lines queued for clients.
    pub lines_queued: u64,
    /// Bytes written to clients.
    pub bytes_written: u64,
}

/// The samples of the last five minutes, one per second.
#[derive(Debug)]
pub struct History {
    samples: VecDeque<(Instant, Sample)>,
    due: Instant,
}

/// What `/history` shows: one value per sample, the oldest first.
#[derive(Debug, Default, Serialize)]
pub struct HistoryColumns {
    age_seconds: Vec<f64>,
    applied: Vec<u64>,
    lines_queued: Vec<u64>,
    bytes_written: Vec<u64>,
}

impl History {
    /// Creates an empty history whose first sample is due at `now`.
    #[must_use]
    pub fn new(now: Instant) -> History {
        History { samples: VecDeque::with_capacity(MAX_SAMPLES), due: now }
    }

    /// Returns when the next sample is due.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Takes a sample if one is due.
    pub fn record(&mut self, now: Instant, sample: impl FnOnce() -> Sample) {
        if now < self.due {
            return;
        }
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((now, sample()));
        self.due = now + INTERVAL;
    }

    /// Returns all samples with their ages at `now`.
    #[must_use]
    pub fn columns(&self, now: Instant) -> HistoryColumns {
        let mut columns = HistoryColumns::default();
        for &(at, Sample { applied, lines_queued, bytes_written }) in &self.samples {
            let age = now.saturating_duration_since(at);
            columns.age_seconds.push(age.as_millis() as f64 / 1000.0);
            columns.applied.push(applied);
            columns.lines_queued.push(lines_queued);
            columns.bytes_written.push(bytes_written);
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_five_minutes_are_kept() {
        let start = Instant::now();
        let mut history = History::new(start);
        for tenth in 0..10_000 {
            let now = start + Duration::from_millis(100) * tenth;
            let applied = u64::from(tenth);
            history.record(now, || Sample { applied, lines_queued: 2 * applied, bytes_written: 0 });
        }
        let columns = history.columns(start + Duration::from_secs(1000));
        assert_eq!(columns.applied.len(), MAX_SAMPLES);
        assert_eq!((columns.applied[0], columns.applied[300]), (6990, 9990));
        assert_eq!((columns.age_seconds[0], columns.age_seconds[300]), (301.0, 1.0));
        assert_eq!(history.due(), start + Duration::from_secs(1000));
    }
}
