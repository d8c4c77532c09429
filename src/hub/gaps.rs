//! What holds the order up, and what starts it anew: gaps and resets.

use log::Level;

use super::Hub;
use crate::config::OnSourceDisconnect;
use crate::hub::log_limiter::LogKind;
use crate::hub::sources::Source;
use crate::hub::transport::Acceptor;

impl<A: Acceptor> Hub<A> {
    /// Starts the order and the graph anew if that is wanted and no source that has sent a line is
    /// left.
    pub(super) fn reset_after_last_source(&mut self) {
        if self.config.on_source_disconnect == OnSourceDisconnect::Keep
            || self.is_draining()
            || self.sources.iter().any(Source::has_sent_line)
        {
            return;
        }
        let awaited = self.engine.awaited();
        let lost = self.engine.reset();
        self.gap_monitor.forget();
        let first = self.engine.awaited();
        if lost > 0 {
            self.say(
                LogKind::Reset,
                Level::Warn,
                format_args!("{lost} events waited behind missing sequence {awaited} and are lost"),
            );
        }
        self.say(
            LogKind::Reset,
            Level::Info,
            format_args!("the last source is gone: starting anew, sequence {first} is awaited"),
        );
    }

    /// Shows the gap in the log, and gives it up when its time is over.
    pub(super) fn check_gap(&mut self) {
        let first_missing = self.engine.has_gap().then(|| self.engine.awaited());
        let is_paused = self.outbound.is_paused() || self.is_draining();
        self.gap_monitor.observe(first_missing, is_paused, self.now);
        if let Some((first_missing, age)) = self.gap_monitor.report() {
            let waiting = self.engine.reorder().len();
            self.say(
                LogKind::Gap,
                Level::Warn,
                format_args!(
                    "sequence {first_missing} has been missing for {:.1} s; {waiting} wait behind it",
                    age.as_secs_f64()
                ),
            );
        }
        let all_dry = !self.sources.has_undecided() && self.sources.iter().all(Source::is_drained);
        if self.gap_monitor.has_expired()
            && all_dry
            && let Some(lost) = self.engine.skip_gap()
        {
            self.say(
                LogKind::GapSkipped,
                Level::Warn,
                format_args!(
                    "gave up the missing sequences {} to {} after gap_timeout_ms: {} lost",
                    lost.start,
                    lost.end - 1,
                    lost.end - lost.start
                ),
            );
        }
    }
}
