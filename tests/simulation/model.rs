//! What PROTOCOL.md says, as plainly as it can be said.
//!
//! After each turn the model is shown what the server did with the kernel, in order: what it
//! accepted, read, wrote and closed. From that it knows what has to be true:
//!
//! - The bytes read from the sources give the lines; the lines give the order, whatever the order in
//!   which the sources were served. How far the server has come in it is told by its counters, all
//!   of which have to be those of one and the same moment of the model's own run.
//! - A client is registered from the turn on in which its id line was read; every client whose id
//!   line was in the kernel when a source was read is registered by the end of that turn, and thus
//!   before what was read can be applied.
//! - So for each event it is known who is to get it. What a client's socket has taken is always the
//!   beginning of all that it is to get; the rest is its queue, and the limits hold for that.
//! - A turn ends at rest only if nothing can be done: no client has bytes that its socket has not
//!   refused, no socket has anything to read that the poll has told of, and an event waits only for
//!   a queue that has to come down first.
//! - Connections are closed for the reasons, and by the times, that the settings name; not before.

use std::collections::{BTreeMap, BTreeSet};

use eventserver::config::{Config, OnSourceDisconnect, SlowClient};
use eventserver::hub::{Capacity, CloseReason, Stats};

use super::client::{Client, Stall};
use super::kernel::{Call, Kernel, SocketId};
use super::order::Order;
use super::socket::Side;
use super::source::Source;

/// How long accepting rests for want of descriptors, in milliseconds.
const ACCEPT_BACKOFF: u64 = 500;

/// How long a closed connection may wait for its peer to end, in milliseconds.
const LINGER_TIMEOUT: u64 = 2000;

/// How a turn ended.
pub(crate) struct Ending {
    /// In milliseconds.
    pub(crate) now: u64,
    pub(crate) totals: Stats,
    /// How many lines of each open source were looked at.
    pub(crate) lines_received: BTreeMap<SocketId, u64>,
    /// The server sleeps until something is ready.
    pub(crate) is_at_rest: bool,
    /// But not longer than this.
    pub(crate) wakes_at: Option<u64>,
}

/// The limits of a run, as plain numbers; times are in milliseconds.
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
}

impl Limits {
    pub(crate) fn new(config: &Config, capacity: Capacity) -> Limits {
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
        }
    }
}

mod admission;
mod ends;
mod rest;
mod routing;

/// The whole server, naively.
pub(crate) struct Model {
    limits: Limits,
    pub(crate) order: Order,
    sources: BTreeMap<SocketId, Source>,
    pub(crate) clients: BTreeMap<SocketId, Client>,
    /// The one connection of each connected user.
    pub(crate) users: BTreeMap<u64, SocketId>,
    /// Clients whose id line was read in this turn while no place was free.
    candidates: Vec<(SocketId, u64)>,
    /// Connections that had ended when the server polled last, as far as it was told.
    ended: BTreeSet<SocketId>,
    /// Connections that the server has shut down, and when.
    pub(crate) lingering: BTreeMap<SocketId, u64>,
    /// Who follows whom.
    follows: BTreeSet<(u64, u64)>,
    /// The missing sequence that holds up others, and since when.
    gap: Option<(u64, u64)>,
    total_stall: Option<Stall>,
    /// A user has left since that began: for those who remain less may be needed.
    is_total_stall_stale: bool,
    /// Accepting rests until then, by side.
    backoff_until: [Option<u64>; 2],
    /// When a stop gives up.
    pub(crate) drain_deadline: Option<u64>,
    clients_closed: [u64; CloseReason::COUNT],
    /// Of those taken over, how many the server may have closed for their end.
    ended_takeovers: u64,
    /// Clients whose sockets have refused bytes in this turn.
    refused: BTreeSet<SocketId>,
    /// A write has failed in this turn.
    has_write_failed: bool,
    sources_closed: [u64; CloseReason::COUNT],
    unterminated: u64,
    bytes_written: u64,
    /// The least and the most that the server may have counted: an event for a client about to be
    /// closed may count or not.
    deliveries: (u64, u64),
    /// Clients that the server has closed, for what reason, and what they were to get.
    pub(crate) gone: BTreeMap<SocketId, (CloseReason, Client)>,
    now: u64,
}

