//! Events that came before their turn.

use std::ops::Range;

use super::line_store::LineStore;
use super::slot::{Slot, State};
use crate::protocol::{CompactEvent, Event, EventKind, Line, Sequence};

/// The ring's first size, in slots: enough for the batches of a well-behaved source.
const MIN_SLOTS: usize = 128;

/// A ring this large is kept when it runs empty; a larger one is given back.
const MAX_IDLE_SLOTS: usize = 4096;

/// What became of a sequence handed to the [`ReorderBuffer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertOutcome {
    /// It waits for its turn, which may be now.
    Buffered,
    /// The same sequence waits already; the first one stays.
    Duplicate,
    /// Its turn is over.
    Late,
    /// It is a window or more ahead of the awaited one; nothing was kept.
    OutOfWindow,
}

/// What stands at the awaited sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head<'a> {
    /// It has not arrived.
    Missing,
    /// Nothing but a malformed line arrived for it.
    Void,
    /// This event, and its line.
    Event(EventKind, Line<'a>),
}

/// A ring of the sequences from the awaited one up to a window ahead, indexed by
/// `sequence & mask`.
///
/// It grows by doubling, up to the power of two that holds its window, and gives a large ring back
/// when it runs empty. A slot has 40 bytes, so that a ring filled by half or more costs at most 80
/// bytes an event, in whatever order they came. A line of more than 30 bytes, or with a user id of more
/// than 32 bits, costs 68 bytes besides; one of more than 64 bytes 16, its length, and an allocation.
///
/// The first event that is far ahead makes the ring that long at once: at most 40 bytes for each
/// sequence of the window.
///
/// The awaited sequence always fits.
#[derive(Debug)]
pub struct ReorderBuffer {
    /// Empty, or a power of two.
    slots: Vec<Slot>,
    /// The lines that do not fit their slots, which say where they are.
    long_lines: LineStore,
    /// The sequence whose turn it is; one more than [`Sequence::MAX`] when all are over.
    awaited: u64,
    window: u64,
    /// Slots that are not empty.
    occupied: usize,
    max_len: usize,
}

impl ReorderBuffer {
    /// An empty buffer that awaits `first` and takes sequences less than `window` (at least 1)
    /// ahead. It allocates nothing until something has to wait.
    #[must_use]
    pub fn new(first: Sequence, window: u32) -> ReorderBuffer {
        ReorderBuffer {
            slots: Vec::new(),
            long_lines: LineStore::default(),
            awaited: first.get(),
            window: u64::from(window.max(1)),
            occupied: 0,
            max_len: 0,
        }
    }

    /// The sequence whose turn it is; 2⁶⁴−1 once every sequence is over.
    #[inline]
    #[must_use]
    pub fn awaited(&self) -> u64 {
        self.awaited
    }

    /// How many sequences wait, void ones included.
    #[must_use]
    pub fn occupied(&self) -> usize {
        self.occupied
    }

