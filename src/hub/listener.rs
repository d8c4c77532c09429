//! A listening socket with readiness and accept back-off.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::hub::transport::Acceptor;

/// The pause after an accept error such as a lack of descriptors or memory.
pub(super) const ACCEPT_BACKOFF: Duration = Duration::from_millis(500);

/// An acceptor, whether connections may be pending on it, and its back-off.
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

    /// Records that connections may be pending.
    pub(super) fn set_readable(&mut self) {
        self.readable = true;
    }

    /// Returns whether [`accept`](Self::accept) may return a connection: one may be pending, and no
    /// back-off is running.
    pub(super) fn is_ready(&self) -> bool {
        self.readable && self.backoff_until.is_none()
    }

    /// Accepts the next pending connection, if any. Skips errors that concern only that connection;
    /// any other error starts the back-off.
    pub(super) fn accept(
        &mut self,
        token: usize,
        now: Instant,
    ) -> io::Result<Option<(A::Stream, SocketAddr)>> {
        self.backoff_until = self.backoff_until.filter(|&until| now < until);
        while self.is_ready() {
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
