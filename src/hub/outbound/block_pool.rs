//! A pool of fixed-size blocks for all send queues.
//!
//! # Memory of full queues
//!
//! With a limit of L bytes for all queues, and bytes queued for N clients, the worst case is:
//!
//! | memory | bytes |
//! |---|---|
//! | queued bytes and block links | L × 33/32 |
//! | partial blocks, two per client | N × 256 |
//! | the lines of a turn, plus a quarter | L × 5/256, at least 1.25 MiB |
//! | the lists of lines per client, up to twice the length needed | L × 1/32, at least 2 MiB |
//! | pooled lists, the current segment, the staging buffer of one client | 3.3 MiB |
//!
//! The sum is below 1.1 × L + 8 MiB with twenty thousand clients, for any limit. The tests of
//! [`send_queue`](super::send_queue) measure the blocks, and `tests/server/queue_memory.rs` the
//! process: 73 MiB with a limit of 64 MiB, for one client with all queued bytes and for thousands
//! of clients.

use std::alloc::{Layout, handle_alloc_error};
use std::collections::BTreeSet;

use memmap2::MmapMut;
use slab::Slab;

/// Bytes per block. Each queue has at most two partial blocks, its first and its last, and each
/// block has a link of four bytes. 128 bytes keep both overheads small: 20,000 queues of one byte
/// take 2.6 MB, and long queues take 3 % more memory than their bytes.
pub(crate) const BLOCK_BYTES: usize = 128;

/// Blocks per memory mapping: 1 MiB.
const BLOCKS_PER_SEGMENT: usize = 8192;

/// The offset of the links in a segment: after its blocks.
const LINKS_START: usize = BLOCKS_PER_SEGMENT * BLOCK_BYTES;
const LINK_BYTES: usize = size_of::<u32>();
const SEGMENT_BYTES: usize = LINKS_START + BLOCKS_PER_SEGMENT * LINK_BYTES;

/// The maximum number of empty segments that are kept, so that a short-lived queue causes no page
/// faults.
const MAX_EMPTY_SEGMENTS: usize = 2;

/// One block of a [`BlockPool`].
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

/// Fixed-size blocks of memory in linked lists, one per queue. A queue knows the length of its
/// list; the link of its last block is unused.
///
/// All blocks have the same size, so a block freed by one queue fits any other, and memory does not
/// fragment: a new segment is allocated only when every block of the others is in use. The pool
/// never holds more memory than the peak of its blocks in use, plus one segment.
///
/// Blocks are allocated from the lowest segment with a free one, so that other segments become
/// empty; empty segments are returned to the kernel.
#[derive(Debug, Default)]
pub(crate) struct BlockPool {
    segments: Slab<Segment>,
    /// Keys of the segments with a free block.
    open: BTreeSet<usize>,
    empty_segments: usize,
}

#[derive(Debug)]
struct Segment {
    /// The blocks, and the link of each: the next block of its queue, or the next free one. The
    /// kernel zeroes the mapping, and commits a page when it is first written.
    memory: MmapMut,
    /// The first free block. The number of free blocks determines the end of their list.
    free: Block,
    used: usize,
}

impl Segment {
    /// Creates the segment with this key, with all blocks free.
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

    /// Returns the next block in a list. Links are relative to the following block, so that zeroed
    /// links form a list of all blocks.
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

impl BlockPool {
    /// The maximum number of bytes in all queues together. Blocks have 32-bit numbers; half of them
    /// are reserved for partial blocks.
    pub(crate) const MAX_QUEUED_BYTES: u64 = (BLOCK_BYTES as u64) << 31;

    /// Allocates a block, as a list of one.
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

    /// Frees the first `count` blocks of a list, in order, so that they are allocated again in
    /// order. Returns the rest of the list.
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

    /// Returns the bytes of the leading blocks of a list of `count` that are adjacent in memory,
    /// and the rest of the list.
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

    /// Returns the bytes of a block.
    pub(crate) fn bytes_mut(&mut self, block: Block) -> &mut [u8] {
        self.segments[block.segment()].bytes_mut(block)
    }

    /// Returns how many blocks are in use.
    pub(crate) fn used_blocks(&self) -> usize {
        self.segments.iter().map(|(_, segment)| segment.used).sum()
    }

    /// Returns the memory held, including free blocks.
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

    /// Keeps a segment that has become empty, or unmaps it.
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
