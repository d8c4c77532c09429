//! The server without I/O: its whole state, and one turn of the event loop.
//!
//! A [`Hub`] is the server without poll, clock and signals: readiness and time are passed in as
//! values, and connections come from two [`Acceptor`]s, so that a simulation runs the same code as
//! real sockets.
//!
//! Each part owns its state and takes what else it needs as arguments:
//!
//! | part | state |
//! |---|---|
//! | `Sources` | event sources: listener, table, service order, limit |
//! | `Clients` | client connections: listener, table, limits, handshakes, lingering |
//! | `Outbound` | queues: fan-out batch of the turn, send queues, pool, back-pressure |
//! | [`Engine`] | reorder buffer and follower graph |
//! | `Resumes` | clients that are sent what they have missed |
//! | `Commits` | what is on its way to a log before it is applied |
//! | `GapMonitor`, `Shutdown` | the age of a gap, the deadline of a shutdown |
//! | `Context` | settings, budgets, time, counters, log: passed to all of them |
//!
//! Three short-lived types borrow several parts: `Registry` where a user's connection enters and
//! leaves, `Applier` where lines are decoded and applied, `Delivery` where events are queued.

mod budgets;
mod capacity;
mod clients;
mod close_reason;
mod commits;
mod connection;
mod context;
mod delivery_sampler;
mod gaps;
mod listener;
mod log_limiter;
mod log_line;
mod outbound;
mod readiness;
mod recent_closes;
mod recorder;
mod registry;
mod resumes;
mod shutdown;
mod sources;
mod stats;
#[cfg(test)]
mod test_stream;
mod timeout_queue;
mod token;
mod transport;

pub use budgets::Budgets;
pub use capacity::Capacity;
pub use close_reason::CloseReason;
pub use commits::{CommitLog, Committed, RestoredLog};
pub(crate) use listener::Listener;
pub use outbound::QueuedClient;
pub use readiness::{NextTurn, Readiness};
pub use recent_closes::{ClosedConnection, Side};
pub use recorder::Recorder;
pub(crate) use stats::Details;
pub use stats::Stats;
pub use token::{CLIENT_LISTENER, EVENT_LISTENER};
pub use transport::{Acceptor, BACKLOG, Stream};

use std::fmt;
use std::time::Instant;

use self::clients::Clients;
use self::commits::Commits;
use self::context::Context;
use self::delivery_sampler::DeliverySampler;
use self::gaps::GapMonitor;
use self::outbound::{Delivery, Outbound};
use self::registry::Registry;
use self::resumes::Resumes;
use self::shutdown::Shutdown;
use self::sources::{Applier, SourceWork, Sources};
use self::token::Target;
use crate::config::{Config, OnSourceDisconnect};
use crate::engine::{Engine, History, Recipient, StateHash, StreamStatus};
use crate::protocol::Sequence;

