//! All client connections: accepts, identifies, registers and closes them, and discards their input.

mod admission;
mod client;
mod handshake;
mod identity;
mod ip_limiter;
mod lingering;
mod put_off;
mod put_off_ids;
mod read_list;
mod table;

use std::io::Write;
use std::net::SocketAddr;
use std::time::Instant;

use log::Level;

pub(crate) use self::client::Client;
pub(crate) use self::table::ClientTable;

use self::admission::{Admission, Candidate};
use self::handshake::{Handshake, HandshakeTimeouts};
use self::lingering::{LingerTimeouts, Lingering};
use self::put_off::PutOffCloses;
use self::put_off_ids::PutOffIds;
use self::read_list::ReadList;
use super::Readiness;
use crate::config::Config;
use crate::hub::capacity::Capacity;
use crate::hub::close_reason::CloseReason;
use crate::hub::connection::{DiscardOutcome, Disconnect, discard};
use crate::hub::context::Context;
use crate::hub::listener::Listener;
use crate::hub::log_limiter::{CausedBy, LogKind};
use crate::hub::log_line::log_line;
use crate::hub::recent_closes::{ClosedConnection, Side};
use crate::hub::registry::Registry;
use crate::hub::token::ClientKey;
use crate::hub::transport::{Acceptor, BACKLOG, Stream};
use crate::protocol::UserId;

/// The maximum number of clients over a limit that await a decision at once. They use descriptors
/// of the reserve.
const MAX_UNDECIDED: usize = 8;

/// The maximum number of connections accepted before events are applied, in one turn or several: one listen
/// backlog.
const MAX_ACCEPTS_IN_DRAIN: usize = BACKLOG as usize;

/// The client connections, from the accept to the close.
///
/// Before a client is rejected for a limit, the disconnects known to the kernel are read: a poll
/// after the client was accepted reports every disconnect that preceded it. Until then the client is
/// a candidate.
pub(super) struct Clients<A: Acceptor> {
    listener: Listener<A>,
    table: ClientTable<A::Stream>,
    admission: Admission,
    /// Clients over a limit, until the disconnects known to the kernel have been read.
    candidates: Vec<Candidate>,
    read_list: ReadList,
    put_off_ids: PutOffIds,
    /// Connections that may still be accepted in this turn.
    accepts_left: usize,
    /// Connections that may still be accepted until events are applied.
    accepts_left_in_drain: usize,
    handshake_timeouts: HandshakeTimeouts,
    linger_timeouts: LingerTimeouts,
    put_off_closes: PutOffCloses,
}

impl<A: Acceptor> Clients<A> {
    pub(super) fn new(acceptor: A, config: &Config) -> Clients<A> {
        Clients {
            listener: Listener::new(acceptor),
            table: ClientTable::new(),
            admission: Admission::new(config.max_clients_per_address),
            candidates: Vec::new(),
            read_list: ReadList::default(),
            put_off_ids: PutOffIds::default(),
            accepts_left: 0,
            accepts_left_in_drain: MAX_ACCEPTS_IN_DRAIN,
            handshake_timeouts: HandshakeTimeouts::new(config.identify_timeout),
            linger_timeouts: LingerTimeouts::new(),
            put_off_closes: PutOffCloses::default(),
        }
    }

    /// Changes the settings, between two turns.
    pub(super) fn reconfigure(&mut self, config: &Config) {
        self.handshake_timeouts.set_timeout(config.identify_timeout);
        let peers = self.table.iter().map(|(_, client)| client.peer());
        self.admission.set_max_per_address(config.max_clients_per_address, peers);
    }

    /// Returns the listening socket, until it is closed.
    pub(super) fn acceptor_mut(&mut self) -> Option<&mut A> {
        self.listener.acceptor_mut()
    }

    pub(super) fn table(&self) -> &ClientTable<A::Stream> {
        &self.table
    }

    pub(super) fn table_mut(&mut self) -> &mut ClientTable<A::Stream> {
        &mut self.table
    }

