//! Connections as the hub sees them: real sockets, or what stands for them in a simulation.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

/// Connections that the kernel holds for us until we accept them. `net.core.somaxconn` may allow
/// fewer.
pub const BACKLOG: i32 = 4096;

/// A connection, non-blocking.
pub trait Stream: Read + Write {
    /// Ends the sending side: the peer reads an end of file after all that was written.
    ///
    /// # Errors
    ///
    /// What the operating system says of a connection that is over already.
    fn shutdown_write(&mut self) -> io::Result<()>;
}

/// A source of connections: a listening socket, or what stands for one in a simulation.
///
/// Readiness is edge-triggered: it is told once, and then again only after the stream, or the
/// acceptor, has answered "would block".
pub trait Acceptor {
    /// What is accepted.
    type Stream: Stream;

    /// Takes the next waiting connection, whose readiness is from then on told under `token`.
    ///
    /// # Errors
    ///
    /// "Would block" when none waits; otherwise what the operating system says.
    fn accept(&mut self, token: usize) -> io::Result<(Self::Stream, SocketAddr)>;
}