/// The complete server state.
pub struct Hub<A: Acceptor> {
    cx: Context,
    engine: Engine,
    sources: Sources<A>,
    clients: Clients<A>,
    outbound: Outbound,
    resumes: Resumes,
    commits: Commits,
    gap_monitor: GapMonitor,
    shutdown: Shutdown,
    /// Records accepted lines, if configured.
    recorder: Option<Box<dyn Recorder>>,
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
        let mut engine = Engine::new(first, config.reorder_window);
        if config.resume_events > 0 {
            engine.keep_history(History::new(config.resume_events, 0));
        }
        Hub {
            engine,
            sources: Sources::new(event_acceptor, &config),
            clients: Clients::new(client_acceptor, &config),
            outbound: Outbound::new(&config),
            resumes: Resumes::new(config.identify_timeout),
            commits: Commits::default(),
            gap_monitor: GapMonitor::new(config.gap_timeout, now),
            shutdown: Shutdown::default(),
            recorder: None,
            readiness_buf: Vec::new(),
            cx: Context::new(config, capacity, now),
        }
    }

    /// Continues the stream that a log contains, and passes events to it before they are applied.
    #[must_use]
    pub fn with_log(mut self, restored: RestoredLog<impl CommitLog + 'static>) -> Hub<A> {
        let RestoredLog { log, graph, awaited, history } = restored;
        let window = self.cx.config.reorder_window;
        self.engine = Engine::with_log(self.engine.first(), awaited, graph, window);
        if log.is_shared() {
            self.engine.share_log();
        }
        if let Some(history) = history {
            self.engine.keep_history(history);
        }
        self.commits = Commits::new(Box::new(log), awaited);
        self
    }

    /// Removes the log, so that the caller can finish it.
    pub fn take_log(&mut self) -> Option<Box<dyn CommitLog>> {
        self.commits.take_log()
    }

    /// Returns why the log commits nothing at present, if there is a problem.
    #[must_use]
    pub fn log_problem(&self) -> Option<String> {
        self.commits.problem()
    }

    /// Returns whether what comes next was removed from the log, so that only a new start can go on.
    #[must_use]
    pub fn is_outrun(&self) -> bool {
        self.commits.is_outrun()
    }

    /// Returns what operators see of a log that others append to, too.
    #[must_use]
    pub fn stream_status(&self) -> Option<StreamStatus> {
        self.commits.stream_status()
    }

    /// Returns the hash of the follows and the awaited sequence. `None` without a log.
    #[must_use]
    pub fn state_hash(&self) -> Option<StateHash> {
        self.engine.state_hash()
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
        self.cx.log_limiter.report_all_suppressed();
    }

    /// Returns the hub with other budgets than the default.
    #[must_use]
    pub fn with_budgets(mut self, budgets: Budgets) -> Hub<A> {
        self.cx.budgets = budgets;
        self
    }

    /// Changes the settings that can change while the server runs, and the limit on clients. Must not
    /// be called during a turn. The next turn must begin at once, because deadlines may have changed.
    pub fn reconfigure(&mut self, config: Config, capacity: Capacity) {
        self.gap_monitor.set_timeout(config.gap_timeout);
        self.sources.reconfigure(&config);
        self.clients.reconfigure(&config);
        self.resumes.set_timeout(config.identify_timeout);
        self.outbound.reconfigure(self.clients.table_mut(), &config);
        self.cx.capacity = capacity;
        self.cx.config = config;
    }

    /// Returns the listening sockets, until they are closed.
    pub fn acceptors_mut(&mut self) -> impl Iterator<Item = &mut A> {
        self.sources.acceptor_mut().into_iter().chain(self.clients.acceptor_mut())
    }

    /// Returns the listening socket of clients, until it is closed.
    pub fn client_acceptor_mut(&mut self) -> Option<&mut A> {
        self.clients.acceptor_mut()
    }

    /// Runs one turn at the time `now`, with the readiness of the last poll.
    ///
    /// `poll_again` polls without waiting, and returns whether there may be more readiness. This
    /// guarantees that a client whose id line had arrived before the source bytes is registered
    /// before they are applied, and that no timeout fires for input that was already in the kernel.
    ///
    /// It is called in every turn that has read source bytes, and cannot be spared. The bytes may include
    /// some that arrived after the last poll, and a client that was there before them may have arrived after
    /// that poll too. So something has to look at the client side after the read. A poll that does not wait
    /// is the cheapest such call, and the only one that covers clients whose ID line is incomplete: an
    /// `accept` of nothing costs more, and sees new connections only.
    pub fn turn(
        &mut self,
        now: Instant,
        ready: &[Readiness],
        mut poll_again: impl FnMut(&mut Vec<Readiness>) -> bool,
    ) {
        self.begin_turn(now);
        self.apply_readiness(ready);
        if self.read_sources() || self.is_timeout_due() || self.sources.has_undecided() {
            self.poll_again_for_readiness(&mut poll_again);
        }
        self.sources.decide(&mut self.cx);
        let is_client_side_drained = self.accept_and_read_clients(&mut poll_again);
        self.clients.expire_handshakes(now);
        self.close_clients();
        self.engine.index_some(self.cx.budgets.index_steps);
        self.engine.free_some(self.cx.budgets.freed_bytes);
        self.resume_clients();
        if is_client_side_drained {
            self.apply();
        }
        self.commits.end_turn();
        self.sources.answer(self.engine.awaited());
        let awaited = self.engine.awaited();
        self.outbound.flush_pending(self.clients.table_mut(), &self.cx.budgets, awaited);
        self.record_delivery();
        self.check_gap();
        self.expire_resumes();
        self.outbound.expire_stalls(self.clients.table_mut(), now);
        self.cx.log_limiter.report_suppressed(now);
        self.advance_shutdown();
        self.close_pending();
        self.outbound.log_pause_changes(&mut self.cx);
        self.end_turn();
    }

    /// Closes the listeners and stops reading. What was read is applied and delivered in the
    /// following turns, until [`is_stopped`](Self::is_stopped) or the drain timeout.
    ///
    /// Readiness that was reported before may refer to connections that are closed here. It is
    /// ignored, because no new connection reuses their keys.
    pub fn stop(&mut self, now: Instant) {
        if !self.shutdown.start(now, self.cx.config.drain_timeout) {
            return;
        }
        self.cx.now = now;
        self.sources.stop();
        self.clients.stop();
        // Clients with an empty queue will not become ready, so they are closed now.
        self.advance_shutdown();
        self.close_pending();
    }

    /// Returns whether a shutdown is in progress.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shutdown.is_draining()
    }

    /// Returns whether the shutdown is complete.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_draining() && self.sources.open() == 0 && self.clients.is_empty()
    }

    /// Returns when the next turn has to begin.
    #[must_use]
    pub fn next_turn(&self) -> NextTurn {
        if self.cx.config.busy_poll || self.has_work_left() {
            return NextTurn::Now;
        }
        self.commits.set_wakes(true);
        // It may have committed something before it knew that it has to wake the loop.
        if self.commits.can_advance(&self.engine, &self.cx.budgets) {
            return NextTurn::Now;
        }
        let deadlines = [
            self.next_timeout(),
            self.cx.log_limiter.next_report(),
            self.sources.backoff_until(),
            self.clients.backoff_until(),
            self.shutdown.deadline(),
        ];
        deadlines.into_iter().flatten().min().map_or(NextTurn::WhenReady, NextTurn::Until)
    }

    /// Returns the upper bound on readiness events per turn. The poll reports each connection once
    /// unless new data arrives, the longest pending first; 16× leaves slack for repeats.
    #[must_use]
    pub fn max_readiness(&self) -> usize {
        16 * (self.sources.open() + self.clients.len() + 16)
    }

    /// Returns a snapshot of all counters.
    #[must_use]
    pub fn totals(&self) -> Stats {
        Stats {
            engine: *self.engine.counters(),
            counters: self.cx.counters,
            lines_queued: self.outbound.lines_queued(),
            bytes_written: self.outbound.bytes_written(),
            clients_connected: self.clients.open(),
            sources_connected: self.sources.len(),
            queued_bytes: self.outbound.queued_total(),
            awaited: self.engine.awaited(),
            buffered_events: self.engine.reorder().len(),
            max_buffered_events: self.engine.reorder().max_len(),
            users: self.engine.graph().users(),
        }
    }

    /// Returns the number of events applied so far.
    #[must_use]
    pub(crate) fn applied(&self) -> u64 {
        self.engine.counters().applied()
    }

    /// Returns what operators see, besides the totals.
    #[must_use]
    pub(crate) fn details(&self) -> Details {
        let now = self.cx.now;
        let pauses = &self.cx.counters.pauses;
        Details {
            settings: self.cx.config.to_json(),
            first_sequence: self.cx.config.first_sequence,
            max_clients: self.cx.capacity.max_clients,
            max_sources: self.cx.config.max_sources,
            full_queues: self.outbound.full_queues(),
            follows: self.engine.graph().follow_count(),
            gap: self.gap_monitor.gap().map(|(first, since)| (first, now.duration_since(since))),
            paused: pauses.total(now),
            current_pause: pauses.current(now),
            resuming: self.resumes.len(),
            kept_events: self.engine.history().map_or(0, History::len),
            kept_bytes: self.engine.history().map_or(0, History::bytes),
        }
    }

    /// Returns the number of connections, lingering ones included.
    #[must_use]
    pub(crate) fn open(&self) -> usize {
        self.sources.open() + self.clients.len()
    }

    /// Returns up to `max` clients with the longest queues, the longest first. Costs at most 0.1 ms, for which it
    /// compares at most 4,096 of the clients with queued bytes.
    #[must_use]
    pub fn longest_queues(&self, max: usize) -> Vec<QueuedClient> {
        self.outbound.longest_queues(self.clients.table(), max)
    }

    /// Iterates over the last closed connections, the newest first.
    pub fn recent_closes(&self) -> impl Iterator<Item = &ClosedConnection> {
        self.cx.recent_closes.newest_first()
    }

    /// Starts to sample how long events take from their source to their recipients.
    pub fn sample_deliveries(&mut self) {
        self.cx.delivery_sampler = Some(DeliverySampler::default());
    }

    /// Returns when a sampled event that was delivered in the last turn had been read.
    pub fn take_delivered(&mut self) -> Option<Instant> {
        self.cx.delivery_sampler.as_mut()?.take_delivered()
    }

    /// Returns how many lines of an open source were decoded so far, by its token.
    #[must_use]
    pub fn lines_received(&self, token: usize) -> Option<u64> {
        let Target::Source(key) = Target::of(token) else { return None };
        self.sources.lines_received(key)
    }

    /// Panics unless the invariants between two turns hold. Checks every connection.
    pub fn check_invariants(&self) {
        self.commits.check(&self.engine);
        assert!(self.engine.has_kept_applied(), "clients that resume get all that was applied");
        self.sources.check();
        self.clients.check();
        self.outbound.check(self.clients.table());
        self.resumes.check(self.clients.table());
        for &key in self.outbound.registered() {
            let Some(client) = self.clients.table().get(key) else {
                panic!("a registered key is of a client")
            };
            let output = client.output();
            let user = client.user().and_then(|user| self.engine.graph().recipient(user));
            if output.is_replaying() {
                let resuming = client.user().and_then(|user| self.resumes.client_of(user));
                assert!(user.is_some() && resuming == Some(key), "{key:?} resumes");
                continue;
            }
            let recipient = output.recipient();
            assert_eq!(user.map(|Recipient(number)| number), recipient, "of {key:?}");
            assert_eq!(user.and_then(|user| self.outbound.client_at(user)), Some(key));
        }
    }
}

