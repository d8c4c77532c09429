//! Admission of connections, rejection, and lingering close.

use eventserver::hub::CloseReason;

use super::super::kernel::{Kernel, SocketId};
use super::super::network::address_of;
use super::{Client, LINGER_TIMEOUT, Model};

impl Model {
    /// Returns whether a user is certainly registered: it takes over its own connection, or a slot
    /// is free even if every candidate got one.
    pub(super) fn has_free_slot_for(&self, user: u64) -> bool {
        let max = self.users.len() + self.candidates.len();
        self.users.contains_key(&user) || max < self.limits.capacity.max_clients
    }

    /// Registers a candidate that the server has gone on serving: a slot was free for it.
    pub(super) fn settle_candidate(&mut self, id: SocketId) {
        if let Some(at) = self.candidates.iter().position(|&(candidate, _)| candidate == id) {
            let (_, user) = self.candidates.remove(at);
            self.register(id, user);
        }
    }

    /// Registers the candidates that were not closed.
    pub(super) fn settle_candidates(&mut self, closed: &[SocketId]) {
        for (id, user) in std::mem::take(&mut self.candidates) {
            if !closed.contains(&id) {
                self.register(id, user);
            }
        }
    }

    /// Records the rejection of a connection, and checks that a limit was reached.
    pub(super) fn reject(&mut self, id: SocketId) {
        if self.is_draining() {
            return;
        }
        if self.sources.contains_key(&id) {
            self.reject_source(id);
        } else {
            self.reject_client(id);
        }
    }

    fn reject_source(&mut self, id: SocketId) {
        if self.sources[&id].is_admitted || self.sequencer.is_out_of_window(id) {
            return;
        }
        let others = self.open_sources().filter(|&(other, _)| other != id);
        let alive = others.filter(|(id, source)| source.end.is_none() && !self.ended.contains(id));
        assert!(
            alive.count() >= self.limits.max_sources,
            "source {id} is rejected, though others have ended"
        );
        if let Some(source) = self.sources.get_mut(&id) {
            source.is_rejected = true;
        }
    }

    fn reject_client(&mut self, id: SocketId) {
        let client = &self.clients[&id];
        let is_candidate = self.candidates.iter().any(|&(candidate, _)| candidate == id);
        // No client times out in the turn that accepted it.
        let is_newcomer = client.since == self.now && client.user.is_none();
        if client.expected_close.is_some() || !(is_candidate || is_newcomer) {
            return;
        }
        if is_candidate && self.ended.contains(&id) {
            self.client(id).expected_close = Some(CloseReason::ClosedByPeer);
            return;
        }
        let others = || {
            self.clients.iter().filter(|&(&other, client)| {
                other != id && client.expected_close.is_none() && !self.ended.contains(&other)
            })
        };
        let capacity = self.limits.capacity;
        let neighbours = others().filter(|&(&other, _)| address_of(other) == address_of(id));
        let max_neighbours = self.limits.max_clients_per_address.unwrap_or(usize::MAX);
        let reason = if is_candidate {
            // Any of the other candidates may have been registered before it.
            let is_candidate = |id| self.candidates.iter().any(|&(candidate, _)| candidate == id);
            let registered =
                others().filter(|&(&id, client)| client.user.is_some() || is_candidate(id));
            assert!(
                registered.count() >= capacity.max_clients,
                "client {id} could have been registered"
            );
            CloseReason::TooManyClients
        } else if others().count() >= capacity.max_clients + capacity.max_awaiting_id {
            CloseReason::TooManyClients
        } else {
            assert!(neighbours.count() >= max_neighbours, "client {id} could have been admitted");
            CloseReason::TooManyFromAddress
        };
        self.client(id).expected_close = Some(reason);
    }

    /// Records that the server shut a client down while it accepted and read clients: one that was
    /// taken over, or whose end the kernel has reported, whether or not all its input was read.
    pub(super) fn shut_down(&mut self, id: SocketId) {
        if self.is_draining() {
            return;
        }
        let has_ended = self.ended.contains(&id);
        if let Some(at) = self.candidates.iter().position(|&(candidate, _)| candidate == id) {
            // Only registered clients are shut down. So this one was, and another has taken its
            // user over.
            let (_, user) = self.candidates.remove(at);
            let client = self.client(id);
            client.user = Some(user);
            client.expected_close = Some(CloseReason::TakenOver);
            client.may_have_ended = has_ended;
            return;
        }
        let Client { user, expected_close: None, .. } = self.clients[&id] else { return };
        let newer = self.candidates.iter().find(|&&(_, other)| Some(other) == user);
        if has_ended {
            self.client(id).expected_close = Some(CloseReason::ClosedByPeer);
            self.unregister(id);
        } else if let Some(&(newer, _)) = newer {
            self.settle_candidate(newer);
        }
    }

    /// Checks that the connection limits are never exceeded.
    pub(super) fn check_limits(&self, closed: &[SocketId]) {
        let capacity = self.limits.capacity;
        let open = || {
            let clients = self.clients.iter();
            clients.filter(|(id, client)| client.expected_close.is_none() && !closed.contains(id))
        };
        let registered = open().filter(|(_, client)| client.user.is_some()).count();
        assert!(registered <= capacity.max_clients, "too many users are registered");
        assert!(
            open().count() <= capacity.max_clients + capacity.max_awaiting_id,
            "too many clients are open"
        );
        if let Some(limit) = self.limits.max_clients_per_address {
            for (&id, _) in open() {
                let neighbours = open().filter(|&(&other, _)| address_of(other) == address_of(id));
                let neighbours: Vec<SocketId> = neighbours.map(|(&id, _)| id).collect();
                assert!(neighbours.len() <= limit, "too many at one address: {neighbours:?}");
            }
        }
        let counted = self.open_sources().filter(|(id, source)| {
            let is_spent =
                source.end.is_some() && !self.sequencer.sources_with_lines().contains(id);
            source.is_admitted && !is_spent
        });
        assert!(counted.count() <= self.limits.max_sources, "too many sources are open");
    }

    /// Checks that the server closes a lingering connection only after its peer's end or the
    /// timeout, unless others need the descriptor.
    pub(super) fn end_lingering(&mut self, id: SocketId, kernel: &Kernel) {
        let since = self.lingering[&id];
        let is_late = self.now >= since + LINGER_TIMEOUT || self.is_drain_over();
        let capacity = self.limits.capacity;
        let is_crowded = self.clients.len() + self.lingering.len()
            > capacity.max_clients + capacity.max_awaiting_id;
        let is_over = kernel.sockets[id].is_closed_by_peer();
        assert!(is_over || is_late || is_crowded, "{id} is closed before the linger timeout");
        self.lingering.remove(&id);
        if is_over && !is_late && !is_crowded {
            // It may have been shut down in this turn.
            let closed = self.closed_clients.get_mut(&id).map(|(_, client)| client);
            let client: Option<&mut Client> = closed.or_else(|| self.clients.get_mut(&id));
            if let Some(client) = client {
                client.has_lingered_out = true;
            }
        }
    }
}
