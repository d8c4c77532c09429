//! Clients: accept, identify, register, ignore.

use std::io;
use std::net::SocketAddr;

use log::Level;

use super::Hub;
use crate::engine::Recipient;
use crate::protocol::{Cut, UserId};
use crate::server::acceptor::{Acceptor, BACKLOG};
use crate::server::close_reason::CloseReason;
use crate::server::connection::{
    Client, Connection, End, Identity, MAX_ID_LINE_BYTES, ReadOutcome, read_once,
};
use crate::server::notices::Topic;

impl<A: Acceptor> Hub<A> {
    /// Accepts and reads clients until the kernel holds nothing more on that side.
    pub(super) fn serve_clients(&mut self) {
        if self.is_draining() {
            return;
        }
        self.accept_clients();
        let mut ignorable = self.budgets.ignored_bytes;
        let mut read_in_part = Vec::new();
        for key in std::mem::take(&mut self.unread_clients) {
            self.read_client(key, &mut ignorable, &mut read_in_part);
        }
        // Behind those that had no share of this turn.
        self.unread_clients.append(&mut read_in_part);
    }

    fn accept_clients(&mut self) {
        for _ in 0..BACKLOG {
            let Some(door) = &mut self.client_door else { return };
            let key = self.deliveries.connections.vacant_key();
            match door.accept(key, self.now) {
                Ok(Some((stream, peer))) => self.welcome_client(stream, peer),
                Ok(None) => return,
                Err(error) => return self.rest_from_accepting("client", &error),
            }
        }
    }

    fn welcome_client(&mut self, stream: A::Stream, peer: SocketAddr) {
        self.tally.clients_ever += 1;
        if self.client_count() >= self.capacity.max_clients {
            return self.turn_away(peer, CloseReason::TooManyClients);
        }
        if !self.clients_by_address.admit(peer.ip().to_canonical()) {
            return self.turn_away(peer, CloseReason::TooManyFromAddress);
        }
        let mut client = Client::new(stream, peer, self.now);
        client.awaits_reading = true;
        let key = self.deliveries.connections.insert(Connection::Client(client)) as u32;
        self.identify_timeouts.start(self.now, (key, self.now));
        self.unread_clients.push(key);
    }

    fn turn_away(&mut self, peer: SocketAddr, reason: CloseReason) {
        self.tally.clients_closed.count(reason);
        let connected = self.client_count();
        self.say(
            Topic::ClientClosed(reason),
            Level::Warn,
            format_args!("client {peer} turned away: {reason}, {connected} clients are connected"),
        );
    }

    /// Reads what a client has sent. One that may have sent more goes to the list of those read in
    /// part, or stays listed where nothing was left for it.
    fn read_client(&mut self, key: u32, ignorable: &mut usize, read_in_part: &mut Vec<u32>) {
        let Some(client) = self.deliveries.client_mut(key) else { return };
        client.awaits_reading = false;
        if client.is_closing {
            return;
        }
        if client.user().is_none() && !self.identify(key) {
            return;
        }
        let is_left_out = *ignorable == 0;
        if is_left_out || self.ignore_input(key, ignorable) {
            self.mark_unread(key);
            let list = if is_left_out { &mut self.unread_clients } else { read_in_part };
            list.push(key);
        }
    }

    fn mark_unread(&mut self, key: u32) {
        if let Some(client) = self.deliveries.client_mut(key) {
            client.awaits_reading = true;
        }
    }

    /// Reads the id line of a client. Returns whether the client is registered now.
    fn identify(&mut self, key: u32) -> bool {
        let Some(client) = self.deliveries.client_mut(key) else { return false };
        let Identity::Unknown(id_line) = &mut client.identity else { return false };
        let lines = &mut id_line.lines;
        let id = loop {
            match read_once(&mut client.stream, lines.spare(MAX_ID_LINE_BYTES + 2)) {
                ReadOutcome::Bytes(bytes) => lines.filled(bytes),
                ReadOutcome::Dry => return false,
                ReadOutcome::Ended(End { reason, error }) => {
                    self.deliveries.doom(key, reason, error);
                    return false;
                }
            }
            match lines.next_line() {
                Some(Cut::Whole(line)) => break UserId::parse(line.as_bytes()),
                Some(Cut::TooLong(_)) => break None,
                None => {}
            }
            if lines.is_too_long() {
                break None;
            }
        };
        match id {
            Some(user) => self.register(key, user),
            None => self.deliveries.doom(key, CloseReason::BadId, None),
        }
        id.is_some()
    }

    /// From now on the client is the one connection of `user`.
    fn register(&mut self, key: u32, user: UserId) {
        if let Some(Recipient(older)) = self.engine.register(user, Recipient(key)) {
            self.deliveries.flush_once_more(older);
            self.deliveries.leave(older);
            self.deliveries.doom(older, CloseReason::TakenOver, None);
        }
        self.deliveries.join(key, user);
        if let Some(client) = self.deliveries.client(key) {
            let peer = client.peer;
            self.say(
                Topic::ClientRegistered,
                Level::Debug,
                format_args!("user {user} connected from {peer}"),
            );
        }
    }

    /// Reads what an identified client sends, and forgets it. Returns whether there may be more.
    fn ignore_input(&mut self, key: u32, ignorable: &mut usize) -> bool {
        let Some(client) = self.deliveries.client_mut(key) else { return false };
        let mut scratch = [0; 4096];
        let mut room = self.budgets.ignored_bytes_a_client.min(*ignorable);
        while room > 0 {
            match read_once(&mut client.stream, &mut scratch) {
                ReadOutcome::Bytes(bytes) => {
                    room = room.saturating_sub(bytes);
                    *ignorable = ignorable.saturating_sub(bytes);
                }
                ReadOutcome::Dry => return false,
                ReadOutcome::Ended(End { reason, error }) => {
                    self.lose_client(key, reason, error);
                    return false;
                }
            }
        }
        true
    }

    /// The client is gone: nothing is delivered to it from now on.
    fn lose_client(&mut self, key: u32, reason: CloseReason, error: Option<io::Error>) {
        if let Some(user) = self.deliveries.leave(key) {
            self.engine.depart(user, Recipient(key));
        }
        self.deliveries.doom(key, reason, error);
    }
}
