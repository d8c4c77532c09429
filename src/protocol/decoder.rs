//! The decoder of an event source's byte stream.

use super::event::split_sequence;
use super::{CompactEvent, Event, Line, LineBuffer, LineFrame, ParseError, Sequence, fast_path};

/// The maximum length of a sequence with the byte after it.
const MAX_SEQUENCE_BYTES: usize = 21;

/// One decoded line of an event source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// An event, and the line that it was parsed from.
    Event(Event, Line<'a>),
    /// A line that is not an event, or the prefix of a line over the limit, and the error.
    Malformed(&'a [u8], ParseError),
}

/// A decoder of events from a byte stream.
///
/// Most lines are short and well-formed: the fast path parses them and finds their end in one pass.
/// All others are framed by the [`LineBuffer`] and parsed byte by byte.
#[derive(Debug, Default)]
pub struct EventDecoder {
    lines: LineBuffer,
}

impl EventDecoder {
    /// Creates a decoder of lines of at most `max_line_bytes` without their terminator. It allocates
    /// nothing until bytes are read.
    #[must_use]
    pub fn new(max_line_bytes: usize) -> EventDecoder {
        EventDecoder { lines: LineBuffer::new(max_line_bytes) }
    }

    /// Returns the bytes that were received and not decoded.
    #[must_use]
    pub fn buffer(&self) -> &LineBuffer {
        &self.lines
    }

    /// Returns the buffer into which the caller reads from its socket.
    pub fn buffer_mut(&mut self) -> &mut LineBuffer {
        &mut self.lines
    }

    /// Passes up to `max` events in short, well-formed lines to `accept`, until it returns `false`. A
    /// rejected event, or any other line, stays for [`next_event`](Self::next_event). Returns the number
    /// of accepted events.
    #[inline(always)]
    pub fn decode_fast(
        &mut self,
        max: usize,
        mut accept: impl FnMut(&CompactEvent, Line<'_>) -> bool,
    ) -> usize {
        let mut accepted = 0;
        while accepted < max
            && let Some(padded) = self.lines.peek_padded()
            && let Some((event, end)) = fast_path::parse_fast(padded)
            && accept(&event, Line::Padded { bytes: padded, len: end.len })
        {
            self.lines.consume(end);
            accepted += 1;
        }
        accepted
    }

    /// Returns the sequence of the next line. Returns `None` if it is not readable, or has not arrived.
    #[must_use]
    pub fn peek_sequence(&self) -> Option<Sequence> {
        let pending = self.lines.pending();
        // Digits at the end may be part of a longer number.
        let sequence = split_sequence(&pending[..pending.len().min(MAX_SEQUENCE_BYTES)]);
        sequence.filter(|(_, rest)| !rest.is_empty()).map(|(sequence, _)| sequence)
    }

    /// Decodes the next complete line. Returns `None` if more bytes are needed.
    pub fn next_event(&mut self) -> Option<Decoded<'_>> {
        Some(match self.lines.next_frame()? {
            LineFrame::Complete(line) => match Event::parse(line.as_bytes()) {
                Ok(event) => Decoded::Event(event, line),
                Err(error) => Decoded::Malformed(line.as_bytes(), error),
            },
            LineFrame::TooLong(prefix) => {
                Decoded::Malformed(prefix, ParseError::line_too_long(prefix))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A decoded line in owned form.
    type Owned = (Vec<u8>, Result<Event, ParseError>);

    fn decode(stream: &[u8], piece: usize, max_line_bytes: usize) -> Vec<Owned> {
        let mut decoder = EventDecoder::new(max_line_bytes);
        let mut received = Vec::new();
        for piece in stream.chunks(piece) {
            decoder.buffer_mut().feed(piece);
            loop {
                decoder.decode_fast(2, |&event, line| {
                    received.push((line.as_bytes().to_vec(), Ok(event.into())));
                    true
                });
                let Some(next) = decoder.next_event() else { break };
                received.push(match next {
                    Decoded::Event(event, line) => (line.as_bytes().to_vec(), Ok(event)),
                    Decoded::Malformed(line, error) => (line.to_vec(), Err(error)),
                });
            }
        }
        received
    }

    /// Frames first and parses afterwards, always byte by byte.
    fn decode_reference(stream: &[u8], max_line_bytes: usize) -> Vec<Owned> {
        let mut lines = LineBuffer::new(max_line_bytes);
        lines.feed(stream);
        let mut received = Vec::new();
        while let Some(frame) = lines.next_frame() {
            received.push(match frame {
                LineFrame::Complete(line) => {
                    (line.as_bytes().to_vec(), Event::parse(line.as_bytes()))
                }
                LineFrame::TooLong(prefix) => {
                    (prefix.to_vec(), Err(ParseError::line_too_long(prefix)))
                }
            });
        }
        received
    }

    #[test]
    fn typical_lines_match_the_reference() {
        let stream = b"1|B\n22|F|1|2\r\n333|P|100000|7\nx\n4444|U|1|2\n5|S|9\n123456789|B\n6|S|8\n";
        let received = decode(stream, stream.len(), 256);
        assert_eq!(received, decode_reference(stream, 256));
        assert_eq!(received.iter().filter(|(_, event)| event.is_ok()).count(), 7);
    }

    proptest! {
        #[test]
        fn event_lines_match_the_reference(
            lines in proptest::collection::vec(
                "([0-9]{0,17}(\\|[FUBPSX]?)?(\\|[0-9]{0,9}){0,3}[|0-9 :/]?|[ -~]{0,40})\r?\n", 0..40),
            piece in 1..200_usize,
            max_line_bytes in 5..80_usize,
        ) {
            let stream = lines.concat().into_bytes();
            prop_assert_eq!(decode(&stream, piece, max_line_bytes), decode_reference(&stream, max_line_bytes));
        }

        #[test]
        fn arbitrary_bytes_match_the_reference(
            stream in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'|'), Just(b'1'), any::<u8>()], 0..400),
            piece in 1..200_usize,
        ) {
            prop_assert_eq!(decode(&stream, piece, 64), decode_reference(&stream, 64));
        }
    }
}
