//! The turn of the event loop: all connections, and the order in which they are handled.
//!
//! A [`Hub`] is the server without poll, clock and signals: readiness and time are passed in as
//! values, and connections come from two [`Acceptor`]s, so that a simulation runs the same code as
//! real sockets.

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
mod shutdown;
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
use crate::hub::clients::ip_limiter::IpLimiter;
use crate::hub::gap_monitor::GapMonitor;
use crate::hub::log_limiter::{LogKind, LogLimiter};
use crate::hub::outbound::Outbound;
use crate::hub::shutdown::Shutdown;
use crate::hub::sources::Sources;
use crate::hub::stats::HubCounters;
use crate::hub::timeout_queue::TimeoutQueue;
use crate::hub::token::{ClientKey, Target};
use crate::protocol::Sequence;

/// The readiness of a connection or a listener, as reported by the poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The connection's token, or [`EVENT_LISTENER`] or [`CLIENT_LISTENER`].
    pub token: usize,
    /// Bytes, the end of the stream, an error or a new connection may be pending.
    pub readable: bool,
    /// The socket accepts bytes again.
    pub writable: bool,
    /// The peer has closed its sending side: the end of the stream or an error follows the bytes in
    /// the kernel.
    pub read_closed: bool,
}

/// The time of the next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextTurn {
    /// Immediately, because there is work left.
    Now,
    /// When a connection or a listener is ready, or at this time at the latest.
    Until(Instant),
    /// When a connection or a listener is ready.
    WhenReady,
}

/// The complete server state.
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
    /// Keys of clients that may have unread input.
    readable_clients: Vec<ClientKey>,
    /// Clients over a limit, until the disconnects known to the kernel have been read.
    candidates: Vec<Candidate>,
    /// The number of open clients, registered or not.
    open_clients: usize,
    linger_timeouts: TimeoutQueue<(ClientKey, Instant)>,
    /// Clients that have to identify themselves, by key and time of connection. An entry is stale
    /// once the client has done so or is closed.
    identify_timeouts: TimeoutQueue<(ClientKey, Instant)>,
    ip_limiter: IpLimiter,
    gap_monitor: GapMonitor,
    /// The shutdown in progress, if any.
    shutdown: Option<Shutdown>,
    /// Whether applying was paused at the end of the last turn.
    was_paused: bool,
    /// Records accepted lines, if configured.
    recorder: Option<Box<dyn Recorder>>,
    log_limiter: LogLimiter,
    counters: HubCounters,
    now: Instant,
    readiness_buf: Vec<Readiness>,
}

impl<A: Acceptor> Hub<A> {
    /// Creates a hub with `config` that accepts from both acceptors, clients up to `capacity`.
    /// Later calls must not pass a time earlier than `now`.
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
            shutdown: None,
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

    /// Sets the recorder of accepted lines.
    pub(crate) fn record_to(&mut self, recorder: Box<dyn Recorder>) {
        self.recorder = Some(recorder);
    }

    /// Removes the recorder, so that the caller can finish it.
    pub(crate) fn take_recorder(&mut self) -> Option<Box<dyn Recorder>> {
        self.recorder.take()
    }

    /// Logs how many log lines were suppressed, without waiting for their second to end.
    pub(crate) fn report_suppressed_now(&mut self) {
        self.log_limiter.report_all_suppressed();
    }

    /// Returns the hub with other budgets than the default.
    #[must_use]
    pub fn with_budgets(self, budgets: Budgets) -> Hub<A> {
        Hub { budgets, ..self }
    }

    /// Runs one turn at the time `now`, with the readiness of the last poll.
    ///
    /// `poll_again` polls without waiting, and returns whether there may be more readiness. This
    /// guarantees that a client whose id line had arrived before the source bytes is registered
    /// before they are applied, and that no timeout fires for input that was already in the kernel.
    pub fn turn(
        &mut self,
        now: Instant,
        ready: &[Readiness],
        mut poll_again: impl FnMut(&mut Vec<Readiness>) -> bool,
    ) {
        self.now = now;
        self.outbound.begin_turn(now);
        self.apply_readiness(ready);
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
        self.outbound.expire_stalls();
        self.log_limiter.report_suppressed(self.now);
        self.advance_shutdown();
        self.close_pending();
        self.log_pause_changes();
        self.end_turn();
    }

