//! A byte stream, cut into lines.

use memchr::{memchr, memrchr};
use smallvec::SmallVec;

use super::fast_path::LineEnd;
use super::{Line, PADDED_LINE_BYTES};

/// How many bytes of an over-long line are kept: the longest sequence, its `|`, and some to show.
const KEPT_PREFIX_BYTES: usize = 64;

/// The size of a buffer that has not been full yet.
const INITIAL_CAPACITY: usize = 16 * 1024;

/// A buffer up to this size is kept when it is empty.
const MAX_IDLE_CAPACITY: usize = 64 * 1024;

/// What a [`LineBuffer`] cuts off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFrame<'a> {
    /// A line, without its terminator.
    Complete(Line<'a>),
    /// The first bytes (at most 64) of a line longer than the limit; the rest was discarded.
    TooLong(&'a [u8]),
}

/// Cuts a byte stream into lines that end with LF or CRLF, whatever pieces it arrives in.
///
/// Bytes are read straight into [`unfilled_mut`](Self::unfilled_mut) room behind those that wait, announced with
/// [`advance`](Self::advance), and handed out as slices of the same buffer by
/// [`next_frame`](Self::next_frame). The buffer never holds more of an partial_line line than the limit:
/// beyond it the line is discarded as it comes.
///
/// Invariant: `start <= scanned <= end <= buffer.len()`.
#[derive(Debug, Default)]
pub struct LineBuffer {
    buffer: Vec<u8>,
    /// Where the first line not yet handed out starts.
    start: usize,
    /// No LF stands between `start` and here.
    scanned: usize,
    /// Where the bytes read so far end; what lies behind is spare.
    end: usize,
    max_line_bytes: usize,
    /// The line under way is over the limit; its first bytes are in `head`.
    discarding: bool,
    head: SmallVec<[u8; KEPT_PREFIX_BYTES]>,
}

impl LineBuffer {
    /// A splitter for lines of at most `max_line_bytes` without their terminator. It allocates
    /// nothing until room is asked for.
    #[must_use]
    pub fn new(max_line_bytes: usize) -> LineBuffer {
        LineBuffer { max_line_bytes, ..LineBuffer::default() }
    }

    /// Room for more bytes, at least one and at most `most` (at least 1). A full buffer is doubled,
    /// so that it grows to what one round of reading brings, and no further. What was handed out
    /// before is overwritten.
    pub fn unfilled_mut(&mut self, most: usize) -> &mut [u8] {
        self.compact();
        if self.end == self.buffer.len() {
            let bytes = (2 * self.buffer.len()).max(most.min(INITIAL_CAPACITY));
            self.buffer.reserve_exact(bytes - self.buffer.len());
            self.buffer.resize(bytes, 0);
        }
        let end = self.buffer.len().min(self.end + most);
        &mut self.buffer[self.end..end]
    }

    /// Takes the first `bytes` of the [`unfilled_mut`](Self::unfilled_mut) room as read.
    ///
    /// # Panics
    ///
    /// When they are more than there was room for.
    pub fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.buffer.len() - self.end, "more bytes filled than there was room");
        self.end += bytes;
    }

    /// The bytes from the start of the next line on, as many as a window has, unless fewer have come
    /// or the limit could matter.
    #[inline(always)]
    pub(super) fn peek_padded(&self) -> Option<&[u8; PADDED_LINE_BYTES]> {
        if self.discarding || self.max_line_bytes < PADDED_LINE_BYTES {
            return None;
        }
        self.buffer[self.start..self.end].first_chunk()
    }

    /// Strikes off the line that ends in the [`peek_padded`](Self::peek_padded) as `end` says.
    #[inline(always)]
    pub(super) fn consume(&mut self, end: LineEnd) {
        self.start += end.wire_len;
        self.scanned = self.start;
    }

    /// The next complete line, or `None` until more bytes come.
    pub fn next_frame(&mut self) -> Option<LineFrame<'_>> {
        let Some(offset) = memchr(b'\n', &self.buffer[self.scanned..self.end]) else {
            self.hold_partial();
            return None;
        };
        let newline = self.scanned + offset;
        let bytes = &self.buffer[self.start..];
        let len = strip_cr(&bytes[..newline - self.start]).len();
        self.start = newline + 1;
        self.scanned = self.start;
        if self.discarding {
            self.discarding = false;
            return Some(LineFrame::TooLong(&self.head));
        }
        if len > self.max_line_bytes {
            return Some(LineFrame::TooLong(&bytes[..self.kept_prefix_bytes()]));
        }
        Some(LineFrame::Complete(Line::prefix_of(bytes, len)))
    }

    /// Whether a complete line has been read and not yet handed out.
    #[must_use]
    pub fn has_line(&self) -> bool {
        memchr(b'\n', &self.buffer[self.scanned..self.end]).is_some()
    }

    /// The first bytes of the partial_line line at the end, behind all complete ones: empty when the
    /// stream stands at the start of a line.
    #[must_use]
    pub fn partial_line(&self) -> &[u8] {
        let rest = &self.buffer[self.start..self.end];
        match memrchr(b'\n', rest) {
            Some(newline) => &rest[newline + 1..],
            None if self.discarding => &self.head,
            None => rest,
        }
    }

    /// Whether the partial_line line at the end is over the limit already. Known once
    /// [`next_frame`](Self::next_frame) has returned `None`.
    #[must_use]
    pub fn is_discarding(&self) -> bool {
        self.discarding
    }

    /// How many bytes have been read and not yet handed out.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.end - self.start
    }

    /// How much memory the buffer holds, in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Gives a large buffer back if nothing stands in it.
    pub fn trim(&mut self) {
        if self.start == self.end && self.buffer.len() > MAX_IDLE_CAPACITY {
            self.buffer = Vec::new();
            (self.start, self.scanned, self.end) = (0, 0, 0);
        }
    }

    /// Remembers that no LF is there yet, and stops keeping a line that is too long.
    fn hold_partial(&mut self) {
        self.scanned = self.end;
        // One byte over the limit may be the CR of the terminator.
        if !self.discarding && self.end - self.start > self.max_line_bytes + 1 {
            let head = &self.buffer[self.start..self.start + self.kept_prefix_bytes()];
            self.head = SmallVec::from_slice(head);
            self.discarding = true;
        }
        if self.discarding {
            self.start = self.end;
        }
    }

    /// How many bytes of a line too long are kept: no more than every such line has, so that they
    /// do not depend on the pieces in which it came.
    fn kept_prefix_bytes(&self) -> usize {
        KEPT_PREFIX_BYTES.min(self.max_line_bytes + 1)
    }

    fn compact(&mut self) {
        if self.start == 0 {
            return;
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.scanned -= self.start;
        self.end -= self.start;
        self.start = 0;
    }
}

