//! A listener, and when to look behind it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::hub::transport::Acceptor;

/// How long accepting rests when the system has no descriptor or memory for a connection.
pub(super) const ACCEPT_BACKOFF: Duration = Duration::from_millis(500);

/// A listener, and whether connections may wait behind it.
#[derive(Debug)]
pub(super) struct Listener<A> {
    acceptor: A,
    readable: bool,
    pub(super) backoff_until: Option<Instant>,
}

impl<A: Acceptor> Listener<A> {
    pub(super) fn new(acceptor: A) -> Listener<A> {
        Listener { acceptor, readable: true, backoff_until: None }
    }

    /// The poll has told that a connection waits.
    pub(super) fn note(&mut self) {
        self.readable = true;
    }

    /// Returns whether it is time to look for connections.
    pub(super) fn is_open(&self) -> bool {
        self.readable && self.backoff_until.is_none()
    }

    /// Accepts the next connection, if one waits. Errors that concern only that connection are
    /// passed over; after any other, accepting rests.
    pub(super) fn accept(
        &mut self,
        token: usize,
        now: Instant,
    ) -> io::Result<Option<(A::Stream, SocketAddr)>> {
        self.backoff_until = self.backoff_until.filter(|&until| now < until);
        while self.is_open() {
            match self.acceptor.accept(token) {
                Ok(connection) => return Ok(Some(connection)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.readable = false,
                    ErrorKind::Interrupted
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::ConnectionReset
                    | ErrorKind::InvalidInput
                    | ErrorKind::NotConnected
                    | ErrorKind::PermissionDenied => {}
                    _ => {
                        self.backoff_until = Some(now + ACCEPT_BACKOFF);
                        return Err(error);
                    }
                },
            }
        }
        Ok(None)
    }
}