    /// Returns when the next turn has to begin.
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
            self.shutdown.map(Shutdown::deadline),
        ];
        deadlines.into_iter().flatten().min().map_or(NextTurn::WhenReady, NextTurn::Until)
    }

    /// Returns a snapshot of all counters.
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

    /// Returns how many lines of an open source were decoded so far, by its token.
    #[must_use]
    pub fn lines_received(&self, token: usize) -> Option<u64> {
        let Target::Source(key) = Target::of(token) else { return None };
        self.sources.get(key).map(|source| source.lines_received)
    }

    /// Panics unless the invariants between two turns hold. Checks every connection.
    pub fn check_invariants(&self) {
        self.outbound.check();
        for &key in self.outbound.registered() {
            let Some(client) = self.outbound.client(key) else {
                panic!("a registered key is of a client")
            };
            let user = client.user().and_then(|user| self.engine.graph().recipient(user));
            assert_eq!(user.map(|Recipient(number)| number), client.recipient(), "of {key:?}");
            assert_eq!(user.and_then(|user| self.outbound.client_at(user)), Some(key));
            assert!(!client.is_closing, "pending closes are completed within the turn");
            assert!(
                client.send_queue.is_empty() || !client.writable,
                "bytes stay queued only after WouldBlock"
            );
        }
        self.sources.check();
    }

    /// Logs when applying is paused for slow clients, and when it is resumed.
    fn log_pause_changes(&mut self) {
        let is_paused = self.outbound.is_paused();
        if std::mem::replace(&mut self.was_paused, is_paused) == is_paused {
            return;
        }
        let queued = self.outbound.queued_total();
        if is_paused {
            let stalled = self.outbound.stalled_clients();
            self.log(
                LogKind::Paused,
                Level::Warn,
                format_args!(
                    "paused: {stalled} clients have full queues, {queued} bytes queued in total"
                ),
            );
        } else {
            self.log(
                LogKind::Paused,
                Level::Info,
                format_args!("resumed: {queued} bytes queued in total"),
            );
        }
    }

    /// Ends the turn of the recorder, and shrinks buffers if there is no work left.
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

    fn apply_readiness(&mut self, ready: &[Readiness]) {
        for readiness in ready {
            match Target::of(readiness.token) {
                Target::SourceListener => {
                    self.source_listener.iter_mut().for_each(Listener::set_readable);
                }
                Target::ClientListener => {
                    self.client_listener.iter_mut().for_each(Listener::set_readable);
                }
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
        // A client that is already listed is listed again when its end becomes known.
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

    /// Polls until there is nothing left, or until [`max_readiness`](Self::max_readiness) is
    /// reached.
    fn poll_again_for_readiness(
        &mut self,
        poll_again: &mut impl FnMut(&mut Vec<Readiness>) -> bool,
    ) {
        let mut more = std::mem::take(&mut self.readiness_buf);
        let mut left = self.max_readiness();
        loop {
            more.clear();
            let is_cut_short = poll_again(&mut more);
            self.apply_readiness(&more);
            left = left.saturating_sub(more.len());
            if !is_cut_short || left == 0 {
                break;
            }
        }
        self.readiness_buf = more;
    }

    /// Returns whether a timeout may have expired. The process may have been suspended since the
    /// poll, so input that arrived in time may still be unread.
    fn is_timeout_due(&self) -> bool {
        self.next_timeout().is_some_and(|deadline| deadline <= self.now)
    }

    /// Returns when the next timeout of a peer or of a gap may expire.
    fn next_timeout(&self) -> Option<Instant> {
        let timeouts = [
            self.identify_timeouts.next_deadline(),
            self.outbound.next_stall_deadline(),
            self.gap_monitor.next_deadline(),
            self.linger_timeouts.next_deadline(),
        ];
        timeouts.into_iter().flatten().min()
    }

    /// Returns the upper bound on readiness events per turn. The poll reports each connection once
    /// unless new data arrives, the longest pending first; 16× leaves slack for repeats.
    #[must_use]
    pub fn max_readiness(&self) -> usize {
        16 * (self.sources.open() + self.outbound.clients.len() + 16)
    }

    fn client_count(&self) -> usize {
        self.open_clients
    }

    /// Returns whether another turn has work to do without new readiness.
    fn has_work_left(&self) -> bool {
        let may_read = !self.is_draining();
        let can_apply = self.outbound.may_accept();
        let sources_wait = self.sources.iter().any(|source| {
            source.may_have_lines || source.end.is_some() || (source.readable && may_read)
        });
        (can_apply && (self.engine.has_ready() || sources_wait))
            || !self.readable_clients.is_empty()
            || (self.sources.may_accept()
                && self.source_listener.as_ref().is_some_and(Listener::is_ready))
            || self.client_listener.as_ref().is_some_and(Listener::is_ready)
            || !self.engine.graph().is_index_complete()
            || self.is_stopped()
    }

    fn log_accept_error(&mut self, peer_kind: &str, error: &io::Error) {
        self.counters.accept_errors += 1;
        self.log(
            LogKind::AcceptFailed,
            Level::Error,
            format_args!(
                "cannot accept another {peer_kind}: {error}; retrying in {} ms",
                ACCEPT_BACKOFF.as_millis()
            ),
        );
    }

    fn log(&mut self, kind: LogKind, level: Level, line: fmt::Arguments<'_>) {
        self.log_limiter.log(kind, level, self.now, line);
    }
}
