//! Interfaces to connections: real sockets, or simulated ones.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use crate::protocol::UserId;

/// The listen backlog. `net.core.somaxconn` may lower it.
pub const BACKLOG: i32 = 4096;

/// A non-blocking connection.
pub trait Stream: Read + Write {
    /// Shuts down the sending side: the peer reads an end of file after all written bytes.
    ///
    /// # Errors
    ///
    /// The error of the operating system, for instance if the connection is already closed.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Observes that the client of this connection was registered as `user`. Does nothing by
    /// default; a simulation records it among its calls.
    fn on_registered(&mut self, _user: UserId) {}

    /// Observes that the client, which resumes, is told that these sequences may be missing, before the bytes are
    /// written. Does nothing by default.
    fn on_gap_told(&mut self, _first: u64, _last: u64) {}

    /// Observes that live events continue what the client has missed. Does nothing by default.
    fn on_caught_up(&mut self) {}
}

/// Accepts connections: a listening socket, or a simulated one.
///
/// Readiness is edge-triggered: it is reported once, and again only after the stream or the
/// acceptor has returned `WouldBlock`.
pub trait Acceptor {
    /// The type of the accepted connections.
    type Stream: Stream;

    /// Accepts the next pending connection, and reports its readiness under `token`.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if no connection is pending; otherwise the error of the operating system.
    fn accept(&mut self, token: usize) -> io::Result<(Self::Stream, SocketAddr)>;
}
