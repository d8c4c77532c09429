//! The turn of the loop: every connection, and what is done for them in which order.
//!
//! A [`Hub`] is the server without poll, clock and signals: readiness and the time come in as
//! values, and the connections come from two [`Acceptor`]s. So the very code that serves real
//! sockets runs under a simulation.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::Level;

use super::acceptor::{Acceptor, BACKLOG};
use super::close_reason::CloseReason;
use super::connection::{
    Client, Connection, Identity, MAX_ID_LINE_BYTES, ReadOutcome, Source, SourceEnd, read_once,
};
use super::deliveries::Deliveries;
use super::gap_watch::GapWatch;
use super::notices::{Notices, Shown, Topic};
use super::timeouts::Timeouts;
use super::totals::{Tally, Totals};
use crate::config::{Config, OnSourceDisconnect};
use crate::engine::{Engine, Receipt, Recipient, Step};
use crate::protocol::{Event, Line, LineSplitter, ParseError, Sequence, UserId};

/// The token of the listener for event sources.
pub const EVENT_LISTENER: usize = usize::MAX - 1;
/// The token of the listener for clients.
pub const CLIENT_LISTENER: usize = usize::MAX - 2;

/// How long accepting rests when the system has no descriptor or memory for a connection.
const ACCEPT_REST: Duration = Duration::from_millis(500);

/// The most that one source is read in one turn, in bytes. The more events share a turn, the more
/// of them leave in one write to a client; this many are parsed in about 5 ms.
const SOURCE_BYTES_A_TURN: usize = 1 << 20;
/// The least, however many sources there are.
const LEAST_SOURCE_BYTES_A_TURN: usize = 16 << 10;
/// What all sources together are read in one turn.
const ALL_SOURCES_BYTES_A_TURN: usize = 4 << 20;

/// The most events that are applied in one turn.
const EVENTS_A_TURN: usize = 1 << 17;
/// No more events are applied in a turn once they have queued so many bytes: they are written in
/// about 20 ms, the time for which a new client, a timeout or a signal has to wait.
const QUEUED_BYTES_A_TURN: u64 = 64 << 20;

/// The most that identified clients' input is read in one turn, each and together, in bytes.
const IGNORED_BYTES_A_CLIENT: usize = 16 << 10;
const IGNORED_BYTES_A_TURN: usize = 256 << 10;

/// What the poll says of a connection or a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The connection's token, or [`EVENT_LISTENER`] or [`CLIENT_LISTENER`].
    pub token: usize,
    /// Bytes, an end, an error or a connection may wait.
    pub readable: bool,
    /// The socket takes bytes again.
    pub writable: bool,
}

/// When the next turn is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextTurn {
    /// At once: there is work left.
    Now,
    /// When something is ready, but not after this.
    Until(Instant),
    /// When something is ready.
    WhenReady,
}

/// A listener, and whether connections may wait behind it.
#[derive(Debug)]
struct Door<A> {
    acceptor: A,
    may_wait: bool,
    rests_until: Option<Instant>,
}

/// All that the server knows.
#[derive(Debug)]
pub struct Hub<A: Acceptor> {
    config: Config,
    max_clients: usize,
    engine: Engine,
    deliveries: Deliveries<A::Stream>,
    event_door: Option<Door<A>>,
    client_door: Option<Door<A>>,
    /// Keys of the sources, the next to be served in front.
    sources: VecDeque<u32>,
    /// Keys of clients that may have sent something.
    unread_clients: Vec<u32>,
    /// Clients that have to identify themselves, by key and start; one that has may still stand here.
    identify_timeouts: Timeouts<(u32, Instant)>,
    gap_watch: GapWatch,
    /// When a stop gives up what has not left; `None` while the server runs.
    drain_deadline: Option<Instant>,
    notices: Notices,
    tally: Tally,
    now: Instant,
    more_readiness: Vec<Readiness>,
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
    /// A hub that serves who comes through the two acceptors: `max_clients` clients at most, and
    /// else as `config` says. No time may lie before `now`.
    pub fn new(
        config: Config,
        max_clients: usize,
        event_acceptor: A,
        client_acceptor: A,
        now: Instant,
    ) -> Hub<A> {
        let first = Sequence::new(config.first_sequence).unwrap_or(Sequence::MAX);
        Hub {
            engine: Engine::new(first, config.reorder_window),
            deliveries: Deliveries::new(&config, now),
            event_door: Some(Door::new(event_acceptor)),
            client_door: Some(Door::new(client_acceptor)),
            sources: VecDeque::new(),
            unread_clients: Vec::new(),
            identify_timeouts: Timeouts::new(config.identify_timeout),
            gap_watch: GapWatch::new(config.gap_timeout, now),
            drain_deadline: None,
            notices: Notices::default(),
            tally: Tally::default(),
            now,
            more_readiness: Vec::new(),
            max_clients,
            config,
        }
    }