    /// Returns the number of open clients, registered or not.
    pub(super) fn open(&self) -> usize {
        self.admission.open()
    }

    /// Returns the number of connections, open or lingering.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns whether no connection is left.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Returns whether another turn has clients to accept, to read or to close without new readiness.
    pub(super) fn has_work_left(&self) -> bool {
        !self.read_list.is_empty()
            || !self.put_off_ids.is_empty()
            || self.listener.is_ready()
            || !self.put_off_closes.is_empty()
    }

    /// Returns whether, at the beginning of the turn, ID lines had to be read before anything more is read from sources.
    pub(super) fn owes_ids(&self) -> bool {
        self.put_off_ids.is_continued()
    }

    /// Returns when the next timeout of a client may expire, if ever.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let timeouts =
            [self.handshake_timeouts.next_deadline(), self.linger_timeouts.next_deadline()];
        timeouts.into_iter().flatten().min()
    }

    /// Returns the end of the accept back-off, if one is running.
    pub(super) fn backoff_until(&self) -> Option<Instant> {
        self.listener.backoff_until()
    }

    /// Panics unless the invariants between two turns hold.
    pub(super) fn check(&self) {
        assert_eq!(self.open(), self.table.iter().count(), "every open client is counted");
        assert!(self.candidates.is_empty(), "candidates are decided on within the turn");
        for (key, client) in self.table.iter() {
            assert!(!client.is_closing, "pending closes are completed within the turn: {key:?}");
        }
    }
}

/// Readiness.
impl<A: Acceptor> Clients<A> {
    /// Records that connections may be pending.
    pub(super) fn set_listener_readable(&mut self) {
        self.listener.set_readable();
    }

    /// Records the readiness of a connection to be read.
    pub(super) fn on_readable(&mut self, key: ClientKey, readiness: &Readiness) {
        let &Readiness { readable, read_closed, .. } = readiness;
        if let Some(lingering) = self.table.lingering_mut(key) {
            if readable && !lingering.in_read_list {
                lingering.in_read_list = true;
                self.read_list.push(key);
            }
            return;
        }
        let Some(client) = self.table.get_mut(key) else { return };
        let input = &mut client.input;
        // A client that is already listed is listed again when its end becomes known.
        let has_news = !input.in_read_list || (read_closed && !input.has_ended());
        if read_closed {
            input.announce_end();
        }
        if readable && has_news {
            input.in_read_list = true;
            self.read_list.push(key);
        }
    }
}

/// Accepting and admitting.
impl<A: Acceptor> Clients<A> {
    /// Renews the budgets for a turn, and closes connections that the turns before have put off.
    pub(super) fn begin_turn(&mut self, cx: &Context) {
        self.put_off_closes.begin_turn(&mut self.table, cx.budgets.closes);
        self.accepts_left = cx.budgets.accepts.min(self.accepts_left_in_drain);
        self.read_list.discard_budget = cx.budgets.discarded_bytes;
        self.put_off_ids.begin_turn(cx.budgets.identifies);
    }

    /// Accepts clients until none is pending, or until as many as possible await a decision.
    pub(super) fn accept(&mut self, cx: &mut Context) {
        while self.accepts_left > 0 && self.candidates.len() < MAX_UNDECIDED {
            self.accepts_left -= 1;
            self.accepts_left_in_drain -= 1;
            match self.listener.accept(self.table.vacant_key().token(), cx.now) {
                Ok(Some((stream, peer))) => self.add(stream, peer, cx),
                Ok(None) => return,
                Err(error) => return cx.on_accept_error("client", &error),
            }
        }
    }

    fn add(&mut self, stream: A::Stream, peer: SocketAddr, cx: &mut Context) {
        cx.counters.clients_accepted += 1;
        let key = self.table.insert(stream, peer, cx.now);
        match self.admit(peer, cx.capacity) {
            Ok(()) => self.start_handshake(key, cx.now),
            Err(_) => self.await_admission(Candidate { key, id: None }),
        }
    }

