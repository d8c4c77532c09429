//! Sources: accept, read, apply, close.

mod apply;
mod source;
mod table;

use std::io::ErrorKind;
use std::net::SocketAddr;

use log::Level;

use self::apply::{Applier, StopReason, TurnBudget};
pub(super) use self::source::Source;
use self::table::Decision;
pub(super) use self::table::Sources;
use super::Hub;
use crate::config::OnSourceDisconnect;
use crate::hub::budgets::Budgets;
use crate::hub::close_reason::CloseReason;
use crate::hub::connection::Disconnect;
use crate::hub::log_limiter::{CausedBy, Escaped, LogKind};
use crate::hub::outbound::fanout::OFFSET_BYTES;
use crate::hub::token::SourceKey;
use crate::hub::transport::{Acceptor, BACKLOG};

impl<A: Acceptor> Hub<A> {
    /// Reads from every readable source into its buffer. Returns whether any bytes arrived.
    pub(super) fn read_sources(&mut self) -> bool {
        self.accept_sources();
        if self.is_draining() || self.outbound.is_paused() {
            return false;
        }
        let Budgets { source_bytes, min_source_bytes, total_source_bytes, .. } = self.budgets;
        let share =
            (total_source_bytes / self.sources.len().max(1)).clamp(min_source_bytes, source_bytes);
        let resets = self.config.on_source_disconnect == OnSourceDisconnect::Reset;
        // The first line of a source after a pending reset belongs to the stream after it.
        let mut is_reset_pending = resets && self.sources.iter().any(Source::closed_after_line);
        let mut has_read = false;
        self.sources.for_each_mut(|source| {
            let may_read = source.has_sent_line() || !is_reset_pending;
            if source.readable && !source.may_have_lines && may_read {
                source.read(share);
                has_read |= source.may_have_lines;
                is_reset_pending |= resets && source.closed_after_line();
            }
        });
        has_read
    }

    fn accept_sources(&mut self) {
        for _ in 0..BACKLOG {
            if !self.sources.may_accept() {
                return;
            }
            let Some(listener) = &mut self.source_listener else { return };
            match listener.accept(self.sources.vacant_key().token(), self.now) {
                Ok(Some((stream, peer))) => self.add_source(stream, peer),
                Ok(None) => return,
                Err(error) => return self.log_accept_error("event source", &error),
            }
        }
    }

    fn add_source(&mut self, stream: A::Stream, peer: SocketAddr) {
        self.counters.sources_accepted += 1;
        let source = Source::new(stream, peer, self.config.max_line_bytes);
        let (key, is_admitted) = self.sources.insert(source);
        if is_admitted {
            self.log_admitted(key);
        }
    }

    /// Admits or rejects the sources over the limit on which a decision can be made.
    pub(super) fn decide_on_sources(&mut self) {
        while let Some(decision) = self.sources.decide() {
            match decision {
                Decision::Admitted(key) => self.log_admitted(key),
                Decision::Rejected(key) => self.reject_source(key),
            }
        }
    }

    fn log_admitted(&mut self, key: SourceKey) {
        let Some(source) = self.sources.get(key) else { return };
        let peer = source.peer;
        self.log(LogKind::SourceConnected, Level::Info, format_args!("source {peer} connected"));
    }

    fn reject_source(&mut self, key: SourceKey) {
        let Some(source) = self.sources.remove(key) else { return };
        let (reason, peer) = (CloseReason::TooManySources, source.peer);
        let connected = self.sources.len();
        self.counters.sources_closed.count(reason);
        self.log(
            LogKind::SourceClosed(reason),
            Level::Warn,
            format_args!("rejected source {peer}: {reason}, {connected} sources are connected"),
        );
    }

    fn turn_budget(&self) -> TurnBudget {
        let budgets = &self.budgets;
        let clients = self.outbound.registered().len() as u64;
        let batch_bytes = budgets.batch_bytes(self.config.total_queue_bytes);
        TurnBudget {
            events: budgets.events,
            addressed: budgets
                .addressed
                .max(budgets.addressed_per_client * clients)
                .min((batch_bytes / OFFSET_BYTES).max(1)),
            queued_bytes: budgets
                .queued_bytes
                .max(budgets.queued_bytes_per_client * clients)
                .min(Budgets::MAX_QUEUED_BYTES),
            line_bytes: batch_bytes as usize,
        }
    }

    /// Applies due events and lines that were read, within the budget of a turn.
    pub(super) fn apply(&mut self) {
        let mut budget = self.turn_budget();
        let mut applier = Applier {
            config: &self.config,
            engine: &mut self.engine,
            outbound: &mut self.outbound,
            recorder: &mut self.recorder,
            log_limiter: &mut self.log_limiter,
            counters: &mut self.counters,
            now: self.now,
        };
        // A source whose turn exhausts the budget comes last in the next one.
        for _ in 0..self.sources.len() {
            if applier.apply_due(&mut budget) != StopReason::Drained {
                return;
            }
            let Some(source) = self.sources.next_to_apply() else { return };
            if source.may_have_lines {
                let stopped = applier.apply_lines(source, &mut budget);
                source.may_have_lines = stopped != StopReason::Drained;
            }
        }
        applier.apply_due(&mut budget);
    }

    /// Shrinks the buffers of idle sources.
    pub(super) fn trim_source_buffers(&mut self) {
        self.sources.for_each_mut(|source| source.decoder.buffer_mut().trim());
    }

    /// Closes the sources that have ended and whose lines are all applied.
    pub(super) fn close_ended_sources(&mut self) {
        if self.engine.has_ready() {
            return;
        }
        let mut index = 0;
        while let Some(key) = self.sources.key_at(index) {
            let source = self.sources.get_mut(key);
            match source.filter(|source| !source.may_have_lines).and_then(|it| it.end.take()) {
                Some(end) => self.close_source(key, end),
                None => index += 1,
            }
        }
    }

    pub(super) fn close_source(&mut self, key: SourceKey, end: Disconnect) {
        let Some(source) = self.sources.remove(key) else { return };
        let Disconnect { reason, error } = end;
        self.counters.sources_closed.count(reason);
        let (peer, lines) = (source.peer, source.lines_received);
        let is_probe = lines == 0
            && source.decoder.buffer().pending_bytes() == 0
            && error.as_ref().is_some_and(|error| error.kind() == ErrorKind::ConnectionReset);
        let is_expected = reason.is_expected() || is_probe;
        let level = if is_expected { Level::Info } else { Level::Warn };
        self.log(
            LogKind::SourceClosed(reason),
            level,
            format_args!("source {peer} closed: {reason}{}, after {lines} lines", CausedBy(error)),
        );
        if !source.decoder.buffer().partial_line().is_empty() {
            self.counters.unterminated += 1;
            self.log(
                LogKind::Unterminated,
                Level::Warn,
                format_args!(
                    "discarded the unterminated last line of source {peer}: {}",
                    Escaped(source.decoder.buffer().partial_line())
                ),
            );
        }
        if lines > 0 {
            self.reset_after_last_source();
        }
    }
}
