//! The simulated operating system: sockets, backlogs and edge-triggered readiness.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};

use eventserver::hub::{CLIENT_LISTENER, EVENT_LISTENER, Readiness};

use super::random::Random;
use super::socket::{Side, Socket};

/// Identifies a socket for the whole run, unlike its token.
pub(crate) type SocketId = usize;

/// A call of the server, as the kernel saw it.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Accepted(SocketId, Side),
    AcceptFailed(Side),
    Read(SocketId, Vec<u8>),
    /// The last read was short because it left nothing: the socket is drained.
    Drained(SocketId),
    /// A read that would have blocked.
    ReadWouldBlock(SocketId),
    ReadEnd(SocketId),
    ReadFailed(SocketId),
    Wrote(SocketId, Vec<u8>),
    /// A write for which there was no room.
    WriteRefused(SocketId),
    WriteFailed(SocketId),
    /// The server has registered the client as this user.
    Registered(SocketId, u64),
    /// The server tells the client that these sequences may be missing.
    GapTold(SocketId, u64, u64),
    /// From now on the client gets live events.
    CaughtUp(SocketId),
    /// The server has shut down its sending side.
    ShutDown(SocketId),
    Closed(SocketId),
    StoppedListening(Side),
    /// A poll; the ends of these sockets have been reported so far.
    Polled(Vec<SocketId>),
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::Read(id, bytes) => write!(f, "Read({id}, \"{}\")", bytes.escape_ascii()),
            Call::Wrote(id, bytes) => write!(f, "Wrote({id}, \"{}\")", bytes.escape_ascii()),
            call => write!(f, "{call:?}"),
        }
    }
}

/// Parameters of a run's kernel.
#[derive(Clone, Debug)]
pub(crate) struct KernelConfig {
    /// Capacity of a listener's backlog.
    pub(crate) backlog: usize,
    /// Upper bound of a socket's buffer sizes.
    pub(crate) max_buffer_bytes: u64,
    /// One in this many calls is interrupted or shortened, or its readiness spurious; 0 for none.
    pub(crate) fault_rate: usize,
    /// Upper bound of the server's open sockets.
    pub(crate) descriptors: usize,
    /// Upper bound of the readiness events of one poll.
    pub(crate) events_per_poll: usize,
}

/// A listening socket.
#[derive(Debug, Default)]
struct Listener {
    backlog: VecDeque<SocketId>,
    /// A connection arrived that the poll has not reported yet.
    edge: bool,
    is_closed: bool,
}

/// All sockets, and the server's calls since they were last taken.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) random: Random,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) config: KernelConfig,
    pub(crate) is_out_of_descriptors: bool,
    pub(crate) calls: Vec<Call>,
    /// Clients whose complete ID line was here when a source was read last, until they are checked.
    pub(crate) to_be_registered: Vec<SocketId>,
    listeners: [Listener; 2],
}

impl Kernel {
    pub(crate) fn new(config: KernelConfig, random: Random) -> Kernel {
        Kernel {
            random,
            sockets: Vec::new(),
            config,
            is_out_of_descriptors: false,
            calls: Vec::new(),
            to_be_registered: Vec::new(),
            listeners: Default::default(),
        }
    }

    /// Connects a peer. Returns `None` if the backlog is full or the listener closed.
    pub(crate) fn connect(&mut self, side: Side) -> Option<SocketId> {
        let listener = &mut self.listeners[side as usize];
        if listener.is_closed || listener.backlog.len() >= self.config.backlog {
            return None;
        }
        let id = self.sockets.len();
        let [inbound, outbound] =
            [(); 2].map(|()| self.random.between(1, self.config.max_buffer_bytes) as usize);
        let low_watermark = self.random.between(1, (outbound as u64).div_ceil(3)) as usize;
        self.sockets.push(Socket::new(side, inbound, outbound, low_watermark));
        listener.backlog.push_back(id);
        listener.edge = true;
        Some(id)
    }

    /// Moves sent bytes into the receive buffer, up to its capacity.
    pub(crate) fn deliver(&mut self, id: SocketId) {
        self.sockets[id].deliver();
    }

    /// Returns whether connections wait in the backlog, all of them reported by the poll.
    pub(crate) fn has_reported_backlog(&self, side: Side) -> bool {
        let listener = &self.listeners[side as usize];
        !listener.is_closed && !listener.backlog.is_empty() && !listener.edge
    }

    /// Returns whether a poll would return at once.
    pub(crate) fn has_ready(&self) -> bool {
        self.listeners.iter().any(|listener| listener.edge)
            || self.sockets.iter().any(|socket| socket.edge)
    }

    /// Reports each edge once, and sometimes a spurious one. Returns whether the bound was reached.
    pub(crate) fn poll(&mut self, ready: &mut Vec<Readiness>) -> bool {
        let max_events = self.config.events_per_poll;
        let before = ready.len();
        for (side, token) in [(0, EVENT_LISTENER), (1, CLIENT_LISTENER)] {
            let spurious = self.inject_fault() && !self.listeners[side].is_closed;
            if ready.len() - before < max_events
                && (std::mem::take(&mut self.listeners[side].edge) || spurious)
            {
                ready.push(Readiness {
                    token,
                    readable: true,
                    writable: false,
                    read_closed: false,
                    urgent: false,
                });
            }
        }
        let sockets = self.sockets.len();
        let start = self.random.below(sockets);
        for at in (0..sockets).map(|at| (at + start) % sockets) {
            if ready.len() - before == max_events {
                self.record_reported_ends();
                return true;
            }
            let spurious = self.inject_fault().then(|| [(); 2].map(|()| self.random.one_in(2)));
            let urgent = self.inject_fault();
            ready.extend(self.sockets[at].take_readiness(spurious, urgent));
        }
        self.record_reported_ends();
        false
    }

