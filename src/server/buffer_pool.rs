//! The memory of all send queues.
//!
//! # What full queues take
//!
//! With a limit of L bytes for all queues, and bytes queued for N clients, the worst case is:
//!
//! | memory | bytes |
//! |---|---|
//! | queued bytes, and the link of each block | L × 33/32 |
//! | blocks that are not full: two for each client | N × 256 |
//! | the lines of a turn, and a quarter more | L × 5/256, or 1.25 MiB where that is more |
//! | the lists of their clients, twice as long as needed | L × 1/32, or 2 MiB where that is more |
//! | unused lists, the segment in use, the lines of one client | 2.5 MiB |
//!
//! That is below 1.1 × L + 8 MiB with twenty thousand clients, and with any limit. The blocks were measured
//! in the tests of [`send_queue`](super::send_queue), the process in `tests/server/queue_memory.rs`: 73 MiB
//! with a limit of 64, for one client with everything and for thousands.

use std::collections::BTreeSet;

use slab::Slab;

/// Bytes in a block. Each queue has at most two blocks that are not full, its first and its last,
/// and each block costs four bytes for its link. So 128 bytes keep both small: 20,000 queues of one byte
/// take 2.6 MB, and long queues take 3 % more memory than they hold bytes.
pub(crate) const BLOCK_BYTES: usize = 128;

/// Blocks are allocated by 2048: 256 KiB, which the allocator maps by itself and can give back.
const BLOCKS_PER_SEGMENT: u32 = 2048;

/// Empty segments up to this number are kept: 1 MiB, so that a queue that comes and goes costs no
/// page faults.
const MAX_EMPTY_SEGMENTS: usize = 4;

/// One block of a [`BufferPool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block(u32);

impl Block {
    /// The end of a list of blocks.
    pub(crate) const NONE: Block = Block(u32::MAX);

    fn segment(self) -> usize {
        (self.0 / BLOCKS_PER_SEGMENT) as usize
    }

    fn index(self) -> usize {
        (self.0 % BLOCKS_PER_SEGMENT) as usize
    }

    fn start(self) -> usize {
        self.index() * BLOCK_BYTES
    }
}

/// Fixed-size blocks of memory, linked to lists: one for each queue.
///
/// All blocks have one size, so that whatever one queue frees fits any other, and memory does not
/// fragment: a new segment is allocated only when every block of the others is in use. The memory held is
/// never more than the blocks in use have needed at once, and one segment.
///
/// Blocks are taken from the lowest segment that has one, so that the others become empty; empty segments go
/// back to the allocator.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    segments: Slab<Segment>,
    /// Keys of the segments with a free block.
    open: BTreeSet<usize>,
    empty_segments: usize,
}

#[derive(Debug)]
struct Segment {
    bytes: Box<[u8]>,
    /// The next block in the list of each: of its queue if it is in use, else of the free ones.
    links: Box<[Block]>,
    free: Block,
    used: usize,
}

impl Segment {
    /// The segment with this key, all of whose blocks are free.
    fn new(key: usize) -> Segment {
        let first = key as u32 * BLOCKS_PER_SEGMENT;
        let links = (1..BLOCKS_PER_SEGMENT).map(|index| Block(first + index));
        Segment {
            // Zeroed by the kernel: a block takes memory once it is written.
            bytes: vec![0; BLOCKS_PER_SEGMENT as usize * BLOCK_BYTES].into_boxed_slice(),
            links: links.chain([Block::NONE]).collect(),
            free: Block(first),
            used: 0,
        }
    }
}

impl BufferPool {
    /// The most bytes that queues may hold together. Blocks have 32-bit numbers; half of them are left for
    /// blocks that are not full.
    pub(crate) const MAX_QUEUED_BYTES: u64 = (BLOCK_BYTES as u64) << 31;

    /// Takes a free block: a list of one.
    pub(crate) fn get(&mut self) -> Block {
        let key = match self.open.first() {
            Some(&key) => key,
            None => self.grow(),
        };
        let segment = &mut self.segments[key];
        let block = segment.free;
        segment.free = std::mem::replace(&mut segment.links[block.index()], Block::NONE);
        self.empty_segments -= usize::from(segment.used == 0);
        segment.used += 1;
        if segment.free == Block::NONE {
            self.open.remove(&key);
        }
        block
    }

    /// Frees the first `count` blocks of a list, in order, so that they are taken again in order.
    /// Returns what is left of the list.
    pub(crate) fn put(&mut self, list: Block, count: usize) -> Block {
        let (mut first, mut left) = (list, count);
        while left > 0 {
            let key = first.segment();
            let segment = &mut self.segments[key];
            let (mut last, mut freed) = (first, 1);
            let mut next = segment.links[last.index()];
            while freed < left && next.segment() == key {
                last = next;
                next = segment.links[last.index()];
                freed += 1;
            }
            if segment.free == Block::NONE {
                self.open.insert(key);
            }
            segment.links[last.index()] = std::mem::replace(&mut segment.free, first);
            segment.used -= freed;
            if segment.used == 0 {
                self.retire(key);
            }
            left -= freed;
            first = next;
        }
        first
    }

    /// Appends `next` to the list that ends with `block`.
    pub(crate) fn link(&mut self, block: Block, next: Block) {
        self.segments[block.segment()].links[block.index()] = next;
    }

    /// Returns the bytes of the first blocks of a list, up to `max` and as far as they lie side by side
    /// in memory, and the rest of the list.
    pub(crate) fn run(&self, list: Block, max: usize) -> (&[u8], Block) {
        let segment = &self.segments[list.segment()];
        let (mut count, mut rest) = (1, segment.links[list.index()]);
        while count < max
            && rest.index() == list.index() + count
            && rest.segment() == list.segment()
        {
            rest = segment.links[rest.index()];
            count += 1;
        }
        (&segment.bytes[list.start()..][..count * BLOCK_BYTES], rest)
    }

    /// The bytes of a block.
    pub(crate) fn bytes_mut(&mut self, block: Block) -> &mut [u8] {
        let start = block.start();
        &mut self.segments[block.segment()].bytes[start..start + BLOCK_BYTES]
    }

    /// How many blocks are in use.
    pub(crate) fn used_blocks(&self) -> usize {
        self.segments.iter().map(|(_, segment)| segment.used).sum()
    }

    /// The memory held, free blocks included.
    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        let segment_bytes =
            BLOCKS_PER_SEGMENT as usize * (BLOCK_BYTES + size_of::<Block>()) + size_of::<Segment>();
        self.segments.len() * segment_bytes
    }

    #[cold]
    fn grow(&mut self) -> usize {
        let entry = self.segments.vacant_entry();
        let key = entry.key();
        entry.insert(Segment::new(key));
        self.open.insert(key);
        self.empty_segments += 1;
        key
    }

    #[cold]
    fn retire(&mut self, key: usize) {
        if self.empty_segments < MAX_EMPTY_SEGMENTS {
            self.empty_segments += 1;
        } else {
            self.segments.remove(key);
            self.open.remove(&key);
        }
    }
}
