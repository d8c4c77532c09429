//! TCP listeners and connections.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::hub::{Acceptor, BACKLOG, Stream};

impl Stream for TcpStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// A socket that is to listen: bound to its address, so that nothing else gets the port, or open already.
#[derive(Debug)]
pub(crate) enum ReservedPort {
    /// A bound socket, on which connections are refused until it listens.
    Bound(Socket),
    /// A listener of the service manager, on which connections wait.
    Inherited(std::net::TcpListener),
}

impl ReservedPort {
    /// Binds a socket to `address`, with `SO_REUSEADDR`.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<ReservedPort> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(ReservedPort::Bound(socket))
    }
}

/// A listening TCP socket. It and its accepted connections are registered with a poll.
#[derive(Debug)]
pub(crate) struct TcpAcceptor {
    listener: TcpListener,
    registry: Registry,
    liveness: Liveness,
    /// The size of the send buffer of accepted connections. `None`: the kernel's.
    send_buffer_bytes: Option<usize>,
}

impl TcpAcceptor {
    /// Listens with a backlog of 4,096. Connections of unreachable peers end after `peer_timeout`.
    pub(crate) fn listen(
        port: ReservedPort,
        registry: &Registry,
        token: usize,
        peer_timeout: Duration,
    ) -> io::Result<Self> {
        let listener = match port {
            ReservedPort::Bound(socket) => {
                socket.listen(BACKLOG)?;
                socket.into()
            }
            ReservedPort::Inherited(listener) => listener,
        };
        let mut listener = TcpListener::from_std(listener);
        let registry = registry.try_clone()?;
        registry.register(&mut listener, Token(token), Interest::READABLE)?;
        let liveness = Liveness::within(peer_timeout);
        Ok(TcpAcceptor { listener, registry, liveness, send_buffer_bytes: None })
    }

    /// Changes the peer timeout of connections that are accepted from now on.
    pub(crate) fn set_peer_timeout(&mut self, peer_timeout: Duration) {
        self.liveness = Liveness::within(peer_timeout);
    }

    /// Changes the size of the send buffer of connections that are accepted from now on. Linux doubles it.
    pub(crate) fn set_send_buffer(&mut self, bytes: Option<u64>) {
        self.send_buffer_bytes = bytes.map(|bytes| bytes as usize);
    }

    /// Returns the bound address, with the port that was selected for port 0.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Acceptor for TcpAcceptor {
    type Stream = TcpStream;

    fn accept(&mut self, token: usize) -> io::Result<(TcpStream, SocketAddr)> {
        let (mut stream, peer) = self.listener.accept()?;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        self.liveness.apply(&socket)?;
        if let Some(bytes) = self.send_buffer_bytes {
            socket.set_send_buffer_size(bytes)?;
        }
        // Register for WRITABLE once. With edge triggering it only fires after WouldBlock, so it is free
        // until then and never needs re-registration.
        // PRIORITY reports urgent data, at which reads stop short.
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        self.registry.register(&mut stream, Token(token), interest)?;
        Ok((stream, peer))
    }
}

/// Returns the largest send buffer up to `bytes` that the kernel allows.
pub(crate) fn allowed_send_buffer(bytes: u64) -> io::Result<u64> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_send_buffer_size(bytes as usize)?;
    // The kernel returns the doubled size.
    Ok(bytes.min(socket.send_buffer_size()? as u64 / 2))
}

/// The socket options that detect unreachable peers: keepalive probes on an idle connection,
/// `TCP_USER_TIMEOUT` with bytes in flight.
///
/// If both are set, the kernel closes an idle connection at the first probe due after the user timeout, no
/// matter how many probes are left. Therefore the user timeout is slightly shorter than the peer timeout,
/// and probes are frequent enough for one to be due in between. Keepalive counts whole seconds: an idle
/// connection closes after two seconds at the earliest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Liveness {
    user_timeout: Duration,
    idle_time: Duration,
    probe_interval: Duration,
    probes: u32,
}

impl Liveness {
    const SECOND: Duration = Duration::from_secs(1);

    fn within(peer_timeout: Duration) -> Liveness {
        let whole_seconds = |time: Duration| Duration::from_secs(time.as_secs()).max(Self::SECOND);
        let margin = (peer_timeout / 8).max(Self::SECOND).min(peer_timeout / 3);
        let idle_time = whole_seconds(peer_timeout / 2);
        let probe_interval = whole_seconds(peer_timeout / 16);
        let probing = peer_timeout.saturating_sub(idle_time).as_secs();
        let probes = (probing / probe_interval.as_secs()).max(1) as u32;
        Liveness { user_timeout: peer_timeout - margin, idle_time, probe_interval, probes }
    }

    fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        let keepalive = TcpKeepalive::new()
            .with_time(self.idle_time)
            .with_interval(self.probe_interval)
            .with_retries(self.probes);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_user_timeout(Some(self.user_timeout))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mio::Poll;

    use super::*;

    /// Returns the time after which the kernel closes an idle connection, if its timers are exact.
    fn idle_close_time(liveness: Liveness) -> Duration {
        let mut due = liveness.idle_time + liveness.probe_interval;
        while due < liveness.user_timeout {
            due += liveness.probe_interval;
        }
        due
    }

    #[test]
    fn connections_close_within_the_peer_timeout_idle_or_with_bytes_in_flight() {
        for millis in (1000..100_000).step_by(77).chain([60_000, 3_600_000]) {
            let peer_timeout = Duration::from_millis(millis);
            let liveness = Liveness::within(peer_timeout);
            assert!(liveness.user_timeout < peer_timeout, "{liveness:?}");
            assert!(liveness.user_timeout >= peer_timeout / 2, "{liveness:?}");
            let idle = idle_close_time(liveness);
            assert!(idle <= peer_timeout.max(Duration::from_secs(2)), "{millis}: {liveness:?}");
            // The same if the kernel only counts probes.
            let counted = liveness.idle_time + liveness.probe_interval * liveness.probes;
            assert!(counted <= peer_timeout.max(Duration::from_secs(2)), "{millis}: {liveness:?}");
        }
    }

    /// Kernel timers of half a minute may be two seconds late, those of a few seconds a quarter of a second.
    #[test]
    fn the_default_timeout_leaves_a_tolerance_for_kernel_timers() {
        let liveness = Liveness::within(Duration::from_secs(60));
        assert!(idle_close_time(liveness) <= Duration::from_secs(56), "{liveness:?}");
    }

    #[test]
    fn accepted_sockets_have_these_options() {
        let poll = Poll::new().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let peer_timeout = Duration::from_secs(60);
        let port = ReservedPort::bind(address).unwrap();
        let mut acceptor = TcpAcceptor::listen(port, poll.registry(), 0, peer_timeout).unwrap();
        let _peer = std::net::TcpStream::connect(acceptor.local_addr().unwrap()).unwrap();
        let stream = accept(&mut acceptor);
        check_options(&stream, Liveness::within(peer_timeout));

        let peer_timeout = Duration::from_secs(5);
        acceptor.set_peer_timeout(peer_timeout);
        let _peer = std::net::TcpStream::connect(acceptor.local_addr().unwrap()).unwrap();
        check_options(&accept(&mut acceptor), Liveness::within(peer_timeout));
    }

    #[test]
    fn accepted_sockets_have_the_send_buffer_that_was_set_last() {
        let poll = Poll::new().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let peer_timeout = Duration::from_secs(60);
        let port = ReservedPort::bind(address).unwrap();
        let mut acceptor = TcpAcceptor::listen(port, poll.registry(), 0, peer_timeout).unwrap();
        let mut sizes = [None, Some(8192), Some(16_384), None].map(|bytes| {
            acceptor.set_send_buffer(bytes);
            let _peer = std::net::TcpStream::connect(acceptor.local_addr().unwrap()).unwrap();
            SockRef::from(&accept(&mut acceptor)).send_buffer_size().unwrap()
        });
        assert_eq!(sizes[1..3], [2 * 8192, 2 * 16_384], "Linux doubles it");
        sizes.sort_unstable();
        assert_eq!(sizes[2], sizes[3], "the kernel's own size is larger");
        assert_eq!(allowed_send_buffer(8192).unwrap(), 8192);
        assert!(allowed_send_buffer(1 << 30).unwrap() <= 1 << 30);
    }

    fn accept(acceptor: &mut TcpAcceptor) -> TcpStream {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            match acceptor.accept(1) {
                Ok((stream, _)) => return stream,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            assert!(std::time::Instant::now() < deadline, "no connection");
        }
    }

    fn check_options(stream: &TcpStream, expected: Liveness) {
        let socket = SockRef::from(stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(expected.user_timeout));
        assert_eq!(socket.tcp_keepalive_time().unwrap(), expected.idle_time);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), expected.probe_interval);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), expected.probes);
    }
}