    /// One turn at the time `now`, with what the poll has said is `ready`.
    ///
    /// `poll_again` is asked, without waiting, for what has become ready since; it returns whether
    /// there may be still more. So every client whose id line the kernel held when the sources' bytes
    /// were read is registered before these are applied.
    pub fn turn(
        &mut self,
        now: Instant,
        ready: &[Readiness],
        poll_again: impl FnMut(&mut Vec<Readiness>) -> bool,
    ) {
        self.now = now;
        self.deliveries.begin_turn(now);
        self.note(ready);
        if self.read_sources() {
            self.note_what_came_since(poll_again);
        }
        self.serve_clients();
        self.apply();
        self.deliveries.flush_touched();
        self.watch_gap();
        self.expire();
        self.close();
    }

    /// Closes the listeners and stops reading. What was read is applied and delivered in the turns
    /// that follow, until [`is_stopped`](Self::is_stopped) or the drain timeout.
    pub fn stop(&mut self, now: Instant) {
        if self.drain_deadline.is_some() {
            return;
        }
        self.drain_deadline = Some(now + self.config.drain_timeout);
        self.event_door = None;
        self.client_door = None;
        for (key, connection) in &self.deliveries.connections {
            if let Connection::Client(Client { identity: Identity::Unknown(_), .. }) = connection {
                self.unread_clients.push(key as u32);
            }
        }
        for key in std::mem::take(&mut self.unread_clients) {
            if self.deliveries.client(key).is_some_and(|client| client.user().is_none()) {
                self.deliveries.doom(key, CloseReason::Stopped, None);
            }
        }
    }

