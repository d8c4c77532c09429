//! Framing: splits a byte stream into lines.

use memchr::{memchr, memrchr};
use smallvec::SmallVec;

use super::fast_path::LineEnd;
use super::{Line, PADDED_LINE_BYTES};

/// The length of the prefix kept of a line over the limit: the longest sequence, its `|`, and an excerpt
/// for the log.
const KEPT_PREFIX_BYTES: usize = 64;

/// The capacity of a buffer until it is first full.
const INITIAL_CAPACITY: usize = 16 * 1024;

/// The largest buffer that is kept while it is empty.
const MAX_IDLE_CAPACITY: usize = 64 * 1024;

/// One frame of a [`LineBuffer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFrame<'a> {
    /// A line without its terminator.
    Complete(Line<'a>),
    /// The prefix (at most 64 bytes) of a line over the limit. The rest was discarded.
    TooLong(&'a [u8]),
}

/// A buffer that splits a byte stream into lines ending with LF or CRLF, independent of chunking.
///
/// The caller reads into [`unfilled_mut`](Self::unfilled_mut) and commits the bytes with
/// [`advance`](Self::advance). [`next_frame`](Self::next_frame) returns lines as slices of the same buffer.
/// The buffer never holds more of a partial line than the limit: the rest is discarded as it arrives.
///
/// Invariant: `start <= scanned <= end <= buffer.len()`.
#[derive(Debug, Default)]
pub struct LineBuffer {
    buffer: Vec<u8>,
    /// The start of the first pending line.
    start: usize,
    /// The end of the bytes after `start` that are known to contain no LF.
    scanned: usize,
    /// The end of the bytes read so far. The rest of the buffer is unfilled.
    end: usize,
    max_line_bytes: usize,
    /// The partial line is over the limit. Its prefix is in `prefix`.
    discarding: bool,
    prefix: SmallVec<[u8; KEPT_PREFIX_BYTES]>,
}

impl LineBuffer {
    /// Creates a buffer for lines of at most `max_line_bytes` without their terminator. It allocates
    /// nothing until the first call of [`unfilled_mut`](Self::unfilled_mut).
    #[must_use]
    pub fn new(max_line_bytes: usize) -> LineBuffer {
        LineBuffer { max_line_bytes, ..LineBuffer::default() }
    }

    /// Changes the limit, for lines that are not returned yet. A partial line that is already being discarded
    /// stays over the limit.
    pub fn set_max_line_bytes(&mut self, max_line_bytes: usize) {
        self.max_line_bytes = max_line_bytes;
    }

    /// Appends bytes.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let unfilled = self.unfilled_mut(bytes.len());
            let (next, rest) = bytes.split_at(unfilled.len());
            unfilled.copy_from_slice(next);
            self.advance(next.len());
            bytes = rest;
        }
    }

    /// Returns unfilled space of 1 to `max` bytes (`max` is at least 1), and overwrites consumed lines. A
    /// full buffer doubles, so that it grows to what one round of reading fills and no further.
    pub fn unfilled_mut(&mut self, max: usize) -> &mut [u8] {
        self.compact();
        if self.end == self.buffer.len() {
            let bytes = (2 * self.buffer.len()).max(max.min(INITIAL_CAPACITY));
            self.buffer.reserve_exact(bytes - self.buffer.len());
            self.buffer.resize(bytes, 0);
        }
        let end = self.buffer.len().min(self.end + max);
        &mut self.buffer[self.end..end]
    }

    /// Marks the first `bytes` bytes of the [`unfilled_mut`](Self::unfilled_mut) space as filled.
    ///
    /// # Panics
    ///
    /// If `bytes` exceeds the unfilled space.
    pub fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.buffer.len() - self.end, "more bytes filled than there was space");
        self.end += bytes;
    }

    /// Returns the next [`PADDED_LINE_BYTES`] bytes from the start of the next line. Returns `None` if fewer
    /// are buffered or if the line limit could apply.
    #[inline(always)]
    pub(super) fn peek_padded(&self) -> Option<&[u8; PADDED_LINE_BYTES]> {
        if self.discarding || self.max_line_bytes < PADDED_LINE_BYTES {
            return None;
        }
        self.buffer[self.start..self.end].first_chunk()
    }

    /// Consumes the line that ends at `end` within the [`peek_padded`](Self::peek_padded) bytes.
    #[inline(always)]
    pub(super) fn consume(&mut self, end: LineEnd) {
        self.start += end.wire_len;
        self.scanned = self.start;
    }

    /// Returns the next complete line, or `None` if more bytes are needed.
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
            return Some(LineFrame::TooLong(&self.prefix));
        }
        if len > self.max_line_bytes {
            return Some(LineFrame::TooLong(&bytes[..self.kept_prefix_bytes()]));
        }
        Some(LineFrame::Complete(Line::prefix_of(bytes, len)))
    }

    /// Returns whether a complete line is pending.
    #[must_use]
    pub fn has_line(&self) -> bool {
        memchr(b'\n', &self.buffer[self.scanned..self.end]).is_some()
    }

    /// Returns the partial line after all complete ones, or its prefix if it is over the limit. Empty if
    /// the stream ends with a terminator.
    #[must_use]
    pub fn partial_line(&self) -> &[u8] {
        let rest = &self.buffer[self.start..self.end];
        match memrchr(b'\n', rest) {
            Some(newline) => &rest[newline + 1..],
            None if self.discarding => &self.prefix,
            None => rest,
        }
    }

    /// Returns whether the partial line is already over the limit. Valid after
    /// [`next_frame`](Self::next_frame) has returned `None`.
    #[must_use]
    pub fn is_discarding(&self) -> bool {
        self.discarding
    }

    /// Returns the bytes read and not yet returned as lines.
    pub(super) fn pending(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Returns the number of bytes read and not yet returned as lines.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.end - self.start
    }

    /// Returns the allocated capacity, in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Frees a large buffer if it is empty.
    pub fn trim(&mut self) {
        if self.start == self.end && self.buffer.len() > MAX_IDLE_CAPACITY {
            self.buffer = Vec::new();
            (self.start, self.scanned, self.end) = (0, 0, 0);
        }
    }

    /// Marks the buffered bytes as scanned, and starts to discard a partial line over the limit.
    fn hold_partial(&mut self) {
        self.scanned = self.end;
        // One byte over the limit may be the CR of a terminator.
        if !self.discarding && self.end - self.start > self.max_line_bytes + 1 {
            let prefix = &self.buffer[self.start..self.start + self.kept_prefix_bytes()];
            self.prefix = SmallVec::from_slice(prefix);
            self.discarding = true;
        }
        if self.discarding {
            self.start = self.end;
        }
    }

    /// Returns the length of the kept prefix. Every line over the limit has as many bytes, so the prefix
    /// does not depend on chunking.
    fn kept_prefix_bytes(&self) -> usize {
        KEPT_PREFIX_BYTES.min(self.max_line_bytes + 1)
    }

    /// Moves the pending bytes to the start of the buffer.
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

    /// A frame in owned form: the line, or the prefix of a line over the limit.
    type Owned = Result<Vec<u8>, Vec<u8>>;

    fn put(buffer: &mut LineBuffer, mut piece: &[u8]) {
        while !piece.is_empty() {
            let unfilled = buffer.unfilled_mut(piece.len());
            let (next, rest) = piece.split_at(unfilled.len());
            unfilled.copy_from_slice(next);
            buffer.advance(next.len());
            piece = rest;
        }
    }

    fn feed(buffer: &mut LineBuffer, piece: &[u8], lines: &mut Vec<Owned>) {
        put(buffer, piece);
        while let Some(line) = buffer.next_frame() {
            lines.push(match line {
                LineFrame::Complete(line) => Ok(line.as_bytes().to_vec()),
                LineFrame::TooLong(prefix) => Err(prefix.to_vec()),
            });
        }
    }

    fn split_in_pieces<'a>(
        max_line_bytes: usize,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> (Vec<Owned>, Vec<u8>) {
        let mut buffer = LineBuffer::new(max_line_bytes);
        let mut lines = Vec::new();
        for piece in pieces {
            feed(&mut buffer, piece, &mut lines);
        }
        (lines, buffer.partial_line().to_vec())
    }

    /// Splits the whole stream at once, with the standard library.
    fn split_reference(max_line_bytes: usize, stream: &[u8]) -> Vec<Owned> {
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

    fn complete(line: &str) -> Owned {
        Ok(line.as_bytes().to_vec())
    }

    #[test]
    fn lf_and_crlf_end_a_line() {
        let (lines, rest) = split_in_pieces(64, [&b"1|B\n2|B\r\n\n\r\n3|\rB\n4|B"[..]].into_iter());
        assert_eq!(
            lines,
            [complete("1|B"), complete("2|B"), complete(""), complete(""), complete("3|\rB")]
        );
        assert_eq!(rest, b"4|B");
    }

    #[test]
    fn every_chunking_of_a_short_stream_gives_the_same_lines() {
        let stream = b"1|B\r\n\n123456789\n1234567890\n12345678\r\n\r\r\nab";
        let expected = split_reference(8, stream);
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
                assert_eq!(
                    split_in_pieces(8, fits.as_bytes().chunks(size)).0,
                    [complete("12345678")]
                );
                let (lines, _) = split_in_pieces(8, over.as_bytes().chunks(size));
                assert_eq!(lines, [Err(b"123456789".to_vec())]);
            }
        }
    }

    #[test]
    fn an_endless_line_uses_bounded_memory() {
        let mut buffer = LineBuffer::new(256);
        let mut lines = Vec::new();
        feed(&mut buffer, b"77|S|", &mut lines);
        for _ in 0..1000 {
            feed(&mut buffer, &[b'0'; 10_000], &mut lines);
        }
        assert!(buffer.capacity() < 50_000, "{} bytes", buffer.capacity());
        assert_eq!(buffer.partial_line().len(), KEPT_PREFIX_BYTES);
        feed(&mut buffer, b"\n1|B\n", &mut lines);
        assert_eq!(lines.len(), 2);
        assert!(matches!(&lines[0], Err(prefix) if prefix.starts_with(b"77|S|000")));
        assert_eq!(lines[1], complete("1|B"));
    }

    #[test]
    fn pending_lines_survive_a_request_for_more_space() {
        let mut buffer = LineBuffer::new(64);
        put(&mut buffer, b"1|B\n2|B\n");
        assert_eq!(buffer.next_frame(), Some(LineFrame::Complete(Line::Slice(b"1|B"))));
        assert_eq!(buffer.pending_bytes(), 4);
        assert!(buffer.has_line());
        put(&mut buffer, b"3|B\n");
        assert_eq!(buffer.next_frame(), Some(LineFrame::Complete(Line::Slice(b"2|B"))));
        assert_eq!(buffer.next_frame(), Some(LineFrame::Complete(Line::Slice(b"3|B"))));
        assert_eq!(buffer.next_frame(), None);
        put(&mut buffer, b"4|");
        assert!(!buffer.has_line());
        put(&mut buffer, b"B\n5");
        assert!(buffer.has_line());
    }

    #[test]
    #[should_panic(expected = "more bytes filled")]
    fn advancing_past_the_unfilled_space_panics() {
        let mut buffer = LineBuffer::new(64);
        let space = buffer.unfilled_mut(2).len();
        buffer.advance(space + 1);
    }

    proptest! {
        #[test]
        fn any_chunking_matches_the_standard_library(
            stream in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'1'), any::<u8>()], 0..400),
            cuts in proptest::collection::vec(1..40_usize, 1..60),
            max_line_bytes in 1..80_usize,
        ) {
            let mut pieces = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (piece, tail) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            let (lines, _) = split_in_pieces(max_line_bytes, pieces.into_iter());
            prop_assert_eq!(lines, split_reference(max_line_bytes, &stream));
        }
    }
}
