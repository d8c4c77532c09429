//! All who come and go.

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

/// The visitor with this number sleeps, so that whatever the longest pause makes the server buffer
/// has been buffered early in the run, and memory that grows later grows for another reason.
const STALLED_CLIENT: u64 = 100;

/// The visitors of the moment. Their tokens are `first_token` and those behind it.
pub(super) struct ChurnClients {
    to: SocketAddr,
    first_token: usize,
    /// The ids that they take: few enough for many a takeover.
    users: Range<u64>,
    /// How long the server may take to close one that it must close.
    close_timeout: Duration,
    all: Slab<ChurnClient>,
    /// User → the last visitor with its id.
    by_user: HashMap<u64, usize>,
    gone: Vec<usize>,
    total: u64,
    takeovers: u64,
}

impl ChurnClients {
    pub(super) fn new(
        to: SocketAddr,
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

    /// Takes readiness.
    pub(super) fn set_readable(&mut self, token: usize) {
        if let Some(client) = self.all.get_mut(token.wrapping_sub(self.first_token)) {
            client.set_readable();
        }
    }

    /// Lets one more come.
    ///
    /// # Errors
    ///
    /// The connection fails.
    pub(super) fn connect_one(&mut self, prng: &mut Prng, registry: &Registry) -> io::Result<()> {
        let (user, behavior) = match self.total {
            // With an id that nobody takes over.
            STALLED_CLIENT => (self.users.end, Behavior::StalledReader),
            _ => {
                let user = self.users.start + prng.below(self.users.end - self.users.start);
                (user, Behavior::choose(prng))
            }
        };
        let key = self.all.vacant_key();
        let registration = (registry, Token(self.first_token + key));
        let client =
            ChurnClient::connect(self.to, user, behavior, prng, self.close_timeout, registration)?;
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

    /// Reads, checks, and drops those who are gone.
    ///
    /// # Errors
    ///
    /// The server did one of them wrong.
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

    /// All leave now.
    pub(super) fn disconnect_all(&mut self) {
        self.all.clear();
        self.by_user.clear();
    }
}
