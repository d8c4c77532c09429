//! Lines that clients drain one after the other.

use crate::hub::outbound::byte_buffer::ByteBuffer;
use crate::protocol::Line;

/// A position in a [`LineStream`]: the number of bytes before it, modulo 2³².
pub(crate) type Position = u32;

/// A buffer of lines whose positions stay valid while drained bytes are dropped from its front.
///
/// Less than 2³¹ bytes are in it at once, because a batch counts them with 32 bits.
#[derive(Debug, Default)]
pub(crate) struct LineStream {
    buffer: ByteBuffer,
    /// The position of the first byte in the buffer.
    base: Position,
}

impl LineStream {
    /// Returns the position after the last byte.
    #[inline]
    pub(crate) fn end(&self) -> Position {
        self.base.wrapping_add(self.buffer.len() as u32)
    }

    /// Returns the position of the first byte in the buffer.
    #[inline]
    pub(crate) fn base(&self) -> Position {
        self.base
    }

    /// Returns the number of bytes after a position.
    #[inline]
    pub(crate) fn bytes_after(&self, position: Position) -> usize {
        self.end().wrapping_sub(position) as usize
    }

    /// Returns the bytes in the buffer, which start at the [`base`](Self::base).
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.buffer.as_slice()
    }

    /// Returns the number of bytes in the buffer, dropped ones that still use memory included.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Appends a line and its terminator.
    // inline(always): see `ByteBuffer::push_line`.
    #[inline(always)]
    pub(crate) fn push_line(&mut self, line: &Line<'_>) {
        self.buffer.push_line(line);
    }

    /// Appends bytes.
    #[inline]
    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Drops the bytes before `position`, or later if fewer than half of all bytes are: so each byte is moved
    /// at most once on average.
    pub(crate) fn drop_before(&mut self, position: Position) {
        let dropped = position.wrapping_sub(self.base) as usize;
        if dropped >= self.buffer.len() - dropped {
            self.buffer.drop_front(dropped);
            self.base = position;
        }
    }

    /// Drops all bytes, and counts positions from 0 again.
    pub(crate) fn clear(&mut self) {
        self.base = 0;
        self.buffer.clear();
    }

    /// Frees the memory if it exceeds `max_bytes` and nothing is in it.
    pub(crate) fn shrink(&mut self, max_bytes: usize) {
        if self.buffer.is_empty() && self.buffer.capacity() > max_bytes {
            self.buffer = ByteBuffer::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_stay_valid_while_the_front_is_dropped_and_beyond_32_bits() {
        let mut stream = LineStream { base: u32::MAX - 4, ..LineStream::default() };
        let start = stream.end();
        stream.extend_from_slice(b"abcdefgh");
        let end = stream.end();
        assert_eq!((stream.bytes_after(start), end), (8, 3));
        stream.drop_before(start.wrapping_add(3));
        assert_eq!((stream.len(), stream.base()), (8, start), "less than half");
        stream.drop_before(start.wrapping_add(6));
        assert_eq!((stream.as_slice(), stream.base()), (&b"gh"[..], 1));
        assert_eq!((stream.end(), stream.bytes_after(end)), (end, 0));
        stream.clear();
        assert_eq!((stream.len(), stream.base(), stream.end()), (0, 0, 0));
    }
}
