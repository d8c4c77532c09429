//! A simple model of `src/protocol/PROTOCOL.md`.
//!
//! After each turn the model processes the server's kernel calls in order: accepts, reads, writes
//! and closes. From them it derives what must hold:
//!
//! - The bytes read from the sources give the lines, and the lines give the order of events,
//!   whatever the order in which the sources were read. The server's counters show how far it has
//!   applied them; all of them must match one moment of the model's own run.
//! - A client is registered from the turn on in which its ID line was read. A client whose ID line
//!   was in the kernel when a source was read is registered by the end of the next turn that applies
//!   anything, and so before the source's bytes can be applied.
//! - So the recipients of each event are known. What a client's socket has accepted is always a
//!   prefix of what the client must receive; the rest is its queue, to which the limits apply.
//! - A turn ends idle only if there is nothing to do: no client has bytes that its socket has not
//!   refused, no socket has unread input that the poll has reported, and an event waits only for a
//!   queue above its low watermark.
//! - A source that sends `SYNC` is told the awaited sequence, then each turn's progress; before the server
//!   sleeps it knows all of it, unless its socket has refused bytes.
//! - Connections are closed for the reasons, and no earlier or later than at the times, that the
//!   settings define.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use eventserver::config::{Config, OnSourceDisconnect, SlowClient};
use eventserver::hub::{Capacity, CloseReason, Stats};

use super::client::{Client, IdLine, Stall};
use super::kernel::{Call, Kernel, SocketId};
use super::sequencer::{Counts, Sequencer};
use super::socket::Side;
use super::source::Source;

/// Back-off after a failed accept, in milliseconds.
const ACCEPT_BACKOFF: u64 = 500;

/// Time for which a closed connection may wait for its peer's end, in milliseconds.
const LINGER_TIMEOUT: u64 = 2000;

/// The server's observable state after a turn.
pub(crate) struct TurnSnapshot {
    /// In milliseconds.
    pub(crate) now: u64,
    pub(crate) totals: Stats,
    /// Lines of each open source that were processed.
    pub(crate) lines_received: BTreeMap<SocketId, u64>,
    /// Whether the server sleeps until something is ready.
    pub(crate) is_idle: bool,
    /// The server's next deadline.
    pub(crate) wakes_at: Option<u64>,
}

/// The limits of a run as integers; times are in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    capacity: Capacity,
    max_clients_per_address: Option<usize>,
    max_sources: usize,
    client_queue: u64,
    total_queue: u64,
    identify_timeout: u64,
    stall_timeout: u64,
    gap_timeout: Option<u64>,
    resets: bool,
    pauses: bool,
    resume_events: usize,
    /// Connections closed in a turn before others are put off.
    closes: usize,
}

impl Limits {
    pub(crate) fn new(config: &Config, capacity: Capacity, closes: usize) -> Limits {
        Limits {
            capacity,
            max_clients_per_address: config.max_clients_per_address,
            max_sources: config.max_sources,
            client_queue: config.client_queue_bytes,
            total_queue: config.total_queue_bytes,
            identify_timeout: config.identify_timeout.as_millis() as u64,
            stall_timeout: config.stall_timeout.as_millis() as u64,
            gap_timeout: config.gap_timeout.map(|timeout| timeout.as_millis() as u64),
            resets: config.on_source_disconnect == OnSourceDisconnect::Reset,
            pauses: config.slow_client == SlowClient::Pause,
            resume_events: config.resume_events,
            closes,
        }
    }
}

mod admission;
mod closes;
mod quiescence;
mod resumes;
mod routing;

pub(crate) use self::resumes::Replay;

/// Terminator of the lines to clients.
const TERMINATOR: &[u8] = b"\r\n";

