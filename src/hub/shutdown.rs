//! The graceful shutdown: applies and delivers what was read, until a deadline.

use std::time::{Duration, Instant};

use log::Level;

use crate::engine::Engine;
use crate::hub::log_line::log_line;

/// Whether a shutdown is in progress, and its deadline.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shutdown {
    deadline: Option<Instant>,
}

impl Shutdown {
    /// Starts a shutdown. Returns whether none was in progress.
    pub(super) fn start(&mut self, now: Instant, drain_timeout: Duration) -> bool {
        let is_new = self.deadline.is_none();
        self.deadline.get_or_insert(now + drain_timeout);
        is_new
    }

    /// Returns whether a shutdown is in progress.
    pub(super) fn is_draining(self) -> bool {
        self.deadline.is_some()
    }

    /// Returns when the drain timeout expires.
    pub(super) fn deadline(self) -> Option<Instant> {
        self.deadline
    }

    /// Returns whether the drain timeout has expired.
    pub(super) fn has_expired(self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    /// Returns whether sources and drained clients are to be closed: all input is applied, or the
    /// drain timeout has expired.
    pub(super) fn may_close(self, is_applied: bool, now: Instant) -> bool {
        self.is_draining() && (is_applied || self.has_expired(now))
    }
}

/// Logs what was read and no client receives. `has_sources` is whether sources are about to be closed.
pub(super) fn log_undelivered(engine: &Engine, is_applied: bool, has_sources: bool) {
    if !is_applied {
        log::warn!("drain timeout expired before all input was applied");
    }
    if engine.has_gap() && has_sources {
        let (buffered, awaited) = (engine.reorder().len(), engine.awaited());
        log_line!(
            "{buffered} events after missing sequence {sequence} are not delivered";
            sequence = awaited
        )
        .log(Level::Warn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_close_once_all_is_applied_or_the_drain_timeout_expires() {
        let (now, timeout) = (Instant::now(), Duration::from_secs(1));
        let mut shutdown = Shutdown::default();
        assert!(!shutdown.is_draining() && !shutdown.may_close(true, now));
        assert!(shutdown.start(now, timeout) && !shutdown.start(now + timeout, timeout));
        assert_eq!(shutdown.deadline(), Some(now + timeout), "the first request counts");
        assert!(shutdown.may_close(true, now) && !shutdown.may_close(false, now));
        assert!(shutdown.may_close(false, now + timeout) && shutdown.has_expired(now + timeout));
    }
}
