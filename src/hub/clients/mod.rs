//! Clients: accept, identify, register, discard input.

pub(crate) mod client;
pub(super) mod ip_limiter;
pub(super) mod lingering;
pub(crate) mod table;

use std::io;
use std::net::SocketAddr;

use log::Level;

use super::{Hub, Readiness};
use crate::engine::Registration;
use crate::hub::clients::client::{Client, ClientState, MAX_ID_LINE_BYTES};
use crate::hub::close_reason::CloseReason;
use crate::hub::connection::{Disconnect, ReadOutcome, try_read};
use crate::hub::log_limiter::LogKind;
use crate::hub::token::ClientKey;
use crate::hub::transport::{Acceptor, BACKLOG};
use crate::protocol::{LineFrame, UserId, is_http_request_line};

/// The maximum number of clients over a limit that await a decision at once. They use descriptors
/// of the reserve.
const MAX_UNDECIDED: usize = 8;

/// A client over a limit, which is rejected unless a disconnect frees capacity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    key: ClientKey,
    /// The user id; `None` for a connection that was just accepted.
    user: Option<UserId>,
}

/// The remaining budget of a turn for clients, and the clients left for the next turn.
#[derive(Debug)]
struct ClientTurn {
    accepts_left: i32,
    discard_budget: usize,
    /// Clients not read because the budget was exhausted: first in the next turn.
    deferred: Vec<ClientKey>,
    /// Clients that used their share of the budget and may have more input.
    partially_read: Vec<ClientKey>,
}

impl ClientTurn {
    fn list(&mut self, is_deferred: bool) -> &mut Vec<ClientKey> {
        if is_deferred { &mut self.deferred } else { &mut self.partially_read }
    }
}

impl<A: Acceptor> Hub<A> {
    /// Accepts and reads clients until the kernel has no more of their connections and input.
    ///
    /// Before a client is rejected for a limit, the disconnects known to the kernel are read: a
    /// poll after the client was accepted reports every disconnect that preceded it.
    pub(super) fn accept_and_read_clients(
        &mut self,
        poll_again: &mut impl FnMut(&mut Vec<Readiness>) -> bool,
    ) {
        let mut turn = ClientTurn {
            accepts_left: BACKLOG,
            discard_budget: self.budgets.discarded_bytes,
            deferred: Vec::new(),
            partially_read: Vec::new(),
        };
        loop {
            self.accept_clients(&mut turn.accepts_left);
            self.read_clients(&mut turn);
            let mut candidates = std::mem::take(&mut self.candidates);
            if candidates.is_empty() {
                break;
            }
            self.poll_again_for_readiness(poll_again);
            self.read_clients(&mut turn);
            self.close_clients();
            // Identified clients first, because closing one frees capacity for another connection.
            candidates.sort_by_key(|candidate| candidate.user.is_none());
            for candidate in candidates {
                if self.decide(candidate) {
                    self.read_clients(&mut turn);
                }
                self.close_clients();
            }
        }
        turn.deferred.append(&mut self.readable_clients);
        turn.deferred.append(&mut turn.partially_read);
        self.readable_clients = turn.deferred;
    }

    fn accept_clients(&mut self, accepts_left: &mut i32) {
        while *accepts_left > 0 && self.candidates.len() < MAX_UNDECIDED {
            *accepts_left -= 1;
            let Some(listener) = &mut self.client_listener else { return };
            let key = self.outbound.clients.vacant_key();
            match listener.accept(key.token(), self.now) {
                Ok(Some((stream, peer))) => self.add_client(stream, peer),
                Ok(None) => return,
                Err(error) => return self.log_accept_error("client", &error),
            }
        }
    }

    fn add_client(&mut self, stream: A::Stream, peer: SocketAddr) {
        self.counters.clients_accepted += 1;
        let client = Client::new(stream, peer, self.now);
        let key = self.outbound.clients.insert(client);
        match self.admit(peer) {
            Ok(()) => self.start_identifying(key),
            Err(_) => self.await_admission(Candidate { key, user: None }),
        }
    }

    /// Counts one more open client, unless a limit is reached.
    fn admit(&mut self, peer: SocketAddr) -> Result<(), CloseReason> {
        if self.open_clients >= self.capacity.max_clients + self.capacity.max_awaiting_id {
            return Err(CloseReason::TooManyClients);
        }
        if !self.ip_limiter.try_acquire(peer.ip().to_canonical()) {
            return Err(CloseReason::TooManyFromAddress);
        }
        self.open_clients += 1;
        self.evict_lingering();
        Ok(())
    }

