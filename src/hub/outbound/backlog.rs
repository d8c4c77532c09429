//! The registered clients with queued bytes, so that the slowest are found without a look at all others.

use std::cmp::Reverse;
use std::net::SocketAddr;

use super::output::ClientOutput;
use crate::hub::clients::{Client, ClientTable};
use crate::hub::token::ClientKey;
use crate::protocol::UserId;

/// The maximum number of queues that are compared for the longest ones: about 0.1 ms.
const MAX_COMPARED: usize = 4096;

/// A client with queued bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedClient {
    /// The user.
    pub user: Option<UserId>,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The number of queued bytes.
    pub queued_bytes: u64,
}

/// The keys of the registered clients whose send queue is not empty. Each client stores its index.
#[derive(Debug, Default)]
pub(super) struct Backlog(Vec<ClientKey>);

impl Backlog {
    /// Lists a client if bytes are queued for it, and removes it otherwise.
    #[cold]
    pub(super) fn update<S>(&mut self, clients: &mut ClientTable<S>, key: ClientKey) {
        let Some(output) = clients.output_mut(key) else { return };
        if output.is_empty() {
            self.remove(clients, key);
        } else if output.backlog_index().is_none() {
            output.set_backlog_index(self.0.len() as u32);
            self.0.push(key);
        }
    }

    /// Removes a client, if it is listed.
    pub(super) fn remove<S>(&mut self, clients: &mut ClientTable<S>, key: ClientKey) {
        let Some(output) = clients.output_mut(key) else { return };
        let Some(index) = output.take_backlog_index() else { return };
        self.0.swap_remove(index as usize);
        if let Some(&moved) = self.0.get(index as usize)
            && let Some(output) = clients.output_mut(moved)
        {
            output.set_backlog_index(index);
        }
    }

    /// Returns up to `max` clients with the longest queues, the longest first. Of more than
    /// [`MAX_COMPARED`] it compares only so many.
    pub(super) fn longest<S>(&self, clients: &ClientTable<S>, max: usize) -> Vec<QueuedClient> {
        let queued = |&key: &ClientKey| {
            let client: &Client<S> = clients.get(key)?;
            Some(QueuedClient {
                user: client.user(),
                peer: client.peer(),
                queued_bytes: client.output().unsent_bytes() as u64,
            })
        };
        let mut longest: Vec<QueuedClient> =
            self.0.iter().take(MAX_COMPARED).filter_map(queued).collect();
        if longest.len() > max {
            longest.select_nth_unstable_by_key(max, |client| Reverse(client.queued_bytes));
            longest.truncate(max);
        }
        longest.sort_by_key(|client| Reverse(client.queued_bytes));
        longest
    }

    /// Panics unless exactly the registered clients with queued bytes are listed.
    pub(super) fn check<S>(&self, clients: &ClientTable<S>, registered: &[ClientKey]) {
        let has_bytes =
            |key: &&ClientKey| !clients.output(**key).is_none_or(ClientOutput::is_empty);
        assert_eq!(self.0.len(), registered.iter().filter(has_bytes).count(), "all are listed");
        for (index, key) in self.0.iter().enumerate() {
            let output = clients.output(*key);
            let stored = output.and_then(ClientOutput::backlog_index);
            assert!(
                has_bytes(&key) && stored == Some(index as u32),
                "{key:?} is listed at {index}"
            );
        }
    }
}
