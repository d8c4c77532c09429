//! The values that every part of the hub reads or updates: settings, time, log and counters.

use std::io;
use std::time::Instant;

use log::Level;

use crate::config::Config;
use crate::hub::budgets::Budgets;
use crate::hub::capacity::Capacity;
use crate::hub::delivery_sampler::DeliverySampler;
use crate::hub::listener::ACCEPT_BACKOFF;
use crate::hub::log_limiter::{LogKind, LogLimiter};
use crate::hub::log_line::{LogLine, log_line};
use crate::hub::recent_closes::RecentCloses;
use crate::hub::stats::HubCounters;

/// The settings, the time of the turn, the log and the counters. The hub passes them to its parts,
/// so that none of them keeps a copy.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) config: Config,
    pub(super) budgets: Budgets,
    pub(super) capacity: Capacity,
    /// The time at which the turn started.
    pub(super) now: Instant,
    pub(super) counters: HubCounters,
    pub(super) log_limiter: LogLimiter,
    pub(super) recent_closes: RecentCloses,
    /// `None` unless deliveries are sampled.
    pub(super) delivery_sampler: Option<DeliverySampler>,
}

impl Context {
    pub(super) fn new(config: Config, capacity: Capacity, now: Instant) -> Context {
        Context {
            config,
            budgets: Budgets::default(),
            capacity,
            now,
            counters: HubCounters::default(),
            log_limiter: LogLimiter::default(),
            recent_closes: RecentCloses::default(),
            delivery_sampler: None,
        }
    }

    /// Logs a line that a peer can trigger, within the limit of its kind.
    pub(super) fn log(&mut self, kind: LogKind, level: Level, line: LogLine<'_>) {
        self.log_limiter.log(kind, level, self.now, line);
    }

    /// Counts and logs an accept error that started a back-off.
    pub(super) fn on_accept_error(&mut self, peer_kind: &str, error: &io::Error) {
        self.counters.accept_errors += 1;
        let millis = ACCEPT_BACKOFF.as_millis();
        self.log(
            LogKind::AcceptFailed,
            Level::Error,
            log_line!("cannot accept another {peer_kind}: {error}; retrying in {millis} ms"),
        );
    }
}
