//! One event source: its stream, and what has been read of it.

use std::io::Read;
use std::net::SocketAddr;

use crate::hub::close_reason::CloseReason;
use crate::hub::connection::{Disconnect, ReadOutcome, try_read};
use crate::protocol::EventDecoder;

/// A connection that sends events.
#[derive(Debug)]
pub(crate) struct Source<S> {
    pub(crate) stream: S,
    pub(crate) peer: SocketAddr,
    pub(crate) events: EventDecoder,
    /// The kernel may hold bytes that were not read.
    pub(crate) readable: bool,
    /// `events` may hold complete lines that were not handed out.
    pub(crate) may_have_lines: bool,
    /// Lines handed out so far.
    pub(crate) lines_received: u64,
    /// One of them was an event.
    pub(crate) has_sent_event: bool,
    /// The kernel holds the end of the stream, after bytes that may be unread.
    pub(crate) peer_closed: bool,
    /// Nothing more can be read; takes effect once all that was read has been applied.
    pub(crate) end: Option<Disconnect>,
}

impl<S> Source<S> {
    pub(crate) fn new(stream: S, peer: SocketAddr, max_line_bytes: usize) -> Source<S> {
        Source {
            stream,
            peer,
            events: EventDecoder::new(max_line_bytes),
            readable: true,
            may_have_lines: false,
            lines_received: 0,
            has_sent_event: false,
            peer_closed: false,
            end: None,
        }
    }

    /// Ends the source, whatever else it sent.
    pub(crate) fn abort(&mut self, reason: CloseReason) {
        self.events = EventDecoder::default();
        self.may_have_lines = false;
        self.readable = false;
        self.end = Some(Disconnect { reason, error: None });
    }

    /// Returns whether it has sent a whole line, handed out or not.
    pub(crate) fn has_sent_line(&self) -> bool {
        self.lines_received > 0 || self.events.lines.has_line()
    }

    /// Returns whether it has sent a whole line, and nothing more will come.
    pub(crate) fn closed_after_line(&self) -> bool {
        self.end.is_some() && self.has_sent_line()
    }

    /// Returns whether the peer is known to have ended the connection.
    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some() || self.peer_closed
    }

    /// Returns whether it has ended and all its lines are taken: it counts no more against the limit.
    pub(crate) fn is_spent(&self) -> bool {
        self.end.is_some() && !self.may_have_lines
    }

    /// Returns whether the kernel held nothing more when it was last read, and all of that was handed out.
    pub(crate) fn is_drained(&self) -> bool {
        !self.readable && !self.may_have_lines
    }
}

impl<S: Read> Source<S> {
    /// Reads until `most` bytes have come, or none are left.
    pub(crate) fn read(&mut self, most: usize) {
        let mut room = most;
        while room > 0 {
            match try_read(&mut self.stream, self.events.lines.unfilled_mut(room)) {
                ReadOutcome::Data(bytes) => {
                    self.events.lines.advance(bytes);
                    self.may_have_lines = true;
                    room -= bytes;
                }
                ReadOutcome::WouldBlock => {
                    self.readable = false;
                    return;
                }
                ReadOutcome::Closed(end) => {
                    self.readable = false;
                    self.end = Some(end);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_source_that_has_sent_half_a_line_has_sent_none() {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let mut source = Source::new(&b"1|"[..], peer, 256);
        source.read(100);
        assert!(
            source.may_have_lines && !source.has_sent_line(),
            "that there may be lines is not that there is one"
        );
        source.stream = b"B\n";
        source.read(100);
        assert!(source.has_sent_line());
    }
}
