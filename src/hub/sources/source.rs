//! The state of one event source.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use super::answers::Answers;
use crate::hub::connection::{Disconnect, ReadOutcome, try_read};
use crate::hub::readiness::Readiness;
use crate::protocol::{CompactEvent, Decoded, EventDecoder, Line, Sequence};

/// After this many bytes a short read is not taken for the last one: another read costs little beside them, and
/// may bring lines that share the writes of the turn.
const MIN_BYTES_TO_READ_ON: usize = 64 << 10;

/// A connection that sends events.
#[derive(Debug)]
pub(super) struct Source<S> {
    stream: S,
    peer: SocketAddr,
    decoder: EventDecoder,
    /// The kernel may have unread bytes.
    readable: bool,
    /// `decoder` may have complete lines that were not decoded.
    may_have_lines: bool,
    /// When the lines that were not decoded began to arrive.
    lines_since: Instant,
    /// Lines decoded so far.
    lines_received: u64,
    /// At least one of them was an event.
    has_sent_event: bool,
    /// The peer has closed its sending side; bytes before that may be unread.
    peer_closed: bool,
    /// A read may stop at urgent data, with more bytes in the kernel.
    urgent: bool,
    /// The end of the stream was read. It takes effect once all lines before it have been applied.
    end: Option<Disconnect>,
    /// The answers to a source that has sent `SYNC`.
    answers: Option<Box<Answers>>,
}

impl<S> Source<S> {
    /// Creates a source that was accepted at `now`.
    pub(super) fn new(
        stream: S,
        peer: SocketAddr,
        max_line_bytes: usize,
        now: Instant,
    ) -> Source<S> {
        Source {
            stream,
            peer,
            decoder: EventDecoder::new(max_line_bytes),
            readable: true,
            may_have_lines: false,
            lines_since: now,
            lines_received: 0,
            has_sent_event: false,
            peer_closed: false,
            urgent: false,
            end: None,
            answers: None,
        }
    }

    /// Takes a `SYNC`, while `awaited` is the awaited sequence.
    #[cold]
    pub(super) fn on_sync(&mut self, awaited: u64) {
        match &mut self.answers {
            Some(answers) => answers.ask(awaited),
            None => self.answers = Some(Box::new(Answers::new(awaited))),
        }
    }

    /// Returns whether it has sent `SYNC`.
    pub(super) fn has_sent_sync(&self) -> bool {
        self.answers.is_some()
    }

    /// Changes the maximum length of the lines that are not decoded yet.
    pub(super) fn set_max_line_bytes(&mut self, max_line_bytes: usize) {
        self.decoder.buffer_mut().set_max_line_bytes(max_line_bytes);
    }

    /// Returns the peer's address.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Returns how many lines were decoded so far.
    pub(super) fn lines_received(&self) -> u64 {
        self.lines_received
    }

    /// Returns whether an event was decoded so far.
    pub(super) fn has_sent_event(&self) -> bool {
        self.has_sent_event
    }

    /// Records the readiness of the connection.
    pub(super) fn set_ready(&mut self, readiness: &Readiness) {
        self.readable |= readiness.readable && self.end.is_none();
        self.peer_closed |= readiness.read_closed;
        self.urgent |= readiness.urgent;
        if let (true, Some(answers)) = (readiness.writable, &mut self.answers) {
            answers.set_writable();
        }
    }

    /// Decodes up to `max` typical events: see [`EventDecoder::decode_fast`].
    #[inline(always)]
    pub(super) fn decode_fast(
        &mut self,
        max: usize,
        accept: impl FnMut(&CompactEvent, Line<'_>) -> bool,
    ) -> usize {
        let accepted = self.decoder.decode_fast(max, accept);
        self.has_sent_event |= accepted > 0;
        self.lines_received += accepted as u64;
        accepted
    }

    /// Returns the sequence of the next line if it is readable, and when it was read.
    pub(super) fn peek_sequence(&self) -> Option<(Sequence, Instant)> {
        Some((self.decoder.peek_sequence()?, self.lines_since))
    }

    /// Decodes the next complete line. The caller counts it with [`on_line`](Self::on_line).
    pub(super) fn next_line(&mut self) -> Option<Decoded<'_>> {
        self.decoder.next_event()
    }

    /// Counts a decoded line.
    pub(super) fn on_line(&mut self, is_event: bool) {
        self.has_sent_event |= is_event;
        self.lines_received += 1;
    }

    /// Records whether complete lines may be left that were not decoded.
    pub(super) fn set_may_have_lines(&mut self, may_have_lines: bool) {
        self.may_have_lines = may_have_lines;
    }

