//! Consecutive kept events.

use std::cell::{Cell, OnceCell};

use super::index::Index;
use super::record::{
    MAX_LINE_BYTES, MAX_RECORD_BYTES, Record, SKIP_BYTES, canonical_prefix, digits, first_byte,
    read_record, write_skip,
};
use crate::engine::slot::Slot;
use crate::protocol::PADDED_LINE_BYTES;

/// How much is copied at once: most texts.
const COPY_BYTES: usize = 16;

/// How many walks pass a full chunk before it is indexed: passing it costs a tenth to a fifth of the index, for
/// each of two passes.
const WALKS_BEFORE_INDEX: usize = 2;

/// Consecutive events in packed form.
#[derive(Debug)]
pub(in crate::engine) struct Chunk {
    bytes: Box<[u8]>,
    capacity: usize,
    /// The length of the records.
    used: usize,
    /// The first kept sequence.
    first: u64,
    /// The sequence after the last kept one.
    next: u64,
    /// The sequences in between that are not kept.
    skipped: u64,
    max_events: u64,
    /// The first sequence whose record needs a second look: it has more digits, or the chunk is full.
    limit: u64,
    /// The length of the sequences up to `limit`, each with its `|`.
    prefix: usize,
    index: OnceCell<Box<Index>>,
    /// The walks that began to pass the chunk while it was full, up to a maximum.
    walks: Cell<u8>,
}

impl Chunk {
    /// Creates an empty chunk for at most `max_events` in `capacity` bytes, which suffice for one.
    pub(super) fn new(max_events: u64, capacity: usize) -> Chunk {
        Chunk {
            bytes: vec![0; capacity].into_boxed_slice(),
            capacity,
            used: 0,
            first: 0,
            next: 0,
            skipped: 0,
            max_events,
            limit: 0,
            prefix: 0,
            index: OnceCell::new(),
            walks: Cell::new(0),
        }
    }

    /// Creates a chunk that becomes as large as this one once it [takes memory](Self::take_memory).
    pub(super) fn without_memory(&self) -> Chunk {
        Chunk { capacity: self.capacity, ..Chunk::new(self.max_events, 0) }
    }

    /// Gets the memory of a chunk that is no longer needed, or new memory.
    pub(super) fn take_memory(&mut self, free: Option<Chunk>) {
        let new = || vec![0; self.capacity].into_boxed_slice();
        self.bytes = free.map_or_else(new, |chunk| chunk.bytes);
    }

