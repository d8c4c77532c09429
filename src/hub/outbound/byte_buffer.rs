//! A buffer to put lines together in.

use crate::protocol::{Line, PADDED_LINE_BYTES};

/// What ends every line that a client receives.
const TERMINATOR: [u8; 2] = *b"\r\n";

/// The room that a short line needs: its window, and a terminator that may reach beyond it.
const SHORT_ROOM: usize = PADDED_LINE_BYTES + TERMINATOR.len();

/// What [`ByteBuffer::push_prefix`] may write after the end.
const SPARE_BYTES: usize = 256;

/// Returns how many bytes a line takes in a queue.
#[inline]
pub(crate) fn size_of_line(line: &Line<'_>) -> usize {
    line.len() + TERMINATOR.len()
}

/// Bytes in one piece of memory, which is used again after they are cleared.
///
/// The memory is initialised throughout, so that a short line is appended by a copy of fixed length
/// which may reach beyond its end.
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

    /// How much memory it holds, in bytes.
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

    /// Appends a line and its terminator.
    // Always: the call would cost as much as the copy.
    #[inline(always)]
    pub(crate) fn push_line(&mut self, line: &Line<'_>) {
        match *line {
            Line::Padded { bytes, len } => {
                if self.bytes.len() - self.end < SHORT_ROOM {
                    self.grow(SHORT_ROOM);
                }
                let room = &mut self.bytes[self.end..self.end + SHORT_ROOM];
                room[..PADDED_LINE_BYTES].copy_from_slice(bytes);
                room[len..len + TERMINATOR.len()].copy_from_slice(&TERMINATOR);
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

    /// Makes sure that so many bytes can be appended without growing, with some to spare.
    pub(crate) fn reserve(&mut self, more: usize) {
        let more = more + SPARE_BYTES;
        if self.bytes.len() - self.end < more {
            self.grow(more);
        }
    }

    /// Appends the first `len` of some bytes. Up to `TYPICAL` are copied as if they were so many, where
    /// there are: that takes no call, and no branch that depends on the length, which is hard to
    /// foresee.
    #[inline(always)]
    pub(crate) fn push_prefix<const TYPICAL: usize>(&mut self, bytes: &[u8], len: usize) {
        const { assert!(TYPICAL <= SPARE_BYTES) };
        let room = &mut self.bytes[self.end..];
        match (bytes.first_chunk::<TYPICAL>(), room.first_chunk_mut::<TYPICAL>()) {
            (Some(from), Some(to)) if len <= TYPICAL => {
                // By the piece: larger ones would be copied by a call.
                let pieces = to.as_chunks_mut::<32>().0.iter_mut().zip(from.as_chunks().0);
                pieces.for_each(|(to, from)| *to = *from);
                self.end += len;
            }
            _ => self.extend_from_slice(&bytes[..len]),
        }
    }

    /// Makes room for `more` bytes: for a quarter more than there was, so that no more than a quarter
    /// is unused.
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
        fn it_does_what_a_vector_does(
            steps in proptest::collection::vec(("[a-z]{0,70}", any::<bool>()), 0..200),
        ) {
            let (mut buffer, mut plain) = (ByteBuffer::default(), Vec::new());
            for (line, is_line) in steps {
                if is_line {
                    let arrived = format!("{line}{}", "after".repeat(7));
                    buffer.push_line(&Line::prefix_of(arrived.as_bytes(), line.len()));
                    plain.extend_from_slice(line.as_bytes());
                    plain.extend_from_slice(&TERMINATOR);
                } else {
                    buffer.extend_from_slice(line.as_bytes());
                    plain.extend_from_slice(line.as_bytes());
                }
                prop_assert_eq!(buffer.as_slice(), &plain[..]);
                prop_assert_eq!((buffer.len(), buffer.is_empty()), (plain.len(), plain.is_empty()));
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