    fn record_reported_ends(&mut self) {
        let ended =
            (0..self.sockets.len()).filter(|&id| self.sockets[id].is_end_reported).collect();
        self.calls.push(Call::Polled(ended));
    }

    pub(crate) fn accept(&mut self, side: Side, token: usize) -> io::Result<SocketId> {
        if self.listeners[side as usize].backlog.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.inject_fault() {
            return Err((*self
                .random
                .pick(&[ErrorKind::Interrupted, ErrorKind::ConnectionAborted]))
            .into());
        }
        if self.is_out_of_descriptors {
            const EMFILE: i32 = 24;
            self.calls.push(Call::AcceptFailed(side));
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        assert!(
            self.descriptors() < self.config.descriptors,
            "more sockets are open than the limits allow"
        );
        let is_taken = self.sockets.iter().any(|socket| socket.token == Some(token));
        assert!(!is_taken, "token {token} is in use already");
        let Some(id) = self.listeners[side as usize].backlog.pop_front() else {
            return Err(ErrorKind::WouldBlock.into());
        };
        self.sockets[id].token = Some(token);
        self.sockets[id].edge = true;
        self.calls.push(Call::Accepted(id, side));
        Ok(id)
    }

    pub(crate) fn read(&mut self, id: SocketId, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty(), "an empty read buffer would look like an end");
        if self.inject_fault() {
            return Err(ErrorKind::Interrupted.into());
        }
        if self.random.one_in(2) {
            self.deliver(id);
        }
        let stop = self.short_length(buffer.len());
        let socket = &mut self.sockets[id];
        if socket.is_reset {
            self.calls.push(Call::ReadFailed(id));
            return Err(ErrorKind::ConnectionReset.into());
        }
        let bytes = socket.take_inbound(buffer.len(), stop);
        if bytes.is_empty() {
            let has_ended = socket.has_ended();
            self.calls.push(if has_ended { Call::ReadEnd(id) } else { Call::ReadWouldBlock(id) });
            return if has_ended { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        if socket.side == Side::Source {
            self.record_complete_id_lines();
        }
        buffer[..bytes.len()].copy_from_slice(&bytes);
        let read = bytes.len();
        self.calls.push(Call::Read(id, bytes));
        if read < buffer.len() && !self.sockets[id].has_inbound() {
            self.calls.push(Call::Drained(id));
        }
        Ok(read)
    }

    pub(crate) fn write(&mut self, id: SocketId, bytes: &[u8]) -> io::Result<usize> {
        assert!(!bytes.is_empty(), "an empty write is useless");
        if self.inject_fault() {
            return Err(ErrorKind::Interrupted.into());
        }
        let max = self.short_length(bytes.len());
        let socket = &mut self.sockets[id];
        if socket.is_reset {
            self.calls.push(Call::WriteFailed(id));
            return Err(ErrorKind::BrokenPipe.into());
        }
        let taken = socket.put_outbound(&bytes[..max]);
        if taken == 0 {
            self.calls.push(Call::WriteRefused(id));
            return Err(ErrorKind::WouldBlock.into());
        }
        self.calls.push(Call::Wrote(id, bytes[..taken].to_vec()));
        Ok(taken)
    }

    /// Shuts down the server's sending side.
    pub(crate) fn shut_down(&mut self, id: SocketId) -> io::Result<()> {
        self.sockets[id].is_shut_down = true;
        self.calls.push(Call::ShutDown(id));
        match self.sockets[id].is_reset {
            true => Err(ErrorKind::NotConnected.into()),
            false => Ok(()),
        }
    }

    /// Closes a connection of the server.
    pub(crate) fn close(&mut self, id: SocketId) {
        self.sockets[id].close();
        self.calls.push(Call::Closed(id));
    }

    /// Closes a listener, and refuses the connections in its backlog.
    pub(crate) fn close_listener(&mut self, side: Side) {
        let listener = &mut self.listeners[side as usize];
        listener.is_closed = true;
        listener.edge = false;
        for id in std::mem::take(&mut listener.backlog) {
            self.sockets[id].close();
        }
        self.calls.push(Call::StoppedListening(side));
    }

    /// Returns the number of the server's open sockets.
    fn descriptors(&self) -> usize {
        self.sockets.iter().filter(|socket| socket.token.is_some()).count()
    }

    fn record_complete_id_lines(&mut self) {
        let here = (0..self.sockets.len()).filter(|&id| self.sockets[id].holds_first_line());
        self.to_be_registered = here.collect();
    }

    fn inject_fault(&mut self) -> bool {
        self.random.one_in(self.config.fault_rate)
    }

    /// Returns the length, or at random a smaller one, but never 0.
    fn short_length(&mut self, length: usize) -> usize {
        if self.config.fault_rate > 0 && self.random.one_in(3) {
            1 + self.random.below(length)
        } else {
            length
        }
    }
}
