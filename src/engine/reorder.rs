//! The reorder buffer, which holds events until the ones before them are applied.

use std::ops::Range;

use super::line_store::LineStore;
use super::log_entry::Batch;
use super::retired_ring::RetiredRing;
use super::slot::{Slot, State};
use crate::protocol::{CompactEvent, Event, EventKind, Line, PADDED_LINE_BYTES, Sequence};

/// The initial size of the ring, in slots: enough for the batches of a well-behaved source.
const MIN_SLOTS: usize = 128;

/// The largest ring that is kept while it is empty, in slots.
const MAX_IDLE_SLOTS: usize = 4096;

/// The same with a log: the batches that wait for their commit.
const MAX_IDLE_SLOTS_WITH_LOG: usize = 1 << 15;

/// The largest ring without a bit per slot, in slots: it is searched and copied in a few tenths of a
/// millisecond.
const MAX_SLOTS_WITHOUT_BITS: usize = if cfg!(test) { 128 } else { 1 << 16 };

/// The number of sequences whose lines are staged in one loop.
const MAX_RUN: usize = 128;

/// The number of slots per word of bits.
const WORD_SLOTS: usize = u64::BITS as usize;

/// The result of an insertion into the [`ReorderBuffer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertOutcome {
    /// The sequence is buffered. It may be the awaited one.
    Buffered,
    /// The sequence was already buffered. The first event stays.
    Duplicate,
    /// The sequence is before the awaited one.
    Late,
    /// The sequence is a window or more ahead of the awaited one. Nothing is stored.
    OutOfWindow,
}

/// The content of the awaited sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head<'a> {
    /// Nothing has arrived.
    Missing,
    /// Only a malformed line has arrived.
    Void,
    /// An event and its line.
    Event(EventKind, Line<'a>),
}

/// A ring of slots for the sequences of the window, indexed by `sequence & mask`. The window starts at the
/// awaited sequence.
///
/// The ring doubles up to the power of two that holds the window. A large ring is no longer used once it is empty,
/// with a log by [`shrink_if_empty`](Self::shrink_if_empty) only; [`free_some`](Self::free_some) frees it.
/// A slot takes 40 bytes, so a ring that is at least half full costs at most 80 bytes per event, in any
/// order of arrival. A line of more than 30 bytes, or with a user id of more than 32 bits, takes 68 further
/// bytes. A line of more than 64 bytes takes an allocation of its length and 16 bytes instead.
///
/// An event far ahead grows the ring to its distance at once: 40 bytes of address space per sequence of the
/// window, of which only the pages of slots in use take memory. A large ring has a bit per slot, so that the
/// free slots of a long gap are skipped 64 at a time.
///
/// The awaited sequence always fits.
#[derive(Debug)]
pub struct ReorderBuffer {
    /// Empty, or a power of two.
    slots: Vec<Slot>,
    /// The lines that do not fit their slots. These slots hold the keys.
    long_lines: LineStore,
    /// The next sequence to be applied. `Sequence::MAX + 1` after the largest one.
    awaited: u64,
    window: u64,
    /// Whether events are applied only once they are committed.
    is_logged: bool,
    /// Whether others append to the log, too.
    is_shared: bool,
    /// The sequence after those passed to the log. 0 without a log. Less than `awaited` after a gap was
    /// skipped.
    staged: u64,
    /// The sequence after those that may be applied. 2⁶⁴−1 without a log.
    committed: u64,
    /// The lines of a run that is staged. Empty before the first.
    run: Vec<u8>,
    /// Of a large ring, one bit per slot: whether it is occupied. Else empty.
    occupied: Vec<u64>,
    /// The number of occupied slots.
    len: usize,
    /// The number of voids among them.
    voids: usize,
    max_len: usize,
    /// The last ring that was no longer used, which is freed a few slots at a time.
    retired: RetiredRing,
}

impl ReorderBuffer {
    /// Creates an empty buffer that awaits `first` and accepts sequences less than `window` (at least 1)
    /// ahead. It allocates nothing until the first insertion.
    #[must_use]
    pub fn new(first: Sequence, window: u32) -> ReorderBuffer {
        ReorderBuffer {
            slots: Vec::new(),
            long_lines: LineStore::default(),
            awaited: first.get(),
            window: u64::from(window.max(1)),
            is_logged: false,
            is_shared: false,
            staged: 0,
            committed: u64::MAX,
            run: Vec::new(),
            occupied: Vec::new(),
            len: 0,
            voids: 0,
            max_len: 0,
            retired: RetiredRing::default(),
        }
    }

    /// Creates an empty buffer whose events become visible at the [`head`](Self::head) only once they are
    /// staged and committed. The window starts after the staged sequences, so that a slow log closes no
    /// source.
    #[must_use]
    pub fn with_log(awaited: u64, window: u32) -> ReorderBuffer {
        let first = Sequence::new(awaited).unwrap_or(Sequence::MAX);
        ReorderBuffer {
            awaited,
            is_logged: true,
            staged: awaited,
            committed: awaited,
            ..ReorderBuffer::new(first, window)
        }
    }

