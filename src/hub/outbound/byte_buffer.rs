//! A contiguous buffer for output lines.

use crate::protocol::{Line, PADDED_LINE_BYTES};

/// The terminator of every line sent to a client.
const TERMINATOR: [u8; 2] = *b"\r\n";

/// The space that a padded line needs: its padded bytes, and a terminator that may extend past
/// them.
const PADDED_SPACE: usize = PADDED_LINE_BYTES + TERMINATOR.len();

/// The maximum number of bytes that [`ByteBuffer::push_prefix`] may write past the end.
const SPARE_BYTES: usize = 256;

/// Returns the size of a line as sent, including its terminator.
#[inline]
pub(crate) fn wire_len(line: &Line<'_>) -> usize {
    line.len() + TERMINATOR.len()
}

/// A contiguous buffer of bytes. [`clear`](Self::clear) keeps its memory.
///
/// The memory is fully initialised, so that a short line is appended by a fixed-length copy that
/// may extend past the end of the line.
///
/// Invariant: `end <= bytes.len()`.
#[derive(Debug, Default)]
pub(crate) struct ByteBuffer {
    bytes: Vec<u8>,
    end: usize,
}

impl ByteBuffer {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the size of the allocation in bytes.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    pub(crate) fn clear(&mut self) {
        self.end = 0;
    }

    /// Drops the first `bytes`.
    pub(crate) fn drop_front(&mut self, bytes: usize) {
        self.bytes.copy_within(bytes..self.end, 0);
        self.end -= bytes;
    }

    /// Appends a line and its terminator.
    // inline(always): a call would cost as much as the copy.
    #[inline(always)]
    pub(crate) fn push_line(&mut self, line: &Line<'_>) {
        match *line {
            Line::Padded { bytes, len } => {
                if self.bytes.len() - self.end < PADDED_SPACE {
                    self.grow(PADDED_SPACE);
                }
                let space = &mut self.bytes[self.end..self.end + PADDED_SPACE];
                space[..PADDED_LINE_BYTES].copy_from_slice(bytes);
                space[len..len + TERMINATOR.len()].copy_from_slice(&TERMINATOR);
                self.end += len + TERMINATOR.len();
            }
            Line::Slice(line) => {
                self.extend_from_slice(line);
                self.extend_from_slice(&TERMINATOR);
            }
        }
    }

    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        if self.bytes.len() - self.end < bytes.len() {
            self.grow(bytes.len());
        }
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Reserves space for `more` bytes, plus the slack that [`push_prefix`](Self::push_prefix)
    /// needs.
    pub(crate) fn reserve(&mut self, more: usize) {
        let more = more + SPARE_BYTES;
        if self.bytes.len() - self.end < more {
            self.grow(more);
        }
    }

    /// Appends the first `len` bytes. Copies a fixed `TYPICAL` bytes where possible, which avoids a
    /// call and an unpredictable branch on the length.
    #[inline(always)]
    pub(crate) fn push_prefix<const TYPICAL: usize>(&mut self, bytes: &[u8], len: usize) {
        const { assert!(TYPICAL <= SPARE_BYTES) };
        let space = &mut self.bytes[self.end..];
        match (bytes.first_chunk::<TYPICAL>(), space.first_chunk_mut::<TYPICAL>()) {
            (Some(from), Some(to)) if len <= TYPICAL => {
                // In chunks of 32 bytes, because a larger copy would compile to a call.
                let chunks = to.as_chunks_mut::<32>().0.iter_mut().zip(from.as_chunks().0);
                chunks.for_each(|(to, from)| *to = *from);
                self.end += len;
            }
            _ => self.extend_from_slice(&bytes[..len]),
        }
    }

    /// Grows to fit `more` bytes, by at least a quarter of the old size. Only a quarter, so that a
    /// full buffer wastes little.
    #[cold]
    fn grow(&mut self, more: usize) {
        let len = self.bytes.len();
        let capacity = (self.end + more).max(len + len / 4);
        self.bytes.reserve_exact(capacity - len);
        self.bytes.resize(capacity, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_behaves_like_a_vector(
            steps in proptest::collection::vec(("[a-z]{0,70}", any::<bool>()), 0..200),
        ) {
            let (mut buffer, mut reference) = (ByteBuffer::default(), Vec::new());
            for (line, is_line) in steps {
                if is_line {
                    let arrived = format!("{line}{}", "after".repeat(7));
                    buffer.push_line(&Line::prefix_of(arrived.as_bytes(), line.len()));
                    reference.extend_from_slice(line.as_bytes());
                    reference.extend_from_slice(&TERMINATOR);
                } else {
                    buffer.extend_from_slice(line.as_bytes());
                    reference.extend_from_slice(line.as_bytes());
                }
                prop_assert_eq!(buffer.as_slice(), &reference[..]);
                prop_assert_eq!(buffer.len(), reference.len());
                prop_assert_eq!(buffer.is_empty(), reference.is_empty());
            }
        }
    }

    #[test]
    fn no_more_than_a_quarter_of_a_full_buffer_is_unused() {
        let mut buffer = ByteBuffer::default();
        for _ in 0..10_000 {
            buffer.extend_from_slice(&[b'x'; 100]);
            assert!(buffer.capacity() * 4 <= buffer.len() * 5, "{} bytes", buffer.capacity());
        }
    }
}