    /// Whether a stop is complete.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.drain_deadline.is_some() && self.deliveries.connections.is_empty()
    }

    /// When the next turn is to begin.
    #[must_use]
    pub fn next_turn(&self) -> NextTurn {
        if self.config.busy_poll || self.has_work_left() {
            return NextTurn::Now;
        }
        let deadlines = [
            self.identify_timeouts.next(),
            self.deliveries.next_stall(),
            self.gap_watch.next_deadline(),
            self.notices.next_report(),
            self.event_door.as_ref().and_then(|door| door.rests_until),
            self.client_door.as_ref().and_then(|door| door.rests_until),
            self.drain_deadline,
        ];
        deadlines.into_iter().flatten().min().map_or(NextTurn::WhenReady, NextTurn::Until)
    }

    /// What happened so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            engine: *self.engine.counters(),
            tally: self.tally,
            deliveries: self.deliveries.deliveries,
            bytes_written: self.deliveries.bytes_written,
            clients_now: self.client_count(),
            sources_now: self.sources.len(),
            queued_now: self.deliveries.queued_total(),
            awaited: self.engine.awaited(),
            waiting_now: self.engine.reorder().occupied(),
            highest_occupancy: self.engine.reorder().highest_occupancy(),
            users: self.engine.graph().users(),
        }
    }

    /// Panics unless what must hold between two turns does. Looks at every connection.
    pub fn check_invariants(&self) {
        self.deliveries.check();
        for &key in self.deliveries.members() {
            let Some(client) = self.deliveries.client(key) else { panic!("a member is a client") };
            let user = client.user().map(|user| self.engine.graph().recipient(user));
            assert_eq!(user, Some(Some(Recipient(key))), "the engine knows every member");
            assert!(client.closing.is_none(), "what is to be closed is closed within the turn");
            assert!(
                client.outbox.is_empty() || !client.writable,
                "bytes wait only where the socket refused them"
            );
        }
        for &key in &self.sources {
            let connection = self.deliveries.connections.get(key as usize);
            assert!(matches!(connection, Some(Connection::Source(_))), "a source is a source");
        }
    }

    fn note(&mut self, ready: &[Readiness]) {
        for &Readiness { token, readable, writable } in ready {
            match token {
                EVENT_LISTENER => note_at_door(&mut self.event_door),
                CLIENT_LISTENER => note_at_door(&mut self.client_door),
                key => self.note_connection(key, readable, writable),
            }
        }
    }

    fn note_connection(&mut self, key: usize, readable: bool, writable: bool) {
        match self.deliveries.connections.get_mut(key) {
            Some(Connection::Source(source)) => {
                source.readable |= readable && source.end.is_none();
            }
            Some(Connection::Client(client)) => {
                if readable && !client.awaits_reading {
                    client.awaits_reading = true;
                    self.unread_clients.push(key as u32);
                }
                if writable && !client.writable {
                    client.writable = true;
                    self.deliveries.touch(key as u32);
                }
            }
            None => {}
        }
    }

    /// Collects what has become ready until the poll has nothing more. A round that comes back full
    /// was cut short, so there are no more rounds than fill the list of all connections.
    fn note_what_came_since(&mut self, mut poll_again: impl FnMut(&mut Vec<Readiness>) -> bool) {
        let mut more = std::mem::take(&mut self.more_readiness);
        loop {
            more.clear();
            let is_cut_short = poll_again(&mut more);
            self.note(&more);
            if !is_cut_short {
                break;
            }
        }
        self.more_readiness = more;
    }

    /// Whether a stop is under way.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain_deadline.is_some()
    }

    fn client_count(&self) -> usize {
        self.deliveries.connections.len() - self.sources.len()
    }

    fn source(&self, key: u32) -> Option<&Source<A::Stream>> {
        match self.deliveries.connections.get(key as usize) {
            Some(Connection::Source(source)) => Some(source),
            _ => None,
        }
    }

    fn source_mut(&mut self, key: u32) -> Option<&mut Source<A::Stream>> {
        match self.deliveries.connections.get_mut(key as usize) {
            Some(Connection::Source(source)) => Some(source),
            _ => None,
        }
    }

    /// Whether another turn would do something without anything becoming ready.
    fn has_work_left(&self) -> bool {
        let may_read = !self.is_draining();
        let can_apply = !self.deliveries.is_paused();
        let sources_wait = self.sources.iter().filter_map(|&key| self.source(key)).any(|source| {
            source.has_lines || source.end.is_some() || (source.readable && may_read)
        });
        (can_apply && (self.engine.is_due() || sources_wait))
            || !self.unread_clients.is_empty()
            || self.event_door.as_ref().is_some_and(Door::is_open)
            || self.client_door.as_ref().is_some_and(Door::is_open)
            || self.is_stopped()
    }
}

fn note_at_door<A>(door: &mut Option<Door<A>>) {
    if let Some(door) = door {
        door.may_wait = true;
    }
}

impl<A: Acceptor> Door<A> {
    fn new(acceptor: A) -> Door<A> {
        Door { acceptor, may_wait: true, rests_until: None }
    }

    /// Whether it is time to look for connections.
    fn is_open(&self) -> bool {
        self.may_wait && self.rests_until.is_none()
    }

