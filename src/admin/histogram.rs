//! Histograms with fixed buckets.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// Counts of values by bucket, and their sum.
#[derive(Clone, Copy, Debug)]
pub struct Histogram {
    bounds: &'static [u64; Histogram::BOUNDS],
    /// The number of values at most each bound and above the one before, and of those above all.
    counts: [u64; Histogram::BOUNDS + 1],
    sum: u64,
}

impl Histogram {
    /// The number of bucket bounds.
    pub const BOUNDS: usize = 15;

    /// Creates an empty histogram with these upper bounds, in rising order.
    #[must_use]
    pub fn new(bounds: &'static [u64; Histogram::BOUNDS]) -> Histogram {
        Histogram { bounds, counts: [0; Histogram::BOUNDS + 1], sum: 0 }
    }

    /// Records a value.
    pub fn record(&mut self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// Returns the number of values at most each bound.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        self.bounds.iter().copied().zip(self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        }))
    }

    /// Returns the number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the sum of all values.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }
}

/// Bounds of times, in nanoseconds: 10 µs to 30 s.
pub const TIME_BOUNDS: [u64; Histogram::BOUNDS] = [
    10_000,
    30_000,
    100_000,
    300_000,
    1_000_000,
    3_000_000,
    10_000_000,
    30_000_000,
    100_000_000,
    300_000_000,
    1_000_000_000,
    3_000_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
];

/// Bounds of the number of events per turn: 0, 1, then powers of 4.
pub const EVENT_BOUNDS: [u64; Histogram::BOUNDS] = [
    0, 1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216,
    67_108_864,
];

/// The distributions that a server measures of itself. Times are recorded in nanoseconds and shown in
/// seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Histograms {
    /// The time of a turn of the loop without waiting.
    #[serde(serialize_with = "time_buckets")]
    pub turn_seconds: Histogram,
    /// The number of events applied in a turn.
    #[serde(serialize_with = "buckets")]
    pub turn_events: Histogram,
    /// The time from reading an event to the end of the flush that follows it, of sampled events.
    #[serde(serialize_with = "time_buckets")]
    pub delivery_delay_seconds: Histogram,
}

impl Default for Histograms {
    fn default() -> Histograms {
        Histograms {
            turn_seconds: Histogram::new(&TIME_BOUNDS),
            turn_events: Histogram::new(&EVENT_BOUNDS),
            delivery_delay_seconds: Histogram::new(&TIME_BOUNDS),
        }
    }
}

/// The JSON of a histogram.
#[derive(Serialize)]
struct Buckets<T> {
    count: u64,
    sum: T,
    /// Pairs of an upper bound and the number of values at most it.
    buckets: Vec<(T, u64)>,
}

fn buckets<S: Serializer>(histogram: &Histogram, serializer: S) -> Result<S::Ok, S::Error> {
    let (count, sum) = (histogram.count(), histogram.sum());
    Buckets { count, sum, buckets: histogram.cumulative().collect() }.serialize(serializer)
}

fn time_buckets<S: Serializer>(histogram: &Histogram, serializer: S) -> Result<S::Ok, S::Error> {
    let seconds = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64();
    Buckets {
        count: histogram.count(),
        sum: seconds(histogram.sum()),
        buckets: histogram.cumulative().map(|(bound, count)| (seconds(bound), count)).collect(),
    }
    .serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise() {
        for bounds in [TIME_BOUNDS, EVENT_BOUNDS] {
            assert!(bounds.is_sorted_by(|one, other| one < other));
        }
    }

    #[test]
    fn a_value_counts_in_each_bucket_whose_bound_it_does_not_exceed() {
        let values = [0, 1, 2, 4, 5, 67_108_864, 67_108_865, u64::MAX];
        let mut histogram = Histogram::new(&EVENT_BOUNDS);
        for value in values {
            histogram.record(value);
        }
        for (bound, count) in histogram.cumulative() {
            let expected = values.iter().filter(|&&value| value <= bound).count();
            assert_eq!(count, expected as u64, "at most {bound}");
        }
        assert_eq!((histogram.count(), histogram.sum()), (values.len() as u64, u64::MAX));
    }
}
