//! What stands in for the operating system: sockets, backlogs and edge-triggered readiness.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};

use eventserver::hub::{CLIENT_LISTENER, EVENT_LISTENER, Readiness};

use super::random::Random;
use super::socket::{Side, Socket};

/// Names a socket for the whole run, unlike its token.
pub(crate) type SocketId = usize;

/// What the server did with the kernel, as the kernel saw it.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Accepted(SocketId, Side),
    AcceptFailed(Side),
    Read(SocketId, Vec<u8>),
    /// A read that brought nothing for now.
    ReadDry(SocketId),
    ReadEnd(SocketId),
    ReadFailed(SocketId),
    Wrote(SocketId, Vec<u8>),
    /// A write for which there was no room.
    WriteRefused(SocketId),
    WriteFailed(SocketId),
    /// The server will write nothing more.
    ShutDown(SocketId),
    Closed(SocketId),
    StoppedListening(Side),
    /// The server has polled; the ends of these had arrived, or they were reset.
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

/// How the kernel of one run behaves.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    /// Connections that a listener holds until they are accepted.
    pub(crate) backlog: usize,
    /// The largest buffer of a socket, in bytes.
    pub(crate) largest_buffer: u64,
    /// A call is interrupted, cut short, or a readiness made up, in one of so many cases.
    pub(crate) mischief: usize,
    /// Sockets that the server may have open at once.
    pub(crate) descriptors: usize,
    /// Readiness told in one poll.
    pub(crate) events_a_poll: usize,
}

/// A listening socket.
#[derive(Debug, Default)]
struct Listener {
    backlog: VecDeque<SocketId>,
    /// A connection came that the poll has not told of yet.
    edge: bool,
    is_closed: bool,
}

/// All sockets, and what the server has done with them since the last look.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) random: Random,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) habits: Habits,
    pub(crate) is_out_of_descriptors: bool,
    pub(crate) calls: Vec<Call>,
    /// Clients whose id line was here, whole, when a source was read in this turn.
    pub(crate) to_be_registered: Vec<SocketId>,
    listeners: [Listener; 2],
}

impl Kernel {
    pub(crate) fn new(habits: Habits, random: Random) -> Kernel {
        Kernel {
            random,
            sockets: Vec::new(),
            habits,
            is_out_of_descriptors: false,
            calls: Vec::new(),
            to_be_registered: Vec::new(),
            listeners: Default::default(),
        }
    }

    /// A peer connects. `None` if the backlog is full or nobody listens.
    pub(crate) fn connect(&mut self, side: Side) -> Option<SocketId> {
        let listener = &mut self.listeners[side as usize];
        if listener.is_closed || listener.backlog.len() >= self.habits.backlog {
            return None;
        }
        let id = self.sockets.len();
        let [inbound, outbound] =
            [(); 2].map(|()| self.random.between(1, self.habits.largest_buffer) as usize);
        let low_water = self.random.between(1, (outbound as u64).div_ceil(3)) as usize;
        self.sockets.push(Socket::new(side, inbound, outbound, low_water));
        listener.backlog.push_back(id);
        listener.edge = true;
        Some(id)
    }

    /// Moves what a peer has sent into the receive buffer, as far as it fits.
    pub(crate) fn deliver(&mut self, id: SocketId) {
        self.sockets[id].deliver();
    }

    /// Whether connections wait that the poll has told of, all of them.
    pub(crate) fn has_told_backlog(&self, side: Side) -> bool {
        let listener = &self.listeners[side as usize];
        !listener.is_closed && !listener.backlog.is_empty() && !listener.edge
    }

    /// Whether a poll would return at once.
    pub(crate) fn is_anything_ready(&self) -> bool {
        self.listeners.iter().any(|listener| listener.edge)
            || self.sockets.iter().any(|socket| socket.edge)
    }

    /// Tells of edges, each once, and now and then of one that was none. Returns whether the list
    /// came back full.
    pub(crate) fn poll(&mut self, ready: &mut Vec<Readiness>) -> bool {
        let room = self.habits.events_a_poll;
        let before = ready.len();
        for (side, token) in [(0, EVENT_LISTENER), (1, CLIENT_LISTENER)] {
            let made_up = self.is_mischievous() && !self.listeners[side].is_closed;
            if ready.len() - before < room
                && (std::mem::take(&mut self.listeners[side].edge) || made_up)
            {
                ready.push(Readiness {
                    token,
                    readable: true,
                    writable: false,
                    read_closed: false,
                });
            }
        }
        let sockets = self.sockets.len();
        let start = self.random.below(sockets);
        for at in (0..sockets).map(|at| (at + start) % sockets) {
            if ready.len() - before == room {
                self.note_told_ends();
                return true;
            }
            let made_up = self.is_mischievous().then(|| [(); 2].map(|()| self.random.one_in(2)));
            ready.extend(self.sockets[at].take_readiness(made_up));
        }
        self.note_told_ends();
        false
    }