    /// Accepts the next connection, if one waits. Errors that concern only that connection are
    /// passed over; after any other, accepting rests.
    fn accept(
        &mut self,
        token: usize,
        now: Instant,
    ) -> io::Result<Option<(A::Stream, SocketAddr)>> {
        self.rests_until = self.rests_until.filter(|&until| now < until);
        while self.is_open() {
            match self.acceptor.accept(token) {
                Ok(connection) => return Ok(Some(connection)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.may_wait = false,
                    ErrorKind::Interrupted
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::ConnectionReset
                    | ErrorKind::InvalidInput
                    | ErrorKind::NotConnected
                    | ErrorKind::PermissionDenied => {}
                    _ => {
                        self.rests_until = Some(now + ACCEPT_REST);
                        return Err(error);
                    }
                },
            }
        }
        Ok(None)
    }
}

/// Sources: accept, read, apply, end.
impl<A: Acceptor> Hub<A> {
    /// Reads every source that may be read into its buffer. Returns whether anything came.
    fn read_sources(&mut self) -> bool {
        self.accept_sources();
        if self.is_draining() || self.deliveries.is_paused() {
            return false;
        }
        let share = (ALL_SOURCES_BYTES_A_TURN / self.sources.len().max(1))
            .clamp(LEAST_SOURCE_BYTES_A_TURN, SOURCE_BYTES_A_TURN);
        let mut has_read = false;
        for place in 0..self.sources.len() {
            let key = self.sources[place];
            if let Some(source) = self.source_mut(key)
                && source.readable
                && !source.has_lines
            {
                source.read(share);
                has_read |= source.has_lines;
            }
        }
        has_read
    }

    fn accept_sources(&mut self) {
        while let Some(door) = &mut self.event_door {
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
            let most = self.config.max_sources;
            self.count_closed(CloseReason::TooManySources);
            self.say(
                Topic::SourceClosed,
                Level::Warn,
                format_args!("source {peer} turned away: max_sources ({most}) are connected"),
            );
            return;
        }
        let source = Source::new(stream, peer, self.config.max_line_bytes);
        let key = self.deliveries.connections.insert(Connection::Source(Box::new(source)));
        self.sources.push_back(key as u32);
        self.say(Topic::SourceConnected, Level::Info, format_args!("source {peer} connected"));
    }

    fn rest_from_accepting(&mut self, whom: &str, error: &io::Error) {
        self.tally.accept_failures += 1;
        self.say(
            Topic::AcceptFailed,
            Level::Error,
            format_args!(
                "cannot accept another {whom}: {error}; trying again in {} ms",
                ACCEPT_REST.as_millis()
            ),
        );
    }

    /// Applies what is due and what was read, within the budget of a turn.
    fn apply(&mut self) {
        let mut events = EVENTS_A_TURN;
        // A source whose turn ended the budget goes behind the others.
        for _ in 0..self.sources.len() {
            if self.apply_due(&mut events) != Pending::Nothing {
                return;
            }
            let Some(key) = self.sources.pop_front() else { return };
            self.sources.push_back(key);
            self.apply_source(key, &mut events);
        }
        self.apply_due(&mut events);
    }

    fn apply_source(&mut self, key: u32, events: &mut usize) {
        let Some(source) = self.source_mut(key) else { return };
        if !source.has_lines {
            return;
        }
        // The buffer is lent out while its lines go to other connections of the same slab.
        let mut lines = std::mem::take(&mut source.lines);
        let pending = self.apply_lines(key, &mut lines, events);
        if let Some(source) = self.source_mut(key) {
            source.lines = lines;
            source.has_lines = pending != Pending::Nothing;
        }
    }