impl Model {
    pub(crate) fn new(config: &Config, limits: Limits) -> Model {
        Model {
            limits,
            order: Order::new(config.first_sequence, config.reorder_window, config.max_line_bytes),
            sources: BTreeMap::new(),
            clients: BTreeMap::new(),
            users: BTreeMap::new(),
            candidates: Vec::new(),
            ended: BTreeSet::new(),
            lingering: BTreeMap::new(),
            follows: BTreeSet::new(),
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
            gone: BTreeMap::new(),
            now: 0,
        }
    }

    /// The server was told to stop, and to give up at `deadline`.
    pub(crate) fn stop(&mut self, deadline: u64) {
        self.drain_deadline.get_or_insert(deadline);
        self.backoff_until = [None; 2];
        self.gap = None;
    }

    /// Takes note of a turn, and checks all that is known of it.
    pub(crate) fn observe(&mut self, ending: &Ending, kernel: &mut Kernel) {
        self.now = ending.now;
        let calls = std::mem::take(&mut kernel.calls);
        self.has_write_failed = calls.iter().any(|call| matches!(call, Call::WriteFailed(_)));
        self.refused.clear();
        let was_paused = self.is_surely_paused();
        let mut closed = Vec::new();
        for call in &calls {
            self.take(call, was_paused, &mut closed, kernel);
        }
        self.settle_candidates(&closed);
        self.check_limits(&closed);
        self.check_registered(&std::mem::take(&mut kernel.to_be_registered), kernel);
        let was_paused = self.is_surely_paused();
        self.follow_the_order(ending, &closed, was_paused);
        self.give_up_full_clients(&closed);
        self.clients.values_mut().for_each(Client::check_written);
        self.watch_total(ending);
        self.close(&closed);
        self.check_closed(ending);
        self.watch_stalls(ending);
        self.check_counters(ending);
        if ending.is_at_rest {
            self.check_rest(ending, kernel);
        }
    }

    /// Whether an event is known to wait for a queue as this turn begins, or would but for those
    /// who have left since: then nothing is read and nothing applied.
    fn is_surely_paused(&self) -> bool {
        let members = || self.users.values().map(|id| &self.clients[id]);
        let queued: u64 = members().map(Client::queued_before).sum();
        members().any(|client| client.stall.is_some_and(|stall| stall.is_certain))
            || (!self.is_total_stall_stale
                && self.total_stall.is_some_and(|stall| stall.is_certain && queued > stall.target))
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

    /// Whether all that was read has been applied, but for what waits behind a gap.
    fn is_all_applied(&self) -> bool {
        self.order.due().is_none() && self.order.sources_with_lines().is_empty()
    }
}

/// What the server did with the kernel.
impl Model {
    fn take(&mut self, call: &Call, was_paused: bool, closed: &mut Vec<SocketId>, kernel: &Kernel) {
        let is_draining = self.is_draining();
        match call {
            Call::Accepted(id, side) => {
                assert!(!is_draining, "a stop ends accepting");
                self.welcome(*id, *side);
            }
            Call::AcceptFailed(side) => {
                self.backoff_until[*side as usize] = Some(self.now + ACCEPT_BACKOFF);
            }
            Call::Read(id, bytes) if self.sources.contains_key(id) => {
                assert!(!is_draining, "a stop ends reading");
                assert!(!was_paused, "a pause ends reading");
                let lines = self.sources.get_mut(id).map(|source| source.read(bytes));
                lines.into_iter().flatten().for_each(|line| self.order.put(*id, line));
            }
            Call::Polled(ended) => self.ended = ended.iter().copied().collect(),
            Call::Read(id, _) | Call::ReadDry(id) | Call::ReadEnd(id) | Call::ReadFailed(id)
                if self.lingering.contains_key(id) => {}
            Call::Read(id, bytes) => self.introduce(*id, bytes),
            Call::ReadDry(id) => {
                if let Some(source) = self.sources.get_mut(id) {
                    source.is_dry = true;
                    source.is_admitted = true;
                } else {
                    self.settle_candidate(*id);
                }
            }
            Call::ReadEnd(id) => self.end(*id, CloseReason::ClosedByPeer),
            Call::ReadFailed(id) => self.end(*id, CloseReason::IoError),
            Call::Wrote(id, bytes) => self.note_written(*id, bytes),
            Call::WriteRefused(id) => drop(self.refused.insert(*id)),
            Call::WriteFailed(id) => {
                let client = self.client(*id);
                client.is_broken = true;
                // Who is taken over gets a last write, before its end has a reason.
                let fate = client.fate.filter(|&fate| fate != CloseReason::TakenOver);
                client.fate = fate.or(Some(CloseReason::IoError));
            }
            Call::ShutDown(id) => {
                assert!(self.clients.contains_key(id), "{id} is a client");
                self.lingering.insert(*id, self.now);
                self.shut_down(*id);
                closed.push(*id);
            }
            Call::Closed(id) if self.lingering.contains_key(id) => self.end_lingering(*id, kernel),
            Call::Closed(id) => {
                self.turn_away(*id);
                closed.push(*id);
            }
            Call::StoppedListening(side) => {
                assert!(is_draining, "{side:?}s are not heard any more");
            }
        }
    }

