//! Admission of connections, rejection, and lingering close.

use eventserver::hub::CloseReason;

use super::super::kernel::{Kernel, SocketId};
use super::super::network::address_of;
use super::{Client, IdLine, LINGER_TIMEOUT, Model};

impl Model {
    /// Registers a client as the server says, and checks that the server was right: the client has
    /// sent this ID, and it takes over its user's connection or a slot is free.
    pub(super) fn on_registered(&mut self, id: SocketId, user: u64) {
        let is_candidate =
            |&(candidate, line): &(SocketId, IdLine)| (candidate, line.0) == (id, user);
        let candidate = self.candidates.iter().position(is_candidate);
        let Some(index) = candidate else { panic!("client {id} has not sent the ID {user}") };
        let (_, (_, after)) = self.candidates.remove(index);
        // Clients that have ended may be unregistered already.
        let others = self.users.values().filter(|other| !self.ended.contains(other));
        assert!(
            self.users.contains_key(&user) || others.count() < self.limits.capacity.max_clients,
            "client {id} is registered over the limit"
        );
        self.register(id, user);
        if let Some(after) = after {
            self.start_replay(id, user, after);
        }
    }

    /// Checks that every client whose ID was read in this turn was registered or closed.
    pub(super) fn check_candidates(&mut self, closed: &[SocketId]) {
        for (id, (user, _)) in std::mem::take(&mut self.candidates) {
            assert!(closed.contains(&id), "client {id} is not registered as {user}");
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
        let candidate = self.candidates.iter().find(|&&(candidate, _)| candidate == id);
        let candidate_user = candidate.map(|&(_, (user, _))| user);
        let is_candidate = candidate_user.is_some();
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
            let registered = others().filter(|(_, client)| client.user.is_some());
            let has_session = others().any(|(_, client)| client.user == candidate_user);
            assert!(!has_session, "client {id} could have taken over from its user's connection");
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
        // A write to a client that has ended may fail before it is shut down. A failed one is closed at once.
        let reason = self.clients[&id].expected_close;
        if has_ended && reason.is_none_or(|reason| reason == CloseReason::IoError) {
            self.client(id).expected_close = Some(CloseReason::ClosedByPeer);
            self.unregister(id);
        }
    }

    /// Checks that a client that was registered is closed at once only if it sends nothing more: bytes
    /// that reach a closed socket reset the connection, and what was written to it is lost.
    pub(super) fn check_unread_input(&self, id: SocketId) {
        let Some(client) = self.clients.get(&id).filter(|client| client.user.is_some()) else {
            return;
        };
        assert!(client.is_read_to_end || client.is_broken, "client {id} is closed, not shut down");
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
        let is_crowded = self.clients.len() + self.lingering.len() + self.put_off.len()
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