    fn apply_lines(&mut self, key: u32, lines: &mut LineSplitter, events: &mut usize) -> Pending {
        loop {
            match self.apply_due(events) {
                Pending::Nothing => {}
                pending => return pending,
            }
            let Some(line) = lines.next_line() else { return Pending::Nothing };
            let parsed = match line {
                Line::Whole(line) => Event::parse(line).map(|event| (event, line)),
                Line::TooLong(head) => Err(Event::too_long(head)),
            };
            let (receipt, sequence) = match parsed {
                Ok((event, line)) => {
                    (self.engine.receive(&event, line, &mut self.deliveries), event.sequence)
                }
                Err(error) => {
                    let (Line::Whole(shown) | Line::TooLong(shown)) = line;
                    self.note_malformed(key, shown, error);
                    match error.sequence {
                        Some(sequence) => (self.engine.receive_void(sequence), sequence),
                        None => (Receipt::Waits, Sequence::MAX),
                    }
                }
            };
            *events -= 1;
            let is_first = self.count_line(key);
            match receipt {
                Receipt::Applied | Receipt::Waits => {}
                Receipt::Duplicate => self.note_duplicate(key, sequence),
                Receipt::Late => self.note_late(key, sequence, is_first),
                Receipt::TooFar => {
                    self.end_source_too_far_ahead(key, sequence);
                    *lines = LineSplitter::default();
                    return Pending::Nothing;
                }
            }
        }
    }

    /// Applies what waited for its turn and is due now.
    #[inline]
    fn apply_due(&mut self, events: &mut usize) -> Pending {
        loop {
            if self.deliveries.is_paused() {
                return Pending::Room;
            }
            if *events == 0 || self.deliveries.queued_this_turn >= QUEUED_BYTES_A_TURN {
                return Pending::NextTurn;
            }
            match self.engine.apply_next(&mut self.deliveries) {
                Step::Advanced => *events -= 1,
                Step::Refused => return Pending::Room,
                Step::NothingDue => return Pending::Nothing,
            }
        }
    }

    /// Counts a line of a source; returns whether it was its first.
    fn count_line(&mut self, key: u32) -> bool {
        self.source_mut(key).is_some_and(|source| {
            source.lines_received += 1;
            source.lines_received == 1
        })
    }

    fn source_peer(&self, key: u32) -> SocketAddr {
        // A source keeps its key while its lines are applied.
        match self.source(key) {
            Some(source) => source.peer,
            None => unreachable!("source {key} is gone while its lines are applied"),
        }
    }

    #[cold]
    fn note_malformed(&mut self, key: u32, line: &[u8], error: ParseError) {
        self.tally.malformed += 1;
        let peer = self.source_peer(key);
        let outcome = match error.sequence {
            Some(sequence) => format!("sequence {sequence} passes without an event"),
            None => "ignored".to_owned(),
        };
        self.say(
            Topic::Malformed,
            Level::Warn,
            format_args!("malformed line from source {peer}: {}: {error}; {outcome}", Shown(line)),
        );
    }

    #[cold]
    fn note_duplicate(&mut self, key: u32, sequence: Sequence) {
        let peer = self.source_peer(key);
        self.say(
            Topic::Duplicate,
            Level::Warn,
            format_args!("duplicate event from source {peer}: sequence {sequence} waits already"),
        );
    }

    #[cold]
    fn note_late(&mut self, key: u32, sequence: Sequence, is_first: bool) {
        let peer = self.source_peer(key);
        let awaited = self.engine.awaited();
        if is_first && self.config.on_source_disconnect == OnSourceDisconnect::Keep {
            self.say(
                Topic::LateFirst,
                Level::Warn,
                format_args!(
                    "source {peer} starts with sequence {sequence}, but {awaited} is awaited: if it \
                     means to start a stream anew, run the server with --on-source-disconnect reset"
                ),
            );
        }
        self.say(
            Topic::Late,
            Level::Warn,
            format_args!(
                "late event from source {peer}: sequence {sequence}, but {awaited} is awaited"
            ),
        );
    }

    #[cold]
    fn end_source_too_far_ahead(&mut self, key: u32, sequence: Sequence) {
        let peer = self.source_peer(key);
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
        if let Some(source) = self.source_mut(key) {
            source.readable = false;
            source.end = Some(SourceEnd { reason: CloseReason::WindowExceeded, error: None });
        }
    }

