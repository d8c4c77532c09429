//! Bytes in a row, and lines to put there.

use crate::protocol::{Line, WINDOW_BYTES};

/// What ends every line that a client receives.
const TERMINATOR: [u8; 2] = *b"\r\n";

/// The room that a short line needs: its window, and a terminator that may reach beyond it.
const SHORT_ROOM: usize = WINDOW_BYTES + TERMINATOR.len();

/// What [`ByteQueue::push_front_of`] may write behind the end.
const SPARE_BYTES: usize = 256;

/// Memory above this is given back when it is not needed any more.
const LARGE_BYTES: usize = 64 << 10;

/// How many bytes a line takes in a queue.
#[inline]
pub(crate) fn size_of_line(line: &Line<'_>) -> usize {
    line.len() + TERMINATOR.len()
}

/// A queue of bytes in one piece of memory: appended behind, consumed in front.
///
/// The memory is initialised throughout, so that a short line is appended by a copy of fixed length
/// which may reach beyond its end.
///
/// Invariant: `start <= end <= bytes.len()`; both are 0 when the queue is empty.
#[derive(Debug, Default)]
pub(crate) struct ByteQueue {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl ByteQueue {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
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

    /// Everything that waits.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Strikes off the first `bytes`.
    pub(crate) fn consume(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.len());
        self.start += bytes;
        if self.start == self.end {
            self.clear();
        }
    }

    /// Moves what waits into fitting memory, if it would do with a quarter of a large one.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.len() > LARGE_BYTES && self.len() < self.bytes.len() / 4 {
            let mut fitting = ByteQueue::default();
            fitting.push_bytes(self.as_slice());
            *self = fitting;
        }
    }

    /// Appends a line and its terminator.
    // Always: the call would cost as much as the copy.
    #[inline(always)]
    pub(crate) fn push_line(&mut self, line: &Line<'_>) {
        match *line {
            Line::Short { window, len } => {
                if self.bytes.len() - self.end < SHORT_ROOM {
                    self.make_room(SHORT_ROOM);
                }
                let room = &mut self.bytes[self.end..self.end + SHORT_ROOM];
                room[..WINDOW_BYTES].copy_from_slice(window);
                room[len..len + TERMINATOR.len()].copy_from_slice(&TERMINATOR);
                self.end += len + TERMINATOR.len();
            }
            Line::Plain(line) => {
                self.push_bytes(line);
                self.push_bytes(&TERMINATOR);
            }
        }
    }

    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        if self.bytes.len() - self.end < bytes.len() {
            self.make_room(bytes.len());
        }
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Makes sure that so many bytes can be appended without growing, with some to spare.
    pub(crate) fn reserve(&mut self, more: usize) {
        let more = more + SPARE_BYTES;
        if self.bytes.len() - self.end < more {
            self.make_room(more);
        }
    }

    /// Appends the first `len` of some bytes. Up to `USUAL` are copied as if they were so many, where
    /// there are: that takes no call, and no branch that depends on the length, which is hard to
    /// foresee.
    #[inline(always)]
    pub(crate) fn push_front_of<const USUAL: usize>(&mut self, bytes: &[u8], len: usize) {
        const { assert!(USUAL <= SPARE_BYTES) };
        let room = &mut self.bytes[self.end..];
        match (bytes.first_chunk::<USUAL>(), room.first_chunk_mut::<USUAL>()) {
            (Some(from), Some(to)) if len <= USUAL => {
                // By the piece: larger ones would be copied by a call.
                let pieces = to.as_chunks_mut::<32>().0.iter_mut().zip(from.as_chunks().0);
                pieces.for_each(|(to, from)| *to = *from);
                self.end += len;
            }
            _ => self.push_bytes(&bytes[..len]),
        }
    }

    /// Makes room for `more` bytes: in place of what was consumed if that is more than what waits,
    /// so that each byte moves at most once on average; else by doubling.
    #[cold]
    fn make_room(&mut self, more: usize) {
        if self.start > self.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let needed = self.end + more;
        if needed > self.bytes.len() {
            let capacity = needed.next_power_of_two().max(256);
            self.bytes.reserve_exact(capacity - self.bytes.len());
            self.bytes.resize(capacity, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn it_does_what_a_deque_does(
            steps in proptest::collection::vec(("[a-z]{0,70}", any::<bool>(), 0..100_usize), 0..200),
        ) {
            let mut queue = ByteQueue::default();
            let mut plain = VecDeque::new();
            for (line, is_line, consumed) in steps {
                if is_line {
                    let buffer = format!("{line}{}", "behind".repeat(6));
                    queue.push_line(&Line::in_front_of(buffer.as_bytes(), line.len()));
                    plain.extend(line.as_bytes());
                    plain.extend(TERMINATOR);
                } else {
                    queue.push_bytes(line.as_bytes());
                    plain.extend(line.as_bytes());
                }
                let consumed = consumed.min(plain.len());
                queue.consume(consumed);
                plain.drain(..consumed);
                prop_assert_eq!(queue.as_slice(), plain.make_contiguous() as &[u8]);
                prop_assert_eq!((queue.len(), queue.is_empty()), (plain.len(), plain.is_empty()));
            }
        }
    }

    #[test]
    fn consumed_bytes_do_not_pile_up_in_front_of_a_queue_that_never_empties() {
        let mut queue = ByteQueue::default();
        queue.push_bytes(&[b'x'; 1000]);
        for _ in 0..10_000 {
            queue.push_bytes(&[b'x'; 100]);
            queue.consume(100);
        }
        assert_eq!(queue.len(), 1000);
        assert!(queue.capacity() <= 4096, "{} bytes", queue.capacity());
    }
}