fn strip_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A line as a test compares it: its bytes, or the first ones of a line too long.
    type Owned = Result<Vec<u8>, Vec<u8>>;

    fn put(splitter: &mut LineBuffer, mut piece: &[u8]) {
        while !piece.is_empty() {
            let spare = splitter.unfilled_mut(piece.len());
            let (now, later) = piece.split_at(spare.len());
            spare.copy_from_slice(now);
            splitter.advance(now.len());
            piece = later;
        }
    }

    fn feed(splitter: &mut LineBuffer, piece: &[u8], lines: &mut Vec<Owned>) {
        put(splitter, piece);
        while let Some(line) = splitter.next_frame() {
            lines.push(match line {
                LineFrame::Complete(line) => Ok(line.as_bytes().to_vec()),
                LineFrame::TooLong(head) => Err(head.to_vec()),
            });
        }
    }

    fn split_in_pieces<'a>(
        max_line_bytes: usize,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> (Vec<Owned>, Vec<u8>) {
        let mut splitter = LineBuffer::new(max_line_bytes);
        let mut lines = Vec::new();
        for piece in pieces {
            feed(&mut splitter, piece, &mut lines);
        }
        (lines, splitter.partial_line().to_vec())
    }

    /// The same by the standard library, all at once.
    fn split_plainly(max_line_bytes: usize, stream: &[u8]) -> Vec<Owned> {
        let mut lines: Vec<&[u8]> = stream.split(|&byte| byte == b'\n').collect();
        lines.pop();
        lines
            .into_iter()
            .map(|line| match line {
                [line @ .., b'\r'] => line,
                line => line,
            })
            .map(|line| {
                if line.len() <= max_line_bytes {
                    Ok(line.to_vec())
                } else {
                    Err(line[..KEPT_PREFIX_BYTES.min(max_line_bytes + 1)].to_vec())
                }
            })
            .collect()
    }

    fn whole(line: &str) -> Owned {
        Ok(line.as_bytes().to_vec())
    }

    #[test]
    fn lf_and_crlf_end_a_line() {
        let (lines, rest) = split_in_pieces(64, [&b"1|B\n2|B\r\n\n\r\n3|\rB\n4|B"[..]].into_iter());
        assert_eq!(lines, [whole("1|B"), whole("2|B"), whole(""), whole(""), whole("3|\rB")]);
        assert_eq!(rest, b"4|B");
    }

    #[test]
    fn every_chunking_of_a_short_stream_gives_the_same_lines() {
        let stream = b"1|B\r\n\n123456789\n1234567890\n12345678\r\n\r\r\nab";
        let expected = split_plainly(8, stream);
        assert_eq!(expected.iter().filter(|line| line.is_err()).count(), 2);
        for size in 1..=stream.len() {
            let (lines, rest) = split_in_pieces(8, stream.chunks(size));
            assert_eq!(lines, expected, "pieces of {size}");
            assert_eq!(rest, b"ab", "pieces of {size}");
        }
        for first in 0..stream.len() {
            for second in first..stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                let (lines, _) = split_in_pieces(8, pieces.into_iter());
                assert_eq!(lines, expected, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn the_limit_counts_the_line_without_its_terminator() {
        for end in ["\n", "\r\n"] {
            let fits = format!("12345678{end}");
            let over = format!("123456789{end}");
            for size in 1..=fits.len() {
                assert_eq!(split_in_pieces(8, fits.as_bytes().chunks(size)).0, [whole("12345678")]);
                let (lines, _) = split_in_pieces(8, over.as_bytes().chunks(size));
                assert_eq!(lines, [Err(b"123456789".to_vec())]);
            }
        }
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let mut splitter = LineBuffer::new(256);
        let mut lines = Vec::new();
        feed(&mut splitter, b"77|S|", &mut lines);
        for _ in 0..1000 {
            feed(&mut splitter, &[b'0'; 10_000], &mut lines);
        }
        assert!(splitter.capacity() < 50_000, "{} bytes", splitter.capacity());
        assert_eq!(splitter.partial_line().len(), KEPT_PREFIX_BYTES);
        feed(&mut splitter, b"\n1|B\n", &mut lines);
        assert_eq!(lines.len(), 2);
        assert!(matches!(&lines[0], Err(head) if head.starts_with(b"77|S|000")));
        assert_eq!(lines[1], whole("1|B"));
    }

    #[test]
    fn unread_bytes_survive_a_request_for_more_room() {
        let mut splitter = LineBuffer::new(64);
        put(&mut splitter, b"1|B\n2|B\n");
        assert_eq!(splitter.next_frame(), Some(LineFrame::Complete(Line::Slice(b"1|B"))));
        assert_eq!(splitter.pending_bytes(), 4);
        assert!(splitter.has_line());
        put(&mut splitter, b"3|B\n");
        assert_eq!(splitter.next_frame(), Some(LineFrame::Complete(Line::Slice(b"2|B"))));
        assert_eq!(splitter.next_frame(), Some(LineFrame::Complete(Line::Slice(b"3|B"))));
        assert_eq!(splitter.next_frame(), None);
        put(&mut splitter, b"4|");
        assert!(!splitter.has_line());
        put(&mut splitter, b"B\n5");
        assert!(splitter.has_line());
    }

    #[test]
    #[should_panic(expected = "more bytes filled")]
    fn filling_more_than_the_room_is_a_mistake_of_the_caller() {
        let mut splitter = LineBuffer::new(64);
        let room = splitter.unfilled_mut(2).len();
        splitter.advance(room + 1);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_lines_of_the_standard_library(
            stream in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'1'), any::<u8>()], 0..400),
            cuts in proptest::collection::vec(1..40_usize, 1..60),
            max_line_bytes in 1..80_usize,
        ) {
            let mut pieces = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            let (lines, _) = split_in_pieces(max_line_bytes, pieces.into_iter());
            prop_assert_eq!(lines, split_plainly(max_line_bytes, &stream));
        }
    }
}
