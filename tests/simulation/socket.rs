//! One connection, as the kernel and its far end see it.

use std::collections::VecDeque;

use eventserver::hub::Readiness;

/// Which listener a peer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Client,
}

/// A connection with a bounded buffer in each direction.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) side: Side,
    /// What its readiness is told under; `None` unless the server has it open.
    pub(crate) token: Option<usize>,
    /// Something happened that the poll has not told of yet.
    pub(crate) edge: bool,
    /// The connection broke: every call fails.
    pub(crate) is_reset: bool,
    /// A write was refused, and the poll has not said since that there is room.
    pub(crate) is_known_full: bool,
    /// All that the peer has taken from its side.
    pub(crate) received: Vec<u8>,
    /// What the peer sent and the receive buffer has no room for.
    pub(crate) unsent: VecDeque<u8>,
    /// The peer sends nothing after `unsent`.
    pub(crate) is_finished: bool,
    /// The peer reads no more: bytes that reach it break the connection.
    pub(crate) is_abandoned: bool,
    /// The server writes nothing more.
    pub(crate) is_shut_down: bool,
    /// The server has closed it.
    pub(crate) is_closed: bool,
    inbound: VecDeque<u8>,
    outbound: VecDeque<u8>,
    inbound_room: usize,
    outbound_room: usize,
    /// With less room than this a full send buffer stays quiet.
    low_water: usize,
    /// The end has come through, behind all bytes.
    end_arrived: bool,
    /// The poll has told of the end.
    pub(crate) is_end_told: bool,
    first_line_arrived: bool,
}

impl Socket {
    pub(crate) fn new(side: Side, inbound: usize, outbound: usize, low_water: usize) -> Socket {
        Socket {
            side,
            token: None,
            edge: false,
            is_reset: false,
            is_known_full: false,
            received: Vec::new(),
            unsent: VecDeque::new(),
            is_finished: false,
            is_abandoned: false,
            is_shut_down: false,
            is_closed: false,
            inbound: VecDeque::new(),
            outbound: VecDeque::new(),
            inbound_room: inbound,
            outbound_room: outbound,
            low_water,
            end_arrived: false,
            is_end_told: false,
            first_line_arrived: false,
        }
    }

    /// Moves what was sent into the receive buffer, as far as it fits, and the end behind it.
    pub(crate) fn deliver(&mut self) {
        if self.is_closed && !self.unsent.is_empty() {
            // Nobody is there for it: that is answered by a reset.
            self.unsent.clear();
            self.outbound.clear();
        }
        let room = self.inbound_room.saturating_sub(self.inbound.len()).min(self.unsent.len());
        let is_end = self.is_finished && !self.end_arrived && self.unsent.len() == room;
        if self.is_closed || self.is_reset || (room == 0 && !is_end) {
            return;
        }
        let coming = self.unsent.drain(..room);
        self.inbound.extend(coming);
        self.first_line_arrived |= self.inbound.contains(&b'\n');
        self.end_arrived |= is_end;
        self.raise();
    }

    /// The connection breaks.
    pub(crate) fn reset(&mut self) {
        self.is_reset = true;
        self.is_finished = true;
        self.unsent.clear();
        self.inbound.clear();
        self.raise();
    }

    /// The peer takes up to so many bytes.
    pub(crate) fn receive(&mut self, most: usize) {
        let taken = most.min(self.outbound.len());
        self.received.extend(self.outbound.drain(..taken));
        if self.is_known_full && self.has_room() {
            self.raise();
        }
    }

    /// Whether the peer has taken all that is under way to it.
    pub(crate) fn is_drained(&self) -> bool {
        self.outbound.is_empty()
    }

    /// Whether the server has something to read of it.
    pub(crate) fn is_readable(&self) -> bool {
        self.is_reset || !self.inbound.is_empty() || self.end_arrived
    }

    /// Whether the client's first line is here, or was.
    pub(crate) fn holds_first_line(&self) -> bool {
        self.side == Side::Client && self.first_line_arrived && !self.is_closed && !self.is_reset
    }

    /// Whether the peer's end has come through, or the connection broke.
    pub(crate) fn is_over(&self) -> bool {
        self.end_arrived || self.is_reset
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end_arrived && self.inbound.is_empty()
    }

    pub(crate) fn take_inbound(&mut self, most: usize) -> Vec<u8> {
        let taken = most.min(self.inbound.len());
        self.inbound.drain(..taken).collect()
    }

    /// Takes bytes as far as there is room; none means that the write is refused.
    pub(crate) fn put_outbound(&mut self, bytes: &[u8]) -> usize {
        assert!(!self.is_shut_down, "nothing is written after the end");
        if self.is_abandoned {
            self.reset();
            return bytes.len();
        }
        let taken = bytes.len().min(self.outbound_room - self.outbound.len());
        self.outbound.extend(&bytes[..taken]);
        self.is_known_full |= taken == 0;
        taken
    }

    /// The readiness of an edge, or one that is `made_up` (readable, writable).
    pub(crate) fn take_readiness(&mut self, made_up: Option<[bool; 2]>) -> Option<Readiness> {
        let token = self.token?;
        let [mut readable, mut writable] = made_up.unwrap_or_default();
        if std::mem::take(&mut self.edge) {
            readable |= self.is_readable();
            writable |= self.has_room() || self.is_reset;
        }
        self.is_known_full &= !writable;
        let read_closed = readable && self.is_over();
        self.is_end_told |= read_closed;
        (readable || writable).then_some(Readiness { token, readable, writable, read_closed })
    }

    /// The server closes. With bytes unread that breaks the connection, and what is under way to
    /// the peer is lost.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        self.token = None;
        self.edge = false;
        if !self.inbound.is_empty() {
            self.outbound.clear();
        }
    }

    fn has_room(&self) -> bool {
        self.outbound_room - self.outbound.len() >= self.low_water
    }

    fn raise(&mut self) {
        self.edge = self.token.is_some();
    }
}
