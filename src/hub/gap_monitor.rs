//! The age and the timeout of a sequence gap.

use std::time::{Duration, Instant};

/// The age at which a gap is first logged. Later reports double the age, up to [`MAX_INTERVAL`].
const FIRST_REPORT: Duration = Duration::from_secs(1);
/// The maximum time between two reports.
const MAX_INTERVAL: Duration = Duration::from_secs(60);

/// A missing sequence with buffered events after it.
#[derive(Debug)]
struct Gap {
    first_missing: u64,
    since: Instant,
    /// The age, excluding the time spent paused.
    unpaused_age: Duration,
    next_report: Duration,
}

/// Monitors the gap before the first buffered event, if there is one.
#[derive(Debug)]
pub(crate) struct GapMonitor {
    timeout: Option<Duration>,
    gap: Option<Gap>,
    last_update: Instant,
    paused: bool,
}

impl GapMonitor {
    /// Creates a monitor whose gaps expire after `timeout`, or never if it is `None`.
    pub(crate) fn new(timeout: Option<Duration>, now: Instant) -> GapMonitor {
        GapMonitor { timeout, gap: None, last_update: now, paused: false }
    }

    /// Records the gap and whether applying is paused, as of the end of a turn.
    pub(crate) fn update(&mut self, first_missing: Option<u64>, paused: bool, now: Instant) {
        let elapsed = now.duration_since(self.last_update);
        let was_paused = std::mem::replace(&mut self.paused, paused);
        self.last_update = now;
        let Some(first_missing) = first_missing else {
            self.gap = None;
            return;
        };
        match &mut self.gap {
            Some(gap) if gap.first_missing == first_missing => {
                if !was_paused {
                    gap.unpaused_age += elapsed;
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

    /// Forgets the gap, because the stream was reset.
    pub(crate) fn reset(&mut self) {
        self.gap = None;
    }

    /// Returns whether the timeout of the gap has expired. It does not expire during a pause.
    pub(crate) fn has_expired(&self) -> bool {
        match (&self.gap, self.timeout) {
            (Some(gap), Some(timeout)) => !self.paused && gap.unpaused_age >= timeout,
            _ => false,
        }
    }

    /// Returns the first missing sequence and its age if a report is due.
    pub(crate) fn due_report(&mut self) -> Option<(u64, Duration)> {
        let gap = self.gap.as_mut()?;
        let age = self.last_update.duration_since(gap.since);
        if age < gap.next_report {
            return None;
        }
        gap.next_report = age + age.min(MAX_INTERVAL);
        Some((gap.first_missing, age))
    }

    /// Returns when the gap expires or its next report is due, if ever.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let gap = self.gap.as_ref()?;
        let report = gap.since + gap.next_report;
        let expiry = self
            .timeout
            .filter(|_| !self.paused)
            .map(|timeout| self.last_update + timeout.saturating_sub(gap.unpaused_age));
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
        let mut monitor = GapMonitor::new(Some(10 * SECOND), start);
        monitor.update(Some(5), false, start);
        monitor.update(Some(5), true, start + 4 * SECOND);
        monitor.update(Some(5), false, start + 100 * SECOND);
        assert!(!monitor.has_expired());
        monitor.update(Some(5), false, start + 105 * SECOND);
        assert!(!monitor.has_expired());
        monitor.update(Some(5), false, start + 106 * SECOND);
        assert!(monitor.has_expired());
    }

    #[test]
    fn another_gap_starts_at_age_zero() {
        let start = Instant::now();
        let mut monitor = GapMonitor::new(Some(10 * SECOND), start);
        monitor.update(Some(5), false, start);
        monitor.update(Some(7), false, start + 9 * SECOND);
        monitor.update(Some(7), false, start + 18 * SECOND);
        assert!(!monitor.has_expired());
        monitor.update(None, false, start + 19 * SECOND);
        assert_eq!(monitor.next_deadline(), None);
    }

    #[test]
    fn reports_come_at_doubling_ages() {
        let start = Instant::now();
        let mut monitor = GapMonitor::new(None, start);
        monitor.update(Some(5), false, start);
        let reported: Vec<u64> = (0..200)
            .filter_map(|second| {
                monitor.update(Some(5), false, start + second * SECOND);
                monitor.due_report().map(|(_, age)| age.as_secs())
            })
            .collect();
        assert_eq!(reported, [1, 2, 4, 8, 16, 32, 64, 124, 184]);
    }

    #[test]
    fn the_next_deadline_is_the_earlier_of_report_and_expiry() {
        let start = Instant::now();
        let mut monitor = GapMonitor::new(Some(SECOND / 2), start);
        monitor.update(Some(5), false, start);
        assert_eq!(monitor.next_deadline(), Some(start + SECOND / 2));
        monitor.update(Some(5), true, start);
        assert_eq!(monitor.next_deadline(), Some(start + SECOND));
    }
}