    /// Appends consecutive buffered sequences after the staged ones to `batch`, at most `max` and until it
    /// is full. Returns their number.
    pub fn stage(&mut self, batch: &mut Batch, max: usize) -> usize {
        let start = self.staged.max(self.awaited);
        if !self.is_occupied(start) {
            return 0;
        }
        if batch.is_empty() {
            batch.first = self.staged;
        }
        // A skipped gap comes first.
        batch.next = start;
        let mut left = max;
        while left > 0 && !batch.is_full() && self.is_occupied(batch.next) {
            let before = batch.next;
            let slot = &self.slots[slot_index(before, self.slots.len())];
            match slot.state {
                State::Overflow => batch.push(self.long_lines.get(slot.overflow_key())),
                _ => self.stage_run(batch, left.min(MAX_RUN)),
            }
            left -= (batch.next - before) as usize;
        }
        self.staged = batch.next;
        max - left
    }

    /// Appends up to `max` buffered sequences to `batch`, until one is missing or its line is not in its slot.
    fn stage_run(&mut self, batch: &mut Batch, max: usize) {
        let beyond = self.awaited + self.slots.len() as u64;
        let max = max.min((beyond - batch.next) as usize);
        // With space for the longest lines, each is copied in full size: that takes no call, and no branch
        // that depends on the length. The space is small enough for the L1 cache, unlike the batch.
        self.run.resize(MAX_RUN * (PADDED_LINE_BYTES + 1), 0);
        let (mut end, mut sequences, mut lines) = (0, 0, 0);
        while sequences < max {
            let slot = &self.slots[slot_index(batch.next + sequences as u64, self.slots.len())];
            match slot.state {
                State::Empty | State::Overflow => break,
                State::Void => {}
                _ => {
                    end = slot.write_line(&mut self.run, end);
                    lines += 1;
                }
            }
            sequences += 1;
        }
        batch.lines.extend_from_slice(&self.run[..end]);
        batch.next += sequences as u64;
        batch.count += lines;
    }

    /// Allows the staged sequences before `next` to be applied.
    pub fn commit(&mut self, next: u64) {
        self.committed = next;
    }

    /// Lets skipped sequences pass as voids, because a log that others share may still supply them.
    pub fn share_log(&mut self) {
        self.is_shared = true;
    }

    /// Makes room for the sequences before `next`, which others have committed.
    pub fn begin_replacing(&mut self, next: u64) {
        let ahead = next.saturating_sub(self.awaited).saturating_sub(1);
        if ahead >= self.slots.len() as u64 {
            self.grow(ahead);
        }
    }

    /// Replaces what is buffered by a committed event. Its sequence must be one that
    /// [`begin_replacing`](Self::begin_replacing) has reserved.
    #[inline]
    pub fn replace_fast(&mut self, event: &CompactEvent, line: Line<'_>) {
        let at = self.vacate(event.sequence.get());
        if !self.slots[at].store_compact(event, line) {
            self.slots[at].store_overflow(self.long_lines.insert(line.as_bytes()));
        }
    }

    /// Replaces what is buffered by a committed event with any line.
    pub fn replace(&mut self, event: &Event, line: Line<'_>) {
        let at = self.vacate(event.sequence.get());
        let compact = CompactEvent::try_from(event).ok();
        if !compact.is_some_and(|compact| self.slots[at].store_compact(&compact, line)) {
            self.slots[at].store_overflow(self.long_lines.insert(line.as_bytes()));
        }
    }

    /// Lets committed sequences pass without an event.
    pub fn replace_with_voids(&mut self, sequences: Range<u64>) {
        for sequence in sequences {
            let at = self.vacate(sequence);
            self.slots[at].state = State::Void;
            self.voids += 1;
        }
    }

    /// Allows the replaced sequences before `next` to be applied. They are not staged any more.
    pub fn end_replacing(&mut self, next: u64) {
        self.staged = self.staged.max(next);
        self.committed = next;
    }

    /// Returns the slot of a sequence, and counts it as occupied. Its old content is to be overwritten.
    #[inline]
    fn vacate(&mut self, sequence: u64) -> usize {
        let at = slot_index(sequence, self.slots.len());
        match self.slots[at].state {
            State::Empty => self.record_insert(at),
            State::Void => self.voids -= 1,
            State::Overflow => self.long_lines.remove(self.slots[at].overflow_key()),
            _ => {}
        }
        at
    }

    /// Returns whether [`stage`](Self::stage) has something to append.
    #[must_use]
    pub fn has_unstaged(&self) -> bool {
        self.is_logged && self.is_occupied(self.staged.max(self.awaited))
    }