    fn note_told_ends(&mut self) {
        let ended = (0..self.sockets.len()).filter(|&id| self.sockets[id].is_end_told).collect();
        self.calls.push(Call::Polled(ended));
    }

    pub(crate) fn accept(&mut self, side: Side, token: usize) -> io::Result<SocketId> {
        if self.listeners[side as usize].backlog.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.is_mischievous() {
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
            self.descriptors() < self.habits.descriptors,
            "more sockets open than there may be"
        );
        let is_taken = self.sockets.iter().any(|socket| socket.token == Some(token));
        assert!(!is_taken, "token {token} has a tenant already");
        let Some(id) = self.listeners[side as usize].backlog.pop_front() else {
            return Err(ErrorKind::WouldBlock.into());
        };
        self.sockets[id].token = Some(token);
        self.sockets[id].edge = true;
        self.calls.push(Call::Accepted(id, side));
        Ok(id)
    }

    pub(crate) fn read(&mut self, id: SocketId, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty(), "to read nothing looks like an end");
        if self.is_mischievous() {
            return Err(ErrorKind::Interrupted.into());
        }
        if self.random.one_in(2) {
            self.deliver(id);
        }
        let most = self.cut_short(buffer.len());
        let socket = &mut self.sockets[id];
        if socket.is_reset {
            self.calls.push(Call::ReadFailed(id));
            return Err(ErrorKind::ConnectionReset.into());
        }
        let bytes = socket.take_inbound(most);
        if bytes.is_empty() {
            let has_ended = socket.has_ended();
            self.calls.push(if has_ended { Call::ReadEnd(id) } else { Call::ReadDry(id) });
            return if has_ended { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        if socket.side == Side::Source {
            self.note_whole_id_lines();
        }
        buffer[..bytes.len()].copy_from_slice(&bytes);
        let read = bytes.len();
        self.calls.push(Call::Read(id, bytes));
        Ok(read)
    }

    pub(crate) fn write(&mut self, id: SocketId, bytes: &[u8]) -> io::Result<usize> {
        assert!(!bytes.is_empty(), "there is no reason to write nothing");
        if self.is_mischievous() {
            return Err(ErrorKind::Interrupted.into());
        }
        let most = self.cut_short(bytes.len());
        let socket = &mut self.sockets[id];
        if socket.is_reset {
            self.calls.push(Call::WriteFailed(id));
            return Err(ErrorKind::BrokenPipe.into());
        }
        let taken = socket.put_outbound(&bytes[..most]);
        if taken == 0 {
            self.calls.push(Call::WriteRefused(id));
            return Err(ErrorKind::WouldBlock.into());
        }
        self.calls.push(Call::Wrote(id, bytes[..taken].to_vec()));
        Ok(taken)
    }

    /// The server ends its sending side.
    pub(crate) fn shut_down(&mut self, id: SocketId) -> io::Result<()> {
        self.sockets[id].is_shut_down = true;
        self.calls.push(Call::ShutDown(id));
        match self.sockets[id].is_reset {
            true => Err(ErrorKind::NotConnected.into()),
            false => Ok(()),
        }
    }

    /// The server lets go of a connection.
    pub(crate) fn close(&mut self, id: SocketId) {
        self.sockets[id].close();
        self.calls.push(Call::Closed(id));
    }

    /// The server lets go of a listener: what waits behind it is refused.
    pub(crate) fn close_listener(&mut self, side: Side) {
        let listener = &mut self.listeners[side as usize];
        listener.is_closed = true;
        listener.edge = false;
        for id in std::mem::take(&mut listener.backlog) {
            self.sockets[id].close();
        }
        self.calls.push(Call::StoppedListening(side));
    }

    /// Sockets that the server has open.
    fn descriptors(&self) -> usize {
        self.sockets.iter().filter(|socket| socket.token.is_some()).count()
    }

    fn note_whole_id_lines(&mut self) {
        let here = (0..self.sockets.len()).filter(|&id| self.sockets[id].holds_first_line());
        self.to_be_registered = here.collect();
    }

    fn is_mischievous(&mut self) -> bool {
        self.random.one_in(self.habits.mischief)
    }

    /// Often the whole length, otherwise less, but never nothing.
    fn cut_short(&mut self, length: usize) -> usize {
        if self.habits.mischief > 0 && self.random.one_in(3) {
            1 + self.random.below(length)
        } else {
            length
        }
    }
}