    /// The most that ever waited at once, the awaited one and those due behind it included.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.max_len
    }

    /// Keeps an event and its line until its turn comes, if the ring can hold it as it is and nothing
    /// was there for its sequence: what a well-behaved source sends. Else nothing happens, and
    /// [`insert`](Self::insert) decides.
    #[inline(always)]
    pub fn admit(&mut self, event: &CompactEvent, line: Line<'_>) -> bool {
        let sequence = event.sequence.get();
        let Some(ahead) = sequence.checked_sub(self.awaited) else { return false };
        if ahead >= self.window || ahead >= self.slots.len() as u64 {
            return false;
        }
        let at = index(sequence, self.slots.len());
        let slot = &mut self.slots[at];
        let is_admitted = slot.state == State::Empty && slot.store_compact(event, line);
        if is_admitted {
            self.record_insert();
        }
        is_admitted
    }

    /// Keeps an event and its line until its turn comes. An event takes the place of a void.
    pub fn insert(&mut self, event: &Event, line: Line<'_>) -> InsertOutcome {
        let at = match self.place(event.sequence) {
            Ok(at) => at,
            Err(elsewhere) => return elsewhere,
        };
        match self.slots[at].state {
            State::Empty => self.record_insert(),
            State::Void => {}
            State::Compact(_) | State::Overflow => return InsertOutcome::Duplicate,
        }
        let short = CompactEvent::pack(event);
        if !short.is_some_and(|short| self.slots[at].store_compact(&short, line)) {
            self.slots[at].store_overflow(self.long_lines.insert(line.as_bytes()));
        }
        InsertOutcome::Buffered
    }

    /// Lets the turn of `sequence` pass without an event, unless one waits or comes before.
    pub fn insert_void(&mut self, sequence: Sequence) -> InsertOutcome {
        match self.place(sequence) {
            Ok(at) if self.slots[at].state == State::Empty => {
                self.slots[at].state = State::Void;
                self.record_insert();
                InsertOutcome::Buffered
            }
            Ok(_) => InsertOutcome::Duplicate,
            Err(elsewhere) => elsewhere,
        }
    }

    /// What stands at the awaited sequence.
    // Always: returned through memory, an event is loaded in other pieces than it was stored in,
    // and the processor waits for the stores (about 10 ns).
    #[inline(always)]
    #[must_use]
    pub fn head(&self) -> Head<'_> {
        if self.occupied == 0 {
            return Head::Missing;
        }
        let slot = &self.slots[index(self.awaited, self.slots.len())];
        match slot.state {
            State::Empty => Head::Missing,
            State::Void => Head::Void,
            State::Compact(letter) => Head::Event(slot.kind(letter), slot.line()),
            State::Overflow => self.long_head(slot),
        }
    }

    #[cold]
    fn long_head(&self, slot: &Slot) -> Head<'_> {
        let line = self.long_lines.get(slot.long_line());
        Head::Event(reparse(line), Line::Slice(line))
    }

    /// Ends the turn of the awaited sequence, whether it had arrived or not. Nothing changes once
    /// every sequence is over.
    #[inline]
    pub fn advance(&mut self) {
        if self.occupied > 0 {
            let at = index(self.awaited, self.slots.len());
            let slot = &mut self.slots[at];
            if slot.state == State::Overflow {
                self.long_lines.remove(slot.long_line());
            }
            if slot.state != State::Empty {
                slot.state = State::Empty;
                self.occupied -= 1;
                if self.occupied == 0 {
                    self.shrink_if_empty();
                }
            }
        }
        self.awaited = self.awaited.saturating_add(1);
    }

    /// The missing sequences in front of the first that waits, if any waits and the awaited one is
    /// missing. Costs time in proportion to the gap.
    #[must_use]
    pub fn gap(&self) -> Option<Range<u64>> {
        if self.occupied == 0 || self.head() != Head::Missing {
            return None;
        }
        let capacity = self.slots.len();
        // One of them waits, which ends the search before the numbers do.
        let first_waiting = (self.awaited..)
            .take(capacity)
            .skip(1)
            .find(|&sequence| self.slots[index(sequence, capacity)].state != State::Empty)?;
        Some(self.awaited..first_waiting)
    }

    /// Ends the turns of the missing sequences in front of the first that waits, and says which.
    pub fn skip_gap(&mut self) -> Option<Range<u64>> {
        let gap = self.gap()?;
        self.awaited = gap.end;
        Some(gap)
    }

    /// Forgets everything and awaits `first`; returns how many events (not voids) waited.
    pub fn reset(&mut self, first: Sequence) -> usize {
        let lost = self
            .slots
            .iter()
            .filter(|slot| matches!(slot.state, State::Compact(_) | State::Overflow))
            .count();
        self.slots = Vec::new();
        self.long_lines = LineStore::default();
        self.occupied = 0;
        self.awaited = first.get();
        lost
    }

    /// The place of a sequence within the window, in a ring grown to hold it.
    fn place(&mut self, sequence: Sequence) -> Result<usize, InsertOutcome> {
        let sequence = sequence.get();
        let Some(ahead) = sequence.checked_sub(self.awaited) else {
            return Err(InsertOutcome::Late);
        };
        if ahead >= self.window {
            return Err(InsertOutcome::OutOfWindow);
        }
        if ahead >= self.slots.len() as u64 {
            self.grow(ahead);
        }
        Ok(index(sequence, self.slots.len()))
    }

    #[inline]
    fn record_insert(&mut self) {
        self.occupied += 1;
        self.max_len = self.max_len.max(self.occupied);
    }

    /// Doubles the ring until it holds the sequence that is `ahead` of the awaited one.
    #[cold]
    fn grow(&mut self, ahead: u64) {
        let capacity = (ahead as usize + 1).next_power_of_two().max(MIN_SLOTS);
        let mut slots = vec![Slot::default(); capacity];
        let old = self.slots.len();
        // All of the old ring lies before the sequence that it has no slot for: this cannot overflow.
        for sequence in (self.awaited..).take(old) {
            slots[index(sequence, capacity)] = self.slots[index(sequence, old)];
        }
        self.slots = slots;
    }

    /// Frees a large ring that has run empty. To grow it again costs less than filling it did.
    #[inline]
    fn shrink_if_empty(&mut self) {
        if self.slots.len() > MAX_IDLE_SLOTS {
            self.slots = Vec::new();
        }
    }
}