/// A simple implementation of the whole server.
pub(crate) struct Model {
    limits: Limits,
    pub(crate) sequencer: Sequencer,
    sources: BTreeMap<SocketId, Source>,
    pub(crate) clients: BTreeMap<SocketId, Client>,
    /// The one connection of each connected user.
    pub(crate) users: BTreeMap<u64, SocketId>,
    /// Clients whose ID line was read in this turn, until they are registered or closed.
    candidates: Vec<(SocketId, IdLine)>,
    /// Connections whose end the last poll had reported.
    ended: BTreeSet<SocketId>,
    /// Connections that the server has shut down, with the time.
    pub(crate) lingering: BTreeMap<SocketId, u64>,
    /// Connections that count as closed and are still open, because their turn has closed as many as its budget.
    pub(crate) put_off: BTreeSet<SocketId>,
    /// Clients closed in this turn.
    closes: usize,
    /// Whether the next observation is of a stop between two turns.
    is_stop: bool,
    /// Pairs of follower and followed.
    follows: Rc<BTreeSet<(u64, u64)>>,
    /// The applied events of the current stream.
    history: Vec<resumes::Applied>,
    /// The awaited sequence before the last reset.
    before_reset: Option<u64>,
    /// The missing sequence that others wait for, and since when.
    gap: Option<(u64, u64)>,
    total_stall: Option<Stall>,
    /// Whether a user has left since it began: the low watermark may be different for the remaining
    /// ones.
    is_total_stall_stale: bool,
    /// End of the accept back-off, by side.
    backoff_until: [Option<u64>; 2],
    /// Deadline of a shutdown.
    pub(crate) drain_deadline: Option<u64>,
    clients_closed: [u64; CloseReason::COUNT],
    /// Taken-over clients that the server may have closed as ended by the peer.
    ended_takeovers: u64,
    /// Clients whose sockets have refused bytes in this turn.
    refused: BTreeSet<SocketId>,
    /// Whether a write has failed in this turn.
    has_write_failed: bool,
    sources_closed: [u64; CloseReason::COUNT],
    unterminated: u64,
    bytes_written: u64,
    /// Lower and upper bound of the server's count: an event for a client about to be closed may
    /// count or not.
    deliveries: (u64, u64),
    /// Clients that the server has closed, with the reason.
    pub(crate) closed_clients: BTreeMap<SocketId, (CloseReason, Client)>,
    now: u64,
    /// The number of turns so far.
    turns: u64,
}

impl Model {
    pub(crate) fn new(config: &Config, limits: Limits) -> Model {
        Model {
            limits,
            sequencer: Sequencer::new(
                config.first_sequence,
                config.reorder_window,
                config.max_line_bytes,
            ),
            sources: BTreeMap::new(),
            clients: BTreeMap::new(),
            users: BTreeMap::new(),
            candidates: Vec::new(),
            ended: BTreeSet::new(),
            lingering: BTreeMap::new(),
            put_off: BTreeSet::new(),
            closes: 0,
            is_stop: false,
            follows: Rc::default(),
            history: Vec::new(),
            before_reset: None,
            gap: None,
            total_stall: None,
            is_total_stall_stale: false,
            backoff_until: [None; 2],
            drain_deadline: None,
            clients_closed: [0; CloseReason::COUNT],
            ended_takeovers: 0,
            refused: BTreeSet::new(),
            has_write_failed: false,
            sources_closed: [0; CloseReason::COUNT],
            unterminated: 0,
            bytes_written: 0,
            deliveries: (0, 0),
            closed_clients: BTreeMap::new(),
            now: 0,
            turns: 0,
        }
    }

    /// Records a shutdown with this deadline.
    pub(crate) fn stop(&mut self, deadline: u64) {
        self.drain_deadline.get_or_insert(deadline);
        self.is_stop = true;
        self.backoff_until = [None; 2];
        self.gap = None;
    }

    /// Processes a turn, and checks it.
    pub(crate) fn observe(&mut self, snapshot: &TurnSnapshot, kernel: &mut Kernel) {
        self.now = snapshot.now;
        self.turns += 1;
        let calls = std::mem::take(&mut kernel.calls);
        self.has_write_failed = calls.iter().any(|call| matches!(call, Call::WriteFailed(_)));
        self.refused.clear();
        let was_paused = self.is_surely_paused();
        if !std::mem::take(&mut self.is_stop) {
            self.closes = 0;
        }
        let mut closed = Vec::new();
        for call in &calls {
            self.on_call(call, was_paused, &mut closed, kernel);
        }
        self.put_off_closes(&mut closed);
        self.check_candidates(&closed);
        self.check_limits(&closed);
        // Accepting may take several turns. Nothing is applied meanwhile, though a source may be closed and the stream
        // reset, and the server does not sleep.
        let applied = Counts::of(&snapshot.totals).applied();
        if snapshot.is_idle || applied != self.sequencer.counts().applied() {
            self.check_registered(&std::mem::take(&mut kernel.to_be_registered), kernel);
        }
        let was_paused = self.is_surely_paused();
        let awaited = self.sequencer.awaited();
        self.advance_sequencer(snapshot, &closed, was_paused);
        self.check_answers(awaited, &closed);
        self.disconnect_full_clients(&closed);
        self.clients.values_mut().for_each(Client::check_written);
        self.update_total_stall(snapshot);
        self.close(&closed);
        self.check_closed(snapshot);
        self.update_stalls(snapshot);
        self.check_counters(snapshot);
        if snapshot.is_idle {
            self.check_replays(snapshot, |id| kernel.sockets[id].is_write_blocked);
            self.check_quiescent(snapshot, kernel);
        }
    }

