//! Decoding, ordering and applying the lines of sources.

use std::io::Write;
use std::net::SocketAddr;

use log::Level;

use super::answers::SYNC;
use super::source::Source;
use crate::config::OnSourceDisconnect;
use crate::engine::{Engine, InsertOutcome, Progress};
use crate::hub::budgets::Budgets;
use crate::hub::close_reason::CloseReason;
use crate::hub::commits::{Commits, Staged};
use crate::hub::connection::Disconnect;
use crate::hub::context::Context;
use crate::hub::log_limiter::{Escaped, LogKind};
use crate::hub::log_line::{LogLine, log_line};
use crate::hub::outbound::{Delivery, OFFSET_BYTES, Outbound};
use crate::hub::recorder::Recorder;
use crate::protocol::{
    Decoded, ParseError, ParseErrorKind, Sequence, is_host_field, is_http_request_line,
};

/// The maximum number of lines decoded before due events are applied: few enough that their slots
/// stay in the L1 cache.
const FAST_BATCH_LINES: usize = 128;

/// The remaining budget of a turn.
#[derive(Clone, Copy, Debug)]
struct TurnBudget {
    /// Lines that may still be decoded, plus events that may still be applied.
    events: usize,
    /// The limit on addressed deliveries in the turn.
    addressed: u64,
    /// The limit on bytes queued in the turn.
    queued_bytes: u64,
    /// The limit on memory for the lines that are not flushed to all their recipients.
    line_bytes: usize,
}

impl TurnBudget {
    /// Returns the budget of a turn.
    ///
    /// A turn queues what one flush can take. With more clients than that, what waits to be flushed is
    /// limited to what one turn for all of them would queue. Until the first clients of the queue have been
    /// flushed, a turn takes at most half of the memory for lines that is left, so that some is left for
    /// each turn and newcomers need not wait until all others are flushed.
    fn new(cx: &Context, outbound: &Outbound) -> TurnBudget {
        let budgets = &cx.budgets;
        let clients = outbound.registered().len() as u64;
        let flushed = clients.min(budgets.flush_writes as u64);
        let batch_bytes = budgets.batch_bytes(cx.config.total_queue_bytes);
        let max_addressed = (batch_bytes / OFFSET_BYTES).max(1);
        let queued_bytes = |clients: u64| {
            budgets
                .queued_bytes
                .max(budgets.queued_bytes_per_client * clients)
                .min(Budgets::MAX_QUEUED_BYTES)
        };
        let max_unflushed = queued_bytes(clients).saturating_sub(outbound.unflushed_bytes());
        let line_bytes = outbound.line_bytes();
        let free_line_bytes = (batch_bytes as usize).saturating_sub(line_bytes);
        TurnBudget {
            events: budgets.events,
            addressed: budgets
                .addressed
                .max(budgets.addressed_per_client * flushed)
                .min(max_addressed.saturating_sub(outbound.unflushed_lines())),
            queued_bytes: queued_bytes(flushed).min(max_unflushed),
            line_bytes: match line_bytes {
                0 => batch_bytes as usize,
                _ => line_bytes + free_line_bytes / 2,
            },
        }
    }
}

/// Why applying stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    /// No lines and no due events are left.
    Drained,
    /// A queue is full.
    Backpressure,
    /// The budget of the turn is exhausted.
    BudgetExhausted,
}

/// Decodes and applies the lines of sources within the budget of a turn.
pub(crate) struct Applier<'a, S> {
    engine: &'a mut Engine,
    delivery: Delivery<'a, S>,
    commits: &'a mut Commits,
    recorder: &'a mut Option<Box<dyn Recorder>>,
    cx: &'a mut Context,
    budget: TurnBudget,
}

