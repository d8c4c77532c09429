//! The turn of the loop: every connection, and what is done for them in which order.
//!
//! A [`Hub`] is the server without poll, clock and signals: readiness and the time come in as
//! values, and the connections come from two [`Acceptor`]s. So the very code that serves real
//! sockets runs under a simulation.

mod budgets;
mod capacity;
mod clients;
mod close;
mod close_reason;
mod connection;
mod gap_monitor;
mod gaps;
mod listener;
mod log_limiter;
mod outbound;
mod recorder;
mod sources;
mod stats;
mod timeout_queue;
mod token;
mod transport;

pub use budgets::Budgets;
pub use capacity::Capacity;
pub use close_reason::CloseReason;
pub use recorder::Recorder;
pub use stats::Stats;
pub use token::{CLIENT_LISTENER, EVENT_LISTENER};
pub use transport::{Acceptor, BACKLOG, Stream};

use std::fmt;
use std::io;
use std::time::Instant;

use log::Level;

use self::clients::Candidate;
use self::clients::lingering::LINGER_TIMEOUT;
use self::listener::{ACCEPT_BACKOFF, Listener};
use crate::config::Config;
use crate::engine::{Engine, Recipient};
use crate::hub::clients::client::{Client, ClientState};
use crate::hub::clients::ip_limiter::IpLimiter;
use crate::hub::gap_monitor::GapMonitor;
use crate::hub::log_limiter::{LogKind, LogLimiter};
use crate::hub::outbound::Outbound;
use crate::hub::sources::Sources;
use crate::hub::stats::HubCounters;
use crate::hub::timeout_queue::TimeoutQueue;
use crate::hub::token::{ClientKey, Target};
use crate::protocol::Sequence;

/// What the poll says of a connection or a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The connection's token, or [`EVENT_LISTENER`] or [`CLIENT_LISTENER`].
    pub token: usize,
    /// Bytes, an end, an error or a connection may wait.
    pub readable: bool,
    /// The socket takes bytes again.
    pub writable: bool,
    /// The peer sends nothing more: after the bytes that the kernel holds comes an end or an error.
    pub read_closed: bool,
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

/// All that the server knows.
#[derive(Debug)]
pub struct Hub<A: Acceptor> {
    config: Config,
    budgets: Budgets,
    capacity: Capacity,
    engine: Engine,
    outbound: Outbound<A::Stream>,
    source_listener: Option<Listener<A>>,
    client_listener: Option<Listener<A>>,
    sources: Sources<A::Stream>,
    /// Keys of clients that may have sent something.
    readable_clients: Vec<ClientKey>,
    /// Clients over a limit, until the ends that the kernel knows of are read.
    candidates: Vec<Candidate>,
    /// Clients that are connected and not closed, registered or not.
    open_clients: usize,
    linger_timeouts: TimeoutQueue<(ClientKey, Instant)>,
    /// Clients that have to identify themselves, by key and start; one that has may still stand here.
    identify_timeouts: TimeoutQueue<(ClientKey, Instant)>,
    ip_limiter: IpLimiter,
    gap_monitor: GapMonitor,
    /// When a stop gives up what has not left; `None` while the server runs.
    drain_deadline: Option<Instant>,
    /// Applying waited for clients at the end of the last turn.
    was_paused: bool,
    /// Where accepted lines are written, if anywhere.
    recorder: Option<Box<dyn Recorder>>,
    log_limiter: LogLimiter,
    counters: HubCounters,
    now: Instant,
    readiness_buf: Vec<Readiness>,
}