    /// Closes the sources whose end has been reached: all that was read before it is applied.
    fn close_ended_sources(&mut self) {
        if self.engine.is_due() {
            return;
        }
        let mut place = 0;
        while let Some(&key) = self.sources.get(place) {
            let end = self
                .source_mut(key)
                .filter(|source| !source.has_lines)
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
    fn close_source(&mut self, key: u32, end: SourceEnd) {
        let Some(Connection::Source(source)) = self.deliveries.connections.try_remove(key as usize)
        else {
            return;
        };
        let SourceEnd { reason, error } = end;
        self.count_closed(reason);
        let (peer, lines) = (source.peer, source.lines_received);
        let level = if reason.is_ordinary() { Level::Info } else { Level::Warn };
        self.say(
            Topic::SourceClosed,
            level,
            format_args!("source {peer} closed: {reason}{}, after {lines} lines", Because(error)),
        );
        if !source.lines.unfinished().is_empty() {
            self.tally.unterminated += 1;
            self.say(
                Topic::Unterminated,
                Level::Warn,
                format_args!(
                    "discarded the unterminated last line of source {peer}: {}",
                    Shown(source.lines.unfinished())
                ),
            );
        }
        if lines > 0 {
            self.reset_after_last_source();
        }
    }

    /// Starts the order and the graph anew if that is wanted and no source that has sent something
    /// is left.
    fn reset_after_last_source(&mut self) {
        let has_sent = |source: &Source<_>| source.lines_received > 0 || source.has_lines;
        if self.config.on_source_disconnect == OnSourceDisconnect::Keep
            || self.is_draining()
            || self.sources.iter().filter_map(|&key| self.source(key)).any(has_sent)
        {
            return;
        }
        let awaited = self.engine.awaited();
        let lost = self.engine.reset();
        let first = self.engine.awaited();
        if lost > 0 {
            self.say(
                Topic::Reset,
                Level::Warn,
                format_args!("{lost} events waited behind missing sequence {awaited} and are lost"),
            );
        }
        self.say(
            Topic::Reset,
            Level::Info,
            format_args!("the last source is gone: starting anew, sequence {first} is awaited"),
        );
    }

    /// Shows the gap in the log, and gives it up when its time is over.
    fn watch_gap(&mut self) {
        let first_missing = self.engine.has_gap().then(|| self.engine.awaited());
        let is_paused = self.deliveries.is_paused() || self.is_draining();
        self.gap_watch.observe(first_missing, is_paused, self.now);
        if let Some((first_missing, age)) = self.gap_watch.report() {
            let waiting = self.engine.reorder().occupied();
            self.say(
                Topic::Gap,
                Level::Warn,
                format_args!(
                    "sequence {first_missing} has been missing for {:.1} s; {waiting} wait behind it",
                    age.as_secs_f64()
                ),
            );
        }
        let all_dry = self.sources.iter().filter_map(|&key| self.source(key)).all(Source::is_dry);
        if self.gap_watch.has_expired()
            && all_dry
            && let Some(lost) = self.engine.skip_gap()
        {
            self.say(
                Topic::GapSkipped,
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

/// Clients: accept, identify, register, ignore.
impl<A: Acceptor> Hub<A> {
    /// Accepts and reads clients until the kernel holds nothing more on that side.
    fn serve_clients(&mut self) {
        if self.is_draining() {
            return;
        }
        self.accept_clients();
        let mut ignorable = IGNORED_BYTES_A_TURN;
        for key in std::mem::take(&mut self.unread_clients) {
            self.read_client(key, &mut ignorable);
        }
    }

    fn accept_clients(&mut self) {
        for _ in 0..BACKLOG {
            let Some(door) = &mut self.client_door else { return };
            let key = self.deliveries.connections.vacant_key();
            match door.accept(key, self.now) {
                Ok(Some((stream, peer))) => self.welcome_client(stream, peer),
                Ok(None) => return,
                Err(error) => return self.rest_from_accepting("client", &error),
            }
        }
    }

    fn welcome_client(&mut self, stream: A::Stream, peer: SocketAddr) {
        self.tally.clients_ever += 1;
        if self.client_count() >= self.max_clients {
            let most = self.max_clients;
            self.count_closed(CloseReason::TooManyClients);
            self.say(
                Topic::ClientClosed,
                Level::Warn,
                format_args!("client {peer} turned away: max_clients ({most}) are connected"),
            );
            return;
        }
        let mut client = Client::new(stream, peer, self.now);
        client.awaits_reading = true;
        let key = self.deliveries.connections.insert(Connection::Client(client)) as u32;
        self.identify_timeouts.start(self.now, (key, self.now));
        self.unread_clients.push(key);
    }

    fn read_client(&mut self, key: u32, ignorable: &mut usize) {
        let Some(client) = self.deliveries.client_mut(key) else { return };
        client.awaits_reading = false;
        if client.closing.is_some() {
            return;
        }
        if client.user().is_none() && !self.identify(key) {
            return;
        }
        self.ignore_input(key, ignorable);
    }

    /// Reads the id line of a client. Returns whether the client is registered now.
    fn identify(&mut self, key: u32) -> bool {
        let Some(client) = self.deliveries.client_mut(key) else { return false };
        let Identity::Unknown(id_line) = &mut client.identity else { return false };
        let lines = &mut id_line.lines;
        let id = loop {
            match read_once(&mut client.stream, lines.spare(MAX_ID_LINE_BYTES + 2)) {
                ReadOutcome::Bytes(bytes) => lines.filled(bytes),
                ReadOutcome::Dry => return false,
                ReadOutcome::Ended(SourceEnd { reason, error }) => {
                    self.deliveries.doom(key, reason, error);
                    return false;
                }
            }
            match lines.next_line() {
                Some(Line::Whole(line)) => break UserId::parse(line),
                Some(Line::TooLong(_)) => break None,
                None => {}
            }
            if lines.is_too_long() {
                break None;
            }
        };
        match id {
            Some(user) => self.register(key, user),
            None => self.deliveries.doom(key, CloseReason::BadId, None),
        }
        id.is_some()
    }

    /// From now on the client is the one connection of `user`.
    fn register(&mut self, key: u32, user: UserId) {
        if let Some(Recipient(older)) = self.engine.register(user, Recipient(key)) {
            self.deliveries.flush(older);
            self.deliveries.leave(older);
            self.deliveries.doom(older, CloseReason::TakenOver, None);
        }
        self.deliveries.join(key, user);
        if let Some(client) = self.deliveries.client(key) {
            let peer = client.peer;
            self.say(
                Topic::ClientRegistered,
                Level::Debug,
                format_args!("user {user} connected from {peer}"),
            );
        }
    }

    /// Reads what an identified client sends, and forgets it.
    fn ignore_input(&mut self, key: u32, ignorable: &mut usize) {
        let Some(client) = self.deliveries.client_mut(key) else { return };
        let mut scratch = [0; 4096];
        let mut room = IGNORED_BYTES_A_CLIENT.min(*ignorable);
        while room > 0 {
            match read_once(&mut client.stream, &mut scratch) {
                ReadOutcome::Bytes(bytes) => {
                    room = room.saturating_sub(bytes);
                    *ignorable = ignorable.saturating_sub(bytes);
                }
                ReadOutcome::Dry => return,
                ReadOutcome::Ended(SourceEnd { reason, error }) => {
                    return self.lose_client(key, reason, error);
                }
            }
        }
        client.awaits_reading = true;
        self.unread_clients.push(key);
    }

    /// The client is gone: nothing is delivered to it from now on.
    fn lose_client(&mut self, key: u32, reason: CloseReason, error: Option<io::Error>) {
        if let Some((user, _)) = self.deliveries.leave(key) {
            self.engine.depart(user, Recipient(key));
        }
        self.deliveries.doom(key, reason, error);
    }
}

/// Ends: timeouts, drain, closing.
impl<A: Acceptor> Hub<A> {
    fn expire(&mut self) {
        let connections = &self.deliveries;
        let has_identified = |&(key, since): &(u32, Instant)| {
            !connections.client(key).is_some_and(|client| client.is_unknown_since(since))
        };
        let mut expired = Vec::new();
        while let Some(entry) = self.identify_timeouts.pop_due(self.now, has_identified) {
            if !has_identified(&entry) {
                expired.push(entry.0);
            }
        }
        for key in expired {
            self.deliveries.doom(key, CloseReason::IdentifyTimeout, None);
        }
        self.deliveries.expire_stalls();
        self.notices.report_left_out(self.now);
        if let Some(deadline) = self.drain_deadline {
            self.drain(deadline);
        }
    }

    /// Closes what a stop waits for no longer.
    fn drain(&mut self, deadline: Instant) {
        let is_over = self.now >= deadline;
        let has_lines = |key: &u32| self.source(*key).is_some_and(|source| source.has_lines);
        let is_applied = !self.engine.is_due() && !self.sources.iter().any(has_lines);
        if !is_over && !is_applied {
            return;
        }
        if !is_applied {
            log::warn!("the drain timeout is over before all that was read could be applied");
        }
        for key in std::mem::take(&mut self.sources) {
            let end = self.source_mut(key).and_then(|source| source.end.take());
            let stopped = SourceEnd { reason: CloseReason::Stopped, error: None };
            self.close_source(key, end.unwrap_or(stopped));
        }
        let members = self.deliveries.members();
        let done: Vec<(u32, CloseReason)> = members
            .iter()
            .filter_map(|&key| match self.deliveries.client(key)?.outbox.is_empty() {
                true => Some((key, CloseReason::Stopped)),
                false => is_over.then_some((key, CloseReason::DrainTimeout)),
            })
            .collect();
        for (key, reason) in done {
            self.deliveries.doom(key, reason, None);
        }
    }

    /// Closes what is to be closed. Nothing is freed earlier in a turn, so that readiness told in
    /// this turn cannot reach a new tenant of the same key.
    fn close(&mut self) {
        self.close_ended_sources();
        for (key, reason, error) in self.deliveries.take_doomed() {
            self.close_client(key, reason, error);
        }
        if !self.has_work_left() {
            self.deliveries.trim_spare_buffers();
        }
    }

    fn close_client(&mut self, key: u32, reason: CloseReason, error: Option<io::Error>) {
        if let Some((user, _)) = self.deliveries.leave(key) {
            self.engine.depart(user, Recipient(key));
        }
        let Some(Connection::Client(mut client)) =
            self.deliveries.connections.try_remove(key as usize)
        else {
            return;
        };
        if reason.is_ordinary() {
            read_what_is_left(&mut client.stream);
        }
        self.count_closed(reason);
        let level = if reason.is_ordinary() { Level::Info } else { Level::Warn };
        let (peer, queued) = (client.peer, client.outbox.len());
        match client.user() {
            Some(user) => self.say(
                Topic::ClientClosed,
                level,
                format_args!(
                    "user {user} at {peer} closed: {reason}{}, {queued} bytes queued",
                    Because(error)
                ),
            ),
            None => self.say(
                Topic::ClientClosed,
                level,
                format_args!(
                    "client {peer} closed before it was known: {reason}{}",
                    Because(error)
                ),
            ),
        }
    }

    fn count_closed(&mut self, reason: CloseReason) {
        self.tally.closed[reason as usize] += 1;
    }

    fn say(&mut self, topic: Topic, level: Level, line: std::fmt::Arguments<'_>) {
        self.notices.say(topic, level, self.now, line);
    }
}

/// Reads what a peer has sent, up to a limit: closing a socket with unread bytes resets the
/// connection, and with it what the kernel still has to send.
fn read_what_is_left(stream: &mut impl Read) {
    let mut scratch = [0; 4096];
    for _ in 0..IGNORED_BYTES_A_CLIENT / scratch.len() {
        if !matches!(read_once(stream, &mut scratch), ReadOutcome::Bytes(_)) {
            return;
        }
    }
}

/// An error behind a reason, if there is one.
struct Because(Option<io::Error>);

impl std::fmt::Display for Because {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(error) => write!(f, " ({error})"),
            None => Ok(()),
        }
    }
}
