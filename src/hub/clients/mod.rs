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

/// Connections over a limit that are open at once, until it is known whether others have ended.
/// They take descriptors of the reserve.
const MAX_UNDECIDED: usize = 8;

/// A client that a limit keeps out, as far as is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    key: ClientKey,
    /// Who it is; `None` for a connection that was just accepted.
    user: Option<UserId>,
}

/// What one turn may still do for clients, and those left for the next one.
#[derive(Debug)]
struct ClientTurn {
    accepts_left: i32,
    discard_budget: usize,
    /// Clients that got no share of this turn: first in the next one.
    left_out: Vec<ClientKey>,
    /// Clients that had their share and may have sent more.
    partially_read: Vec<ClientKey>,
}

impl ClientTurn {
    fn list(&mut self, is_left_out: bool) -> &mut Vec<ClientKey> {
        if is_left_out { &mut self.left_out } else { &mut self.partially_read }
    }
}

impl<A: Acceptor> Hub<A> {
    /// Accepts and reads clients until the kernel holds nothing more on that side.
    ///
    /// Before a limit turns a client away, the ends that the kernel knows of are read: a poll that
    /// comes after the client tells of every end that came before it.
    pub(super) fn accept_and_read_clients(
        &mut self,
        poll_again: &mut impl FnMut(&mut Vec<Readiness>) -> bool,
    ) {
        let mut turn = ClientTurn {
            accepts_left: BACKLOG,
            discard_budget: self.budgets.discarded_bytes,
            left_out: Vec::new(),
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
            // Those who have identified themselves first: one that is closed makes room for another.
            candidates.sort_by_key(|candidate| candidate.user.is_none());
            for candidate in candidates {
                if self.decide(candidate) {
                    self.read_clients(&mut turn);
                }
                self.close_clients();
            }
        }
        turn.left_out.append(&mut self.readable_clients);
        turn.left_out.append(&mut turn.partially_read);
        self.readable_clients = turn.left_out;
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

    /// Counts one more client, unless a limit is reached.
    fn admit(&mut self, peer: SocketAddr) -> Result<(), CloseReason> {
        if self.open_clients >= self.capacity.max_clients + self.capacity.max_awaiting_id {
            return Err(CloseReason::TooManyClients);
        }
        if !self.ip_limiter.admit(peer.ip().to_canonical()) {
            return Err(CloseReason::TooManyFromAddress);
        }
        self.open_clients += 1;
        self.evict_lingering();
        Ok(())
    }

    fn start_identifying(&mut self, key: ClientKey) {
        self.identify_timeouts.start(self.now, (key, self.now));
        self.readable_clients.push(key);
    }

    fn await_admission(&mut self, candidate: Candidate) {
        if let Some(client) = self.outbound.client_mut(candidate.key) {
            client.awaits_admission = true;
            self.candidates.push(candidate);
        }
    }

    /// Lets a candidate in if there is room by now, and turns it away if not. Returns whether its
    /// peer is known to have ended.
    fn decide(&mut self, Candidate { key, user }: Candidate) -> bool {
        let Some(client) = self.outbound.client_mut(key) else { return false };
        client.awaits_admission = false;
        if client.is_closing {
            return false;
        }
        let (peer, has_ended) = (client.peer, client.peer_closed);
        match user {
            Some(user) if self.has_room_for(user) => {
                self.register(key, user);
                self.mark_unread(key);
                self.readable_clients.push(key);
            }
            Some(_) if has_ended => {
                self.outbound.schedule_close(key, CloseReason::ClosedByPeer, None)
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
        has_ended
    }

    /// Returns whether the user may be registered: it takes over from itself, or there is a place.
    fn has_room_for(&self, user: UserId) -> bool {
        self.outbound.registered().len() < self.capacity.max_clients
            || self.engine.graph().recipient(user).is_some()
    }

    fn reject_client(&mut self, peer: SocketAddr, reason: CloseReason) {
        self.counters.clients_closed.count(reason);
        let connected = self.open_clients;
        self.say(
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

    /// Reads what a client has sent. One that may have sent more is listed for the next turn.
    fn read_client(&mut self, key: ClientKey, turn: &mut ClientTurn) {
        let Some(client) = self.outbound.client_mut(key) else { return };
        client.in_read_list = false;
        if client.is_closing || client.awaits_admission {
            return;
        }
        if client.user().is_none() && !self.identify(key) {
            return;
        }
        let is_left_out = turn.discard_budget == 0;
        let may_have_more = self.discard_input(key, &mut turn.discard_budget);
        let Some(client) = self.outbound.client_mut(key) else { return };
        if may_have_more && client.peer_closed {
            // The end is behind bytes that nobody wants.
            self.on_client_disconnected(key, CloseReason::ClosedByPeer, None);
        } else if may_have_more {
            client.in_read_list = true;
            turn.list(is_left_out).push(key);
        }
    }

    fn mark_unread(&mut self, key: ClientKey) {
        if let Some(client) = self.outbound.client_mut(key) {
            client.in_read_list = true;
        }
    }

    /// Reads the id line of a client. Returns whether the client is registered now.
    fn identify(&mut self, key: ClientKey) -> bool {
        let Some(client) = self.outbound.client_mut(key) else { return false };
        let ClientState::AwaitingId(id_line) = &mut client.state else { return false };
        let lines = &mut id_line.lines;
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
            Ok(user) if self.has_room_for(user) => {
                self.register(key, user);
                return true;
            }
            // To register it would change nothing.
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

    /// From now on the client is the one connection of `user`.
    fn register(&mut self, key: ClientKey, user: UserId) {
        let Registration { recipient, was_registered } = self.engine.register(user);
        if was_registered && let Some(older) = self.outbound.client_at(recipient) {
            self.outbound.flush_before_close(older);
            self.outbound.leave(older);
            self.outbound.schedule_close(older, CloseReason::TakenOver, None);
        }
        self.outbound.join(key, user, recipient);
        if let Some(client) = self.outbound.client(key) {
            let peer = client.peer;
            self.say(
                LogKind::ClientRegistered,
                Level::Debug,
                format_args!("user {user} connected from {peer}"),
            );
        }
    }

    /// Reads what an identified client sends, and forgets it. Returns whether there may be more.
    fn discard_input(&mut self, key: ClientKey, budget: &mut usize) -> bool {
        let Some(client) = self.outbound.client_mut(key) else { return false };
        let share = self.budgets.discarded_bytes_per_client;
        match discard(&mut client.stream, share, budget) {
            Discarded::ReadDry => false,
            Discarded::BudgetSpent => true,
            Discarded::Ended(Disconnect { reason, error }) => {
                client.is_read_to_end = true;
                self.on_client_disconnected(key, reason, error);
                false
            }
        }
    }

    /// Reads what the peer of a closed connection still sends.
    fn read_lingering(&mut self, key: ClientKey, turn: &mut ClientTurn) {
        let Some(lingering) = self.outbound.clients.lingering_mut(key) else { return };
        let is_left_out = turn.discard_budget == 0;
        let share = self.budgets.discarded_bytes_per_client;
        let discarded = discard(&mut lingering.stream, share, &mut turn.discard_budget);
        lingering.in_read_list = matches!(discarded, Discarded::BudgetSpent);
        match discarded {
            Discarded::ReadDry => {}
            Discarded::BudgetSpent => turn.list(is_left_out).push(key),
            Discarded::Ended(_) => self.outbound.clients.remove(key),
        }
    }

    /// The client is gone: nothing is delivered to it from now on.
    fn on_client_disconnected(
        &mut self,
        key: ClientKey,
        reason: CloseReason,
        error: Option<io::Error>,
    ) {
        if let Some(user) = self.outbound.leave(key) {
            self.engine.unregister(user);
        }
        self.outbound.schedule_close(key, reason, error);
    }
}

/// The user whose id a client's first line is, or why the client is closed. Of a line that is too
/// long only a prefix is known.
fn parse_id_line(line: &[u8], is_prefix: bool) -> Result<UserId, CloseReason> {
    if is_http_request_line(line, is_prefix) {
        return Err(CloseReason::HttpRequest);
    }
    UserId::parse(line).filter(|_| !is_prefix).ok_or(CloseReason::BadId)
}

/// How reading bytes that nobody wants ended.
#[derive(Debug)]
enum Discarded {
    /// The kernel holds nothing more.
    ReadDry,
    /// There may be more.
    BudgetSpent,
    /// Nothing comes any more.
    Ended(Disconnect),
}

/// Reads and forgets up to `share` bytes, and no more than `total` has left.
fn discard(stream: &mut impl io::Read, share: usize, total: &mut usize) -> Discarded {
    let mut scratch = [0; 4096];
    let mut left = share.min(*total);
    while left > 0 {
        match try_read(stream, &mut scratch) {
            ReadOutcome::Data(bytes) => {
                left = left.saturating_sub(bytes);
                *total = total.saturating_sub(bytes);
            }
            ReadOutcome::WouldBlock => return Discarded::ReadDry,
            ReadOutcome::Closed(end) => return Discarded::Ended(end),
        }
    }
    Discarded::BudgetSpent
}
