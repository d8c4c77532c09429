//! How long a missing sequence has held up the order.

use std::time::{Duration, Instant};

/// The first age at which a gap shows in the log; then at twice that, four times, and so on.
const FIRST_REPORT: Duration = Duration::from_secs(1);
/// The longest time between two reports.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);

/// A missing sequence with something waiting behind it.
#[derive(Debug)]
struct Gap {
    first_missing: u64,
    since: Instant,
    /// Its age without the time during which reading was paused.
    unpaused_age: Duration,
    next_report: Duration,
}

/// Watches the gap at the head of the order, if there is one.
#[derive(Debug)]
pub(crate) struct GapMonitor {
    timeout: Option<Duration>,
    gap: Option<Gap>,
    seen: Instant,
    paused: bool,
}

impl GapMonitor {
    /// A gap is to be skipped after `timeout`; never if `None`.
    pub(crate) fn new(timeout: Option<Duration>, now: Instant) -> GapMonitor {
        GapMonitor { timeout, gap: None, seen: now, paused: false }
    }

    /// Takes note of how things stand at the end of a turn.
    pub(crate) fn observe(&mut self, first_missing: Option<u64>, paused: bool, now: Instant) {
        let passed = now.duration_since(self.seen);
        let was_paused = std::mem::replace(&mut self.paused, paused);
        self.seen = now;
        let Some(first_missing) = first_missing else {
            self.gap = None;
            return;
        };
        match &mut self.gap {
            Some(gap) if gap.first_missing == first_missing => {
                if !was_paused {
                    gap.unpaused_age += passed;
                }
            }
            _ => {
                self.gap = Some(Gap {
                    first_missing,
                    since: now,
                    unpaused_age: Duration::ZERO,
                    next_report: FIRST_REPORT,
                });
            }
        }
    }

    /// The order starts anew: whatever is missing from now on has not been missing before.
    pub(crate) fn forget(&mut self) {
        self.gap = None;
    }

    /// Returns whether the gap has lasted for the timeout.
    pub(crate) fn has_expired(&self) -> bool {
        match (&self.gap, self.timeout) {
            (Some(gap), Some(timeout)) => !self.paused && gap.unpaused_age >= timeout,
            _ => false,
        }
    }

    /// The first missing sequence and its age, when it is time to show them again.
    pub(crate) fn report(&mut self) -> Option<(u64, Duration)> {
        let seen = self.seen;
        let gap = self.gap.as_mut()?;
        let age = seen.duration_since(gap.since);
        if age < gap.next_report {
            return None;
        }
        gap.next_report = age + age.min(LONGEST_INTERVAL);
        Some((gap.first_missing, age))
    }

    /// Returns when the gap expires or is to be shown, if ever.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let gap = self.gap.as_ref()?;
        let report = gap.since + gap.next_report;
        let expiry = self
            .timeout
            .filter(|_| !self.paused)
            .map(|timeout| self.seen + timeout.saturating_sub(gap.unpaused_age));
        Some(expiry.map_or(report, |expiry| expiry.min(report)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_gap_expires_after_its_timeout_and_not_while_paused() {
        let start = Instant::now();
        let mut watch = GapMonitor::new(Some(10 * SECOND), start);
        watch.observe(Some(5), false, start);
        watch.observe(Some(5), true, start + 4 * SECOND);
        watch.observe(Some(5), false, start + 100 * SECOND);
        assert!(!watch.has_expired());
        watch.observe(Some(5), false, start + 105 * SECOND);
        assert!(!watch.has_expired());
        watch.observe(Some(5), false, start + 106 * SECOND);
        assert!(watch.has_expired());
    }

    #[test]
    fn another_gap_starts_anew() {
        let start = Instant::now();
        let mut watch = GapMonitor::new(Some(10 * SECOND), start);
        watch.observe(Some(5), false, start);
        watch.observe(Some(7), false, start + 9 * SECOND);
        watch.observe(Some(7), false, start + 18 * SECOND);
        assert!(!watch.has_expired());
        watch.observe(None, false, start + 19 * SECOND);
        assert_eq!(watch.next_deadline(), None);
    }

    #[test]
    fn reports_come_at_doubling_ages() {
        let start = Instant::now();
        let mut watch = GapMonitor::new(None, start);
        watch.observe(Some(5), false, start);
        let reported: Vec<u64> = (0..200)
            .filter_map(|second| {
                watch.observe(Some(5), false, start + second * SECOND);
                watch.report().map(|(_, age)| age.as_secs())
            })
            .collect();
        assert_eq!(reported, [1, 2, 4, 8, 16, 32, 64, 124, 184]);
    }

    #[test]
    fn the_next_deadline_is_the_earlier_of_report_and_expiry() {
        let start = Instant::now();
        let mut watch = GapMonitor::new(Some(SECOND / 2), start);
        watch.observe(Some(5), false, start);
        assert_eq!(watch.next_deadline(), Some(start + SECOND / 2));
        watch.observe(Some(5), true, start);
        assert_eq!(watch.next_deadline(), Some(start + SECOND));
    }
}