    /// Returns whether an event certainly waits for a queue as this turn begins, or would but for
    /// clients that left since: then nothing is read and nothing applied.
    fn is_surely_paused(&self) -> bool {
        let registered = || self.users.values().map(|id| &self.clients[id]);
        let queued: u64 = registered().map(Client::queued_before).sum();
        registered().any(|client| client.stall.is_some_and(|stall| stall.is_certain))
            || (!self.is_total_stall_stale
                && self
                    .total_stall
                    .is_some_and(|stall| stall.is_certain && queued > stall.low_watermark))
    }

    fn queued_total(&self) -> u64 {
        self.users.values().map(|id| self.clients[id].queued()).sum()
    }

    fn is_draining(&self) -> bool {
        self.drain_deadline.is_some()
    }

    fn is_drain_over(&self) -> bool {
        self.drain_deadline.is_some_and(|deadline| self.now >= deadline)
    }

    /// Returns whether all that was read has been applied, except for events after a gap.
    fn is_all_applied(&self) -> bool {
        self.sequencer.due().is_none() && self.sequencer.sources_with_lines().is_empty()
    }
}

/// Kernel calls of the server.
impl Model {
    fn on_call(
        &mut self,
        call: &Call,
        was_paused: bool,
        closed: &mut Vec<SocketId>,
        kernel: &Kernel,
    ) {
        let is_draining = self.is_draining();
        match call {
            Call::Accepted(id, side) => {
                assert!(!is_draining, "nothing is accepted during a shutdown");
                self.on_accept(*id, *side);
            }
            Call::AcceptFailed(side) => {
                self.backoff_until[*side as usize] = Some(self.now + ACCEPT_BACKOFF);
            }
            Call::Read(id, bytes) if self.sources.contains_key(id) => {
                assert!(!is_draining, "nothing is read during a shutdown");
                assert!(!was_paused, "nothing is read during a pause");
                let lines = self.sources.get_mut(id).map(|source| source.read(bytes));
                lines.into_iter().flatten().for_each(|line| self.sequencer.push(*id, line));
            }
            Call::Drained(id) => {
                if let Some(source) = self.sources.get_mut(id) {
                    source.is_drained = true;
                }
            }
            Call::Polled(ended) => self.ended = ended.iter().copied().collect(),
            Call::Read(id, _)
            | Call::ReadWouldBlock(id)
            | Call::ReadEnd(id)
            | Call::ReadFailed(id)
                if self.lingering.contains_key(id) || self.put_off.contains(id) => {}
            Call::Read(id, bytes) => self.on_id_bytes(*id, bytes),
            Call::ReadWouldBlock(id) => {
                if let Some(source) = self.sources.get_mut(id) {
                    source.is_drained = true;
                    source.is_admitted = true;
                }
            }
            Call::ReadEnd(id) => self.on_end(*id, CloseReason::ClosedByPeer),
            Call::ReadFailed(id) => self.on_end(*id, CloseReason::IoError),
            Call::Wrote(id, bytes) => match self.sources.get_mut(id) {
                Some(source) => source.just_written.extend(bytes),
                None => self.on_written(*id, bytes),
            },
            Call::WriteRefused(id) => drop(self.refused.insert(*id)),
            Call::WriteFailed(id) if self.sources.contains_key(id) => {
                let source = self.sources.get_mut(id);
                source.into_iter().for_each(|source| source.answers.is_broken = true);
            }
            Call::WriteFailed(id) => {
                let client = self.client(*id);
                client.is_broken = true;
                // A client that is taken over gets a last write before its close reason is decided.
                let reason =
                    client.expected_close.filter(|&reason| reason != CloseReason::TakenOver);
                client.expected_close = reason.or(Some(CloseReason::IoError));
            }
            Call::Registered(id, user) => self.on_registered(*id, *user),
            Call::GapTold(id, first, last) => self.tell_gap(*id, *first, *last),
            Call::CaughtUp(id) => self.end_replay(*id),
            Call::ShutDown(id) => {
                assert!(self.clients.contains_key(id), "{id} must be a client");
                self.lingering.insert(*id, self.now);
                self.shut_down(*id);
                closed.push(*id);
            }
            Call::Closed(id) if self.lingering.contains_key(id) => self.end_lingering(*id, kernel),
            Call::Closed(id) if self.put_off.remove(id) => self.closes += 1,
            Call::Closed(id) => {
                self.closes += usize::from(self.clients.contains_key(id));
                self.check_unread_input(*id);
                self.reject(*id);
                closed.push(*id);
            }
            Call::StoppedListening(side) => {
                assert!(is_draining, "the {side:?} listener closes only at a shutdown");
            }
        }
    }