    fn admit(&mut self, peer: SocketAddr, capacity: Capacity) -> Result<(), CloseReason> {
        self.admission.admit(peer, capacity)?;
        self.evict_lingering(capacity);
        Ok(())
    }

    fn start_handshake(&mut self, key: ClientKey, now: Instant) {
        self.handshake_timeouts.start(key, now);
        self.read_list.push(key);
    }

    fn await_admission(&mut self, candidate: Candidate) {
        if let Some(client) = self.table.get_mut(candidate.key) {
            client.input.awaits_admission = true;
            self.candidates.push(candidate);
        }
    }

    /// Returns and forgets the clients over a limit. The caller polls before it passes them to
    /// [`decide`](Self::decide); clients that become candidates meanwhile need another poll.
    pub(super) fn take_candidates(&mut self) -> Vec<Candidate> {
        std::mem::take(&mut self.candidates)
    }

    /// Admits the candidates for which there is capacity by now, and rejects all others.
    pub(super) fn decide(&mut self, mut candidates: Vec<Candidate>, registry: &mut Registry<'_>) {
        // Identified clients first, because closing one frees capacity for another connection.
        candidates.sort_by_key(|candidate| candidate.id.is_none());
        for candidate in candidates {
            if self.decide_on(candidate, registry) {
                self.read_ends(registry);
            }
            self.close_pending(registry);
        }
    }

    /// Admits a candidate if there is capacity by now, or rejects it. Returns whether its peer is
    /// known to have closed.
    fn decide_on(&mut self, candidate: Candidate, registry: &mut Registry<'_>) -> bool {
        let Candidate { key, id } = candidate;
        let Some(client) = self.table.get_mut(key) else { return false };
        client.input.awaits_admission = false;
        if client.is_closing {
            return false;
        }
        let (peer, is_peer_closed) = (client.peer(), client.input.has_ended());
        match id {
            Some(id) if registry.has_capacity_for(id.user) => {
                registry.register(&mut self.table, key, id);
                self.list_for_reading(key);
            }
            Some(_) if is_peer_closed => {
                self.table.schedule_close(key, CloseReason::ClosedByPeer);
            }
            Some(_) => self.table.schedule_close(key, CloseReason::TooManyClients),
            None => match self.admit(peer, registry.cx.capacity) {
                Ok(()) => self.start_handshake(key, registry.cx.now),
                Err(reason) => {
                    self.table.remove(key);
                    self.log_rejected(peer, reason, registry.cx);
                }
            },
        }
        is_peer_closed
    }

    fn log_rejected(&self, peer: SocketAddr, reason: CloseReason, cx: &mut Context) {
        record_closed(peer, None, &reason.into(), (false, 0), cx);
        let connected = self.open();
        cx.log(
            LogKind::ClientClosed(reason),
            Level::Warn,
            log_line!(
                "rejected client {peer}: {reason}, {connected} clients are connected";
                peer = peer, reason = reason
            ),
        );
    }
}

/// Reading.
impl<A: Acceptor> Clients<A> {
    /// Reads the listed connections: id lines within their budget, and input that is discarded. After
    /// [`stop`](Self::stop) only lingering connections are read.
    pub(super) fn read(&mut self, registry: &mut Registry<'_>) {
        self.read_late(registry);
        while let Some(key) = self.put_off_ids.pop() {
            self.read_if_open(key, registry, Self::read_client);
        }
        for key in self.read_list.take() {
            self.read_if_open(key, registry, Self::read_client);
        }
    }

    /// Reads clients that were put off and whose time is over, because their ID lines may have arrived in time.
    fn read_late(&mut self, registry: &mut Registry<'_>) {
        let now = registry.cx.now;
        if self.handshake_timeouts.next_deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let is_late = |key| {
            let handshake = self.table.get(key).and_then(Client::handshake);
            handshake.is_some_and(|handshake| self.handshake_timeouts.is_over(handshake, now))
        };
        for key in self.put_off_ids.take(is_late) {
            self.read_if_open(key, registry, Self::read_to_end);
        }
    }