    fn start_identifying(&mut self, key: ClientKey) {
        self.identify_timeouts.push(self.now, (key, self.now));
        self.readable_clients.push(key);
    }

    fn await_admission(&mut self, candidate: Candidate) {
        if let Some(client) = self.outbound.client_mut(candidate.key) {
            client.awaits_admission = true;
            self.candidates.push(candidate);
        }
    }

    /// Admits a candidate if there is capacity by now, or rejects it. Returns whether its peer is
    /// known to have closed.
    fn decide(&mut self, Candidate { key, user }: Candidate) -> bool {
        let Some(client) = self.outbound.client_mut(key) else { return false };
        client.awaits_admission = false;
        if client.is_closing {
            return false;
        }
        let (peer, is_peer_closed) = (client.peer, client.peer_closed);
        match user {
            Some(user) if self.has_capacity_for(user) => {
                self.register(key, user);
                self.list_for_reading(key);
            }
            Some(_) if is_peer_closed => {
                self.outbound.schedule_close(key, CloseReason::ClosedByPeer, None);
            }
            Some(_) => self.outbound.schedule_close(key, CloseReason::TooManyClients, None),
            None => match self.admit(peer) {
                Ok(()) => self.start_identifying(key),
                Err(reason) => {
                    self.outbound.clients.remove(key);
                    self.reject_client(peer, reason);
                }
            },
        }
        is_peer_closed
    }

    /// Returns whether the user may be registered: it takes over its own session, or there is
    /// capacity.
    fn has_capacity_for(&self, user: UserId) -> bool {
        self.outbound.registered().len() < self.capacity.max_clients
            || self.engine.graph().recipient(user).is_some()
    }

    fn reject_client(&mut self, peer: SocketAddr, reason: CloseReason) {
        self.counters.clients_closed.count(reason);
        let connected = self.open_clients;
        self.log(
            LogKind::ClientClosed(reason),
            Level::Warn,
            format_args!("rejected client {peer}: {reason}, {connected} clients are connected"),
        );
    }

    fn read_clients(&mut self, turn: &mut ClientTurn) {
        for key in std::mem::take(&mut self.readable_clients) {
            if self.outbound.clients.lingering_mut(key).is_some() {
                self.read_lingering(key, turn);
            } else if !self.is_draining() {
                self.read_client(key, turn);
            }
        }
    }

    /// Reads the input of a client. If more may follow, lists the client for the next turn.
    fn read_client(&mut self, key: ClientKey, turn: &mut ClientTurn) {
        let Some(client) = self.outbound.client_mut(key) else { return };
        client.in_read_list = false;
        if client.is_closing || client.awaits_admission {
            return;
        }
        if client.user().is_none() && !self.identify(key) {
            return;
        }
        let is_deferred = turn.discard_budget == 0;
        let may_have_more = self.discard_input(key, &mut turn.discard_budget);
        let Some(client) = self.outbound.client_mut(key) else { return };
        if may_have_more && client.peer_closed {
            // The end of the stream follows input that would only be discarded.
            self.on_client_disconnected(key, CloseReason::ClosedByPeer, None);
        } else if may_have_more {
            client.in_read_list = true;
            turn.list(is_deferred).push(key);
        }
    }

    fn list_for_reading(&mut self, key: ClientKey) {
        if let Some(client) = self.outbound.client_mut(key) {
            client.in_read_list = true;
            self.readable_clients.push(key);
        }
    }

    /// Reads the id line of a client. Returns whether the client is now registered.
    fn identify(&mut self, key: ClientKey) -> bool {
        let Some(client) = self.outbound.client_mut(key) else { return false };
        let ClientState::AwaitingId(handshake) = &mut client.state else { return false };
        let lines = &mut handshake.lines;
        let id = loop {
            match try_read(&mut client.stream, lines.unfilled_mut(MAX_ID_LINE_BYTES + 2)) {
                ReadOutcome::Data(bytes) => lines.advance(bytes),
                ReadOutcome::WouldBlock => return false,
                ReadOutcome::Closed(Disconnect { reason, error }) => {
                    client.is_read_to_end = true;
                    self.outbound.schedule_close(key, reason, error);
                    return false;
                }
            }
            match lines.next_frame() {
                Some(LineFrame::Complete(line)) => break parse_id_line(line.as_bytes(), false),
                Some(LineFrame::TooLong(prefix)) => break parse_id_line(prefix, true),
                None => {}
            }
            if lines.is_discarding() {
                break parse_id_line(lines.partial_line(), true);
            }
        };
        match id {
            Ok(user) if self.has_capacity_for(user) => {
                self.register(key, user);
                return true;
            }
            // The peer is gone, so registering it is pointless.
            Ok(_) if self.has_peer_closed(key) => {
                self.outbound.schedule_close(key, CloseReason::ClosedByPeer, None);
            }
            Ok(user) => self.await_admission(Candidate { key, user: Some(user) }),
            Err(reason) => self.outbound.schedule_close(key, reason, None),
        }
        false
    }

