//! A simulated connection.

use std::collections::VecDeque;

use eventserver::hub::Readiness;

/// The listener that a peer connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Client,
}

/// A connection with a bounded buffer in each direction.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) side: Side,
    /// Token of its readiness; `None` unless the server has it open.
    pub(crate) token: Option<usize>,
    /// Something happened that the poll has not reported yet.
    pub(crate) edge: bool,
    /// The connection was reset: every call fails.
    pub(crate) is_reset: bool,
    /// A write was refused, and the poll has not reported writability since.
    pub(crate) is_write_blocked: bool,
    /// All bytes that the peer has read.
    pub(crate) received: Vec<u8>,
    /// Sent bytes that exceed the receive buffer.
    pub(crate) unsent: VecDeque<u8>,
    /// The peer sends nothing after `unsent`.
    pub(crate) is_finished: bool,
    /// The peer has closed: bytes that reach it reset the connection.
    pub(crate) is_abandoned: bool,
    /// The server has shut down its sending side.
    pub(crate) is_shut_down: bool,
    /// The server has closed it.
    pub(crate) is_closed: bool,
    inbound: VecDeque<u8>,
    outbound: VecDeque<u8>,
    inbound_capacity: usize,
    outbound_capacity: usize,
    /// A full send buffer becomes writable once this much is free.
    low_watermark: usize,
    /// The peer's end has arrived, after all bytes.
    end_arrived: bool,
    /// The poll has reported the end.
    pub(crate) is_end_reported: bool,
    /// The poll has reported urgent data, and no read has found the socket empty since.
    is_urgent_reported: bool,
    first_line_arrived: bool,
}

impl Socket {
    pub(crate) fn new(side: Side, inbound: usize, outbound: usize, low_watermark: usize) -> Socket {
        Socket {
            side,
            token: None,
            edge: false,
            is_reset: false,
            is_write_blocked: false,
            received: Vec::new(),
            unsent: VecDeque::new(),
            is_finished: false,
            is_abandoned: false,
            is_shut_down: false,
            is_closed: false,
            inbound: VecDeque::new(),
            outbound: VecDeque::new(),
            inbound_capacity: inbound,
            outbound_capacity: outbound,
            low_watermark,
            end_arrived: false,
            is_end_reported: false,
            is_urgent_reported: false,
            first_line_arrived: false,
        }
    }

    /// Moves sent bytes into the receive buffer, up to its capacity, and then the end.
    pub(crate) fn deliver(&mut self) {
        if self.is_closed && !self.unsent.is_empty() {
            // Bytes for a closed socket are answered by a reset.
            self.unsent.clear();
            self.outbound.clear();
        }
        let space = self.inbound_capacity.saturating_sub(self.inbound.len()).min(self.unsent.len());
        let is_end = self.is_finished && !self.end_arrived && self.unsent.len() == space;
        if self.is_closed || self.is_reset || (space == 0 && !is_end) {
            return;
        }
        let coming = self.unsent.drain(..space);
        self.inbound.extend(coming);
        self.first_line_arrived |= self.inbound.contains(&b'\n');
        self.end_arrived |= is_end;
        self.raise();
    }

    /// Resets the connection.
    pub(crate) fn reset(&mut self) {
        self.is_reset = true;
        self.is_finished = true;
        self.unsent.clear();
        self.inbound.clear();
        self.raise();
    }

    /// Lets the peer read up to `max` bytes.
    pub(crate) fn receive(&mut self, max: usize) {
        let taken = max.min(self.outbound.len());
        self.received.extend(self.outbound.drain(..taken));
        if self.is_write_blocked && self.is_writable() {
            self.raise();
        }
    }

    /// Returns whether the peer has read everything sent to it.
    pub(crate) fn is_drained(&self) -> bool {
        self.outbound.is_empty()
    }

    /// Returns whether the server has something to read.
    pub(crate) fn is_readable(&self) -> bool {
        self.is_reset || !self.inbound.is_empty() || self.end_arrived
    }

    /// Returns whether the client's first line has arrived completely.
    pub(crate) fn holds_first_line(&self) -> bool {
        self.side == Side::Client && self.first_line_arrived && !self.is_closed && !self.is_reset
    }

    /// Returns whether the peer's end has arrived, or the connection was reset.
    pub(crate) fn is_closed_by_peer(&self) -> bool {
        self.end_arrived || self.is_reset
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end_arrived && self.inbound.is_empty()
    }

    /// Returns whether bytes are here.
    pub(crate) fn has_inbound(&self) -> bool {
        !self.inbound.is_empty()
    }

    /// Takes up to `max` bytes. A stream socket returns fewer only if it has no more, unless urgent data
    /// stops the read, here after `stop` bytes. That is a new edge, unless the poll has reported it.
    pub(crate) fn take_inbound(&mut self, max: usize, stop: usize) -> Vec<u8> {
        let here = max.min(self.inbound.len());
        let taken = stop.min(here);
        if taken < here && !self.is_urgent_reported {
            self.raise();
        }
        self.is_urgent_reported &= here > 0;
        self.inbound.drain(..taken).collect()
    }

    /// Accepts bytes up to the free capacity; 0 means that the write is refused.
    pub(crate) fn put_outbound(&mut self, bytes: &[u8]) -> usize {
        assert!(!self.is_shut_down, "nothing is written after the shutdown");
        if self.is_abandoned {
            self.reset();
            return bytes.len();
        }
        let taken = bytes.len().min(self.outbound_capacity - self.outbound.len());
        self.outbound.extend(&bytes[..taken]);
        self.is_write_blocked |= taken == 0;
        taken
    }

    /// Returns the readiness of an edge, or a `spurious` one (readable, writable). `urgent` is whether it
    /// reports urgent data too.
    pub(crate) fn take_readiness(
        &mut self,
        spurious: Option<[bool; 2]>,
        urgent: bool,
    ) -> Option<Readiness> {
        let token = self.token?;
        let [mut readable, mut writable] = spurious.unwrap_or_default();
        if std::mem::take(&mut self.edge) {
            readable |= self.is_readable();
            writable |= self.is_writable() || self.is_reset;
        }
        self.is_write_blocked &= !writable;
        let read_closed = readable && self.is_closed_by_peer();
        self.is_end_reported |= read_closed;
        let urgent = urgent && readable;
        self.is_urgent_reported |= urgent;
        let readiness = Readiness { token, readable, writable, read_closed, urgent };
        (readable || writable).then_some(readiness)
    }

    /// Closes the server's side. With unread bytes that resets the connection, and sent bytes that
    /// the peer has not read are lost.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        self.token = None;
        self.edge = false;
        if !self.inbound.is_empty() {
            self.outbound.clear();
        }
    }

    fn is_writable(&self) -> bool {
        self.outbound_capacity - self.outbound.len() >= self.low_watermark
    }

    fn raise(&mut self) {
        self.edge = self.token.is_some();
    }
}