    /// Reads the listed connections, and those with known ends though the budget of ID lines is used up: an end may
    /// make room for a client over a limit.
    pub(super) fn read_ends(&mut self, registry: &mut Registry<'_>) {
        let has_ended =
            |key| self.table.get(key).is_some_and(|client: &Client<_>| client.input.has_ended());
        for key in self.put_off_ids.take_ended(has_ended) {
            self.read_if_open(key, registry, Self::read_to_end);
        }
        for key in self.read_list.take() {
            let read = match self.table.get(key) {
                Some(client) if client.input.has_ended() => Self::read_to_end,
                _ => Self::read_client,
            };
            self.read_if_open(key, registry, read);
        }
    }

    /// Reads a connection that lingers, or with `read` one of a client.
    fn read_if_open(
        &mut self,
        key: ClientKey,
        registry: &mut Registry<'_>,
        read: fn(&mut Self, ClientKey, &mut Registry<'_>),
    ) {
        if self.table.lingering_mut(key).is_some() {
            self.read_lingering(key, registry.cx);
        } else if !self.listener.is_closed() {
            read(self, key, registry);
        }
    }

    /// Ends reading for this turn: what is left is read in the next one. Returns whether events may be applied:
    /// the kernel holds no more connections, or a backlog of them was accepted since that was last so; and the ID lines
    /// were read that had arrived when sources were last read.
    pub(super) fn end_reading(&mut self) -> bool {
        self.read_list.end_turn();
        let is_accepted = !self.listener.is_ready() || self.accepts_left_in_drain == 0;
        let is_drained = is_accepted && !self.put_off_ids.is_any_owed();
        if is_drained {
            self.accepts_left_in_drain = MAX_ACCEPTS_IN_DRAIN;
        }
        is_drained
    }

    fn list_for_reading(&mut self, key: ClientKey) {
        if let Some(client) = self.table.get_mut(key) {
            client.input.in_read_list = true;
            self.read_list.push(key);
        }
    }

    /// Reads the input of a client, or puts it off if it is an ID line beyond the budget. A client whose time is over is
    /// read all the same.
    fn read_client(&mut self, key: ClientKey, registry: &mut Registry<'_>) {
        let Some(client) = self.table.get_mut(key) else { return };
        if let Some(handshake) = client.handshake()
            && !client.is_closing
            && !client.input.awaits_admission
            && !self.handshake_timeouts.is_over(handshake, registry.cx.now)
            && !self.put_off_ids.take_from_budget()
        {
            let (is_new, has_ended) = (handshake.is_new(), client.input.has_ended());
            client.input.in_read_list = true;
            self.put_off_ids.push(key, is_new, has_ended);
            return;
        }
        self.read_to_end(key, registry);
    }

    /// Reads the input of a client. If more may follow, lists the client for the next turn.
    fn read_to_end(&mut self, key: ClientKey, registry: &mut Registry<'_>) {
        let Some(client) = self.table.get_mut(key) else { return };
        client.input.in_read_list = false;
        if client.is_closing || client.input.awaits_admission {
            return;
        }
        if client.handshake().is_some() && !self.identify(key, registry) {
            return;
        }
        self.discard_input(key, registry);
    }

    /// Discards the input of an identified client, within its budget.
    fn discard_input(&mut self, key: ClientKey, registry: &mut Registry<'_>) {
        let is_deferred = self.read_list.discard_budget == 0;
        let share = registry.cx.budgets.discarded_bytes_per_client;
        let Some(client) = self.table.get_mut(key) else { return };
        match client.discard_input(share, &mut self.read_list.discard_budget) {
            DiscardOutcome::Drained => {}
            // The end of the stream follows input that would only be discarded.
            DiscardOutcome::BudgetExhausted if client.input.has_ended() => {
                self.on_disconnected(key, CloseReason::ClosedByPeer.into(), registry);
            }
            DiscardOutcome::BudgetExhausted => {
                client.input.in_read_list = true;
                self.read_list.push_for_next_turn(key, is_deferred);
            }
            DiscardOutcome::Closed(end) => self.on_disconnected(key, end, registry),
        }
    }

    /// Reads the id line of a client. Returns whether the client is now registered.
    fn identify(&mut self, key: ClientKey, registry: &mut Registry<'_>) -> bool {
        let Some(client) = self.table.get_mut(key) else { return false };
        match client.read_id(registry.cx.config.resume_events > 0) {
            None => {}
            Some(Ok(id)) if registry.has_capacity_for(id.user) => {
                registry.register(&mut self.table, key, id);
                return true;
            }
            // The peer is gone, so registering it is pointless.
            Some(Ok(_)) if client.input.has_ended() => {
                self.table.schedule_close(key, CloseReason::ClosedByPeer);
            }
            Some(Ok(id)) => self.await_admission(Candidate { key, id: Some(id) }),
            Some(Err(end)) => self.table.schedule_close(key, end),
        }
        false
    }

    /// Discards the input of a lingering connection, and removes the connection at its end.
    fn read_lingering(&mut self, key: ClientKey, cx: &Context) {
        let Some(lingering) = self.table.lingering_mut(key) else { return };
        let is_deferred = self.read_list.discard_budget == 0;
        let share = cx.budgets.discarded_bytes_per_client;
        let outcome = discard(&mut lingering.stream, share, &mut self.read_list.discard_budget);
        lingering.in_read_list = matches!(outcome, DiscardOutcome::BudgetExhausted);
        match outcome {
            DiscardOutcome::Drained => {}
            DiscardOutcome::BudgetExhausted => {
                self.read_list.push_for_next_turn(key, is_deferred);
            }
            DiscardOutcome::Closed(_) => self.table.remove(key),
        }
    }

    /// Unregisters a client whose peer has disconnected, and schedules its close.
    fn on_disconnected(&mut self, key: ClientKey, end: Disconnect, registry: &mut Registry<'_>)
    where
        A::Stream: Write,
    {
        if end.error.is_none() {
            registry.outbound.flush_ended(&mut self.table, key);
        }
        registry.unregister(&mut self.table, key);
        self.table.schedule_close(key, end);
    }
}

/// Timeouts and closing.
impl<A: Acceptor> Clients<A> {
    /// Schedules the close of clients whose identification timeout has expired.
    pub(super) fn expire_handshakes(&mut self, now: Instant) {
        self.handshake_timeouts.expire(&mut self.table, now);
    }

    /// Closes lingering connections whose timeout has expired.
    pub(super) fn expire_lingering(&mut self, now: Instant) {
        self.linger_timeouts.expire(&mut self.table, now);
    }

    /// Closes all lingering connections, and those whose close was put off.
    pub(super) fn close_lingering(&mut self) {
        self.put_off_closes.close_down_to(&mut self.table, 0);
        self.linger_timeouts.evict_all(&mut self.table);
    }

    /// Closes connections whose close was put off, then the oldest lingering ones, if open clients need their
    /// descriptors.
    fn evict_lingering(&mut self, capacity: Capacity) {
        let unused = self.admission.unused(capacity);
        self.put_off_closes.close_down_to(&mut self.table, unused);
        self.linger_timeouts.evict(&mut self.table, unused);
    }

    /// Closes the listener, and schedules the close of clients that have not identified themselves.
    pub(super) fn stop(&mut self) {
        self.listener.close();
        let clients = self.table.iter().filter(|(_, client)| client.handshake().is_some());
        let unidentified: Vec<ClientKey> = clients.map(|(key, _)| key).collect();
        for key in unidentified {
            self.table.schedule_close(key, CloseReason::Stopped);
        }
    }

    /// Closes the clients whose close is scheduled. No key is freed before all readiness of the turn
    /// is applied, so that stale readiness cannot reach a new client with the same key.
    pub(super) fn close_pending(&mut self, registry: &mut Registry<'_>) {
        registry.unregister_departed(&self.table);
        for (key, end) in self.table.take_pending_closes() {
            self.close(key, &end, registry);
        }
    }

    fn close(&mut self, key: ClientKey, end: &Disconnect, registry: &mut Registry<'_>) {
        // Its connection is not written to any more; what it was not flushed for counts as unwritten.
        registry.outbound.flush_ended(&mut self.table, key);
        registry.unregister(&mut self.table, key);
        let Some(mut client) = self.table.take(key) else { return };
        self.admission.release(client.peer());
        let unwritten = registry.outbound.release(key, client.output_mut());
        log_closed(&client, end, unwritten, registry.cx);
        let may_linger =
            client.user().is_some() && end.error.is_none() && !client.input.is_read_to_end();
        if may_linger {
            self.linger(key, client.stream, registry.cx);
        } else if self.put_off_closes.take_from_budget() {
            self.table.remove(key);
        } else {
            self.put_off_closes.push(&mut self.table, key, client.stream, registry.cx.now);
            self.evict_lingering(registry.cx.capacity);
        }
    }

    /// Closes a connection without losing bytes in flight: shuts down the sending side, and
    /// discards input until the peer closes too.
    fn linger(&mut self, key: ClientKey, mut stream: A::Stream, cx: &Context) {
        if stream.shutdown_write().is_err() {
            self.table.remove(key);
            return;
        }
        self.table.linger(
            key,
            Lingering { stream, since: cx.now, is_put_off: false, in_read_list: true },
        );
        self.linger_timeouts.start(key, cx.now);
        self.read_list.push(key);
        self.evict_lingering(cx.capacity);
    }
}

/// Counts the close of a client, and keeps it among the recent ones, with whether it is expected and the number of
/// queued bytes that were not written.
fn record_closed(
    peer: SocketAddr,
    user: Option<UserId>,
    end: &Disconnect,
    (is_expected, unwritten_bytes): (bool, u64),
    cx: &mut Context,
) {
    cx.counters.clients_closed.count(end.reason);
    cx.recent_closes.push(ClosedConnection {
        side: Side::Client,
        user,
        peer,
        reason: end.reason,
        is_expected,
        input: end.input.clone(),
        unwritten_bytes,
        at: cx.now,
    });
}

/// Counts and logs the close of a client.
fn log_closed<S>(client: &Client<S>, end: &Disconnect, unwritten: u64, cx: &mut Context) {
    let &Disconnect { reason, ref error, .. } = end;
    // A reset before any bytes is what health checks do.
    let is_probe = end.is_reset() && client.handshake().is_some_and(Handshake::is_empty);
    let is_expected = reason.is_expected() || is_probe;
    record_closed(client.peer(), client.user(), end, (is_expected, unwritten), cx);
    let level = if is_expected { Level::Info } else { Level::Warn };
    let (kind, peer, cause) =
        (LogKind::ClientClosed(reason), client.peer(), CausedBy(error.as_ref()));
    match client.user() {
        Some(user) => cx.log(
            kind,
            level,
            log_line!(
                "user {user} at {peer} closed: {reason}{cause}, {bytes} bytes queued";
                user = user, peer = peer, reason = reason, bytes = unwritten
            ),
        ),
        None => match (&end.input, &end.hint) {
            (Some(input), Some(hint)) => cx.log(
                kind,
                level,
                log_line!(
                    "client {peer} closed before identifying: {reason}: {input}: {hint}";
                    peer = peer, reason = reason
                ),
            ),
            _ => cx.log(
                kind,
                level,
                log_line!(
                    "client {peer} closed before identifying: {reason}{cause}";
                    peer = peer, reason = reason
                ),
            ),
        },
    }
}
