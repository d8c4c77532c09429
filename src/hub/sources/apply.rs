//! Decoding, ordering and applying the lines of sources.

use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Instant;

use log::Level;

use super::source::Source;
use crate::config::{Config, OnSourceDisconnect};
use crate::engine::{Engine, InsertOutcome, Progress};
use crate::hub::close_reason::CloseReason;
use crate::hub::log_limiter::{Escaped, LogKind, LogLimiter};
use crate::hub::outbound::Outbound;
use crate::hub::recorder::Recorder;
use crate::hub::stats::HubCounters;
use crate::protocol::{
    Decoded, ParseError, ParseErrorKind, Sequence, is_host_field, is_http_request_line,
};

/// The maximum number of lines decoded before due events are applied: few enough that their slots
/// stay in the L1 cache.
const FAST_BATCH_LINES: usize = 128;

/// The remaining budget of a turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct TurnBudget {
    /// Lines that may still be decoded, plus events that may still be applied.
    pub(super) events: usize,
    /// The limit on addressed deliveries in the turn.
    pub(super) addressed: u64,
    /// The limit on bytes queued in the turn.
    pub(super) queued_bytes: u64,
    /// The limit on memory for the turn's lines.
    pub(super) line_bytes: usize,
}

/// The reason why applying stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    /// No lines and no due events are left.
    Drained,
    /// A queue is full.
    Backpressure,
    /// The budget of the turn is exhausted.
    BudgetExhausted,
}

/// The parts of the hub that process the lines of a source: all except the table of sources.
pub(super) struct Applier<'a, S> {
    pub(super) config: &'a Config,
    pub(super) engine: &'a mut Engine,
    pub(super) outbound: &'a mut Outbound<S>,
    pub(super) recorder: &'a mut Option<Box<dyn Recorder>>,
    pub(super) log_limiter: &'a mut LogLimiter,
    pub(super) counters: &'a mut HubCounters,
    pub(super) now: Instant,
}

