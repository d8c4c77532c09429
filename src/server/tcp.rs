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

/// A listening TCP socket, registered with a poll together with all that it accepts.
#[derive(Debug)]
pub(crate) struct TcpAcceptor {
    listener: TcpListener,
    registry: Registry,
    liveness: Liveness,
}

impl TcpAcceptor {
    /// Listens on `address`, with `SO_REUSEADDR` and a backlog of 4,096. A peer that vanishes is given up
    /// after `peer_timeout`.
    pub(crate) fn bind(
        address: SocketAddr,
        registry: &Registry,
        token: usize,
        peer_timeout: Duration,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let mut listener = TcpListener::from_std(socket.into());
        let registry = registry.try_clone()?;
        registry.register(&mut listener, Token(token), Interest::READABLE)?;
        Ok(TcpAcceptor { listener, registry, liveness: Liveness::within(peer_timeout) })
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
        self.liveness.apply(&SockRef::from(&stream))?;
        // Writability is registered once and for all: the kernel tells it only after a write was
        // refused, so it costs nothing until then, and nothing to switch on and off.
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut stream, Token(token), interest)?;
        Ok((stream, peer))
    }
}

/// Socket options that let the kernel give up a peer that vanished without a word: keepalive probes
/// while the connection is idle, `TCP_USER_TIMEOUT` while bytes are under way.
///
/// Where both are set, the kernel gives an idle peer up at the first probe that is due once the user
/// timeout is over, however many probes are left. So the user timeout is a little less than the time
/// that a peer has, and probes come often enough for one to be due in between. Keepalive counts in whole
/// seconds: an idle peer is given up after two seconds at the earliest.
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

    /// When the kernel gives up an idle peer, its timers being on time.
    fn idle_peer_given_up(liveness: Liveness) -> Duration {
        let mut due = liveness.idle_time + liveness.probe_interval;
        while due < liveness.user_timeout {
            due += liveness.probe_interval;
        }
        due
    }

    #[test]
    fn a_peer_is_given_up_within_its_timeout_whether_or_not_bytes_are_under_way() {
        for millis in (1000..100_000).step_by(77).chain([60_000, 3_600_000]) {
            let peer_timeout = Duration::from_millis(millis);
            let liveness = Liveness::within(peer_timeout);
            assert!(liveness.user_timeout < peer_timeout, "{liveness:?}");
            assert!(liveness.user_timeout >= peer_timeout / 2, "{liveness:?}");
            let idle = idle_peer_given_up(liveness);
            assert!(idle <= peer_timeout.max(Duration::from_secs(2)), "{millis}: {liveness:?}");
            // The same where the kernel counts probes alone.
            let counted = liveness.idle_time + liveness.probe_interval * liveness.probes;
            assert!(counted <= peer_timeout.max(Duration::from_secs(2)), "{millis}: {liveness:?}");
        }
    }

    /// The kernel's timers of half a minute may be two seconds late, those of a few seconds a quarter of
    /// one.
    #[test]
    fn the_usual_timeout_leaves_the_kernel_its_tolerance() {
        let liveness = Liveness::within(Duration::from_secs(60));
        assert!(idle_peer_given_up(liveness) <= Duration::from_secs(56), "{liveness:?}");
    }

    #[test]
    fn accepted_sockets_have_these_options() {
        let poll = Poll::new().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let peer_timeout = Duration::from_secs(60);
        let mut acceptor = TcpAcceptor::bind(address, poll.registry(), 0, peer_timeout).unwrap();
        let _peer = std::net::TcpStream::connect(acceptor.local_addr().unwrap()).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let stream = loop {
            match acceptor.accept(1) {
                Ok((stream, _)) => break stream,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            assert!(std::time::Instant::now() < deadline, "nobody connects");
        };
        let socket = SockRef::from(&stream);
        let expected = Liveness::within(peer_timeout);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(expected.user_timeout));
        assert_eq!(socket.tcp_keepalive_time().unwrap(), expected.idle_time);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), expected.probe_interval);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), expected.probes);
    }
}