    fn client(&mut self, id: SocketId) -> &mut Client {
        let Some(client) = self.clients.get_mut(&id) else { panic!("no client at socket {id}") };
        client
    }

    fn on_accept(&mut self, id: SocketId, side: Side) {
        match side {
            Side::Source => drop(self.sources.insert(id, Source::default())),
            Side::Client => drop(self.clients.insert(id, Client::new(self.now))),
        }
    }

    /// Checks what was written to sources in a turn before which `awaited_before` was awaited. The sources closed
    /// in it may have been answered before a reset.
    fn check_answers(&mut self, awaited_before: u64, closed: &[SocketId]) {
        for id in self.sequencer.take_synced() {
            let source = self.sources.get_mut(&id);
            source.into_iter().for_each(|source| source.answers.on_sync(awaited_before));
        }
        let awaited = self.sequencer.awaited();
        for (_, source) in self.sources.iter_mut().filter(|(id, _)| !closed.contains(id)) {
            let written = std::mem::take(&mut source.just_written);
            source.answers.check_written(&written, awaited);
        }
    }

    pub(crate) fn open_sources(&self) -> impl Iterator<Item = (SocketId, &Source)> {
        let sources = self.sources.iter().map(|(&id, source)| (id, source));
        sources.filter(|(_, source)| !source.is_rejected)
    }

    fn on_id_bytes(&mut self, id: SocketId, bytes: &[u8]) {
        let is_draining = self.is_draining();
        let may_resume = self.limits.resume_events > 0;
        let client = self.client(id);
        if client.user.is_some() || client.expected_close.is_some() || is_draining {
            return;
        }
        match client.read_id(bytes, may_resume) {
            Some(Some(line)) => self.candidates.push((id, line)),
            Some(None) => self.client(id).expected_close = Some(CloseReason::BadId),
            None => {}
        }
    }

    fn register(&mut self, id: SocketId, user: u64) {
        self.client(id).user = Some(user);
        if let Some(older) = self.users.insert(user, id) {
            // If it has ended too, both reasons are valid.
            let has_ended = self.ended.contains(&older);
            let older = self.client(older);
            older.may_have_ended |= has_ended && older.expected_close.is_none();
            older.expected_close.get_or_insert(CloseReason::TakenOver);
            self.is_total_stall_stale = true;
        }
    }

    fn on_end(&mut self, id: SocketId, reason: CloseReason) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.finish(reason);
            return;
        }
        let is_draining = self.is_draining();
        let client = self.client(id);
        client.is_read_to_end = true;
        if client.expected_close.is_none() && !is_draining {
            client.expected_close = Some(reason);
            self.unregister(id);
        }
    }

    /// Unregisters the user, unless another connection has taken over.
    fn unregister(&mut self, id: SocketId) {
        let before = self.users.len();
        self.users.retain(|_, &mut connection| connection != id);
        self.is_total_stall_stale |= self.users.len() < before;
    }

    fn on_written(&mut self, id: SocketId, bytes: &[u8]) {
        self.bytes_written += bytes.len() as u64;
        let client = self.client(id);
        client.written += bytes.len() as u64;
        client.just_written.extend(bytes);
    }
}
