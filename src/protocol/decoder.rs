//! A byte stream, read as events.

use super::{CompactEvent, Event, Line, LineBuffer, LineFrame, ParseError, fast_path};

/// What an [`EventDecoder`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// An event, and its line as it came.
    Event(Event, Line<'a>),
    /// A line that is no event, or the first bytes of one too long, and what is wrong with it.
    Malformed(&'a [u8], ParseError),
}

/// Reads the lines of an event source as events.
///
/// Most lines are short and well-formed: these are recognised together with their end, in one pass.
/// All others are cut off by the [`LineBuffer`] and parsed byte for byte.
#[derive(Debug, Default)]
pub struct EventDecoder {
    /// The bytes: read into it, and ask it what is partial_line.
    pub lines: LineBuffer,
}

impl EventDecoder {
    /// A reader of lines of at most `max_line_bytes` without their terminator. It allocates nothing
    /// until bytes are read.
    #[must_use]
    pub fn new(max_line_bytes: usize) -> EventDecoder {
        EventDecoder { lines: LineBuffer::new(max_line_bytes) }
    }

    /// Hands out up to `most` events in short, well-formed lines, as long as `take` takes them. The
    /// first that it does not take, or any other line, is left for [`next_event`](Self::next_event).
    /// Returns how many were taken.
    #[inline(always)]
    pub fn decode_fast(
        &mut self,
        most: usize,
        mut take: impl FnMut(&CompactEvent, Line<'_>) -> bool,
    ) -> usize {
        let mut taken = 0;
        while taken < most
            && let Some(padded) = self.lines.peek_padded()
            && let Some((event, end)) = fast_path::parse_fast(padded)
            && take(&event, Line::Padded { bytes: padded, len: end.len })
        {
            self.lines.consume(end);
            taken += 1;
        }
        taken
    }

    /// What the next complete line is, or `None` until more bytes come.
    pub fn next_event(&mut self) -> Option<Decoded<'_>> {
        Some(match self.lines.next_frame()? {
            LineFrame::Complete(line) => match Event::parse(line.as_bytes()) {
                Ok(event) => Decoded::Event(event, line),
                Err(error) => Decoded::Malformed(line.as_bytes(), error),
            },
            LineFrame::TooLong(head) => Decoded::Malformed(head, Event::too_long(head)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn feed(lines: &mut LineBuffer, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let spare = lines.unfilled_mut(bytes.len());
            let (now, later) = bytes.split_at(spare.len());
            spare.copy_from_slice(now);
            lines.advance(now.len());
            bytes = later;
        }
    }

    /// A received line as a test compares it.
    type Owned = (Vec<u8>, Result<Event, ParseError>);

    fn read(stream: &[u8], piece: usize, max_line_bytes: usize) -> Vec<Owned> {
        let mut reader = EventDecoder::new(max_line_bytes);
        let mut received = Vec::new();
        for piece in stream.chunks(piece) {
            feed(&mut reader.lines, piece);
            loop {
                reader.decode_fast(2, |&event, line| {
                    received.push((line.as_bytes().to_vec(), Ok(event.into())));
                    true
                });
                let Some(next) = reader.next_event() else { break };
                received.push(match next {
                    Decoded::Event(event, line) => (line.as_bytes().to_vec(), Ok(event)),
                    Decoded::Malformed(line, error) => (line.to_vec(), Err(error)),
                });
            }
        }
        received
    }

    /// The same by cutting first and parsing then, always byte for byte.
    fn read_plainly(stream: &[u8], max_line_bytes: usize) -> Vec<Owned> {
        let mut lines = LineBuffer::new(max_line_bytes);
        feed(&mut lines, stream);
        let mut received = Vec::new();
        while let Some(cut) = lines.next_frame() {
            received.push(match cut {
                LineFrame::Complete(line) => {
                    (line.as_bytes().to_vec(), Event::parse(line.as_bytes()))
                }
                LineFrame::TooLong(head) => (head.to_vec(), Err(Event::too_long(head))),
            });
        }
        received
    }

    #[test]
    fn a_stream_of_usual_lines() {
        let stream = b"1|B\n22|F|1|2\r\n333|P|100000|7\nx\n4444|U|1|2\n5|S|9\n123456789|B\n6|S|8\n";
        let received = read(stream, stream.len(), 256);
        assert_eq!(received, read_plainly(stream, 256));
        assert_eq!(received.iter().filter(|(_, event)| event.is_ok()).count(), 7);
    }

    proptest! {
        #[test]
        fn it_reads_what_cutting_and_parsing_gives(
            lines in proptest::collection::vec(
                "([0-9]{0,17}(\\|[FUBPSX]?)?(\\|[0-9]{0,9}){0,3}[|0-9 :/]?|[ -~]{0,40})\r?\n", 0..40),
            piece in 1..200_usize,
            max_line_bytes in 5..80_usize,
        ) {
            let stream = lines.concat().into_bytes();
            prop_assert_eq!(read(&stream, piece, max_line_bytes), read_plainly(&stream, max_line_bytes));
        }

        #[test]
        fn any_bytes_at_all(
            stream in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'|'), Just(b'1'), any::<u8>()], 0..400),
            piece in 1..200_usize,
        ) {
            prop_assert_eq!(read(&stream, piece, 64), read_plainly(&stream, 64));
        }
    }
}
