//! Where connections come from.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// Connections that the kernel holds for us until we accept them. `net.core.somaxconn` may allow
/// fewer.
pub(crate) const BACKLOG: i32 = 4096;

/// A peer that vanished without a word is noticed after about two minutes: 60 s of silence, then
/// the kernel's default of 9 probes, 7 s apart.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(7));

/// A connection, non-blocking.
pub trait Stream: Read + Write {
    /// Ends the sending side: the peer reads an end of file after all that was written.
    ///
    /// # Errors
    ///
    /// What the operating system says of a connection that is over already.
    fn shutdown_write(&mut self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
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

/// A listening TCP socket, registered with a poll together with all that it accepts.
#[derive(Debug)]
pub(crate) struct TcpAcceptor {
    listener: TcpListener,
    registry: Registry,
}

impl TcpAcceptor {
    /// Listens on `address`, with `SO_REUSEADDR` and a backlog of 4,096.
    pub(crate) fn bind(address: SocketAddr, registry: &Registry, token: usize) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let mut listener = TcpListener::from_std(socket.into());
        let registry = registry.try_clone()?;
        registry.register(&mut listener, Token(token), Interest::READABLE)?;
        Ok(TcpAcceptor { listener, registry })
    }

    /// The address that it really listens on.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Acceptor for TcpAcceptor {
    type Stream = TcpStream;

    fn accept(&mut self, token: usize) -> io::Result<(TcpStream, SocketAddr)> {
        let (mut stream, peer) = self.listener.accept()?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
        // Writability is registered once and for all: the kernel tells it only after a write was
        // refused, so it costs nothing until then, and nothing to switch on and off.
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut stream, Token(token), interest)?;
        Ok((stream, peer))
    }
}
