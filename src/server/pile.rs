//! Memory that was used, for who needs some next.

use super::byte_queue::ByteQueue;

/// What is kept at most, in bytes: enough for a busy turn of a thousand clients. Beyond it memory
/// goes back to the allocator.
const MOST_BYTES: usize = 16 << 20;

/// The same while the server waits for something to do.
const MOST_BYTES_AT_REST: usize = 1 << 20;

/// A piece larger than this came from a burst and is not kept.
const LARGEST_BYTES: usize = 256 << 10;

/// Empty memory, the piece used last on top, since the cache knows it best.
#[derive(Debug)]
pub(crate) struct Pile<M> {
    pieces: Vec<M>,
    bytes: usize,
}

/// Memory that can be used again.
pub(crate) trait Memory: Default {
    /// How much it is.
    fn bytes(&self) -> usize;

    /// Forgets what stands in it.
    fn clear(&mut self);
}

impl Memory for ByteQueue {
    fn bytes(&self) -> usize {
        self.capacity()
    }

    fn clear(&mut self) {
        ByteQueue::clear(self);
    }
}

impl Memory for Vec<u32> {
    fn bytes(&self) -> usize {
        self.capacity() * size_of::<u32>()
    }

    fn clear(&mut self) {
        Vec::clear(self);
    }
}

impl<M> Default for Pile<M> {
    fn default() -> Pile<M> {
        Pile { pieces: Vec::new(), bytes: 0 }
    }
}

impl<M: Memory> Pile<M> {
    /// A piece that was kept, or one that has no memory yet.
    pub(crate) fn take(&mut self) -> M {
        let piece = self.pieces.pop().unwrap_or_default();
        self.bytes -= piece.bytes();
        piece
    }

    /// Keeps a piece, or frees it.
    pub(crate) fn keep(&mut self, mut piece: M) {
        let bytes = piece.bytes();
        if bytes > 0 && bytes <= LARGEST_BYTES && self.bytes + bytes <= MOST_BYTES {
            piece.clear();
            self.bytes += bytes;
            self.pieces.push(piece);
        }
    }

    /// Frees most of what is kept.
    pub(crate) fn trim(&mut self) {
        while self.bytes > MOST_BYTES_AT_REST {
            self.take();
        }
    }
}