/// What a line says that was an event when it was put into its slot.
fn reparse(line: &[u8]) -> EventKind {
    match Event::parse(line) {
        Ok(event) => event.kind,
        Err(error) => unreachable!("a line that was an event when it came is not: {error}"),
    }
}

/// Where a sequence stands in a ring of `capacity` slots, a power of two.
#[inline]
fn index(sequence: u64, capacity: usize) -> usize {
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

    /// Inserts an event with a short line, which may be any text: the buffer does not look at it.
    fn insert(buffer: &mut ReorderBuffer, number: u64, text: &[u8]) -> InsertOutcome {
        let mut bytes = text.to_vec();
        bytes.resize(100, b'#');
        insert_line(buffer, number, Line::prefix_of(&bytes, text.len()))
    }

    fn insert_line(buffer: &mut ReorderBuffer, number: u64, line: Line<'_>) -> InsertOutcome {
        let event = Event { sequence: sequence(number), kind: EventKind::Broadcast };
        buffer.insert(&event, line)
    }

    /// A line that tells the one event from the other, short or long.
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
    fn what_came_early_waits_for_its_turn() {
        let mut buffer = buffer(1, 10);
        assert_eq!(insert(&mut buffer, 3, b"3"), InsertOutcome::Buffered);
        assert_eq!(insert(&mut buffer, 2, b"2"), InsertOutcome::Buffered);
        assert_eq!(buffer.head(), Head::Missing);
        assert_eq!(buffer.gap(), Some(1..2));
        assert_eq!(insert(&mut buffer, 1, b"1"), InsertOutcome::Buffered);
        assert_eq!(take_all(&mut buffer), ["1", "2", "3"]);
        assert_eq!(buffer.awaited(), 4);
        assert_eq!((buffer.occupied(), buffer.max_len()), (0, 3));
    }

    #[test]
    fn the_first_of_two_stays_and_what_is_over_is_late() {
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
        assert_eq!(buffer.occupied(), 2);
        assert_eq!(insert(&mut buffer, 1, b"1"), InsertOutcome::Buffered);
        assert_eq!(take_all(&mut buffer), ["1", "void", "3"]);
    }

    #[test]
    fn the_window_ends_where_it_says_and_the_awaited_always_fits() {
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
    fn the_last_sequences_of_all() {
        let last = Sequence::MAX.get();
        let mut buffer = buffer(last - 1, 1 << 26);
        assert_eq!(insert(&mut buffer, last, b"last"), InsertOutcome::Buffered);
        assert_eq!(buffer.gap(), Some(last - 1..last));
        assert_eq!(insert(&mut buffer, last - 1, b"last but one"), InsertOutcome::Buffered);
        assert_eq!(take_all(&mut buffer), ["last but one", "last"]);
        assert_eq!(insert(&mut buffer, last, b"again"), InsertOutcome::Late);
        assert_eq!(buffer.head(), Head::Missing);
        buffer.advance();
        assert_eq!(buffer.awaited(), u64::MAX, "nothing comes after the last");
    }

    #[test]
    fn the_last_gap_and_the_last_growth_of_all() {
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
    fn a_gap_is_skipped_up_to_the_first_that_waits() {
        let mut buffer = buffer(1, 1000);
        assert_eq!(buffer.skip_gap(), None);
        insert(&mut buffer, 500, b"500");
        buffer.insert_void(sequence(499));
        assert_eq!(buffer.skip_gap(), Some(1..499));
        assert_eq!(buffer.skip_gap(), None);
        assert_eq!(take_all(&mut buffer), ["void", "500"]);
    }

    #[test]
    fn a_reset_counts_the_events_that_waited() {
        let mut buffer = buffer(1, 1000);
        insert(&mut buffer, 3, b"3");
        insert(&mut buffer, 4, b"4");
        buffer.insert_void(sequence(5));
        assert_eq!(buffer.reset(sequence(1)), 2);
        assert_eq!((buffer.awaited(), buffer.occupied()), (1, 0));
    }

    #[test]
    fn a_large_ring_is_given_back() {
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
        fn it_does_what_a_sorted_map_does(window in 1..300_u32, first in 0..50_u64, steps in steps()) {
            let mut buffer = buffer(first, window);
            let mut awaited = first;
            let mut map: BTreeMap<u64, Option<u64>> = BTreeMap::new();
            for (count, step) in (0..).zip(steps) {
                match step {
                    Step::Insert(number) => {
                        let line = distinct_line(number, count);
                        let placement = match line.len() {
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
                        prop_assert_eq!(placement, expected);
                    }
                    Step::Void(number) => {
                        let placement = buffer.insert_void(sequence(number));
                        if placement == InsertOutcome::Buffered {
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
                prop_assert_eq!(buffer.occupied(), map.len());
            }
        }
    }
}