    fn client(&mut self, id: SocketId) -> &mut Client {
        let Some(client) = self.clients.get_mut(&id) else { panic!("no client at socket {id}") };
        client
    }

    fn welcome(&mut self, id: SocketId, side: Side) {
        match side {
            Side::Source => drop(self.sources.insert(id, Source::default())),
            Side::Client => drop(self.clients.insert(id, Client::new(self.now))),
        }
    }

    pub(crate) fn open_sources(&self) -> impl Iterator<Item = (SocketId, &Source)> {
        let sources = self.sources.iter().map(|(&id, source)| (id, source));
        sources.filter(|(_, source)| !source.is_turned_away)
    }

    fn introduce(&mut self, id: SocketId, bytes: &[u8]) {
        let is_draining = self.is_draining();
        self.settle_candidate(id);
        let client = self.client(id);
        if client.user.is_some() || client.fate.is_some() || is_draining {
            return;
        }
        let introduced = client.introduce(bytes);
        match introduced {
            Some(Some(user)) if self.has_room_for(user) => self.register(id, user),
            Some(Some(user)) => self.candidates.push((id, user)),
            Some(None) => self.client(id).fate = Some(CloseReason::BadId),
            None => {}
        }
    }

    fn register(&mut self, id: SocketId, user: u64) {
        self.client(id).user = Some(user);
        if let Some(older) = self.users.insert(user, id) {
            // Of one that has ended, too, either may be said.
            let has_ended = self.ended.contains(&older);
            let older = self.client(older);
            older.may_have_ended |= has_ended && older.fate.is_none();
            older.fate.get_or_insert(CloseReason::TakenOver);
            self.is_total_stall_stale = true;
        }
    }

    fn end(&mut self, id: SocketId, reason: CloseReason) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.finish(reason);
            return;
        }
        self.settle_candidate(id);
        let is_draining = self.is_draining();
        let client = self.client(id);
        if client.fate.is_none() && !is_draining {
            client.fate = Some(reason);
            self.depart(id);
        }
    }

    /// The user is not connected any more, unless by another connection.
    fn depart(&mut self, id: SocketId) {
        let before = self.users.len();
        self.users.retain(|_, &mut member| member != id);
        self.is_total_stall_stale |= self.users.len() < before;
    }

    fn note_written(&mut self, id: SocketId, bytes: &[u8]) {
        self.bytes_written += bytes.len() as u64;
        let client = self.client(id);
        client.written += bytes.len() as u64;
        client.just_written.extend(bytes);
    }
}