impl<A: Acceptor> Hub<A> {
    /// Creates a hub that accepts from both acceptors, clients up to `capacity`, and otherwise follows
    /// `config`. Later calls must not pass a time earlier than `now`.
    pub fn new(
        config: Config,
        capacity: Capacity,
        event_acceptor: A,
        client_acceptor: A,
        now: Instant,
    ) -> Hub<A> {
        let first = Sequence::new(config.first_sequence).unwrap_or(Sequence::MAX);
        Hub {
            engine: Engine::new(first, config.reorder_window),
            outbound: Outbound::new(&config, now),
            source_listener: Some(Listener::new(event_acceptor)),
            client_listener: Some(Listener::new(client_acceptor)),
            sources: Sources::new(config.max_sources),
            readable_clients: Vec::new(),
            candidates: Vec::new(),
            open_clients: 0,
            linger_timeouts: TimeoutQueue::new(LINGER_TIMEOUT),
            identify_timeouts: TimeoutQueue::new(config.identify_timeout),
            ip_limiter: IpLimiter::new(config.max_clients_per_address),
            gap_monitor: GapMonitor::new(config.gap_timeout, now),
            drain_deadline: None,
            was_paused: false,
            recorder: None,
            log_limiter: LogLimiter::default(),
            counters: HubCounters::default(),
            now,
            readiness_buf: Vec::new(),
            capacity,
            budgets: Budgets::default(),
            config,
        }
    }

    /// Records every line that is accepted from now on.
    pub(crate) fn record_to(&mut self, recorder: Box<dyn Recorder>) {
        self.recorder = Some(recorder);
    }

    /// Takes the recorder back, for it to be finished.
    pub(crate) fn take_recorder(&mut self) -> Option<Box<dyn Recorder>> {
        self.recorder.take()
    }

    /// Logs how many lines were left out, although their second is not over yet.
    pub(crate) fn report_suppressed_now(&mut self) {
        self.log_limiter.report_all_left_out();
    }

    /// The same with other budgets than the usual ones.
    #[must_use]
    pub fn with_budgets(self, budgets: Budgets) -> Hub<A> {
        Hub { budgets, ..self }
    }

    /// One turn at the time `now`, with what the poll has said is `ready`.
    ///
    /// `poll_again` is asked, without waiting, for what has become ready since; it returns whether
    /// there may be still more. So every client whose id line the kernel held when the sources' bytes
    /// were read is registered before these are applied, and nobody is given up, nor an event, for
    /// what was not looked at in time.
    pub fn turn(
        &mut self,
        now: Instant,
        ready: &[Readiness],
        mut poll_again: impl FnMut(&mut Vec<Readiness>) -> bool,
    ) {
        self.now = now;
        self.outbound.begin_turn(now);
        self.note(ready);
        if self.read_sources() || self.is_timeout_due() || self.sources.has_undecided() {
            self.poll_again_for_readiness(&mut poll_again);
        }
        self.decide_on_sources();
        self.accept_and_read_clients(&mut poll_again);
        self.expire_handshakes();
        self.close_clients();
        self.engine.index_some(self.budgets.index_steps);
        self.apply();
        self.outbound.flush_pending();
        self.check_gap();
        self.expire();
        self.close();
        self.log_pause_changes();
        self.end_turn();
    }

    /// Closes the listeners and stops reading. What was read is applied and delivered in the turns
    /// that follow, until [`is_stopped`](Self::is_stopped) or the drain timeout.
    ///
    /// Readiness that was told before and has not come to a turn yet may be of connections that are
    /// closed here. It meets empty slots, for nobody new is accepted.
    pub fn stop(&mut self, now: Instant) {
        if self.drain_deadline.is_some() {
            return;
        }
        self.now = now;
        let deadline = now + self.config.drain_timeout;
        self.drain_deadline = Some(deadline);
        self.source_listener = None;
        self.client_listener = None;
        let is_unknown = |client: &Client<_>| matches!(client.state, ClientState::AwaitingId(_));
        let clients = self.outbound.clients.iter().filter(|(_, client)| is_unknown(client));
        let unknown: Vec<ClientKey> = clients.map(|(key, _)| key).collect();
        for key in unknown {
            self.outbound.schedule_close(key, CloseReason::Stopped, None);
        }
        // Whoever has nothing queued will not become ready.
        self.drain(deadline);
        self.close();
    }

