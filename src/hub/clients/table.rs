//! The table of clients.

use std::mem;
use std::net::SocketAddr;
use std::time::Instant;

use slab::Slab;

use super::client::Client;
use super::lingering::Lingering;
use crate::hub::connection::Disconnect;
use crate::hub::outbound::ClientOutput;
use crate::hub::token::ClientKey;

/// All client connections, open or lingering, and the closes scheduled for this turn.
#[derive(Debug)]
pub(crate) struct ClientTable<S> {
    slots: Slab<Slot<S>>,
    lingering: usize,
    pending_closes: Vec<(ClientKey, Disconnect)>,
}

#[derive(Debug)]
enum Slot<S> {
    Open(Client<S>),
    Lingering(Lingering<S>),
    /// The client was taken out, and its key is not free yet.
    Reserved,
}

impl<S> ClientTable<S> {
    pub(crate) fn new() -> ClientTable<S> {
        ClientTable { slots: Slab::new(), lingering: 0, pending_closes: Vec::new() }
    }

    /// Returns the key that the next client will get.
    pub(super) fn vacant_key(&self) -> ClientKey {
        ClientKey::new(self.slots.vacant_key())
    }

    /// Adds a client that has connected now.
    pub(crate) fn insert(&mut self, stream: S, peer: SocketAddr, now: Instant) -> ClientKey {
        ClientKey::new(self.slots.insert(Slot::Open(Client::new(stream, peer, now))))
    }

    /// Schedules the close of an open client within this turn. The first reason counts.
    pub(crate) fn schedule_close(&mut self, key: ClientKey, end: impl Into<Disconnect>) {
        if let Some(client) = self.get_mut(key)
            && !client.is_closing
        {
            client.is_closing = true;
            self.pending_closes.push((key, end.into()));
        }
    }

    /// Returns and forgets the clients to close.
    pub(crate) fn take_pending_closes(&mut self) -> Vec<(ClientKey, Disconnect)> {
        mem::take(&mut self.pending_closes)
    }

    /// Returns an open client.
    #[inline]
    pub(crate) fn get(&self, key: ClientKey) -> Option<&Client<S>> {
        match self.slots.get(key.index()) {
            Some(Slot::Open(client)) => Some(client),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: ClientKey) -> Option<&mut Client<S>> {
        match self.slots.get_mut(key.index()) {
            Some(Slot::Open(client)) => Some(client),
            _ => None,
        }
    }

    /// Returns the outbound half of an open client.
    #[inline]
    pub(crate) fn output(&self, key: ClientKey) -> Option<&ClientOutput> {
        self.get(key).map(Client::output)
    }

    #[inline]
    pub(crate) fn output_mut(&mut self, key: ClientKey) -> Option<&mut ClientOutput> {
        self.get_mut(key).map(Client::output_mut)
    }

    /// Iterates over the open clients.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ClientKey, &Client<S>)> {
        self.slots.iter().filter_map(|(index, slot)| match slot {
            Slot::Open(client) => Some((ClientKey::new(index), client)),
            Slot::Lingering(_) | Slot::Reserved => None,
        })
    }

    /// Takes an open client out of the table. The key is reserved until [`linger`](Self::linger) or
    /// [`remove`](Self::remove).
    pub(super) fn take(&mut self, key: ClientKey) -> Option<Client<S>> {
        let slot = self.slots.get_mut(key.index())?;
        match mem::replace(slot, Slot::Reserved) {
            Slot::Open(client) => Some(client),
            other => {
                *slot = other;
                None
            }
        }
    }

    /// Inserts the connection of a client that was taken out, to linger under the same key.
    pub(super) fn linger(&mut self, key: ClientKey, lingering: Lingering<S>) {
        self.slots[key.index()] = Slot::Lingering(lingering);
        self.lingering += 1;
    }

    /// Removes the connection, and frees the key.
    pub(super) fn remove(&mut self, key: ClientKey) {
        if let Some(Slot::Lingering(_)) = self.slots.try_remove(key.index()) {
            self.lingering -= 1;
        }
    }

    /// Returns a lingering connection.
    pub(super) fn lingering_mut(&mut self, key: ClientKey) -> Option<&mut Lingering<S>> {
        match self.slots.get_mut(key.index()) {
            Some(Slot::Lingering(lingering)) => Some(lingering),
            _ => None,
        }
    }

    /// Returns whether the connection with this key has lingered since that time.
    pub(super) fn is_lingering_since(&self, key: ClientKey, since: Instant) -> bool {
        matches!(
            self.slots.get(key.index()),
            Some(Slot::Lingering(lingering)) if lingering.since == since
        )
    }

    /// Returns whether the close of the connection with this key was put off.
    pub(super) fn is_put_off(&self, key: ClientKey) -> bool {
        matches!(self.slots.get(key.index()), Some(Slot::Lingering(lingering)) if lingering.is_put_off)
    }

    /// Returns the number of lingering connections.
    pub(super) fn lingering(&self) -> usize {
        self.lingering
    }

    /// Returns the number of connections, open or lingering.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::hub::close_reason::CloseReason;

    #[test]
    fn a_client_that_lingers_keeps_its_key_until_it_is_removed() {
        let now = Instant::now();
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let mut clients = ClientTable::new();
        let key = clients.insert((), peer, now);
        assert!(clients.take(key).is_some() && clients.take(key).is_none());
        assert_ne!(clients.vacant_key(), key, "it is reserved");
        let lingering =
            Lingering { stream: (), since: now, is_put_off: false, in_read_list: false };
        clients.linger(key, lingering);
        assert!(clients.get(key).is_none() && clients.lingering_mut(key).is_some());
        assert!(clients.is_lingering_since(key, now));
        assert_eq!((clients.lingering(), clients.iter().count(), clients.len()), (1, 0, 1));
        clients.remove(key);
        assert!(clients.is_empty() && clients.lingering() == 0);
    }

    #[test]
    fn a_client_is_closed_once_for_the_first_reason() {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let mut clients = ClientTable::new();
        let key = clients.insert((), peer, Instant::now());
        clients.schedule_close(key, CloseReason::TakenOver);
        clients.schedule_close(key, CloseReason::Stalled);
        clients.schedule_close(ClientKey(7), CloseReason::Stalled);
        assert!(clients.get(key).unwrap().is_closing());
        let closes = clients.take_pending_closes();
        assert_eq!(closes.len(), 1);
        assert_eq!((closes[0].0, closes[0].1.reason), (key, CloseReason::TakenOver));
        assert!(clients.take_pending_closes().is_empty());
    }
}
