//! Sources: accept, read, apply, end.

use std::net::SocketAddr;

use log::Level;

use super::Hub;
use crate::config::OnSourceDisconnect;
use crate::engine::{Receipt, Step};
use crate::protocol::{ParseError, Received, Sequence};
use crate::server::acceptor::{Acceptor, BACKLOG};
use crate::server::budgets::Budgets;
use crate::server::close_reason::CloseReason;
use crate::server::connection::{Connection, End, Source};
use crate::server::dispatch::PICK_BYTES;
use crate::server::notices::{Because, Shown, Topic};

/// How many lines are taken before what has become due is applied: few enough for their slots to
/// stay in the first-level cache.
const LINES_AT_ONCE: usize = 128;

/// What a turn may still apply.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    /// So many events more.
    events: usize,
    /// Until the turn has picked clients so many times.
    picks: u64,
    /// Until the turn has queued so many bytes.
    queued_bytes: u64,
    /// Until the turn's lines take so much memory.
    line_bytes: usize,
}

/// Why no more lines of a source are applied in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    /// There are none left.
    Nothing,
    /// A queue is full.
    Room,
    /// The turn has had its share.
    NextTurn,
}

impl<A: Acceptor> Hub<A> {
    /// Reads every source that may be read into its buffer. Returns whether anything came.
    pub(super) fn read_sources(&mut self) -> bool {
        self.accept_sources();
        if self.is_draining() || self.deliveries.is_paused() {
            return false;
        }
        let Budgets { source_bytes, least_source_bytes, all_sources_bytes, .. } = self.budgets;
        let share =
            (all_sources_bytes / self.sources.len().max(1)).clamp(least_source_bytes, source_bytes);
        let resets = self.config.on_source_disconnect == OnSourceDisconnect::Reset;
        // A source that begins while a reset is ahead belongs to what comes after.
        let mut is_reset_ahead = resets && self.all_sources().any(Source::ends_after_a_line);
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
                is_reset_ahead |= resets && source.ends_after_a_line();
            }
        }
        has_read
    }

    fn accept_sources(&mut self) {
        for _ in 0..BACKLOG {
            let Some(door) = &mut self.event_door else { return };
            let key = self.deliveries.connections.vacant_key();
            match door.accept(key, self.now) {
                Ok(Some((stream, peer))) => self.welcome_source(stream, peer),
                Ok(None) => return,
                Err(error) => return self.rest_from_accepting("event source", &error),
            }
        }
    }

    fn welcome_source(&mut self, stream: A::Stream, peer: SocketAddr) {
        self.tally.sources_ever += 1;
        if self.sources.len() >= self.config.max_sources {
            let (reason, connected) = (CloseReason::TooManySources, self.sources.len());
            self.tally.sources_closed.count(reason);
            self.say(
                Topic::SourceClosed(reason),
                Level::Warn,
                format_args!("source {peer} turned away: {reason}, {connected} are connected"),
            );
            return;
        }
        let source = Source::new(stream, peer, self.config.max_line_bytes);
        let key = self.deliveries.connections.insert(Connection::Source(Box::new(source)));
        self.sources.push_back(key as u32);
        self.say(Topic::SourceConnected, Level::Info, format_args!("source {peer} connected"));
    }

    fn allowance(&self) -> Allowance {
        let budgets = &self.budgets;
        let clients = self.deliveries.members().len() as u64;
        let batch_bytes = budgets.batch_bytes(self.config.total_queue_bytes);
        Allowance {
            events: budgets.events,
            picks: budgets
                .picks
                .max(budgets.picks_a_client * clients)
                .min((batch_bytes / PICK_BYTES).max(1)),
            queued_bytes: budgets
                .queued_bytes
                .max(budgets.queued_bytes_a_client * clients)
                .min(Budgets::MOST_QUEUED_BYTES),
            line_bytes: batch_bytes as usize,
        }
    }

    /// Applies what is due and what was read, within the budget of a turn.
    pub(super) fn apply(&mut self) {
        let mut left = self.allowance();
        // A source whose turn ended the budget goes behind the others.
        for _ in 0..self.sources.len() {
            if self.apply_due(&mut left) != Pending::Nothing {
                return;
            }
            let Some(key) = self.sources.pop_front() else { return };
            self.sources.push_back(key);
            self.apply_source(key, &mut left);
        }
        self.apply_due(&mut left);
    }

    fn apply_source(&mut self, key: u32, left: &mut Allowance) {
        let Some(mut source) = self.borrow_source(key) else { return };
        if source.may_have_lines {
            source.may_have_lines = self.apply_lines(&mut source, left) != Pending::Nothing;
        }
        self.give_back_source(key, source);
    }

    /// Takes a source out of the slab while its lines go to other connections of the same slab.
    fn borrow_source(&mut self, key: u32) -> Option<Box<Source<A::Stream>>> {
        let connection = self.deliveries.connections.get_mut(key as usize)?;
        match std::mem::replace(connection, Connection::Lent) {
            Connection::Source(source) => Some(source),
            other => {
                *connection = other;
                None
            }
        }
    }

    fn give_back_source(&mut self, key: u32, source: Box<Source<A::Stream>>) {
        self.deliveries.connections[key as usize] = Connection::Source(source);
    }

    /// Applies the lines of a source. Most are taken by the dozen before what has become due is
    /// applied, which keeps the processor on one thing at a time; whether a line of another kind
    /// is a duplicate, late or too far ahead depends on what was applied before it.
    fn apply_lines(&mut self, source: &mut Source<A::Stream>, left: &mut Allowance) -> Pending {
        loop {
            self.admit_usual_lines(source, left);
            match self.apply_due(left) {
                Pending::Nothing => {}
                pending => return pending,
            }
            if !self.receive_line(source, left) {
                return Pending::Nothing;
            }
        }
    }

    fn admit_usual_lines(&mut self, source: &mut Source<A::Stream>, left: &mut Allowance) {
        let (engine, capture) = (&mut self.engine, &mut self.capture);
        let admitted = source.events.take_usual(LINES_AT_ONCE.min(left.events), |event, line| {
            let is_admitted = engine.admit(event, line);
            if is_admitted && let Some(capture) = capture {
                capture.take(line.as_bytes());
            }
            is_admitted
        });
        source.has_sent_event |= admitted > 0;
        source.lines_received += admitted as u64;
        left.events -= admitted;
    }

    /// Takes the next line of a source, whatever it is. Returns whether there may be more.
    fn receive_line(&mut self, source: &mut Source<A::Stream>, left: &mut Allowance) -> bool {
        let peer = source.peer;
        let (receipt, sequence) = match source.events.next_event() {
            None => return false,
            Some(Received::Event(event, line)) => {
                let receipt = self.engine.receive(&event, line);
                self.capture(receipt, line.as_bytes());
                if receipt == Receipt::Late && !source.has_sent_event {
                    self.hint_at_reset(peer, event.sequence);
                }
                source.has_sent_event = true;
                (receipt, event.sequence)
            }
            Some(Received::Malformed(line, error)) => self.receive_malformed(peer, line, error),
        };
        source.lines_received += 1;
        left.events -= 1;
        match receipt {
            Receipt::Waits => {}
            Receipt::Duplicate => self.note_duplicate(peer, sequence),
            Receipt::Late => self.note_late(peer, sequence),
            Receipt::TooFar => {
                self.note_too_far_ahead(peer, sequence);
                source.give_up(CloseReason::WindowExceeded);
                return false;
            }
        }
        true
    }

    /// Captures a line that was accepted: one without which a replay would not be the same.
    #[inline]
    fn capture(&mut self, receipt: Receipt, line: &[u8]) {
        if let (Some(capture), Receipt::Waits) = (&mut self.capture, receipt) {
            capture.take(line);
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
    ) -> (Receipt, Sequence) {
        self.tally.malformed += 1;
        self.say(
            Topic::Malformed,
            Level::Warn,
            format_args!("malformed line from source {peer}: {}: {error}", Shown(line)),
        );
        match error.sequence {
            Some(sequence) => match self.engine.receive_void(sequence) {
                // It is counted and logged as malformed, once is enough.
                Receipt::Duplicate | Receipt::Late => (Receipt::Waits, sequence),
                receipt => {
                    self.capture(receipt, line);
                    (receipt, sequence)
                }
            },
            None => (Receipt::Waits, Sequence::MAX),
        }
    }

    /// Applies what waited for its turn and is due now.
    #[inline]
    fn apply_due(&mut self, left: &mut Allowance) -> Pending {
        // What fits is not measured for each event: whatever their lines are, so many do.
        let fitting = self.deliveries.lines_that_fit(left.line_bytes);
        let last = left.events.saturating_sub(fitting);
        loop {
            if !self.deliveries.may_have_room() {
                return Pending::Room;
            }
            if left.events <= last
                || self.deliveries.picked_this_turn >= left.picks
                || self.deliveries.queued_this_turn >= left.queued_bytes
            {
                return Pending::NextTurn;
            }
            match self.engine.apply_next(&mut self.deliveries) {
                Step::Advanced => {
                    self.deliveries.note_applied();
                    left.events -= 1;
                }
                Step::Refused => return Pending::Room,
                Step::NothingDue => return Pending::Nothing,
            }
        }
    }

    #[cold]
    fn note_duplicate(&mut self, peer: SocketAddr, sequence: Sequence) {
        self.say(
            Topic::Duplicate,
            Level::Warn,
            format_args!("duplicate event from source {peer}: sequence {sequence} waits already"),
        );
    }

    #[cold]
    fn hint_at_reset(&mut self, peer: SocketAddr, sequence: Sequence) {
        if self.config.on_source_disconnect == OnSourceDisconnect::Reset {
            return;
        }
        let awaited = self.engine.awaited();
        self.say(
            Topic::LateFirst,
            Level::Warn,
            format_args!(
                "source {peer} starts with sequence {sequence}, but {awaited} is awaited: if it \
                 means to start a stream anew, run the server with --on-source-disconnect reset"
            ),
        );
    }

    #[cold]
    fn note_late(&mut self, peer: SocketAddr, sequence: Sequence) {
        let awaited = self.engine.awaited();
        self.say(
            Topic::Late,
            Level::Warn,
            format_args!(
                "late event from source {peer}: sequence {sequence}, but {awaited} is awaited"
            ),
        );
    }

    #[cold]
    fn note_too_far_ahead(&mut self, peer: SocketAddr, sequence: Sequence) {
        let (awaited, window) = (self.engine.awaited(), self.config.reorder_window);
        self.say(
            Topic::WindowExceeded,
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
        if self.engine.is_due() {
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
    pub(super) fn close_source(&mut self, key: u32, end: End) {
        let Some(Connection::Source(source)) = self.deliveries.connections.try_remove(key as usize)
        else {
            return;
        };
        let End { reason, error } = end;
        self.tally.sources_closed.count(reason);
        let (peer, lines) = (source.peer, source.lines_received);
        let level = if reason.is_ordinary() { Level::Info } else { Level::Warn };
        self.say(
            Topic::SourceClosed(reason),
            level,
            format_args!("source {peer} closed: {reason}{}, after {lines} lines", Because(error)),
        );
        if !source.events.lines.unfinished().is_empty() {
            self.tally.unterminated += 1;
            self.say(
                Topic::Unterminated,
                Level::Warn,
                format_args!(
                    "discarded the unterminated last line of source {peer}: {}",
                    Shown(source.events.lines.unfinished())
                ),
            );
        }
        if lines > 0 {
            self.reset_after_last_source();
        }
    }
}
