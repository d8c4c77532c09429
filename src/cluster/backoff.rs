//! The time between two attempts to connect.

use std::time::Duration;

/// The first delay.
const FIRST: Duration = Duration::from_millis(20);

/// The maximum delay, short enough that all servers are back within [`GRACE`](super::GRACE).
const MAX: Duration = Duration::from_secs(1);

/// Delays that double after each failure, with jitter, so that servers do not connect all at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Returns the next delay: between half of the doubled one and all of it, as `random` says.
    pub(crate) fn next_delay(&mut self, random: u64) -> Duration {
        let full = FIRST.saturating_mul(1 << self.failures.min(10)).min(MAX);
        self.failures += 1;
        let half = full / 2;
        half + half.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
    }
}
