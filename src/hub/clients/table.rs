//! The table of clients.

use std::mem;
use std::time::Instant;

use slab::Slab;

use super::client::{Client, Lingering};
use crate::hub::token::ClientKey;

/// All client connections, open or lingering.
#[derive(Debug)]
pub(crate) struct Clients<S> {
    slots: Slab<Slot<S>>,
    lingering: usize,
}

#[derive(Debug)]
enum Slot<S> {
    Open(Client<S>),
    Lingering(Lingering<S>),
    /// The client was taken out, and its key is not free yet.
    Reserved,
}

impl<S> Clients<S> {
    pub(crate) fn new() -> Clients<S> {
        Clients { slots: Slab::new(), lingering: 0 }
    }

    /// Returns the key that the next client will get.
    pub(crate) fn vacant_key(&self) -> ClientKey {
        ClientKey::new(self.slots.vacant_key())
    }

    pub(crate) fn insert(&mut self, client: Client<S>) -> ClientKey {
        ClientKey::new(self.slots.insert(Slot::Open(client)))
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

    /// Iterates over the open clients.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ClientKey, &Client<S>)> {
        self.slots.iter().filter_map(|(index, slot)| match slot {
            Slot::Open(client) => Some((ClientKey::new(index), client)),
            Slot::Lingering(_) | Slot::Reserved => None,
        })
    }

    /// Takes an open client out of the table. The key is reserved until [`linger`](Self::linger) or
    /// [`remove`](Self::remove).
    pub(crate) fn take(&mut self, key: ClientKey) -> Option<Client<S>> {
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
    pub(crate) fn linger(&mut self, key: ClientKey, lingering: Lingering<S>) {
        self.slots[key.index()] = Slot::Lingering(lingering);
        self.lingering += 1;
    }

    /// Removes the connection, and frees the key.
    pub(crate) fn remove(&mut self, key: ClientKey) {
        if let Some(Slot::Lingering(_)) = self.slots.try_remove(key.index()) {
            self.lingering -= 1;
        }
    }

    /// Returns a lingering connection.
    pub(crate) fn lingering_mut(&mut self, key: ClientKey) -> Option<&mut Lingering<S>> {
        match self.slots.get_mut(key.index()) {
            Some(Slot::Lingering(lingering)) => Some(lingering),
            _ => None,
        }
    }

    /// Returns whether the connection with this key has lingered since that time.
    pub(crate) fn is_lingering_since(&self, key: ClientKey, since: Instant) -> bool {
        matches!(
            self.slots.get(key.index()),
            Some(Slot::Lingering(lingering)) if lingering.since == since
        )
    }

    /// Returns the number of lingering connections.
    pub(crate) fn lingering(&self) -> usize {
        self.lingering
    }

    /// Returns the number of connections, open or lingering.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    #[test]
    fn a_client_that_lingers_keeps_its_key_until_it_is_removed() {
        let now = Instant::now();
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let mut clients = Clients::new();
        let key = clients.insert(Client::new((), peer, now));
        assert!(clients.take(key).is_some() && clients.take(key).is_none());
        assert_ne!(clients.vacant_key(), key, "it is reserved");
        clients.linger(key, Lingering { stream: (), since: now, in_read_list: false });
        assert!(clients.get(key).is_none() && clients.lingering_mut(key).is_some());
        assert!(clients.is_lingering_since(key, now));
        assert_eq!((clients.lingering(), clients.iter().count(), clients.len()), (1, 0, 1));
        clients.remove(key);
        assert!(clients.is_empty() && clients.lingering() == 0);
    }
}
