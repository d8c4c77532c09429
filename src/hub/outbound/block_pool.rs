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
//! | unused lists, the segment in use, the lines of one client | 3.3 MiB |
//!
//! That is below 1.1 × L + 8 MiB with twenty thousand clients, and with any limit. The blocks were measured
//! in the tests of [`send_queue`](super::send_queue), the process in `tests/server/queue_memory.rs`: 73 MiB
//! with a limit of 64, for one client with everything and for thousands.

use std::alloc::{Layout, handle_alloc_error};
use std::collections::BTreeSet;

use memmap2::MmapMut;
use slab::Slab;

/// Bytes in a block. Each queue has at most two blocks that are not full, its first and its last,
/// and each block costs four bytes for its link. So 128 bytes keep both small: 20,000 queues of one byte
/// take 2.6 MB, and long queues take 3 % more memory than they hold bytes.
pub(crate) const BLOCK_BYTES: usize = 128;

/// Blocks are mapped by 8192: 1 MiB.
const BLOCKS_PER_SEGMENT: usize = 8192;

/// Where the links stand in a segment: after its blocks.
const LINKS_START: usize = BLOCKS_PER_SEGMENT * BLOCK_BYTES;
const LINK_BYTES: usize = size_of::<u32>();
const SEGMENT_BYTES: usize = LINKS_START + BLOCKS_PER_SEGMENT * LINK_BYTES;

/// Empty segments up to this number are kept, so that a queue that comes and goes costs no page faults.
const MAX_EMPTY_SEGMENTS: usize = 2;

/// One block of a [`BufferPool`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block(u32);

impl Block {
    fn segment(self) -> usize {
        self.0 as usize / BLOCKS_PER_SEGMENT
    }

    fn index(self) -> usize {
        self.0 as usize % BLOCKS_PER_SEGMENT
    }
}

/// Fixed-size blocks of memory, linked to lists: one for each queue. A queue knows how many blocks its
/// list has; the last one's link means nothing.
///
/// All blocks have one size, so that whatever one queue frees fits any other, and memory does not
/// fragment: a new segment is allocated only when every block of the others is in use. The memory held is
/// never more than the blocks in use have needed at once, and one segment.
///
/// Blocks are taken from the lowest segment that has one, so that the others become empty; empty segments go
/// back to the kernel.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    segments: Slab<Segment>,
    /// Keys of the segments with a free block.
    open: BTreeSet<usize>,
    empty_segments: usize,
}

#[derive(Debug)]
struct Segment {
    /// The blocks, and the link of each: the next block of its queue, or the next free one. The kernel
    /// zeroes it, and a page takes memory once it is written.
    memory: MmapMut,
    /// The first of the free blocks; their number says where the list ends.
    free: Block,
    used: usize,
}

impl Segment {
    /// The segment with this key, all of whose blocks are free.
    fn new(key: usize) -> Segment {
        let Ok(memory) = MmapMut::map_anon(SEGMENT_BYTES) else {
            handle_alloc_error(Layout::new::<[u8; SEGMENT_BYTES]>());
        };
        Segment { memory, free: Block((key * BLOCKS_PER_SEGMENT) as u32), used: 0 }
    }

    fn is_full(&self) -> bool {
        self.used == BLOCKS_PER_SEGMENT
    }

    fn bytes(&self, block: Block, count: usize) -> &[u8] {
        &self.memory[block.index() * BLOCK_BYTES..][..count * BLOCK_BYTES]
    }

    fn bytes_mut(&mut self, block: Block) -> &mut [u8] {
        &mut self.memory[block.index() * BLOCK_BYTES..][..BLOCK_BYTES]
    }

    /// The block that follows in a list. Links count from the block after, so that zeroed ones make a
    /// list of all blocks.
    fn next(&self, block: Block) -> Block {
        let link = self.memory[LINKS_START + block.index() * LINK_BYTES..].first_chunk();
        Block(u32::from_ne_bytes(*link.unwrap_or(&[0; LINK_BYTES])).wrapping_add(block.0 + 1))
    }

    fn link(&mut self, block: Block, next: Block) {
        let link = next.0.wrapping_sub(block.0 + 1).to_ne_bytes();
        self.memory[LINKS_START + block.index() * LINK_BYTES..][..LINK_BYTES]
            .copy_from_slice(&link);
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
        segment.free = segment.next(block);
        self.empty_segments -= usize::from(segment.used == 0);
        segment.used += 1;
        if segment.is_full() {
            self.open.remove(&key);
        }
        block
    }

    /// Frees the first `count` blocks of a list, in order, so that they are taken again in order.
    /// Returns what is left of the list.
    pub(crate) fn put(&mut self, mut list: Block, count: usize) -> Block {
        let mut left = count;
        while left > 0 {
            let key = list.segment();
            let segment = &mut self.segments[key];
            let (mut last, mut freed) = (list, 1);
            let mut rest = segment.next(last);
            while freed < left && rest.segment() == key {
                last = rest;
                rest = segment.next(last);
                freed += 1;
            }
            if segment.is_full() {
                self.open.insert(key);
            }
            segment.link(last, segment.free);
            segment.free = list;
            segment.used -= freed;
            if segment.used == 0 {
                self.retire(key);
            }
            left -= freed;
            list = rest;
        }
        list
    }

    /// Appends `next` to the list that ends with `block`.
    pub(crate) fn link(&mut self, block: Block, next: Block) {
        self.segments[block.segment()].link(block, next);
    }

    /// Returns the bytes of the first blocks of a list of `count`, as far as they lie side by side in
    /// memory, and the rest of the list.
    pub(crate) fn run(&self, list: Block, count: usize) -> (&[u8], Block) {
        let segment = &self.segments[list.segment()];
        let (mut last, mut adjacent) = (list, 1);
        let mut rest = segment.next(last);
        while adjacent < count && rest.0 == last.0 + 1 && rest.segment() == list.segment() {
            last = rest;
            rest = segment.next(last);
            adjacent += 1;
        }
        (segment.bytes(list, adjacent), rest)
    }

    /// The bytes of a block.
    pub(crate) fn bytes_mut(&mut self, block: Block) -> &mut [u8] {
        self.segments[block.segment()].bytes_mut(block)
    }

    /// Returns how many blocks are in use.
    pub(crate) fn used_blocks(&self) -> usize {
        self.segments.iter().map(|(_, segment)| segment.used).sum()
    }

    /// The memory held, free blocks included.
    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        self.segments.len() * (SEGMENT_BYTES + size_of::<Segment>())
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

    /// Keeps a segment that has become empty, or gives it back.
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
