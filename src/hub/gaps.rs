//! Sequence gaps and stream resets.

use std::time::{Duration, Instant};

use log::Level;

use crate::engine::Engine;
use crate::hub::context::Context;
use crate::hub::log_limiter::LogKind;
use crate::hub::log_line::log_line;

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
pub(super) struct GapMonitor {
    timeout: Option<Duration>,
    gap: Option<Gap>,
    last_update: Instant,
    paused: bool,
}

impl GapMonitor {
    /// Creates a monitor whose gaps expire after `timeout`, or never if it is `None`.
    pub(super) fn new(timeout: Option<Duration>, now: Instant) -> GapMonitor {
        GapMonitor { timeout, gap: None, last_update: now, paused: false }
    }

    /// Logs the gap of the engine, and skips it once its timeout has expired. It does not expire
    /// while applying is paused, and is not skipped until all sources are drained.
    pub(super) fn check(
        &mut self,
        engine: &mut Engine,
        is_paused: bool,
        all_drained: bool,
        cx: &mut Context,
    ) {
        let first_missing = engine.has_gap().then(|| engine.awaited());
        self.update(first_missing, is_paused, cx.now);
        if let Some((first_missing, age)) = self.due_report() {
            let (buffered, seconds) = (engine.reorder().len(), age.as_secs_f64());
            cx.log(
                LogKind::Gap,
                Level::Warn,
                log_line!(
                    "sequence {sequence} has been missing for {seconds:.1} s; {buffered} buffered after \
                     it";
                    sequence = first_missing
                ),
            );
        }
        if self.has_expired()
            && all_drained
            && let Some(lost) = engine.skip_gap()
        {
            let (last, count) = (lost.end - 1, lost.end - lost.start);
            cx.log(
                LogKind::GapSkipped,
                Level::Warn,
                log_line!(
                    "skipped missing sequences {sequence}..={last} after gap timeout: {count} lost";
                    sequence = lost.start
                ),
            );
        }
    }

    /// Returns the first missing sequence and since when it has been missing, if events wait after it.
    pub(super) fn gap(&self) -> Option<(u64, Instant)> {
        self.gap.as_ref().map(|gap| (gap.first_missing, gap.since))
    }

    /// Resets the stream and the follower graph, because the last source has disconnected.
    pub(super) fn reset_stream(&mut self, engine: &mut Engine, cx: &mut Context) {
        let awaited = engine.awaited();
        let lost = engine.reset();
        if let Some(sampler) = &mut cx.delivery_sampler {
            sampler.reset();
        }
        self.gap = None;
        let first = engine.awaited();
        if lost > 0 {
            cx.log(
                LogKind::Reset,
                Level::Warn,
                log_line!(
                    "lost {lost} buffered events after missing sequence {sequence}";
                    sequence = awaited
                ),
            );
        }
        cx.log(
            LogKind::Reset,
            Level::Info,
            log_line!(
                "last source disconnected: stream reset, sequence {sequence} is awaited";
                sequence = first
            ),
        );
    }

    /// Changes the timeout, of a gap that exists too.
    pub(super) fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Records the gap and whether applying is paused, as of the end of a turn.
    fn update(&mut self, first_missing: Option<u64>, paused: bool, now: Instant) {
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

    /// Returns whether the timeout of the gap has expired. It does not expire during a pause.
    fn has_expired(&self) -> bool {
        match (&self.gap, self.timeout) {
            (Some(gap), Some(timeout)) => !self.paused && gap.unpaused_age >= timeout,
            _ => false,
        }
    }

    /// Returns the first missing sequence and its age if a report is due.
    fn due_report(&mut self) -> Option<(u64, Duration)> {
        let gap = self.gap.as_mut()?;
        let age = self.last_update.duration_since(gap.since);
        if age < gap.next_report {
            return None;
        }
        gap.next_report = age + age.min(MAX_INTERVAL);
        Some((gap.first_missing, age))
    }

    /// Returns when the gap expires or its next report is due, if ever.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
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
    use crate::config::Config;
    use crate::engine::{Full, Progress, Recipients, Sink};
    use crate::hub::capacity::Capacity;
    use crate::protocol::{Line, Sequence};

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
        monitor.update(Some(5), true, start + 107 * SECOND);
        assert!(!monitor.has_expired(), "an expired gap is not skipped during a pause");
    }

    #[test]
    fn a_changed_timeout_counts_for_a_gap_that_exists() {
        let start = Instant::now();
        let mut monitor = GapMonitor::new(None, start);
        monitor.update(Some(5), false, start);
        monitor.update(Some(5), false, start + 5 * SECOND);
        monitor.set_timeout(Some(6 * SECOND));
        assert!(!monitor.has_expired());
        monitor.set_timeout(Some(5 * SECOND));
        assert!(monitor.has_expired());
        monitor.set_timeout(None);
        assert!(!monitor.has_expired());
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

    #[test]
    fn an_expired_gap_is_skipped_once_all_sources_are_drained_and_a_reset_forgets_it() {
        let start = Instant::now();
        let first = Sequence::new(1).unwrap();
        let config = Config { gap_timeout: Some(SECOND), ..Config::default() };
        let mut engine = Engine::new(first, config.reorder_window);
        let mut monitor = GapMonitor::new(config.gap_timeout, start);
        let mut cx = Context::new(config, Capacity::for_clients(1), start);
        engine.insert_void(Sequence::new(3).unwrap());
        let mut check_at = |engine: &mut Engine, monitor: &mut GapMonitor, millis, drained| {
            cx.now = start + Duration::from_millis(millis);
            monitor.check(engine, false, drained, &mut cx);
            engine.awaited()
        };
        assert_eq!(check_at(&mut engine, &mut monitor, 0, true), 1);
        assert_eq!(check_at(&mut engine, &mut monitor, 1000, false), 1);
        assert_eq!(check_at(&mut engine, &mut monitor, 1001, true), 3);
        engine.insert_void(Sequence::new(5).unwrap());
        assert_eq!(engine.apply_next(&mut NoSink), Progress::Applied);
        assert_eq!(check_at(&mut engine, &mut monitor, 2000, true), 4);
        monitor.reset_stream(&mut engine, &mut cx);
        assert_eq!((engine.awaited(), monitor.next_deadline()), (1, None));
    }

    struct NoSink;

    impl Sink for NoSink {
        fn offer(&mut self, _: Recipients<'_>, _: Line<'_>) -> Result<(), Full> {
            Ok(())
        }
    }
}