impl<'a, S: Write> Applier<'a, S> {
    /// Creates an applier with the budget of a turn.
    pub(crate) fn new(
        engine: &'a mut Engine,
        delivery: Delivery<'a, S>,
        commits: &'a mut Commits,
        recorder: &'a mut Option<Box<dyn Recorder>>,
        cx: &'a mut Context,
    ) -> Applier<'a, S> {
        let budget = TurnBudget::new(cx, delivery.outbound);
        Applier { engine, delivery, commits, recorder, cx, budget }
    }

    /// Decodes lines in batches of 128 before applying, for cache locality. Anything unusual is
    /// handled one line at a time, because duplicate, late and out-of-window depend on what was
    /// applied before.
    pub(super) fn apply_lines(&mut self, source: &mut Source<S>) -> StopReason {
        self.sample_delivery(source);
        loop {
            self.insert_fast_batch(source);
            match self.apply_due() {
                StopReason::Drained => {}
                reason => return reason,
            }
            if !self.receive_line(source) {
                return StopReason::Drained;
            }
        }
    }

    /// Starts to follow the next event of a source, if deliveries are sampled and none is followed.
    fn sample_delivery(&mut self, source: &Source<S>) {
        if let Some(sampler) = &mut self.cx.delivery_sampler
            && sampler.is_idle()
            && let Some((sequence, read_at)) = source.peek_sequence()
        {
            let (awaited, window) = (self.engine.awaited(), self.cx.config.reorder_window);
            sampler.start(sequence, read_at, awaited, window);
        }
    }

    fn insert_fast_batch(&mut self, source: &mut Source<S>) {
        let Applier { engine, recorder, budget, .. } = self;
        let inserted = source.decode_fast(FAST_BATCH_LINES.min(budget.events), |event, line| {
            let is_inserted = engine.try_insert_fast(event, line);
            if is_inserted && let Some(recorder) = recorder {
                recorder.record(line.as_bytes());
            }
            is_inserted
        });
        budget.events -= inserted;
    }

    /// Decodes and inserts the next line of a source, of any kind. Returns whether there may be
    /// more.
    fn receive_line(&mut self, source: &mut Source<S>) -> bool {
        let (peer, is_first) = (source.peer(), source.lines_received() == 0);
        let (has_sent_event, has_sent_sync) = (source.has_sent_event(), source.has_sent_sync());
        let (outcome, sequence, is_event) = match source.next_line() {
            None => return false,
            Some(Decoded::Event(event, line)) => {
                let outcome = self.engine.insert(&event, line);
                self.record(outcome, line.as_bytes());
                if outcome == InsertOutcome::Late && !has_sent_event && !has_sent_sync {
                    self.log_reset_hint(peer, event.sequence);
                }
                (outcome, event.sequence, true)
            }
            Some(Decoded::Malformed(SYNC, _)) => {
                source.on_sync(self.engine.awaited());
                (InsertOutcome::Buffered, Sequence::MAX, false)
            }
            Some(Decoded::Malformed(line, error)) => {
                if is_http(line, &error, is_first) {
                    let end = Disconnect::for_line(CloseReason::HttpRequest, line);
                    source.abort(end);
                    return false;
                }
                let (outcome, sequence) = self.receive_malformed(peer, line, error);
                (outcome, sequence, false)
            }
        };
        source.on_line(is_event);
        self.budget.events -= 1;
        match outcome {
            InsertOutcome::Buffered => {}
            // A source that goes on from the awaited sequence may repeat itself.
            InsertOutcome::Duplicate | InsertOutcome::Late if has_sent_sync => {}
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
        self.cx.counters.malformed += 1;
        let shown = Escaped(line);
        self.log(
            LogKind::Malformed,
            Level::Warn,
            log_line!("malformed line from source {peer}: {shown}: {error}"; peer = peer),
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

    /// Passes buffered events that are in order to the log, if there is one, and applies those that are
    /// due, within the budget.
    #[inline]
    pub(super) fn apply_due(&mut self) -> StopReason {
        let staged = self.commits.stage(self.engine, &mut self.budget.events, &self.cx.budgets);
        match (self.apply_committed(), staged) {
            (StopReason::Drained, Staged::Full) => StopReason::Backpressure,
            (StopReason::Drained, Staged::Some) => StopReason::BudgetExhausted,
            (reason, _) => reason,
        }
    }

    /// Applies what a prompt log commits of the turn, within the budget, so that it is flushed in the same
    /// turn.
    pub(crate) fn apply_promptly_committed(&mut self) {
        let may_apply = self.budget.events > 0 && self.delivery.outbound.may_accept();
        if may_apply && self.commits.await_all_committed() {
            self.apply_committed();
        }
    }

    #[inline]
    fn apply_committed(&mut self) -> StopReason {
        if !self.engine.keeps_history() {
            return self.apply_until_stopped::<false>();
        }
        let reason = self.apply_until_stopped::<true>();
        self.engine.keep_applied();
        reason
    }

    /// Applies what is committed. `KEEPS` is whether applied events are kept.
    #[inline]
    fn apply_until_stopped<const KEEPS: bool>(&mut self) -> StopReason {
        // This many lines fit whatever their length, so the memory need not be checked for each
        // event.
        let fitting = self.delivery.outbound.lines_that_fit(self.budget.line_bytes);
        let last = self.budget.events.saturating_sub(fitting);
        // No event changes how many users are unindexed.
        let cost = 1 + self.engine.index_cost();
        loop {
            let outbound = &*self.delivery.outbound;
            if !outbound.may_accept() {
                return StopReason::Backpressure;
            }
            if self.budget.events <= last
                || outbound.addressed_this_turn() >= self.budget.addressed
                || outbound.queued_this_turn() >= self.budget.queued_bytes
            {
                return StopReason::BudgetExhausted;
            }
            match self.engine.apply_next_of::<KEEPS>(&mut self.delivery) {
                Progress::Applied => {
                    self.delivery.on_applied();
                    self.budget.events = self.budget.events.saturating_sub(cost);
                }
                Progress::Blocked => return StopReason::Backpressure,
                Progress::Idle if self.commits.advance(self.engine, &self.cx.budgets) => {}
                Progress::Idle => return StopReason::Drained,
            }
        }
    }

    #[cold]
    fn log_duplicate(&mut self, peer: SocketAddr, sequence: Sequence) {
        self.log(
            LogKind::Duplicate,
            Level::Warn,
            log_line!(
                "duplicate event from source {peer}: sequence {sequence} is already buffered";
                peer = peer, sequence = sequence
            ),
        );
    }

    #[cold]
    fn log_reset_hint(&mut self, peer: SocketAddr, sequence: Sequence) {
        if self.cx.config.on_source_disconnect == OnSourceDisconnect::Reset {
            return;
        }
        let awaited = self.engine.awaited();
        self.log(
            LogKind::LateFirst,
            Level::Warn,
            log_line!(
                "source {peer} starts with sequence {sequence}, but {awaited} is awaited: to let \
                 a new source restart the stream, run with --on-source-disconnect reset";
                peer = peer, sequence = sequence
            ),
        );
    }

    #[cold]
    fn log_late(&mut self, peer: SocketAddr, sequence: Sequence) {
        let awaited = self.engine.awaited();
        self.log(
            LogKind::Late,
            Level::Warn,
            log_line!(
                "late event from source {peer}: sequence {sequence}, but {awaited} is awaited";
                peer = peer, sequence = sequence
            ),
        );
    }

    #[cold]
    fn log_out_of_window(&mut self, peer: SocketAddr, sequence: Sequence) {
        let (awaited, window) = (self.engine.awaited(), self.cx.config.reorder_window);
        self.log(
            LogKind::WindowExceeded,
            Level::Error,
            log_line!(
                "source {peer} sent sequence {sequence} while {awaited} is awaited: outside the \
                 reorder window of {window}; closing it (a larger --reorder-window allows more \
                 disorder)";
                peer = peer, sequence = sequence
            ),
        );
    }

    fn log(&mut self, kind: LogKind, level: Level, line: LogLine<'_>) {
        self.cx.log(kind, level, line);
    }
}

/// Returns whether a malformed line shows that the connection carries an HTTP request.
fn is_http(line: &[u8], error: &ParseError, is_first: bool) -> bool {
    let is_prefix = error.reason == ParseErrorKind::TooLong;
    is_host_field(line) || (is_first && is_http_request_line(line, is_prefix))
}