    fn has_peer_closed(&self, key: ClientKey) -> bool {
        self.outbound.client(key).is_some_and(|client| client.peer_closed)
    }

    /// Registers the client as the only connection of `user`, taking over from an older one.
    fn register(&mut self, key: ClientKey, user: UserId) {
        let Registration { recipient, was_registered } = self.engine.register(user);
        if was_registered && let Some(older) = self.outbound.client_at(recipient) {
            self.outbound.flush_before_close(older);
            self.outbound.unregister(older);
            self.outbound.schedule_close(older, CloseReason::TakenOver, None);
        }
        self.outbound.register(key, user, recipient);
        if let Some(client) = self.outbound.client(key) {
            let peer = client.peer;
            self.log(
                LogKind::ClientRegistered,
                Level::Debug,
                format_args!("user {user} connected from {peer}"),
            );
        }
    }

    /// Discards the input of an identified client. Returns whether there may be more.
    fn discard_input(&mut self, key: ClientKey, budget: &mut usize) -> bool {
        let Some(client) = self.outbound.client_mut(key) else { return false };
        let share = self.budgets.discarded_bytes_per_client;
        match discard(&mut client.stream, share, budget) {
            Discarded::Drained => false,
            Discarded::BudgetExhausted => true,
            Discarded::Closed(Disconnect { reason, error }) => {
                client.is_read_to_end = true;
                self.on_client_disconnected(key, reason, error);
                false
            }
        }
    }

    /// Discards the input of a lingering connection, and removes the connection at its end.
    fn read_lingering(&mut self, key: ClientKey, turn: &mut ClientTurn) {
        let Some(lingering) = self.outbound.clients.lingering_mut(key) else { return };
        let is_deferred = turn.discard_budget == 0;
        let share = self.budgets.discarded_bytes_per_client;
        let discarded = discard(&mut lingering.stream, share, &mut turn.discard_budget);
        lingering.in_read_list = matches!(discarded, Discarded::BudgetExhausted);
        match discarded {
            Discarded::Drained => {}
            Discarded::BudgetExhausted => turn.list(is_deferred).push(key),
            Discarded::Closed(_) => self.outbound.clients.remove(key),
        }
    }

    /// Unregisters a client whose peer has disconnected, and schedules its close.
    fn on_client_disconnected(
        &mut self,
        key: ClientKey,
        reason: CloseReason,
        error: Option<io::Error>,
    ) {
        if let Some(user) = self.outbound.unregister(key) {
            self.engine.unregister(user);
        }
        self.outbound.schedule_close(key, reason, error);
    }
}

/// Parses the first line of a client. Returns the user id, or the reason for closing the client.
/// `is_prefix` is whether the line was too long and `line` is only its prefix.
fn parse_id_line(line: &[u8], is_prefix: bool) -> Result<UserId, CloseReason> {
    if is_http_request_line(line, is_prefix) {
        return Err(CloseReason::HttpRequest);
    }
    UserId::parse(line).filter(|_| !is_prefix).ok_or(CloseReason::BadId)
}

/// The result of discarding input.
#[derive(Debug)]
enum Discarded {
    /// No bytes are available now.
    Drained,
    /// There may be more.
    BudgetExhausted,
    /// The connection is closed for reading.
    Closed(Disconnect),
}

/// Reads and discards up to `share` bytes, at most the remaining `budget`.
fn discard(stream: &mut impl io::Read, share: usize, budget: &mut usize) -> Discarded {
    let mut scratch = [0; 4096];
    let mut left = share.min(*budget);
    while left > 0 {
        match try_read(stream, &mut scratch) {
            ReadOutcome::Data(bytes) => {
                left = left.saturating_sub(bytes);
                *budget = budget.saturating_sub(bytes);
            }
            ReadOutcome::WouldBlock => return Discarded::Drained,
            ReadOutcome::Closed(end) => return Discarded::Closed(end),
        }
    }
    Discarded::BudgetExhausted
}