    /// Ends the source, and discards its remaining input.
    pub(super) fn abort(&mut self, end: impl Into<Disconnect>) {
        self.decoder = EventDecoder::default();
        self.may_have_lines = false;
        self.readable = false;
        self.end = Some(end.into());
    }

    /// Returns and forgets the end of the stream, once all lines before it are decoded.
    pub(super) fn take_end(&mut self) -> Option<Disconnect> {
        match self.may_have_lines {
            true => None,
            false => self.end.take(),
        }
    }

    /// Returns and forgets the end of the stream, even if lines before it are not decoded.
    pub(super) fn discard_end(&mut self) -> Option<Disconnect> {
        self.end.take()
    }

    /// Returns whether no bytes are left of those that were read.
    pub(super) fn is_empty(&self) -> bool {
        self.decoder.buffer().pending_bytes() == 0
    }

    /// Returns the unterminated line after all complete ones. May be empty.
    pub(super) fn partial_line(&self) -> &[u8] {
        self.decoder.buffer().partial_line()
    }

    /// Frees a large buffer if it is empty.
    pub(super) fn trim(&mut self) {
        self.decoder.buffer_mut().trim();
    }

    /// Returns whether complete lines may be left that were not decoded.
    pub(super) fn may_have_lines(&self) -> bool {
        self.may_have_lines
    }

    /// Returns whether it has sent a complete line, decoded or not.
    pub(super) fn has_sent_line(&self) -> bool {
        self.lines_received > 0 || self.decoder.buffer().has_line()
    }

    /// Returns whether it has sent a complete line, and is known to have ended, whether or not the end was
    /// read.
    pub(super) fn closed_after_line(&self) -> bool {
        self.has_ended() && self.has_sent_line()
    }

    /// Returns whether the peer is known to have closed the connection.
    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some() || self.peer_closed
    }

    /// Returns whether it has ended and all its lines are decoded, so that it no longer counts
    /// against the limit.
    pub(super) fn is_spent(&self) -> bool {
        self.end.is_some() && !self.may_have_lines
    }

    /// Returns whether the kernel had no more bytes at the last read, and all lines are decoded.
    pub(super) fn is_drained(&self) -> bool {
        !self.readable && !self.may_have_lines
    }

    /// Returns whether it may be read: bytes may be in the kernel, and all lines are decoded.
    pub(super) fn is_readable(&self) -> bool {
        self.readable && !self.may_have_lines
    }

    /// Returns whether lines or the end of the stream are to be processed, or bytes to be read, as far
    /// as each is possible.
    pub(super) fn has_work(&self, may: SourceWork) -> bool {
        (self.may_have_lines && may.decode)
            || (self.end.is_some() && may.close)
            || (self.readable && may.read)
    }
}

/// What can be done with sources in the next turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceWork {
    /// Lines can be decoded.
    pub(crate) decode: bool,
    /// Sources that have ended can be closed.
    pub(crate) close: bool,
    /// Bytes can be read.
    pub(crate) read: bool,
}

impl<S: Write> Source<S> {
    /// Answers a source that has sent `SYNC`: all sequences before `awaited` are committed and applied.
    pub(super) fn answer(&mut self, awaited: u64) {
        if let Some(answers) = &mut self.answers {
            answers.on_committed(awaited);
            answers.flush(&mut self.stream);
        }
    }
}

