//! The operators' HTTP: a page, its figures as JSON and for Prometheus, and probes.
//!
//! ```text
//! bytes ─▶ request::parse ─▶ routes::respond(request, Monitored) ─▶ Response ─▶ bytes
//! ```
//!
//! The server's own loop serves it, so that an answer proves that the loop turns. An [`AdminServer`] is like the
//! [`Hub`](crate::hub::Hub) without poll and clock: readiness and time are passed in as values. It has its own
//! table of at most [`MAX_CONNECTIONS`] connections and its own range of tokens. A turn serves at most
//! [`SERVED_PER_TURN`] of them, which bounds what it adds to a turn of the server under any flood.
//!
//! A connection ([`connection`]) has a response in memory at most once, reads nothing while it is written, and
//! closes 10 seconds after its request began.

pub mod connection;
pub mod histogram;
pub mod metrics;
mod page;
pub mod request;
pub mod response;
pub mod routes;
pub mod status;

use std::io::ErrorKind;
use std::time::Instant;

use slab::Slab;

use self::connection::{Connection, Progress};
use self::request::Request;
use self::response::{Rejection, Response};
pub use self::routes::Monitored;
use crate::hub::{Acceptor, NextTurn, Readiness};

/// The maximum number of connections. One more waits in the listen backlog.
pub const MAX_CONNECTIONS: usize = 32;

/// The maximum number of connections that one turn accepts, and the maximum number that it serves.
const SERVED_PER_TURN: usize = 4;

/// The token of the listener.
pub const ADMIN_LISTENER: usize = FIRST_TOKEN + MAX_CONNECTIONS;

/// The token of the first connection. Other tokens are less, or greater than [`ADMIN_LISTENER`].
const FIRST_TOKEN: usize = usize::MAX - 1024;

/// Returns whether a token is of the listener or of a connection.
#[must_use]
pub fn is_admin_token(token: usize) -> bool {
    (FIRST_TOKEN..=ADMIN_LISTENER).contains(&token)
}

/// A listener and its connections.
#[derive(Debug)]
pub struct AdminServer<A: Acceptor> {
    acceptor: A,
    /// Whether connections may be pending.
    acceptable: bool,
    connections: Slab<Connection<A::Stream>>,
    /// The key after that of the connection served last.
    next_key: usize,
    /// Whether only requests that name this machine are served.
    is_loopback: bool,
}

impl<A: Acceptor> AdminServer<A> {
    /// Creates a server. With `is_loopback`, it rejects requests for a host name other than `localhost`,
    /// so that no web page can read it by making its own name resolve to the loopback address.
    pub fn new(acceptor: A, is_loopback: bool) -> AdminServer<A> {
        AdminServer {
            acceptor,
            acceptable: true,
            connections: Slab::with_capacity(MAX_CONNECTIONS),
            next_key: 0,
            is_loopback,
        }
    }

    /// Returns the number of open connections.
    #[must_use]
    pub fn open(&self) -> usize {
        self.connections.len()
    }

    /// Runs one turn at the time `now`, with the readiness of the last polls.
    pub fn turn(&mut self, now: Instant, ready: &[Readiness], server: &mut impl Monitored) {
        self.apply_readiness(ready);
        self.connections.retain(|_, connection| now < connection.deadline());
        self.accept(now);
        self.serve(now, server);
    }

    /// Returns when the next turn has to begin.
    #[must_use]
    pub fn next_turn(&self) -> NextTurn {
        let has_work = self.connections.iter().any(|(_, connection)| connection.has_work());
        if has_work || (self.acceptable && self.may_accept()) {
            return NextTurn::Now;
        }
        let deadlines = self.connections.iter().map(|(_, connection)| connection.deadline());
        deadlines.min().map_or(NextTurn::WhenReady, NextTurn::Until)
    }

    fn apply_readiness(&mut self, ready: &[Readiness]) {
        for readiness in ready {
            if readiness.token == ADMIN_LISTENER {
                self.acceptable = true;
            } else if let Some(key) = readiness.token.checked_sub(FIRST_TOKEN)
                && let Some(connection) = self.connections.get_mut(key)
            {
                connection.set_ready(readiness);
            }
        }
    }

    /// Returns whether there is space for a connection, or would be without an idle one.
    fn may_accept(&self) -> bool {
        self.open() < MAX_CONNECTIONS || self.longest_idle().is_some()
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..SERVED_PER_TURN {
            if !self.acceptable || !self.may_accept() {
                return;
            }
            if self.open() == MAX_CONNECTIONS
                && let Some(idle) = self.longest_idle()
            {
                self.connections.remove(idle);
            }
            match self.acceptor.accept(FIRST_TOKEN + self.connections.vacant_key()) {
                Ok((stream, _)) => {
                    self.connections.insert(Connection::new(stream, now));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.acceptable = false,
                Err(_) => {}
            }
        }
    }

    /// Returns the key of the connection that has been waiting for a request for the longest time.
    fn longest_idle(&self) -> Option<usize> {
        let idle = self.connections.iter().filter(|(_, connection)| connection.is_idle());
        idle.min_by_key(|(_, connection)| connection.deadline()).map(|(key, _)| key)
    }

    /// Serves the connections that have work, in turn.
    fn serve(&mut self, now: Instant, server: &mut impl Monitored) {
        let has_work = |&key: &usize| self.connections.get(key).is_some_and(Connection::has_work);
        let keys = (self.next_key..MAX_CONNECTIONS).chain(0..self.next_key);
        let mut served = [0; SERVED_PER_TURN];
        let mut count = 0;
        for (slot, key) in served.iter_mut().zip(keys.filter(has_work)) {
            *slot = key;
            count += 1;
        }
        for &key in &served[..count] {
            self.next_key = (key + 1) % MAX_CONNECTIONS;
            self.advance(key, now, server);
        }
    }

    fn advance(&mut self, key: usize, now: Instant, server: &mut impl Monitored) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_loopback = self.is_loopback;
        let date = server.utc_now();
        let progress =
            connection.advance(now, date, |request| respond(request, is_loopback, server));
        if progress == Progress::Closed {
            self.connections.remove(key);
        }
    }
}

fn respond(request: &Request<'_>, is_loopback: bool, server: &mut impl Monitored) -> Response {
    match is_loopback && !request.names_this_machine() {
        true => Rejection::Misdirected.response(),
        false => routes::respond(request, server),
    }
}