impl<S: Write> Applier<'_, S> {
    /// Decodes lines in batches of 128 before applying, for cache locality. Anything unusual is
    /// handled one line at a time, because duplicate, late and out-of-window depend on what was
    /// applied before.
    pub(super) fn apply_lines(
        &mut self,
        source: &mut Source<S>,
        budget: &mut TurnBudget,
    ) -> StopReason {
        loop {
            self.insert_fast_batch(source, budget);
            match self.apply_due(budget) {
                StopReason::Drained => {}
                reason => return reason,
            }
            if !self.receive_line(source, budget) {
                return StopReason::Drained;
            }
        }
    }

    fn insert_fast_batch(&mut self, source: &mut Source<S>, budget: &mut TurnBudget) {
        let (engine, recorder) = (&mut *self.engine, &mut *self.recorder);
        let inserted =
            source.decoder.decode_fast(FAST_BATCH_LINES.min(budget.events), |event, line| {
                let is_inserted = engine.try_insert_fast(event, line);
                if is_inserted && let Some(recorder) = recorder {
                    recorder.record(line.as_bytes());
                }
                is_inserted
            });
        source.has_sent_event |= inserted > 0;
        source.lines_received += inserted as u64;
        budget.events -= inserted;
    }

    /// Decodes and inserts the next line of a source, of any kind. Returns whether there may be
    /// more.
    fn receive_line(&mut self, source: &mut Source<S>, budget: &mut TurnBudget) -> bool {
        let peer = source.peer;
        let (outcome, sequence) = match source.decoder.next_event() {
            None => return false,
            Some(Decoded::Event(event, line)) => {
                let outcome = self.engine.insert(&event, line);
                self.record(outcome, line.as_bytes());
                if outcome == InsertOutcome::Late && !source.has_sent_event {
                    self.log_reset_hint(peer, event.sequence);
                }
                source.has_sent_event = true;
                (outcome, event.sequence)
            }
            Some(Decoded::Malformed(line, error)) => {
                let is_first = source.lines_received == 0;
                if is_http(line, &error, is_first) {
                    source.abort(CloseReason::HttpRequest);
                    return false;
                }
                self.receive_malformed(peer, line, error)
            }
        };
        source.lines_received += 1;
        budget.events -= 1;
        match outcome {
            InsertOutcome::Buffered => {}
            InsertOutcome::Duplicate => self.log_duplicate(peer, sequence),
            InsertOutcome::Late => self.log_late(peer, sequence),
            InsertOutcome::OutOfWindow => {
                self.log_out_of_window(peer, sequence);
                source.abort(CloseReason::WindowExceeded);
                return false;
            }
        }
        true
    }

    /// Records a line if it was accepted, so that a replay of the record has the same effect.
    #[inline]
    fn record(&mut self, outcome: InsertOutcome, line: &[u8]) {
        if let (Some(recorder), InsertOutcome::Buffered) = (&mut self.recorder, outcome) {
            recorder.record(line);
        }
    }

    /// Counts a malformed line and, if its sequence is readable, inserts a void event for it.
    /// Returns the outcome.
    #[cold]
    fn receive_malformed(
        &mut self,
        peer: SocketAddr,
        line: &[u8],
        error: ParseError,
    ) -> (InsertOutcome, Sequence) {
        self.counters.malformed += 1;
        self.log(
            LogKind::Malformed,
            Level::Warn,
            format_args!("malformed line from source {peer}: {}: {error}", Escaped(line)),
        );
        match error.sequence {
            Some(sequence) => match self.engine.insert_void(sequence) {
                // Already counted and logged as malformed.
                InsertOutcome::Duplicate | InsertOutcome::Late => {
                    (InsertOutcome::Buffered, sequence)
                }
                outcome => {
                    self.record(outcome, line);
                    (outcome, sequence)
                }
            },
            None => (InsertOutcome::Buffered, Sequence::MAX),
        }
    }

    /// Applies buffered events that are due, within the budget.
    #[inline]
    pub(super) fn apply_due(&mut self, budget: &mut TurnBudget) -> StopReason {
        // This many lines fit whatever their length, so the memory need not be checked for each
        // event.
        let fitting = self.outbound.lines_that_fit(budget.line_bytes);
        let last = budget.events.saturating_sub(fitting);
        // No event changes how many users are unindexed.
        let cost = 1 + self.engine.index_cost();
        loop {
            if !self.outbound.may_accept() {
                return StopReason::Backpressure;
            }
            if budget.events <= last
                || self.outbound.addressed_this_turn >= budget.addressed
                || self.outbound.queued_this_turn >= budget.queued_bytes
            {
                return StopReason::BudgetExhausted;
            }
            match self.engine.apply_next(self.outbound) {
                Progress::Applied => {
                    self.outbound.on_applied();
                    budget.events = budget.events.saturating_sub(cost);
                }
                Progress::Blocked => return StopReason::Backpressure,
                Progress::Idle => return StopReason::Drained,
            }
        }
    }

    #[cold]
    fn log_duplicate(&mut self, peer: SocketAddr, sequence: Sequence) {
        self.log(
            LogKind::Duplicate,
            Level::Warn,
            format_args!(
                "duplicate event from source {peer}: sequence {sequence} is already buffered"
            ),
        );
    }

    #[cold]
    fn log_reset_hint(&mut self, peer: SocketAddr, sequence: Sequence) {
        if self.config.on_source_disconnect == OnSourceDisconnect::Reset {
            return;
        }
        let awaited = self.engine.awaited();
        self.log(
            LogKind::LateFirst,
            Level::Warn,
            format_args!(
                "source {peer} starts with sequence {sequence}, but {awaited} is awaited: to let \
                 a new source restart the stream, run with --on-source-disconnect reset"
            ),
        );
    }

    #[cold]
    fn log_late(&mut self, peer: SocketAddr, sequence: Sequence) {
        let awaited = self.engine.awaited();
        self.log(
            LogKind::Late,
            Level::Warn,
            format_args!(
                "late event from source {peer}: sequence {sequence}, but {awaited} is awaited"
            ),
        );
    }

    #[cold]
    fn log_out_of_window(&mut self, peer: SocketAddr, sequence: Sequence) {
        let (awaited, window) = (self.engine.awaited(), self.config.reorder_window);
        self.log(
            LogKind::WindowExceeded,
            Level::Error,
            format_args!(
                "source {peer} sent sequence {sequence} while {awaited} is awaited: outside the \
                 reorder window of {window}; closing it (a larger --reorder-window allows more \
                 disorder)"
            ),
        );
    }

    fn log(&mut self, kind: LogKind, level: Level, line: fmt::Arguments<'_>) {
        self.log_limiter.log(kind, level, self.now, line);
    }
}

/// Returns whether a malformed line shows that the connection carries an HTTP request.
fn is_http(line: &[u8], error: &ParseError, is_first: bool) -> bool {
    let is_prefix = error.reason == ParseErrorKind::TooLong;
    is_host_field(line) || (is_first && is_http_request_line(line, is_prefix))
}
