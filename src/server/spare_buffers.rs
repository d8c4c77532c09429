//! Memory of emptied outboxes, for those that are filled next.

use super::byte_queue::ByteQueue;

/// What is kept at most, in bytes: enough for a busy turn of a thousand clients. Beyond it memory
/// goes back to the allocator.
const MOST_BYTES: usize = 16 << 20;

/// The same while the server waits for something to do.
const MOST_BYTES_AT_REST: usize = 1 << 20;

/// A buffer larger than this came from a burst and is not kept.
const LARGEST_BUFFER: usize = 256 << 10;

/// Empty buffers, the one used last on top, since the cache knows it best.
#[derive(Debug, Default)]
pub(crate) struct SpareBuffers {
    buffers: Vec<ByteQueue>,
    bytes: usize,
}

impl SpareBuffers {
    /// A buffer that was kept, or one that has no memory yet.
    pub(crate) fn take(&mut self) -> ByteQueue {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Keeps an empty buffer, or frees it.
    pub(crate) fn keep(&mut self, buffer: ByteQueue) {
        let bytes = buffer.capacity();
        if bytes > 0 && bytes <= LARGEST_BUFFER && self.bytes + bytes <= MOST_BYTES {
            self.bytes += bytes;
            self.buffers.push(buffer);
        }
    }

    /// Frees most of what is kept.
    pub(crate) fn trim(&mut self) {
        while self.bytes > MOST_BYTES_AT_REST {
            self.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(bytes: usize) -> ByteQueue {
        let mut buffer = ByteQueue::default();
        buffer.push_bytes(&vec![b'x'; bytes]);
        buffer.clear();
        buffer
    }

    #[test]
    fn what_is_kept_is_used_again_and_bounded() {
        let mut spares = SpareBuffers::default();
        assert_eq!(spares.take().capacity(), 0);
        spares.keep(used(1000));
        assert_eq!(spares.take().capacity(), 1024);
        spares.keep(used(LARGEST_BUFFER + 1));
        assert_eq!(spares.take().capacity(), 0, "too large to be kept");
        for _ in 0..1000 {
            spares.keep(used(100_000));
        }
        assert_eq!(spares.bytes, MOST_BYTES);
        spares.trim();
        assert!(spares.bytes <= MOST_BYTES_AT_REST);
    }
}