    /// Returns the number of events.
    pub(super) fn events(&self) -> u64 {
        self.next - self.first - self.skipped
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Returns the first kept sequence, undefined of an empty chunk.
    pub(in crate::engine) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the sequence after the last kept one.
    pub(in crate::engine) fn next(&self) -> u64 {
        self.next
    }

    /// Returns the length of all records.
    pub(in crate::engine) fn used(&self) -> usize {
        self.used
    }

    /// Returns the memory of the chunk, in bytes.
    pub(super) fn memory(&self) -> usize {
        size_of::<Chunk>() + self.bytes.len() + self.index.get().map_or(0, |index| index.memory())
    }

    /// Appends applied events that follow the last one and each other, up to the first one that needs a second look.
    /// Returns their number.
    #[inline]
    pub(super) fn push_applied(&mut self, slots: &[Slot]) -> usize {
        // With the length known in advance, half of the instructions are left.
        match self.prefix {
            2 => self.push_applied_of::<2>(slots),
            3 => self.push_applied_of::<3>(slots),
            4 => self.push_applied_of::<4>(slots),
            5 => self.push_applied_of::<5>(slots),
            6 => self.push_applied_of::<6>(slots),
            7 => self.push_applied_of::<7>(slots),
            8 => self.push_applied_of::<8>(slots),
            9 => self.push_applied_of::<9>(slots),
            10 => self.push_applied_of::<10>(slots),
            11 => self.push_applied_of::<11>(slots),
            12 => self.push_applied_of::<12>(slots),
            13 => self.push_applied_of::<13>(slots),
            14 => self.push_applied_of::<14>(slots),
            _ => 0,
        }
    }

    /// The same for sequences of a known length, with their `|`.
    fn push_applied_of<const PREFIX: usize>(&mut self, slots: &[Slot]) -> usize {
        let max = (self.limit - self.next).min(slots.len() as u64) as usize;
        let Some(mut free) = self.bytes.get_mut(self.used..) else { return 0 };
        let (mut count, space) = (0, free.len());
        for slot in &slots[..max] {
            let (bytes, len, has_changed) = slot.applied();
            let length = len.wrapping_sub(PREFIX);
            let Some(record) = free.first_chunk_mut::<{ 1 + PADDED_LINE_BYTES }>() else { break };
            // Otherwise the sequence has leading zeros, or there is no line.
            if bytes[PREFIX - 1] != b'|' || !(1..=PADDED_LINE_BYTES - PREFIX).contains(&length) {
                break;
            }
            record[0] = first_byte(length, has_changed, false);
            record[1..=COPY_BYTES].copy_from_slice(&bytes[PREFIX..PREFIX + COPY_BYTES]);
            if length > COPY_BYTES {
                // The two copies overlap.
                let (source, target) = (len - COPY_BYTES, 1 + length - COPY_BYTES);
                record[target..target + COPY_BYTES]
                    .copy_from_slice(&bytes[source..source + COPY_BYTES]);
            }
            free = &mut std::mem::take(&mut free)[1 + length..];
            count += 1;
        }
        self.used += space - free.len();
        self.next += count as u64;
        count
    }

    /// Returns whether an event of any length can be appended.
    pub(super) fn has_space_for(&self, sequence: u64) -> bool {
        self.is_empty()
            || (self.events() < self.max_events
                && self.bytes.len() - self.used >= SKIP_BYTES + MAX_RECORD_BYTES
                && sequence - self.first <= u64::from(u32::MAX))
    }

    /// Appends an event. The chunk must have space for it.
    pub(super) fn push(&mut self, sequence: u64, line: &[u8], has_changed: bool) {
        if self.is_empty() {
            (self.first, self.next) = (sequence, sequence);
        }
        let skipped = sequence - self.next;
        if skipped > 0 {
            write_skip(skipped as u32, &mut self.bytes[self.used..]);
            self.used += SKIP_BYTES;
            self.skipped += skipped;
        }
        let prefix = canonical_prefix(line, sequence);
        let text = &line[prefix.unwrap_or(0)..];
        debug_assert!((1..=MAX_LINE_BYTES).contains(&text.len()), "it is the line of an event");
        let record = &mut self.bytes[self.used..][..=text.len()];
        record[0] = first_byte(text.len(), has_changed, prefix.is_none());
        record[1..].copy_from_slice(text);
        self.used += record.len();
        self.next = sequence + 1;
        let digits = digits(self.next);
        let longer = 10_u64.checked_pow(digits as u32).unwrap_or(u64::MAX);
        self.limit = longer.min(self.next.saturating_add(self.max_events - self.events()));
        self.prefix = digits + 1;
    }

    /// Returns the record at `offset`, with a skip before it, and the offset of the next one. `sequence` is the
    /// one after the record before. `None` at the end.
    #[inline]
    pub(in crate::engine) fn record(
        &self,
        offset: usize,
        sequence: u64,
    ) -> Option<(Record<'_>, usize)> {
        let sequence = if offset == 0 { self.first } else { sequence };
        let (record, length) = read_record(self.bytes.get(offset..self.used)?, sequence)?;
        Some((record, offset + length))
    }

    /// Iterates over all records and the offsets at which they start, after a skip.
    pub(super) fn records(&self) -> impl Iterator<Item = (usize, Record<'_>)> {
        let (mut offset, mut sequence) = (0, self.first);
        std::iter::from_fn(move || {
            let (record, end) = self.record(offset, sequence)?;
            (offset, sequence) = (end, record.sequence + 1);
            Some((end - record.length(), record))
        })
    }

    /// Returns the index, if there is one.
    #[inline]
    pub(in crate::engine) fn index(&self) -> Option<&Index> {
        self.index.get().map(|index| &**index)
    }

    /// Counts a walk that begins to pass the chunk, which must not be appended to any more. Indexes the chunk if
    /// that will be cheaper, `others` being the number of walks that are about to follow. Returns the number of
    /// events that were indexed.
    pub(in crate::engine) fn begin_walk(&self, others: usize) -> u64 {
        let walks = self.walks.get();
        if self.index.get().is_some() || usize::from(walks) + others < WALKS_BEFORE_INDEX {
            self.walks.set(walks.saturating_add(1));
            return 0;
        }
        self.index.get_or_init(|| Box::new(Index::of(self)));
        self.events()
    }
}