impl<S: Read> Source<S> {
    /// Reads until `max_bytes` have arrived, or none are available. Returns how many arrived.
    ///
    /// A read that returns fewer bytes than were asked for has emptied the socket. After a short one no other
    /// read follows that would only return `WouldBlock`, if little was read. Bytes and an end that arrive later
    /// are a new edge, which the next poll reports. Two things cause no new edge, so reading goes on until
    /// `WouldBlock`: an end that the poll has reported already, and bytes after urgent data, at which the
    /// kernel cuts a read short. With `seeks_end` it goes on, too, so that an end is found at once.
    pub(super) fn read(&mut self, max_bytes: usize, now: Instant, seeks_end: bool) -> usize {
        let is_short_read_last = !self.peer_closed && !self.urgent && !seeks_end;
        let mut left = max_bytes;
        while left > 0 {
            let buffer = self.decoder.buffer_mut();
            let space = buffer.unfilled_mut(left);
            let requested = space.len();
            match try_read(&mut self.stream, space) {
                ReadOutcome::Data(bytes) => {
                    buffer.advance(bytes);
                    left -= bytes;
                    let has_little = max_bytes - left < MIN_BYTES_TO_READ_ON;
                    if bytes < requested && is_short_read_last && has_little {
                        self.readable = false;
                        break;
                    }
                }
                ReadOutcome::WouldBlock => {
                    self.readable = false;
                    self.urgent = false;
                    break;
                }
                ReadOutcome::Closed(end) => {
                    self.readable = false;
                    self.end = Some(end);
                    break;
                }
            }
        }
        if !self.may_have_lines && left < max_bytes {
            self.may_have_lines = true;
            self.lines_since = now;
        }
        max_bytes - left
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::hub::close_reason::CloseReason;
    use crate::hub::test_stream::TestStream;

    fn readable(read_closed: bool) -> Readiness {
        Readiness { token: 0, readable: true, writable: false, read_closed, urgent: false }
    }

    fn source(input: &[u8]) -> Source<TestStream> {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        Source::new(TestStream::with_input(input), peer, 256, Instant::now())
    }

    #[test]
    fn a_source_that_has_sent_a_partial_line_has_sent_no_line() {
        let mut source = source(b"1|");
        assert!(source.read(100, Instant::now(), false) > 0);
        assert!(source.may_have_lines() && !source.has_sent_line());
        source.stream.input.extend(b"B\n");
        assert!(source.read(100, Instant::now(), false) > 0 && source.has_sent_line());
    }

    #[test]
    fn the_end_takes_effect_once_all_lines_are_decoded() {
        let mut source = source(b"1|B\nrest");
        source.stream.is_closed_by_peer = true;
        source.set_ready(&readable(true));
        assert!(source.read(100, Instant::now(), false) > 0);
        assert!(source.closed_after_line() && source.take_end().is_none());
        assert!(matches!(source.next_line(), Some(Decoded::Event(..))));
        source.on_line(true);
        assert!(source.next_line().is_none());
        source.set_may_have_lines(false);
        assert!(source.is_spent() && source.is_drained());
        let end = source.take_end().map(|end| end.reason);
        assert_eq!((end, source.partial_line()), (Some(CloseReason::ClosedByPeer), &b"rest"[..]));
    }

    #[test]
    fn a_short_read_drains_a_source_whose_end_arrives_later() {
        let mut source = source(b"1|B\n");
        assert_eq!(source.read(100, Instant::now(), false), 4);
        assert_eq!(source.stream.reads, 1, "WouldBlock is not waited for");
        source.set_may_have_lines(false);
        assert!(source.is_drained());
        source.stream.is_closed_by_peer = true;
        source.set_ready(&readable(true));
        assert_eq!(source.read(100, Instant::now(), false), 0);
        assert_eq!(source.take_end().map(|end| end.reason), Some(CloseReason::ClosedByPeer));
    }

    #[test]
    fn a_source_whose_end_was_reported_with_its_bytes_is_read_to_the_end() {
        let mut source = source(b"1|B\n");
        source.stream.is_closed_by_peer = true;
        source.set_ready(&readable(true));
        assert_eq!(source.read(100, Instant::now(), false), 4);
        assert!(source.closed_after_line(), "no other edge reports the end");
    }

    #[test]
    fn a_source_with_urgent_data_is_read_until_it_would_block() {
        let mut source = source(b"1|B\n2|B\n");
        source.stream.max_read = 4;
        source.set_ready(&Readiness { urgent: true, ..readable(false) });
        assert_eq!(source.read(100, Instant::now(), false), 8);
        assert_eq!(source.stream.reads, 3);
        source.stream.input.extend(b"3|B\n");
        source.set_ready(&readable(false));
        assert_eq!(source.read(100, Instant::now(), false), 4);
        assert_eq!(source.stream.reads, 4, "the urgent data was passed");
    }

    #[test]
    fn a_source_is_not_read_again_until_its_lines_are_decoded() {
        let mut source = source(b"1|B\n2|B\n");
        assert!(source.read(4, Instant::now(), false) > 0);
        assert!(!source.is_readable() && !source.is_drained(), "a line is left");
        source.set_may_have_lines(false);
        assert!(source.is_readable() && !source.is_drained(), "bytes are left in the kernel");
    }

    #[test]
    fn an_aborted_source_has_no_input() {
        let mut source = source(b"1|B\n");
        source.read(100, Instant::now(), false);
        source.abort(CloseReason::WindowExceeded);
        source.set_ready(&readable(false));
        assert!(source.is_empty() && !source.is_readable() && source.next_line().is_none());
        assert_eq!(source.take_end().map(|end| end.reason), Some(CloseReason::WindowExceeded));
    }
}
