//! Sources: accept, read, apply, end.

use std::io::ErrorKind;
use std::net::SocketAddr;

use log::Level;

use super::Hub;
use crate::config::OnSourceDisconnect;
use crate::engine::{InsertOutcome, Progress};
use crate::hub::budgets::Budgets;
use crate::hub::close_reason::CloseReason;
use crate::hub::connection::{Connection, Disconnect, Source};
use crate::hub::log_limiter::{CausedBy, Escaped, LogKind};
use crate::hub::outbound::fanout::OFFSET_BYTES;
use crate::hub::transport::{Acceptor, BACKLOG};
use crate::protocol::{
    Decoded, ParseError, ParseErrorKind, Sequence, is_host_field, is_http_request_line,
};

/// How many lines are taken before what has become due is applied: few enough for their slots to
/// stay in the first-level cache.
const FAST_BATCH_LINES: usize = 128;

/// Connections over the limit that are open at once, until it is known whether others have ended.
/// They take descriptors of the reserve.
const MAX_UNDECIDED: usize = 4;

/// What a turn may still apply.
#[derive(Clone, Copy, Debug)]
struct TurnBudget {
    /// So many events more.
    events: usize,
    /// Until the turn has addressed clients so many times.
    addressed: u64,
    /// Until the turn has queued so many bytes.
    queued_bytes: u64,
    /// Until the turn's lines take so much memory.
    line_bytes: usize,
}

/// Why no more lines of a source are applied in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopReason {
    /// There are none left.
    Drained,
    /// A queue is full.
    Backpressure,
    /// The turn has had its share.
    BudgetExhausted,
}

impl<A: Acceptor> Hub<A> {
    /// Reads every source that may be read into its buffer. Returns whether anything came.
    pub(super) fn read_sources(&mut self) -> bool {
        self.accept_sources();
        if self.is_draining() || self.outbound.is_paused() {
            return false;
        }
        let Budgets { source_bytes, min_source_bytes, total_source_bytes, .. } = self.budgets;
        let share =
            (total_source_bytes / self.sources.len().max(1)).clamp(min_source_bytes, source_bytes);
        let resets = self.config.on_source_disconnect == OnSourceDisconnect::Reset;
        // A source that begins while a reset is ahead belongs to what comes after.
        let mut is_reset_ahead = resets && self.all_sources().any(Source::closed_after_line);
        let mut has_read = false;
        for place in 0..self.sources.len() {
            let key = self.sources[place];
            if let Some(source) = self.source_mut(key)
                && source.readable
                && !source.may_have_lines
                && (source.has_sent_line() || !is_reset_ahead)
            {
                source.read(share);
                has_read |= source.may_have_lines;
                is_reset_ahead |= resets && source.closed_after_line();
            }
        }
        has_read
    }

    fn accept_sources(&mut self) {
        for _ in 0..BACKLOG {
            if !self.may_accept_source() {
                return;
            }
            let Some(listener) = &mut self.source_listener else { return };
            let key = self.outbound.connections.vacant_key();
            match listener.accept(key, self.now) {
                Ok(Some((stream, peer))) => self.add_source(stream, peer),
                Ok(None) => return,
                Err(error) => return self.log_accept_error("event source", &error),
            }
        }
    }

    /// Whether another connection may wait for a decision.
    pub(super) fn may_accept_source(&self) -> bool {
        self.undecided_sources.len() < MAX_UNDECIDED
    }

    fn add_source(&mut self, stream: A::Stream, peer: SocketAddr) {
        self.counters.sources_accepted += 1;
        let source = Source::new(stream, peer, self.config.max_line_bytes);
        let key = self.outbound.connections.insert(Connection::Source(Box::new(source))) as u32;
        // Whoever came earlier is let in earlier.
        if self.undecided_sources.is_empty() && self.has_room_for_a_source() {
            self.admit_source(key);
        } else {
            self.undecided_sources.push_back(key);
        }
    }

    fn admit_source(&mut self, key: u32) {
        let Some(source) = self.source(key) else { return };
        let peer = source.peer;
        self.sources.push_back(key);
        self.say(LogKind::SourceConnected, Level::Info, format_args!("source {peer} connected"));
    }

    fn has_room_for_a_source(&self) -> bool {
        let counted = self.all_sources().filter(|source| !source.is_spent()).count();
        counted < self.config.max_sources
    }

    /// Lets sources over the limit in as far as others have made room, and turns the rest away once
    /// it is known that the connections which count are alive. A poll that came after the newcomers
    /// has told of every end that came before them; the end of a source counts once its lines are
    /// taken.
    pub(super) fn decide_on_sources(&mut self) {
        while let Some(&key) = self.undecided_sources.front() {
            let alive = self.all_sources().filter(|source| !source.has_ended()).count();
            if self.has_room_for_a_source() {
                self.admit_source(key);
            } else if alive >= self.config.max_sources {
                self.reject_source(key);
            } else {
                return;
            }
            self.undecided_sources.pop_front();
        }
    }