    /// Returns whether a stop is complete.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_draining() && self.sources.open() == 0 && self.outbound.clients.is_empty()
    }

    /// Returns when the next turn is to begin.
    #[must_use]
    pub fn next_turn(&self) -> NextTurn {
        if self.config.busy_poll || self.has_work_left() {
            return NextTurn::Now;
        }
        let deadlines = [
            self.next_timeout(),
            self.log_limiter.next_report(),
            self.source_listener.as_ref().and_then(|listener| listener.backoff_until),
            self.client_listener.as_ref().and_then(|listener| listener.backoff_until),
            self.drain_deadline,
        ];
        deadlines.into_iter().flatten().min().map_or(NextTurn::WhenReady, NextTurn::Until)
    }

    /// What happened so far.
    #[must_use]
    pub fn totals(&self) -> Stats {
        Stats {
            engine: *self.engine.counters(),
            counters: self.counters,
            lines_queued: self.outbound.lines_queued,
            bytes_written: self.outbound.bytes_written,
            clients_connected: self.client_count(),
            sources_connected: self.sources.len(),
            queued_bytes: self.outbound.queued_total(),
            awaited: self.engine.awaited(),
            buffered_events: self.engine.reorder().len(),
            max_len: self.engine.reorder().max_len(),
            users: self.engine.graph().users(),
        }
    }

    /// Returns how many lines of an open source were looked at so far, by its token.
    #[must_use]
    pub fn lines_received(&self, token: usize) -> Option<u64> {
        let Target::Source(key) = Target::of(token) else { return None };
        self.sources.get(key).map(|source| source.lines_received)
    }

    /// Panics unless what must hold between two turns does. Looks at every connection.
    pub fn check_invariants(&self) {
        self.outbound.check();
        for &key in self.outbound.registered() {
            let Some(client) = self.outbound.client(key) else { panic!("a member is a client") };
            let user = client.user().and_then(|user| self.engine.graph().recipient(user));
            assert_eq!(user.map(|Recipient(number)| number), client.recipient(), "of {key:?}");
            assert_eq!(user.and_then(|user| self.outbound.client_at(user)), Some(key));
            assert!(!client.is_closing, "what is to be closed is closed within the turn");
            assert!(
                client.send_queue.is_empty() || !client.writable,
                "bytes wait only where the socket refused them"
            );
        }
        self.sources.check();
    }

    /// Shows in the log when applying begins to wait for clients, and when it goes on.
    fn log_pause_changes(&mut self) {
        let is_paused = self.outbound.is_paused();
        if std::mem::replace(&mut self.was_paused, is_paused) == is_paused {
            return;
        }
        let queued = self.outbound.queued_total();
        if is_paused {
            let full = self.outbound.stalled_clients();
            self.say(
                LogKind::Paused,
                Level::Warn,
                format_args!(
                    "paused: {full} clients have full queues, {queued} bytes are queued for all"
                ),
            );
        } else {
            self.say(
                LogKind::Paused,
                Level::Info,
                format_args!("going on: {queued} bytes are queued for all"),
            );
        }
    }

    /// Hands over and gives back what the turn has no more use for.
    fn end_turn(&mut self) {
        let is_idle = !self.has_work_left();
        if let Some(recorder) = &mut self.recorder {
            recorder.end_turn(self.now, is_idle);
        }
        if is_idle {
            self.outbound.shrink_pools();
            self.trim_source_buffers();
        }
    }

    fn note(&mut self, ready: &[Readiness]) {
        for readiness in ready {
            match Target::of(readiness.token) {
                Target::SourceListener => self.source_listener.iter_mut().for_each(Listener::note),
                Target::ClientListener => self.client_listener.iter_mut().for_each(Listener::note),
                Target::Source(key) => {
                    if let Some(source) = self.sources.get_mut(key) {
                        source.readable |= readiness.readable && source.end.is_none();
                        source.peer_closed |= readiness.read_closed;
                    }
                }
                Target::Client(key) => self.mark_client_ready(key, readiness),
            }
        }
    }

    fn mark_client_ready(&mut self, key: ClientKey, readiness: &Readiness) {
        let &Readiness { readable, writable, read_closed, .. } = readiness;
        if let Some(lingering) = self.outbound.clients.lingering_mut(key) {
            if readable && !lingering.in_read_list {
                lingering.in_read_list = true;
                self.readable_clients.push(key);
            }
            return;
        }
        let Some(client) = self.outbound.clients.get_mut(key) else { return };
        // One whose input was left for later is looked at once more for its end.
        let has_news = !client.in_read_list || (read_closed && !client.peer_closed);
        client.peer_closed |= read_closed;
        if readable && has_news {
            client.in_read_list = true;
            self.readable_clients.push(key);
        }
        if writable && !client.writable {
            client.writable = true;
            self.outbound.mark_pending(key);
        }
    }

    /// Collects what has become ready until the poll has nothing more, or has told so much that it
    /// can only be new.
    fn poll_again_for_readiness(
        &mut self,
        poll_again: &mut impl FnMut(&mut Vec<Readiness>) -> bool,
    ) {
        let mut more = std::mem::take(&mut self.readiness_buf);
        let mut left = self.max_readiness();
        loop {
            more.clear();
            let is_cut_short = poll_again(&mut more);
            self.note(&more);
            left = left.saturating_sub(more.len());
            if !is_cut_short || left == 0 {
                break;
            }
        }
        self.readiness_buf = more;
    }

    /// Returns whether somebody's time is over, as far as is known: this process may have stood still since the
    /// poll, and what a peer did in time may be in the kernel.
    fn is_timeout_due(&self) -> bool {
        self.next_timeout().is_some_and(|due| due <= self.now)
    }

    /// Returns when the time of a peer, or of a missing event, may be over.
    fn next_timeout(&self) -> Option<Instant> {
        let timeouts = [
            self.identify_timeouts.next(),
            self.outbound.next_stall(),
            self.gap_monitor.next_deadline(),
            self.linger_timeouts.next(),
        ];
        timeouts.into_iter().flatten().min()
    }

    /// After how much it is no use to ask a poll for more in the same turn. Without new bytes it tells
    /// of each connection once, and first of what has waited longest; sixteen times as much, and some,
    /// leaves room for what it tells twice.
    #[must_use]
    pub fn max_readiness(&self) -> usize {
        16 * (self.sources.open() + self.outbound.clients.len() + 16)
    }

    /// Returns whether a stop is under way.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain_deadline.is_some()
    }

    fn client_count(&self) -> usize {
        self.open_clients
    }

    /// Returns whether another turn would do something without anything becoming ready.
    fn has_work_left(&self) -> bool {
        let may_read = !self.is_draining();
        let can_apply = self.outbound.may_accept();
        let sources_wait = self.sources.iter().any(|source| {
            source.may_have_lines || source.end.is_some() || (source.readable && may_read)
        });
        (can_apply && (self.engine.has_ready() || sources_wait))
            || !self.readable_clients.is_empty()
            || (self.sources.may_accept()
                && self.source_listener.as_ref().is_some_and(Listener::is_open))
            || self.client_listener.as_ref().is_some_and(Listener::is_open)
            || !self.engine.graph().is_index_complete()
            || self.is_stopped()
    }

    fn log_accept_error(&mut self, whom: &str, error: &io::Error) {
        self.counters.accept_errors += 1;
        self.say(
            LogKind::AcceptFailed,
            Level::Error,
            format_args!(
                "cannot accept another {whom}: {error}; trying again in {} ms",
                ACCEPT_BACKOFF.as_millis()
            ),
        );
    }

    fn say(&mut self, topic: LogKind, level: Level, line: fmt::Arguments<'_>) {
        self.log_limiter.say(topic, level, self.now, line);
    }
}
