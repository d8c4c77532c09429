//! The operators' HTTP: a page, its figures as JSON and for Prometheus, and probes.
//!
//! ```text
//! bytes ─▶ request::parse ─▶ routes::respond(request, Monitored) ─▶ Response ─▶ bytes
//! ```
//!
//! The server's own loop serves it, so that an answer proves that the loop turns. An [`AdminServer`] is like the
//! [`Hub`](crate::hub::Hub) without poll and clock: readiness and time are passed in as values. It has its own
//! table of at most [`MAX_CONNECTIONS`] connections and its own range of tokens. A turn serves at most
//! four of them, which bounds what it adds to a turn of the server under any flood.
//!
//! A connection ([`connection`]) has a response in memory at most once, reads nothing while it is written, and
//! closes 10 seconds after its request began.

pub mod connection;
pub mod histogram;
pub mod history;
pub mod metrics;
mod page;
pub mod request;
pub mod response;
pub mod routes;
pub mod status;

use std::time::Instant;

use slab::Slab;

use self::connection::{Connection, Progress};
use self::request::Request;
use self::response::{Rejection, Response};
pub use self::routes::Monitored;
use crate::hub::{Acceptor, Listener, NextTurn, Readiness};

/// The maximum number of connections. One more waits in the listen backlog.
pub const MAX_CONNECTIONS: usize = 32;

/// The maximum number of connections that one turn accepts, and the maximum number that it serves.
const SERVED_PER_TURN: usize = 4;

/// The number of keys: one more than connections, for one that replaces another.
const KEYS: usize = MAX_CONNECTIONS + 1;

/// The token of the listener.
pub const ADMIN_LISTENER: usize = FIRST_TOKEN + KEYS;

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
    listener: Listener<A>,
    connections: Slab<Connection<A::Stream>>,
    max_connections: usize,
    /// The key after that of the connection served last.
    next_key: usize,
    /// Whether only requests that name this machine are served.
    is_loopback: bool,
}

impl<A: Acceptor> AdminServer<A> {
    /// Creates a server of up to `max_connections` connections, at most [`MAX_CONNECTIONS`]. With `is_loopback`, it rejects requests for a host name other than `localhost`,
    /// so that no web page can read it by making its own name resolve to the loopback address.
    pub fn new(acceptor: A, max_connections: usize, is_loopback: bool) -> AdminServer<A> {
        let max_connections = max_connections.min(MAX_CONNECTIONS);
        AdminServer {
            listener: Listener::new(acceptor),
            connections: Slab::with_capacity(max_connections),
            max_connections,
            next_key: 0,
            is_loopback,
        }
    }

    /// Changes the maximum number of connections, at most [`MAX_CONNECTIONS`].
    pub fn set_max_connections(&mut self, max_connections: usize) {
        self.max_connections = max_connections.min(MAX_CONNECTIONS);
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
        if has_work || (self.listener.is_ready() && self.may_accept()) {
            return NextTurn::Now;
        }
        let deadlines = self.connections.iter().map(|(_, connection)| connection.deadline());
        deadlines
            .chain(self.listener.backoff_until())
            .min()
            .map_or(NextTurn::WhenReady, NextTurn::Until)
    }

    fn apply_readiness(&mut self, ready: &[Readiness]) {
        for readiness in ready {
            if readiness.token == ADMIN_LISTENER {
                self.listener.set_readable();
            } else if let Some(key) = readiness.token.checked_sub(FIRST_TOKEN)
                && let Some(connection) = self.connections.get_mut(key)
            {
                connection.set_ready(readiness);
            }
        }
    }

    /// Returns whether there is space for a connection, or would be without an idle one.
    fn may_accept(&self) -> bool {
        self.open() < self.max_connections || self.longest_idle().is_some()
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..SERVED_PER_TURN {
            if !self.may_accept() {
                return;
            }
            let token = FIRST_TOKEN + self.connections.vacant_key();
            match self.listener.accept(token, now) {
                Ok(Some((stream, _))) => {
                    self.connections.insert(Connection::new(stream, now));
                    self.make_space();
                }
                Ok(None) => return,
                Err(error) => {
                    log::error!("cannot accept another operator: {error}");
                    return;
                }
            }
        }
    }

    /// Closes the connection that has been waiting for a request for the longest time if there is one too many.
    fn make_space(&mut self) {
        if self.open() > self.max_connections
            && let Some(idle) = self.longest_idle()
        {
            self.connections.remove(idle);
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
        let keys = (self.next_key..KEYS).chain(0..self.next_key);
        let mut served = [0; SERVED_PER_TURN];
        let mut count = 0;
        for (slot, key) in served.iter_mut().zip(keys.filter(has_work)) {
            *slot = key;
            count += 1;
        }
        for &key in &served[..count] {
            self.next_key = (key + 1) % KEYS;
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