    fn reject_source(&mut self, key: u32) {
        let Some(Connection::Source(source)) = self.outbound.connections.try_remove(key as usize)
        else {
            return;
        };
        let (reason, peer, connected) =
            (CloseReason::TooManySources, source.peer, self.sources.len());
        self.counters.sources_closed.count(reason);
        self.say(
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

    /// Applies what is due and what was read, within the budget of a turn.
    pub(super) fn apply(&mut self) {
        let mut left = self.turn_budget();
        // A source whose turn ended the budget goes behind the others.
        for _ in 0..self.sources.len() {
            if self.apply_due(&mut left) != StopReason::Drained {
                return;
            }
            let Some(key) = self.sources.pop_front() else { return };
            self.sources.push_back(key);
            self.apply_source(key, &mut left);
        }
        self.apply_due(&mut left);
    }

    fn apply_source(&mut self, key: u32, left: &mut TurnBudget) {
        let Some(mut source) = self.borrow_source(key) else { return };
        if source.may_have_lines {
            source.may_have_lines = self.apply_lines(&mut source, left) != StopReason::Drained;
        }
        self.give_back_source(key, source);
    }

    /// Takes a source out of the slab while its lines go to other connections of the same slab.
    fn borrow_source(&mut self, key: u32) -> Option<Box<Source<A::Stream>>> {
        let connection = self.outbound.connections.get_mut(key as usize)?;
        match std::mem::replace(connection, Connection::Lent) {
            Connection::Source(source) => Some(source),
            other => {
                *connection = other;
                None
            }
        }
    }

    fn give_back_source(&mut self, key: u32, source: Box<Source<A::Stream>>) {
        self.outbound.connections[key as usize] = Connection::Source(source);
    }

    /// Applies the lines of a source. Most are taken by the dozen before what has become due is
    /// applied, which keeps the processor on one thing at a time; whether a line of another kind
    /// is a duplicate, late or too far ahead depends on what was applied before it.
    fn apply_lines(&mut self, source: &mut Source<A::Stream>, left: &mut TurnBudget) -> StopReason {
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

    fn insert_fast_batch(&mut self, source: &mut Source<A::Stream>, left: &mut TurnBudget) {
        let (engine, recorder) = (&mut self.engine, &mut self.recorder);
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
    fn receive_line(&mut self, source: &mut Source<A::Stream>, left: &mut TurnBudget) -> bool {
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
    fn apply_due(&mut self, left: &mut TurnBudget) -> StopReason {
        // What fits is not measured for each event: whatever their lines are, so many do.
        let fitting = self.outbound.lines_that_fit(left.line_bytes);
        let last = left.events.saturating_sub(fitting);
        loop {
            if !self.outbound.may_accept() {
                return StopReason::Backpressure;
            }
            if left.events == last
                || self.outbound.addressed_this_turn >= left.addressed
                || self.outbound.queued_this_turn >= left.queued_bytes
            {
                return StopReason::BudgetExhausted;
            }
            match self.engine.apply_next(&mut self.outbound) {
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

    /// Gives back the large buffers of sources that have sent nothing more.
    pub(super) fn trim_source_buffers(&mut self) {
        for place in 0..self.sources.len() {
            let key = self.sources[place];
            if let Some(source) = self.source_mut(key) {
                source.events.lines.trim();
            }
        }
    }

    /// Closes the sources whose end has been reached: all that was read before it is applied.
    pub(super) fn close_ended_sources(&mut self) {
        if self.engine.has_ready() {
            return;
        }
        let mut place = 0;
        while let Some(&key) = self.sources.get(place) {
            let end = self
                .source_mut(key)
                .filter(|source| !source.may_have_lines)
                .and_then(|source| source.end.take());
            match end {
                Some(end) => {
                    self.sources.remove(place);
                    self.close_source(key, end);
                }
                None => place += 1,
            }
        }
    }

    /// Closes a source that is off the list already.
    pub(super) fn close_source(&mut self, key: u32, end: Disconnect) {
        let Some(Connection::Source(source)) = self.outbound.connections.try_remove(key as usize)
        else {
            return;
        };
        let Disconnect { reason, error } = end;
        self.counters.sources_closed.count(reason);
        let (peer, lines) = (source.peer, source.lines_received);
        let is_mere_probe = lines == 0
            && source.events.lines.pending_bytes() == 0
            && error.as_ref().is_some_and(|error| error.kind() == ErrorKind::ConnectionReset);
        let is_expected = reason.is_expected() || is_mere_probe;
        let level = if is_expected { Level::Info } else { Level::Warn };
        self.say(
            LogKind::SourceClosed(reason),
            level,
            format_args!("source {peer} closed: {reason}{}, after {lines} lines", CausedBy(error)),
        );
        if !source.events.lines.partial_line().is_empty() {
            self.counters.unterminated += 1;
            self.say(
                LogKind::Unterminated,
                Level::Warn,
                format_args!(
                    "discarded the unterminated last line of source {peer}: {}",
                    Escaped(source.events.lines.partial_line())
                ),
            );
        }
        if lines > 0 {
            self.reset_after_last_source();
        }
    }
}

/// Whether a malformed line shows that a web page is behind the connection.
fn is_http(line: &[u8], error: &ParseError, is_first: bool) -> bool {
    let is_prefix = error.reason == ParseErrorKind::TooLong;
    is_host_field(line) || (is_first && is_http_request_line(line, is_prefix))
}