impl<A: Acceptor> fmt::Debug for Hub<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("totals", &self.totals()).finish_non_exhaustive()
    }
}

/// The steps of a turn that concern several parts.
impl<A: Acceptor> Hub<A> {
    fn begin_turn(&mut self, now: Instant) {
        self.cx.now = now;
        self.commits.set_wakes(false);
        self.clients.begin_turn(&self.cx);
        self.outbound.begin_turn();
    }

    fn apply_readiness(&mut self, ready: &[Readiness]) {
        for readiness in ready {
            match Target::of(readiness.token) {
                Target::SourceListener => self.sources.set_listener_readable(),
                Target::ClientListener => self.clients.set_listener_readable(),
                Target::Source(key) => self.sources.set_ready(key, readiness),
                Target::Client(key) => {
                    self.clients.on_readable(key, readiness);
                    if readiness.writable {
                        self.outbound.on_writable(self.clients.table_mut(), key);
                    }
                }
            }
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

    /// Returns whether the log accepts no more for now.
    fn is_log_full(&self) -> bool {
        self.commits.is_full(&self.engine, &self.cx.budgets)
    }

    /// Accepts sources, and reads them unless applying or the log is paused, or clients wait to be registered before
    /// what was read. Returns whether any bytes arrived.
    fn read_sources(&mut self) -> bool {
        self.sources.accept(&mut self.cx);
        let is_paused = self.outbound.is_paused() || self.is_log_full() || self.clients.owes_ids();
        !is_paused && self.sources.read(&mut self.cx)
    }

    /// Accepts and reads clients until the kernel has no more of their connections and input, within the
    /// budget of a turn. Returns whether events may be applied.
    fn accept_and_read_clients(
        &mut self,
        poll_again: &mut impl FnMut(&mut Vec<Readiness>) -> bool,
    ) -> bool {
        loop {
            self.clients.accept(&mut self.cx);
            self.read_clients();
            let candidates = self.clients.take_candidates();
            if candidates.is_empty() {
                break;
            }
            self.poll_again_for_readiness(poll_again);
            self.read_ends_of_clients();
            self.close_clients();
            let (clients, mut registry) = self.clients_and_registry();
            clients.decide(candidates, &mut registry);
        }
        self.clients.end_reading()
    }

    fn read_clients(&mut self) {
        let (clients, mut registry) = self.clients_and_registry();
        clients.read(&mut registry);
    }

    fn read_ends_of_clients(&mut self) {
        let (clients, mut registry) = self.clients_and_registry();
        clients.read_ends(&mut registry);
    }

    fn close_clients(&mut self) {
        let (clients, mut registry) = self.clients_and_registry();
        clients.close_pending(&mut registry);
    }

    /// Splits off what clients need to be registered and closed.
    fn clients_and_registry(&mut self) -> (&mut Clients<A>, Registry<'_>) {
        let Hub { clients, engine, outbound, resumes, cx, .. } = self;
        (clients, Registry { engine, outbound, resumes, cx })
    }

    /// Sends clients what they have missed, within the budget of a turn.
    fn resume_clients(&mut self) {
        let Hub { resumes, engine, outbound, clients, cx, .. } = self;
        resumes.advance(engine, outbound, clients.table_mut(), cx);
    }

    /// Applies due events and lines that were read, within the budget of a turn.
    fn apply(&mut self) {
        let Hub { sources, clients, engine, outbound, commits, cx, recorder, .. } = self;
        commits.advance(engine, &cx.budgets);
        let delivery = Delivery { outbound, clients: clients.table_mut(), now: cx.now };
        let mut applier = Applier::new(engine, delivery, commits, recorder, cx);
        sources.apply(&mut applier);
        applier.apply_promptly_committed();
    }

    fn record_delivery(&mut self) {
        if let Some(sampler) = &mut self.cx.delivery_sampler {
            sampler.on_flushed(self.outbound.flushed());
        }
    }

    fn check_gap(&mut self) {
        let is_paused = self.outbound.is_paused() || self.is_draining() || self.commits.is_behind();
        let all_drained = self.sources.are_all_drained();
        self.gap_monitor.check(&mut self.engine, is_paused, all_drained, &mut self.cx);
    }

    /// Tells clients that have waited too long for later sequences, now that this turn has applied some.
    fn expire_resumes(&mut self) {
        let is_drained = !self.engine.has_due() && self.sources.are_all_drained();
        self.resumes.expire(&self.engine, is_drained, self.cx.now);
    }

    /// Closes connections that the shutdown, if any, no longer waits for.
    fn advance_shutdown(&mut self) {
        let is_applied = !self.engine.has_due() && !self.sources.may_have_lines();
        if !self.shutdown.may_close(is_applied, self.cx.now) {
            return;
        }
        shutdown::log_undelivered(&self.engine, is_applied, self.sources.open() > 0);
        self.sources.close_all(&mut self.cx);
        let is_expired = self.shutdown.has_expired(self.cx.now);
        let (resumes, awaited) = (&self.resumes, self.engine.awaited());
        self.outbound.close_drained(self.clients.table_mut(), is_expired, |key| {
            resumes.lacks_events(key, awaited)
        });
    }

    /// Closes all connections whose end was read or whose close is pending.
    fn close_pending(&mut self) {
        if !self.engine.has_due() && self.sources.close_ended(&mut self.cx) {
            self.reset_after_last_source();
        }
        self.sources.decide(&mut self.cx);
        self.close_clients();
        match self.shutdown.has_expired(self.cx.now) {
            true => self.clients.close_lingering(),
            false => self.clients.expire_lingering(self.cx.now),
        }
    }

    /// Resets the stream and the follower graph if configured and if no source that has sent a line
    /// is left.
    fn reset_after_last_source(&mut self) {
        if self.cx.config.on_source_disconnect == OnSourceDisconnect::Reset
            && !self.is_draining()
            && !self.sources.has_any_sent_line()
        {
            self.commits.on_reset(&self.engine);
            self.resumes.on_reset(&self.engine);
            self.gap_monitor.reset_stream(&mut self.engine, &mut self.cx);
            self.outbound.reset_stream();
        }
    }

    /// Ends the turn of the recorder, and shrinks buffers if there is no work left.
    fn end_turn(&mut self) {
        let is_idle = !self.has_work_left();
        if let Some(recorder) = &mut self.recorder {
            recorder.end_turn(self.cx.now, is_idle);
        }
        if is_idle {
            self.outbound.shrink_pools();
            self.sources.trim_buffers();
            self.engine.trim();
        }
    }

    /// Returns whether a timeout may have expired. The process may have been suspended since the
    /// poll, so input that arrived in time may still be unread.
    fn is_timeout_due(&self) -> bool {
        self.next_timeout().is_some_and(|deadline| deadline <= self.cx.now)
    }

    /// Returns when the next timeout of a peer or of a gap may expire.
    fn next_timeout(&self) -> Option<Instant> {
        let timeouts = [
            self.clients.next_timeout(),
            self.outbound.next_stall_deadline(),
            self.gap_monitor.next_deadline(),
            self.resumes.next_deadline(),
        ];
        timeouts.into_iter().flatten().min()
    }

    /// Returns whether another turn has work to do without new readiness.
    fn has_work_left(&self) -> bool {
        let can_stage = !self.is_log_full();
        let may = SourceWork { decode: can_stage, close: !self.engine.has_due(), read: can_stage };
        let has_input =
            (can_stage && self.engine.has_unstaged()) || self.sources.have_work(may, &self.cx);
        (self.outbound.may_accept() && (self.engine.has_ready() || has_input))
            || self.commits.can_advance(&self.engine, &self.cx.budgets)
            || self.resumes.has_work_left(&self.engine, &self.outbound)
            || self.sources.can_accept()
            || self.outbound.has_pending_flush()
            || self.clients.has_work_left()
            || !self.engine.graph().is_index_complete()
            || !self.engine.is_freed()
            || self.is_stopped()
    }
}
