//! The set of churn clients.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use mio::{Registry, Token};
use slab::Slab;

use super::churn_client::{Behavior, ChurnClient};
use super::stream_check::SentSoFar;
use crate::workload::prng::Prng;

/// The churn client with this number stalls. It makes the server buffer early what the longest
/// pause can cause, so later growth of memory has another reason.
const STALLED_CLIENT: u64 = 100;

/// The connected churn clients. Their tokens start at `first_token`.
pub(super) struct ChurnClients {
    /// Where the servers listen. A user has one of them, so that takeovers are those of one server.
    to: Vec<SocketAddr>,
    first_token: usize,
    /// Their user ids, few enough for frequent takeovers.
    users: Range<u64>,
    /// Time within which the server must close a client that it has to close.
    close_timeout: Duration,
    all: Slab<ChurnClient>,
    /// User → the latest client with its id.
    by_user: HashMap<u64, usize>,
    gone: Vec<usize>,
    total: u64,
    takeovers: u64,
}

impl ChurnClients {
    pub(super) fn new(
        to: Vec<SocketAddr>,
        users: Range<u64>,
        close_timeout: Duration,
        first_token: usize,
    ) -> ChurnClients {
        ChurnClients {
            to,
            first_token,
            users,
            close_timeout,
            all: Slab::new(),
            by_user: HashMap::new(),
            gone: Vec::new(),
            total: 0,
            takeovers: 0,
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn takeovers(&self) -> u64 {
        self.takeovers
    }

    /// Marks a client as readable.
    pub(super) fn set_readable(&mut self, token: usize) {
        if let Some(client) = self.all.get_mut(token.wrapping_sub(self.first_token)) {
            client.set_readable();
        }
    }

    /// Connects one more client.
    ///
    /// # Errors
    ///
    /// The connection fails.
    pub(super) fn connect_one(&mut self, prng: &mut Prng, registry: &Registry) -> io::Result<()> {
        let (user, behavior) = match self.total {
            // With an id that no other client takes over.
            STALLED_CLIENT => (self.users.end, Behavior::StalledReader),
            _ => {
                let user = self.users.start + prng.below(self.users.end - self.users.start);
                (user, Behavior::choose(prng))
            }
        };
        let key = self.all.vacant_key();
        let registration = (registry, Token(self.first_token + key));
        let to = self.to[(user % self.to.len() as u64) as usize];
        let client =
            ChurnClient::connect(to, user, behavior, prng, self.close_timeout, registration)?;
        self.all.insert(client);
        self.total += 1;
        let takes_over = behavior.identifies() || behavior == Behavior::HalfClose;
        if takes_over && let Some(older) = self.by_user.remove(&user) {
            self.all[older].on_takeover(Instant::now(), self.close_timeout);
            self.takeovers += 1;
        }
        if behavior.identifies() {
            self.by_user.insert(user, key);
        }
        Ok(())
    }

    /// Reads and checks all clients, and drops those that are done.
    ///
    /// # Errors
    ///
    /// The server treated one of them wrongly.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        sent: SentSoFar<'_>,
    ) -> io::Result<()> {
        for (key, client) in &mut self.all {
            if client.poll(now, buffer, sent)? {
                self.gone.push(key);
            }
        }
        while let Some(key) = self.gone.pop() {
            self.remove(key);
        }
        Ok(())
    }

    fn remove(&mut self, key: usize) {
        let client = self.all.remove(key);
        if self.by_user.get(&client.user) == Some(&key) {
            self.by_user.remove(&client.user);
        }
    }

    /// Disconnects all clients.
    pub(super) fn disconnect_all(&mut self) {
        self.all.clear();
        self.by_user.clear();
    }
}
