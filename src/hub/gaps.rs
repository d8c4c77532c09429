//! Sequence gaps and stream resets.

use log::Level;

use super::Hub;
use crate::config::OnSourceDisconnect;
use crate::hub::log_limiter::LogKind;
use crate::hub::sources::Source;
use crate::hub::transport::Acceptor;

impl<A: Acceptor> Hub<A> {
    /// Resets the stream and the follower graph if configured and if no source that has sent a line
    /// is left.
    pub(super) fn reset_after_last_source(&mut self) {
        if self.config.on_source_disconnect == OnSourceDisconnect::Keep
            || self.is_draining()
            || self.sources.iter().any(Source::has_sent_line)
        {
            return;
        }
        let awaited = self.engine.awaited();
        let lost = self.engine.reset();
        self.gap_monitor.reset();
        let first = self.engine.awaited();
        if lost > 0 {
            self.log(
                LogKind::Reset,
                Level::Warn,
                format_args!("lost {lost} buffered events after missing sequence {awaited}"),
            );
        }
        self.log(
            LogKind::Reset,
            Level::Info,
            format_args!("last source disconnected: stream reset, sequence {first} is awaited"),
        );
    }

    /// Logs the gap, and skips it once its timeout has expired and all sources are drained.
    pub(super) fn check_gap(&mut self) {
        let first_missing = self.engine.has_gap().then(|| self.engine.awaited());
        let is_paused = self.outbound.is_paused() || self.is_draining();
        self.gap_monitor.update(first_missing, is_paused, self.now);
        if let Some((first_missing, age)) = self.gap_monitor.due_report() {
            let buffered = self.engine.reorder().len();
            self.log(
                LogKind::Gap,
                Level::Warn,
                format_args!(
                    "sequence {first_missing} has been missing for {:.1} s; \
                     {buffered} buffered after it",
                    age.as_secs_f64()
                ),
            );
        }
        let all_drained =
            !self.sources.has_undecided() && self.sources.iter().all(Source::is_drained);
        if self.gap_monitor.has_expired()
            && all_drained
            && let Some(lost) = self.engine.skip_gap()
        {
            self.log(
                LogKind::GapSkipped,
                Level::Warn,
                format_args!(
                    "skipped missing sequences {}..={} after gap timeout: {} lost",
                    lost.start,
                    lost.end - 1,
                    lost.end - lost.start
                ),
            );
        }
    }
}