    /// Returns the number of sequences that are staged and not applied.
    #[must_use]
    pub fn unapplied(&self) -> u64 {
        self.staged.saturating_sub(self.awaited)
    }

    /// Returns whether the awaited sequence is buffered, committed or not.
    #[inline]
    #[must_use]
    pub fn has_due(&self) -> bool {
        self.is_occupied(self.awaited)
    }

    /// Returns whether a sequence that is not before the awaited one is buffered.
    fn is_occupied(&self, sequence: u64) -> bool {
        self.len > 0
            && sequence - self.awaited < self.slots.len() as u64
            && self.slots[slot_index(sequence, self.slots.len())].state != State::Empty
    }

    /// Returns the next sequence to be applied. 2⁶⁴−1 after the largest one.
    #[inline]
    #[must_use]
    pub fn awaited(&self) -> u64 {
        self.awaited
    }

    /// Returns the number of buffered sequences, voids included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether no sequence is buffered.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the maximum number of sequences ever buffered at once.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.max_len
    }

    /// Inserts an event if its line is short, the ring is long enough and the slot is empty: the common
    /// case. Otherwise returns `false` without effect, and [`insert`](Self::insert) decides.
    #[inline(always)]
    pub fn try_insert_fast(&mut self, event: &CompactEvent, line: Line<'_>) -> bool {
        let sequence = event.sequence.get();
        let Some(ahead) = sequence.checked_sub(self.awaited) else { return false };
        if ahead >= self.window || ahead >= self.slots.len() as u64 {
            return false;
        }
        let at = slot_index(sequence, self.slots.len());
        let slot = &mut self.slots[at];
        let is_inserted = slot.state == State::Empty && slot.store_compact(event, line);
        if is_inserted {
            self.record_insert(at);
        }
        is_inserted
    }

    /// Inserts an event and its line. An event replaces a void.
    pub fn insert(&mut self, event: &Event, line: Line<'_>) -> InsertOutcome {
        let at = match self.reserve_slot(event.sequence) {
            Ok(at) => at,
            Err(outcome) => return outcome,
        };
        match self.slots[at].state {
            State::Empty => self.record_insert(at),
            State::Void if event.sequence.get() < self.staged => return InsertOutcome::Late,
            State::Void => self.voids -= 1,
            _ => return InsertOutcome::Duplicate,
        }
        let compact = CompactEvent::try_from(event).ok();
        if !compact.is_some_and(|compact| self.slots[at].store_compact(&compact, line)) {
            self.slots[at].store_overflow(self.long_lines.insert(line.as_bytes()));
        }
        InsertOutcome::Buffered
    }

    /// Inserts a void, so that `sequence` passes without an event, unless an event is buffered or arrives in
    /// time.
    pub fn insert_void(&mut self, sequence: Sequence) -> InsertOutcome {
        match self.reserve_slot(sequence) {
            Ok(at) if self.slots[at].state == State::Empty => {
                self.slots[at].state = State::Void;
                self.voids += 1;
                self.record_insert(at);
                InsertOutcome::Buffered
            }
            Ok(_) => InsertOutcome::Duplicate,
            Err(outcome) => outcome,
        }
    }

    /// Returns the content of the awaited sequence.
    // inline(always): returning through memory causes a store-forwarding stall (about 10 ns).
    #[inline(always)]
    #[must_use]
    pub fn head(&self) -> Head<'_> {
        if self.len == 0 || self.awaited >= self.committed {
            return Head::Missing;
        }
        let slot = &self.slots[slot_index(self.awaited, self.slots.len())];
        match slot.state {
            State::Empty => Head::Missing,
            State::Void => Head::Void,
            State::Overflow => self.overflow_head(slot),
            _ => Head::Event(slot.kind(), slot.line()),
        }
    }

    #[cold]
    fn overflow_head(&self, slot: &Slot) -> Head<'_> {
        let line = self.long_lines.get(slot.overflow_key());
        Head::Event(reparse(line), Line::Slice(line))
    }

    /// Advances to the next sequence, whether the awaited one has arrived or not. Without effect after the
    /// largest sequence.
    // inline(always): see `engine::apply`.
    #[inline(always)]
    pub fn advance(&mut self) {
        if self.len > 0 {
            let at = slot_index(self.awaited, self.slots.len());
            let slot = &mut self.slots[at];
            if slot.state == State::Overflow {
                self.long_lines.remove(slot.overflow_key());
            }
            if slot.state != State::Empty {
                self.voids -= usize::from(slot.state == State::Void);
                slot.state = State::Empty;
                if let Some(word) = self.occupied.get_mut(at / WORD_SLOTS) {
                    *word &= !(1 << (at % WORD_SLOTS));
                }
                self.len -= 1;
                // With a log it becomes empty with each commit.
                if self.len == 0 && !self.is_logged {
                    self.shrink_if_empty();
                }
            }
        }
        self.awaited = self.awaited.saturating_add(1);
    }

    /// Returns whether the line of the awaited event does not fit its slot.
    #[inline]
    pub(super) fn has_long_head(&self) -> bool {
        self.slots[slot_index(self.awaited, self.slots.len())].state == State::Overflow
    }

    /// Records that the awaited event, which has been applied, changed the follower graph. Its line becomes
    /// unreadable.
    #[inline]
    pub(super) fn set_head_changed(&mut self) {
        self.head_slot().set_changed();
    }

    /// Removes the line of the awaited sequence from those that [`applied`](Self::applied) returns.
    #[inline]
    pub(super) fn forget_head_line(&mut self) {
        self.head_slot().forget_line();
    }

    fn head_slot(&mut self) -> &mut Slot {
        let at = slot_index(self.awaited, self.slots.len());
        &mut self.slots[at]
    }

    /// Returns the slots of the sequences before `end` from `first` on, which have been applied since the last
    /// insertion, in two runs.
    pub(super) fn applied(&self, first: u64, end: u64) -> [&[Slot]; 2] {
        let count = (end - first) as usize;
        if count == 0 {
            return [&[]; 2];
        }
        let (wrapped, from_first) = self.slots.split_at(slot_index(first, self.slots.len()));
        let in_first = count.min(from_first.len());
        [&from_first[..in_first], &wrapped[..count - in_first]]
    }

    /// Returns whether the next sequence empties a large ring, which [`advance`](Self::advance) then frees.
    #[inline]
    pub(super) fn is_about_to_shrink(&self) -> bool {
        self.len == 1 && !self.is_logged && self.slots.len() > MAX_IDLE_SLOTS
    }

    /// Returns the missing sequences before the first buffered one, or `None` if nothing is missing or
    /// nothing is buffered. Takes time linear in the length of the gap, of 64 sequences at once in a large
    /// ring: at most 0.3 ms.
    #[must_use]
    pub fn gap(&self) -> Option<Range<u64>> {
        if self.len == 0 || self.has_due() {
            return None;
        }
        let capacity = self.slots.len();
        let start = slot_index(self.awaited, capacity);
        let ahead = match self.occupied.is_empty() {
            true => {
                let mut sequences = 1..capacity;
                sequences.find(|ahead| {
                    self.slots[(start + ahead) & (capacity - 1)].state != State::Empty
                })?
            }
            false => self.first_occupied_from(start)?.wrapping_sub(start) & (capacity - 1),
        };
        Some(self.awaited..self.awaited + ahead as u64)
    }

    /// Returns the first occupied slot of a large ring, in the order that begins at the slot `start`.
    fn first_occupied_from(&self, start: usize) -> Option<usize> {
        let (first, bit, words) = (start / WORD_SLOTS, start % WORD_SLOTS, self.occupied.len());
        let rest = (1..=words).map(|offset| (first + offset) % words);
        let rest = rest.map(|index| (index, self.occupied[index]));
        std::iter::once((first, self.occupied[first] & (!0 << bit)))
            .chain(rest)
            .find(|&(_, word)| word != 0)
            .map(|(index, word)| index * WORD_SLOTS + word.trailing_zeros() as usize)
    }

    /// Skips the missing sequences before the first buffered one, and returns them. With a shared log they
    /// become voids, because others may have committed them.
    pub fn skip_gap(&mut self) -> Option<Range<u64>> {
        let gap = self.gap()?;
        match self.is_shared {
            true => self.replace_with_voids(gap.clone()),
            false => self.awaited = gap.end,
        }
        Some(gap)
    }

    /// Clears the buffer and awaits `first`. Returns the number of discarded events, without voids.
    /// [`free_some`](Self::free_some) frees their memory later.
    pub fn reset(&mut self, first: Sequence) -> usize {
        let lost = self.len - self.voids;
        self.retire_ring();
        self.voids = 0;
        self.len = 0;
        self.awaited = first.get();
        if self.is_logged {
            (self.staged, self.committed) = (self.awaited, self.awaited);
        }
        lost
    }

    /// Returns the slot index of a sequence within the window, and grows the ring to hold it.
    fn reserve_slot(&mut self, sequence: Sequence) -> Result<usize, InsertOutcome> {
        let sequence = sequence.get();
        let Some(ahead) = sequence.checked_sub(self.awaited) else {
            return Err(InsertOutcome::Late);
        };
        if ahead.saturating_sub(self.unapplied()) >= self.window {
            return Err(InsertOutcome::OutOfWindow);
        }
        if ahead >= self.slots.len() as u64 {
            self.grow(ahead);
        }
        Ok(slot_index(sequence, self.slots.len()))
    }

    #[inline]
    fn record_insert(&mut self, at: usize) {
        if let Some(word) = self.occupied.get_mut(at / WORD_SLOTS) {
            *word |= 1 << (at % WORD_SLOTS);
        }
        self.len += 1;
        self.max_len = self.max_len.max(self.len);
    }

    /// Grows the ring to hold the sequence that is `ahead` of the awaited one. Takes time linear in the
    /// number of buffered events, and at most 64 times that in the ring of few slots: new slots are zeroed
    /// memory that the kernel provides once it is touched.
    #[cold]
    fn grow(&mut self, ahead: u64) {
        let capacity = (ahead as usize + 1).next_power_of_two().max(MIN_SLOTS);
        let old = std::mem::replace(&mut self.slots, bytemuck::zeroed_vec(capacity));
        let words = if capacity > MAX_SLOTS_WITHOUT_BITS { capacity / WORD_SLOTS } else { 0 };
        let old_occupied = std::mem::replace(&mut self.occupied, vec![0; words]);
        match old_occupied.is_empty() {
            true => (0..old.len()).for_each(|from| self.move_slot(&old, from)),
            false => {
                for (index, mut word) in old_occupied.into_iter().enumerate() {
                    while word != 0 {
                        self.move_slot(&old, index * WORD_SLOTS + word.trailing_zeros() as usize);
                        word &= word - 1;
                    }
                }
            }
        }
    }

    /// Copies an occupied slot of the ring before it grew.
    fn move_slot(&mut self, old: &[Slot], from: usize) {
        if old[from].state == State::Empty {
            return;
        }
        let ahead = from.wrapping_sub(slot_index(self.awaited, old.len())) & (old.len() - 1);
        let at = slot_index(self.awaited.wrapping_add(ahead as u64), self.slots.len());
        self.slots[at] = old[from];
        if let Some(word) = self.occupied.get_mut(at / WORD_SLOTS) {
            *word |= 1 << (at % WORD_SLOTS);
        }
    }

    /// Stops using a large ring if it is empty. Growing it again costs less than filling it did.
    #[inline]
    pub fn shrink_if_empty(&mut self) {
        let max = if self.is_logged { MAX_IDLE_SLOTS_WITH_LOG } else { MAX_IDLE_SLOTS };
        if self.len == 0 && self.slots.len() > max {
            self.retire_ring();
        }
    }

    /// Begins without a ring. Slots of a ring without bits are freed at once: that takes at most 0.3 ms. So is what is
    /// left of another one that was not used any more, so that memory stays bounded.
    #[cold]
    fn retire_ring(&mut self) {
        let mut slots = std::mem::take(&mut self.slots);
        if self.occupied.is_empty() {
            slots = Vec::new();
        }
        self.occupied = Vec::new();
        self.retired = RetiredRing::new(slots, std::mem::take(&mut self.long_lines));
    }

    /// Frees about so many bytes of a ring that is no longer used.
    pub fn free_some(&mut self, bytes: usize) {
        if !self.is_freed() {
            self.retired.free_some(bytes);
        }
    }

    /// Returns whether [`free_some`](Self::free_some) has nothing left to do.
    #[must_use]
    pub fn is_freed(&self) -> bool {
        self.retired.is_empty()
    }
}

