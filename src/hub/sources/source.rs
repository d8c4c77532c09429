//! The state of one event source.

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
    pub(crate) decoder: EventDecoder,
    /// The kernel may have unread bytes.
    pub(crate) readable: bool,
    /// `decoder` may have complete lines that were not decoded.
    pub(crate) may_have_lines: bool,
    /// Lines decoded so far.
    pub(crate) lines_received: u64,
    /// At least one of them was an event.
    pub(crate) has_sent_event: bool,
    /// The peer has closed its sending side; bytes before that may be unread.
    pub(crate) peer_closed: bool,
    /// The end of the stream was read. It takes effect once all lines before it have been applied.
    pub(crate) end: Option<Disconnect>,
}

impl<S> Source<S> {
    pub(crate) fn new(stream: S, peer: SocketAddr, max_line_bytes: usize) -> Source<S> {
        Source {
            stream,
            peer,
            decoder: EventDecoder::new(max_line_bytes),
            readable: true,
            may_have_lines: false,
            lines_received: 0,
            has_sent_event: false,
            peer_closed: false,
            end: None,
        }
    }

    /// Ends the source, and discards its remaining input.
    pub(crate) fn abort(&mut self, reason: CloseReason) {
        self.decoder = EventDecoder::default();
        self.may_have_lines = false;
        self.readable = false;
        self.end = Some(Disconnect { reason, error: None });
    }

    /// Returns whether it has sent a complete line, decoded or not.
    pub(crate) fn has_sent_line(&self) -> bool {
        self.lines_received > 0 || self.decoder.buffer().has_line()
    }

    /// Returns whether it has sent a complete line, and its stream has ended.
    pub(crate) fn closed_after_line(&self) -> bool {
        self.end.is_some() && self.has_sent_line()
    }

    /// Returns whether the peer is known to have closed the connection.
    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some() || self.peer_closed
    }

    /// Returns whether it has ended and all its lines are decoded, so that it no longer counts
    /// against the limit.
    pub(crate) fn is_spent(&self) -> bool {
        self.end.is_some() && !self.may_have_lines
    }

    /// Returns whether the kernel had no more bytes at the last read, and all lines are decoded.
    pub(crate) fn is_drained(&self) -> bool {
        !self.readable && !self.may_have_lines
    }
}

impl<S: Read> Source<S> {
    /// Reads until `max_bytes` have arrived, or none are available.
    pub(crate) fn read(&mut self, max_bytes: usize) {
        let mut left = max_bytes;
        while left > 0 {
            match try_read(&mut self.stream, self.decoder.buffer_mut().unfilled_mut(left)) {
                ReadOutcome::Data(bytes) => {
                    self.decoder.buffer_mut().advance(bytes);
                    self.may_have_lines = true;
                    left -= bytes;
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
    fn a_source_that_has_sent_a_partial_line_has_sent_no_line() {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let mut source = Source::new(&b"1|"[..], peer, 256);
        source.read(100);
        assert!(
            source.may_have_lines && !source.has_sent_line(),
            "may_have_lines does not imply has_sent_line"
        );
        source.stream = b"B\n";
        source.read(100);
        assert!(source.has_sent_line());
    }
}
