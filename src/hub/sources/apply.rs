//! From a source's bytes to the queues of clients: decoding, ordering, applying.

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

/// How many lines are taken before what has become due is applied: few enough for their slots to
/// stay in the first-level cache.
const FAST_BATCH_LINES: usize = 128;

/// What a turn may still apply.
#[derive(Clone, Copy, Debug)]
pub(super) struct TurnBudget {
    /// So many events more.
    pub(super) events: usize,
    /// Until the turn has addressed clients so many times.
    pub(super) addressed: u64,
    /// Until the turn has queued so many bytes.
    pub(super) queued_bytes: u64,
    /// Until the turn's lines take so much memory.
    pub(super) line_bytes: usize,
}

/// Why no more lines of a source are applied in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    /// There are none left.
    Drained,
    /// A queue is full.
    Backpressure,
    /// The turn has had its share.
    BudgetExhausted,
}

/// All that the lines of a source go through: the parts of the hub but for its table of sources.
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
    /// Applies the lines of a source. Most are taken by the dozen before what has become due is
    /// applied, which keeps the processor on one thing at a time; whether a line of another kind
    /// is a duplicate, late or too far ahead depends on what was applied before it.
    pub(super) fn apply_lines(
        &mut self,
        source: &mut Source<S>,
        left: &mut TurnBudget,
    ) -> StopReason {
        loop {
            self.insert_fast_batch(source, left);
            match self.apply_due(left) {
                StopReason::Drained => {}
                pending => return pending,
            }
            if !self.receive_line(source, left) {
                return StopReason::Drained;
            }
        }
    }

    fn insert_fast_batch(&mut self, source: &mut Source<S>, left: &mut TurnBudget) {
        let (engine, recorder) = (&mut *self.engine, &mut *self.recorder);
        let admitted =
            source.events.decode_fast(FAST_BATCH_LINES.min(left.events), |event, line| {
                let is_admitted = engine.try_insert_fast(event, line);
                if is_admitted && let Some(recorder) = recorder {
                    recorder.record(line.as_bytes());
                }
                is_admitted
            });
        source.has_sent_event |= admitted > 0;
        source.lines_received += admitted as u64;
        left.events -= admitted;
    }

    /// Takes the next line of a source, whatever it is. Returns whether there may be more.
    fn receive_line(&mut self, source: &mut Source<S>, left: &mut TurnBudget) -> bool {
        let peer = source.peer;
        let (receipt, sequence) = match source.events.next_event() {
            None => return false,
            Some(Decoded::Event(event, line)) => {
                let receipt = self.engine.insert(&event, line);
                self.record(receipt, line.as_bytes());
                if receipt == InsertOutcome::Late && !source.has_sent_event {
                    self.log_reset_hint(peer, event.sequence);
                }
                source.has_sent_event = true;
                (receipt, event.sequence)
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
        left.events -= 1;
        match receipt {
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

    /// Records a line that was accepted: one without which a replay would not be the same.
    #[inline]
    fn record(&mut self, receipt: InsertOutcome, line: &[u8]) {
        if let (Some(recorder), InsertOutcome::Buffered) = (&mut self.recorder, receipt) {
            recorder.record(line);
        }
    }

    /// Counts a malformed line, and lets the turn of its sequence pass if it has one. Returns what
    /// became of it.
    #[cold]
    fn receive_malformed(
        &mut self,
        peer: SocketAddr,
        line: &[u8],
        error: ParseError,
    ) -> (InsertOutcome, Sequence) {
        self.counters.malformed += 1;
        self.say(
            LogKind::Malformed,
            Level::Warn,
            format_args!("malformed line from source {peer}: {}: {error}", Escaped(line)),
        );
        match error.sequence {
            Some(sequence) => match self.engine.insert_void(sequence) {
                // It is counted and logged as malformed, once is enough.
                InsertOutcome::Duplicate | InsertOutcome::Late => {
                    (InsertOutcome::Buffered, sequence)
                }
                receipt => {
                    self.record(receipt, line);
                    (receipt, sequence)
                }
            },
            None => (InsertOutcome::Buffered, Sequence::MAX),
        }
    }

    /// Applies what waited for its turn and is due now.
    #[inline]
    pub(super) fn apply_due(&mut self, left: &mut TurnBudget) -> StopReason {
        // What fits is not measured for each event: whatever their lines are, so many do.
        let fitting = self.outbound.lines_that_fit(left.line_bytes);
        let last = left.events.saturating_sub(fitting);
        loop {
            if !self.outbound.may_accept() {
                return StopReason::Backpressure;
            }
            if left.events <= last
                || self.outbound.addressed_this_turn >= left.addressed
                || self.outbound.queued_this_turn >= left.queued_bytes
            {
                return StopReason::BudgetExhausted;
            }
            match self.engine.apply_next(self.outbound) {
                Progress::Applied => {
                    self.outbound.on_applied();
                    left.events = left.events.saturating_sub(1 + self.engine.index_cost());
                }
                Progress::Blocked => return StopReason::Backpressure,
                Progress::Idle => return StopReason::Drained,
            }
        }
    }

    #[cold]
    fn log_duplicate(&mut self, peer: SocketAddr, sequence: Sequence) {
        self.say(
            LogKind::Duplicate,
            Level::Warn,
            format_args!("duplicate event from source {peer}: sequence {sequence} waits already"),
        );
    }

    #[cold]
    fn log_reset_hint(&mut self, peer: SocketAddr, sequence: Sequence) {
        if self.config.on_source_disconnect == OnSourceDisconnect::Reset {
            return;
        }
        let awaited = self.engine.awaited();
        self.say(
            LogKind::LateFirst,
            Level::Warn,
            format_args!(
                "source {peer} starts with sequence {sequence}, but {awaited} is awaited: if it \
                 means to start a stream anew, run the server with --on-source-disconnect reset"
            ),
        );
    }

    #[cold]
    fn log_late(&mut self, peer: SocketAddr, sequence: Sequence) {
        let awaited = self.engine.awaited();
        self.say(
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
        self.say(
            LogKind::WindowExceeded,
            Level::Error,
            format_args!(
                "source {peer} sent sequence {sequence} while {awaited} is awaited: that is not \
                 within the reorder window of {window}; closing it (a larger --reorder-window \
                 allows more disorder)"
            ),
        );
    }

    fn say(&mut self, kind: LogKind, level: Level, line: fmt::Arguments<'_>) {
        self.log_limiter.say(kind, level, self.now, line);
    }
}

/// Returns whether a malformed line shows that a web page is behind the connection.
fn is_http(line: &[u8], error: &ParseError, is_first: bool) -> bool {
    let is_prefix = error.reason == ParseErrorKind::TooLong;
    is_host_field(line) || (is_first && is_http_request_line(line, is_prefix))
}