/// Parses a line again that was an event when it was inserted.
fn reparse(line: &[u8]) -> EventKind {
    match Event::parse(line) {
        Ok(event) => event.kind,
        Err(error) => unreachable!("a line that was an event when inserted is malformed: {error}"),
    }
}

/// Returns the index of a sequence in a ring of `capacity` slots, a power of two.
#[inline]
fn slot_index(sequence: u64, capacity: usize) -> usize {
    sequence as usize & (capacity - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn sequence(number: u64) -> Sequence {
        Sequence::new(number).unwrap()
    }

    /// Inserts an event with a short line of any text, because the buffer does not parse short lines.
    fn insert(buffer: &mut ReorderBuffer, number: u64, text: &[u8]) -> InsertOutcome {
        let mut bytes = text.to_vec();
        bytes.resize(100, b'#');
        insert_line(buffer, number, Line::prefix_of(&bytes, text.len()))
    }

    fn insert_line(buffer: &mut ReorderBuffer, number: u64, line: Line<'_>) -> InsertOutcome {
        let event = Event { sequence: sequence(number), kind: EventKind::Broadcast };
        buffer.insert(&event, line)
    }

    impl ReorderBuffer {
        /// Panics unless the bits and counts agree with the slots.
        fn check(&self) {
            let count = |state| self.slots.iter().filter(|slot| slot.state == state).count();
            assert_eq!(self.len, self.slots.len() - count(State::Empty));
            assert_eq!(self.voids, count(State::Void));
            assert_eq!(self.occupied.is_empty(), self.slots.len() <= MAX_SLOTS_WITHOUT_BITS);
            for (index, word) in self.occupied.iter().enumerate() {
                let slots = &self.slots[index * WORD_SLOTS..][..WORD_SLOTS];
                let bits = slots
                    .iter()
                    .rev()
                    .fold(0, |bits, slot| bits << 1 | u64::from(slot.state != State::Empty));
                assert_eq!(*word, bits, "of word {index}");
            }
        }
    }

    /// Returns a short or long line that is unique for `number` and `count`.
    fn distinct_line(number: u64, count: u64) -> Vec<u8> {
        match count % 6 {
            5 => format!("{number}|P|{count:020}|{count:020}").into_bytes(),
            _ => format!("{number} {count}").into_bytes(),
        }
    }

    fn buffer(first: u64, window: u32) -> ReorderBuffer {
        ReorderBuffer::new(sequence(first), window)
    }

    fn take_all(buffer: &mut ReorderBuffer) -> Vec<String> {
        let mut taken = Vec::new();
        loop {
            match buffer.head() {
                Head::Missing => return taken,
                Head::Void => taken.push("void".into()),
                Head::Event(_, line) => {
                    taken.push(String::from_utf8(line.as_bytes().to_vec()).unwrap());
                }
            }
            buffer.advance();
        }
    }

    #[test]
    fn a_large_ring_is_freed_later_and_a_small_one_at_once() {
        for (window, is_large) in [(MAX_SLOTS_WITHOUT_BITS, false), (8192, true)] {
            for resets in [false, true] {
                let mut buffer = buffer(1, window as u32);
                insert(&mut buffer, window as u64, b"x");
                insert_line(&mut buffer, 2, Line::Slice(&[b'x'; 64]));
                match resets {
                    true => assert_eq!(buffer.reset(sequence(1)), 2),
                    false => drop(buffer.skip_gap()),
                }
                if !resets {
                    buffer.advance();
                    buffer.skip_gap();
                    buffer.advance();
                }
                assert!(buffer.is_empty());
                assert_eq!(buffer.is_freed(), !is_large && !resets, "{window}, resets: {resets}");
                while !buffer.is_freed() {
                    let slots = buffer.retired.slots();
                    buffer.free_some(1 << 16);
                    assert!(slots - buffer.retired.slots() <= (1 << 16) / size_of::<Slot>());
                }
            }
        }
    }

    #[test]
    fn early_events_wait_for_the_awaited_one() {
        let mut buffer = buffer(1, 10);
        assert_eq!(insert(&mut buffer, 3, b"3"), InsertOutcome::Buffered);
        assert_eq!(insert(&mut buffer, 2, b"2"), InsertOutcome::Buffered);
        assert_eq!(buffer.head(), Head::Missing);
        assert_eq!(buffer.gap(), Some(1..2));
        assert_eq!(insert(&mut buffer, 1, b"1"), InsertOutcome::Buffered);
        assert_eq!(take_all(&mut buffer), ["1", "2", "3"]);
        assert_eq!(buffer.awaited(), 4);
        assert_eq!((buffer.len(), buffer.max_len()), (0, 3));
    }

    #[test]
    fn the_first_of_two_stays_and_applied_sequences_are_late() {
        let mut buffer = buffer(5, 10);
        assert_eq!(insert(&mut buffer, 5, b"first"), InsertOutcome::Buffered);
        assert_eq!(insert(&mut buffer, 5, b"second"), InsertOutcome::Duplicate);
        assert_eq!(insert(&mut buffer, 4, b"4"), InsertOutcome::Late);
        assert_eq!(take_all(&mut buffer), ["first"]);
        assert_eq!(insert(&mut buffer, 5, b"third"), InsertOutcome::Late);
        assert_eq!(buffer.insert_void(sequence(5)), InsertOutcome::Late);
    }

    #[test]
    fn an_event_replaces_a_void_and_not_the_other_way_round() {
        let mut buffer = buffer(1, 10);
        assert_eq!(buffer.insert_void(sequence(2)), InsertOutcome::Buffered);
        assert_eq!(buffer.insert_void(sequence(2)), InsertOutcome::Duplicate);
        assert_eq!(buffer.insert_void(sequence(3)), InsertOutcome::Buffered);
        assert_eq!(insert(&mut buffer, 3, b"3"), InsertOutcome::Buffered);
        assert_eq!(buffer.insert_void(sequence(3)), InsertOutcome::Duplicate);
        assert_eq!(buffer.len(), 2);
        assert_eq!(insert(&mut buffer, 1, b"1"), InsertOutcome::Buffered);
        assert_eq!(take_all(&mut buffer), ["1", "void", "3"]);
    }

    #[test]
    fn the_window_has_its_exact_size_and_the_awaited_sequence_always_fits() {
        for window in [1, 2, 3, 100, 128, 129, 1000] {
            let mut buffer = buffer(7, window);
            let edge = 7 + u64::from(window);
            assert_eq!(
                insert(&mut buffer, edge, b"x"),
                InsertOutcome::OutOfWindow,
                "window {window}"
            );
            assert_eq!(buffer.insert_void(sequence(edge)), InsertOutcome::OutOfWindow);
            for number in (7..edge).rev() {
                assert_eq!(insert(&mut buffer, number, b"x"), InsertOutcome::Buffered);
            }
            assert_eq!(take_all(&mut buffer).len(), window as usize);
        }
    }

    #[test]
    fn the_largest_sequences() {
        let last = Sequence::MAX.get();
        let mut buffer = buffer(last - 1, 1 << 26);
        assert_eq!(insert(&mut buffer, last, b"last"), InsertOutcome::Buffered);
        assert_eq!(buffer.gap(), Some(last - 1..last));
        assert_eq!(insert(&mut buffer, last - 1, b"last but one"), InsertOutcome::Buffered);
        assert_eq!(take_all(&mut buffer), ["last but one", "last"]);
        assert_eq!(insert(&mut buffer, last, b"again"), InsertOutcome::Late);
        assert_eq!(buffer.head(), Head::Missing);
        buffer.advance();
        assert_eq!(buffer.awaited(), u64::MAX, "no sequence follows the largest");
    }

    #[test]
    fn gaps_and_growth_at_the_largest_sequences() {
        let last = Sequence::MAX.get();
        for ahead in [1, 127, 128, 129, 1000] {
            let mut buffer = buffer(last - ahead, 1 << 26);
            insert(&mut buffer, last - ahead + 1, b"second");
            insert(&mut buffer, last, b"last");
            assert_eq!(buffer.skip_gap(), Some(last - ahead..last - ahead + 1));
            buffer.advance();
            if ahead > 1 {
                assert_eq!(
                    buffer.skip_gap(),
                    Some(last - ahead + 2..last).filter(|gap| !gap.is_empty())
                );
                assert_eq!(take_all(&mut buffer), ["last"]);
            }
            assert_eq!(buffer.awaited(), u64::MAX);
        }
    }

    #[test]
    fn a_gap_is_skipped_up_to_the_first_buffered_sequence() {
        let mut buffer = buffer(1, 1000);
        assert_eq!(buffer.skip_gap(), None);
        insert(&mut buffer, 500, b"500");
        buffer.insert_void(sequence(499));
        assert_eq!(buffer.skip_gap(), Some(1..499));
        assert_eq!(buffer.skip_gap(), None);
        assert_eq!(take_all(&mut buffer), ["void", "500"]);
    }

    #[test]
    fn a_reset_counts_the_discarded_events() {
        let mut buffer = buffer(1, 1000);
        insert(&mut buffer, 3, b"3");
        insert(&mut buffer, 4, b"4");
        buffer.insert_void(sequence(5));
        assert_eq!(buffer.reset(sequence(1)), 2);
        assert_eq!((buffer.awaited(), buffer.len()), (1, 0));
    }

    #[test]
    fn with_a_log_only_committed_sequences_are_visible() {
        let mut buffer = ReorderBuffer::with_log(1, 10);
        let mut batch = Batch::default();
        for number in [2, 1, 4] {
            insert(&mut buffer, number, number.to_string().as_bytes());
        }
        assert!(buffer.has_due() && buffer.head() == Head::Missing && buffer.gap().is_none());
        assert_eq!((buffer.stage(&mut batch, 1), buffer.has_unstaged()), (1, true));
        assert_eq!((buffer.stage(&mut batch, 9), buffer.has_unstaged()), (1, false));
        assert_eq!(
            (batch.first, batch.next, batch.count, &batch.lines[..]),
            (1, 3, 2, &b"1\n2\n"[..])
        );
        assert_eq!(take_all(&mut buffer), [""; 0]);
        buffer.commit(2);
        assert_eq!((take_all(&mut buffer), buffer.unapplied()), (vec!["1".to_owned()], 1));
        buffer.commit(3);
        assert_eq!(take_all(&mut buffer), ["2"]);
        assert_eq!(buffer.skip_gap(), Some(3..4));
        let mut batch = Batch::default();
        assert_eq!(buffer.stage(&mut batch, 9), 1);
        assert_eq!(
            (batch.first, batch.next, batch.count),
            (3, 5, 1),
            "the skipped sequence is absent"
        );
        assert_eq!(take_all(&mut buffer), [""; 0]);
        buffer.commit(5);
        assert_eq!(take_all(&mut buffer), ["4"]);
    }

    #[test]
    fn a_batch_ends_at_its_full_size() {
        let (mut buffer, mut batch) = (ReorderBuffer::with_log(1, 20_000), Batch::default());
        let text = [b'x'; 60];
        for number in 1..=10_000 {
            insert(&mut buffer, number, &text);
        }
        let staged = buffer.stage(&mut batch, usize::MAX);
        assert_eq!(staged, (256_usize << 10).div_ceil(text.len() + 1));
        assert!(batch.is_full() && buffer.has_unstaged());
        assert_eq!(buffer.stage(&mut batch, usize::MAX), 0);
        assert_eq!(buffer.stage(&mut Batch::default(), usize::MAX), staged);
    }

    #[test]
    fn a_staged_void_is_final() {
        let mut buffer = ReorderBuffer::with_log(1, 10);
        buffer.insert_void(sequence(1));
        buffer.insert_void(sequence(2));
        let mut batch = Batch::default();
        assert_eq!(buffer.stage(&mut batch, 1), 1);
        assert_eq!(insert(&mut buffer, 1, b"1"), InsertOutcome::Late);
        assert_eq!(insert(&mut buffer, 2, b"2"), InsertOutcome::Buffered);
        assert_eq!(buffer.stage(&mut batch, 9), 1);
        assert_eq!((batch.first, batch.next, &batch.lines[..]), (1, 3, &b"2\n"[..]));
        buffer.commit(3);
        assert_eq!(take_all(&mut buffer), ["void", "2"]);
    }

    #[test]
    fn with_a_log_the_window_starts_after_the_staged_sequences() {
        let mut buffer = ReorderBuffer::with_log(1, 2);
        let mut batch = Batch::default();
        for number in 1..1000 {
            assert_eq!(insert(&mut buffer, number, b"x"), InsertOutcome::Buffered);
            assert_eq!(insert(&mut buffer, number + 2, b"x"), InsertOutcome::OutOfWindow);
            assert_eq!((buffer.stage(&mut batch, 9), buffer.unapplied()), (1, number));
        }
        buffer.commit(1000);
        assert_eq!(take_all(&mut buffer).len(), 999);
        assert_eq!(buffer.reset(sequence(1)), 0);
        insert(&mut buffer, 1, b"x");
        assert!(buffer.has_unstaged() && buffer.head() == Head::Missing);
    }

    #[test]
    fn a_large_ring_is_freed_once_empty() {
        let mut buffer = buffer(1, 1 << 20);
        for number in (1..=100_000).rev() {
            insert(&mut buffer, number, b"x");
        }
        assert_eq!(buffer.slots.len(), 1 << 17);
        assert_eq!(take_all(&mut buffer).len(), 100_000);
        assert!(buffer.slots.len() <= MAX_IDLE_SLOTS);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Void(u64),
        Take,
        Skip,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..400_u64).prop_map(Step::Insert),
            1 => (0..400_u64).prop_map(Step::Void),
            2 => Just(Step::Take),
            1 => Just(Step::Skip),
        ];
        proptest::collection::vec(step, 0..400)
    }

    proptest! {
        #[test]
        fn matches_btree_map(window in 1..300_u32, first in 0..50_u64, steps in steps()) {
            let mut buffer = buffer(first, window);
            let mut awaited = first;
            let mut map: BTreeMap<u64, Option<u64>> = BTreeMap::new();
            for (count, step) in (0..).zip(steps) {
                match step {
                    Step::Insert(number) => {
                        let line = distinct_line(number, count);
                        let outcome = match line.len() {
                            0..30 => insert(&mut buffer, number, &line),
                            _ => insert_line(&mut buffer, number, Line::Slice(&line)),
                        };
                        let expected = if number < awaited {
                            InsertOutcome::Late
                        } else if number - awaited >= u64::from(window) {
                            InsertOutcome::OutOfWindow
                        } else if let Some(Some(_)) = map.get(&number) {
                            InsertOutcome::Duplicate
                        } else {
                            map.insert(number, Some(count));
                            InsertOutcome::Buffered
                        };
                        prop_assert_eq!(outcome, expected);
                    }
                    Step::Void(number) => {
                        let outcome = buffer.insert_void(sequence(number));
                        if outcome == InsertOutcome::Buffered {
                            prop_assert!(!map.contains_key(&number));
                            map.insert(number, None);
                        }
                    }
                    Step::Take => {
                        let expected = map.remove(&awaited);
                        match (buffer.head(), expected) {
                            (Head::Missing, None) => continue,
                            (Head::Void, Some(None)) => {}
                            (Head::Event(_, line), Some(Some(count))) => {
                                let expected = distinct_line(awaited, count);
                                prop_assert_eq!(line.as_bytes(), &expected);
                            }
                            (head, expected) => prop_assert!(false, "{head:?} for {expected:?}"),
                        }
                        buffer.advance();
                        awaited += 1;
                    }
                    Step::Skip => {
                        let gap = match map.keys().next() {
                            Some(&next) if next > awaited => Some(awaited..next),
                            _ => None,
                        };
                        prop_assert_eq!(buffer.gap(), gap.clone());
                        prop_assert_eq!(buffer.skip_gap(), gap.clone());
                        awaited = gap.map_or(awaited, |gap| gap.end);
                    }
                }
                prop_assert_eq!(buffer.awaited(), awaited);
                prop_assert_eq!(buffer.len(), map.len());
                buffer.check();
            }
            let lost = map.values().flatten().count();
            prop_assert_eq!(buffer.reset(sequence(first)), lost);
            buffer.check();
        }
    }
}
