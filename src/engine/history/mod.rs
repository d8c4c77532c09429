//! The newest applied events, from which a client that comes back gets what it has missed.

mod chunk;
mod index;
mod record;

use std::collections::VecDeque;

pub(super) use self::chunk::Chunk;
pub(super) use self::index::{Broadcasts, Index, Place, Role};
use self::record::{MAX_RECORD_BYTES, SKIP_BYTES};
pub(super) use self::record::{Record, WireLine};
use super::slot::Slot;

/// The maximum length of a chunk, in bytes: some 4,000 events. Chunks are recycled, so that keeping an event
/// allocates nothing and touches no new memory once the ring is full.
const MAX_CHUNK_BYTES: usize = 32 << 10;
const _: () = assert!(MAX_CHUNK_BYTES <= Index::MAX_CHUNK_BYTES);

/// The minimum number of chunks of a ring. It keeps up to two chunks of events more than it has to, because it
/// drops whole ones.
const CHUNKS_PER_RING: usize = 32;

/// The length of a record for which a chunk of few events has space.
const LONG_RECORD_BYTES: usize = 24;

/// A ring of the newest applied events.
///
/// An event takes the bytes of its line after the sequence, and one: 5 to 12 bytes of a typical stream, at most
/// 65. An unfollow that changed nothing takes none, and sequences without an event take 5 bytes in a row. The ring
/// keeps at most a sixteenth more events than it has to. Its memory grows with use. A chunk that several clients
/// pass gets an index for the next ones, of 12 to 25 bytes per event, until it is recycled.
///
/// The ring consists of chunks with consecutive numbers, which go on across a [reset](Self::clear). A `Cursor` is
/// a position in it.
#[derive(Debug)]
pub struct History {
    /// The chunk that is appended to. It is empty only if the ring is.
    newest: Chunk,
    /// The full ones, the oldest first.
    full: VecDeque<Chunk>,
    /// The events in them.
    full_events: u64,
    max_events: u64,
    /// The number of the oldest chunk.
    oldest: u64,
    /// The first sequence from which on no event is missing.
    covered_from: u64,
    /// The chunks before the last reset, which are freed a few at a time.
    retired: VecDeque<Chunk>,
}

/// A position in a [`History`]: before a record, or at the end of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The number of the chunk.
    pub(super) chunk: u64,
    pub(super) offset: usize,
    /// The sequence after the record before. Undefined at the start of a chunk.
    pub(super) sequence: u64,
}

impl History {
    /// Creates an empty ring that keeps at least the newest `max_events` (at least 1). No event with a sequence
    /// before `covered_from` will be pushed; 0 for the start of a stream, before which there was none.
    #[must_use]
    pub fn new(max_events: usize, covered_from: u64) -> History {
        let max_events = max_events.max(1);
        let chunk_events = (max_events / CHUNKS_PER_RING).max(1);
        // A chunk with little space takes several events of any length, too.
        let capacity = (chunk_events * LONG_RECORD_BYTES)
            .clamp(2 * MAX_RECORD_BYTES + SKIP_BYTES, MAX_CHUNK_BYTES);
        History {
            newest: Chunk::new(chunk_events as u64, capacity),
            full: VecDeque::new(),
            full_events: 0,
            max_events: max_events as u64,
            oldest: 0,
            covered_from,
            retired: VecDeque::new(),
        }
    }

    /// Appends the line of an applied event. `has_changed` is whether it changed the follower graph. An unfollow that
    /// did not need not be appended.
    pub fn push(&mut self, sequence: u64, line: &[u8], has_changed: bool) {
        if !self.newest.has_space_for(sequence) {
            self.begin_chunk();
        }
        self.newest.push(sequence, line, has_changed);
    }

    /// Appends the events of consecutive slots that have been applied, of which the first one has the sequence
    /// `first`: in a loop of its own, which costs a third of what it does between the steps of applying.
    pub(super) fn push_applied(&mut self, first: u64, slots: &[Slot]) {
        let mut index = 0;
        while index < slots.len() {
            if first + index as u64 == self.newest.next() {
                index += self.newest.push_applied(&slots[index..]);
            }
            if let Some(slot) = slots.get(index) {
                let (bytes, len, has_changed) = slot.applied();
                if len > 0 {
                    self.push(first + index as u64, &bytes[..len], has_changed);
                }
                index += 1;
            }
        }
    }

    /// Begins a chunk, in the memory of the oldest one if enough events are kept without it.
    fn begin_chunk(&mut self) {
        let another = self.newest.without_memory();
        self.full_events += self.newest.events();
        self.full.push_back(std::mem::replace(&mut self.newest, another));
        let mut free = None;
        // The new chunk is about to get an event.
        while let Some(oldest) = self.full.front()
            && self.full_events + 1 - oldest.events() >= self.max_events
        {
            self.full_events -= oldest.events();
            self.covered_from = oldest.next();
            self.oldest += 1;
            free = self.full.pop_front();
        }
        self.newest.take_memory(free);
    }

    /// Removes all events, because the stream starts again at its first sequence. [`free_some`](Self::free_some)
    /// frees their memory later. What is left of an earlier reset is freed at once, so that memory stays bounded.
    pub fn clear(&mut self) {
        self.oldest = self.newest_number() + 1;
        let mut empty = self.newest.without_memory();
        empty.take_memory(None);
        self.newest = empty;
        self.retired = std::mem::take(&mut self.full);
        (self.full_events, self.covered_from) = (0, 0);
    }

    /// Frees about so many bytes of events that were removed, and at least one chunk.
    pub fn free_some(&mut self, bytes: usize) {
        let chunks = (bytes / MAX_CHUNK_BYTES).max(1);
        self.retired.truncate(self.retired.len().saturating_sub(chunks));
        if self.retired.is_empty() {
            self.retired = VecDeque::new();
        }
    }

    /// Returns whether [`free_some`](Self::free_some) has nothing left to do.
    #[must_use]
    pub fn is_freed(&self) -> bool {
        self.retired.is_empty()
    }

    /// Returns the number of kept events.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.full_events + self.newest.events()
    }

    /// Returns whether no event is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.newest.is_empty()
    }

    /// Returns the memory of the kept events, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let chunks = self.full.iter().chain([&self.newest]);
        chunks.map(Chunk::memory).sum::<usize>() as u64
    }

    /// Returns the first sequence from which on no event is missing: 0 if none is missing since the start of
    /// the stream.
    #[must_use]
    pub fn covered_from(&self) -> u64 {
        self.covered_from
    }

    fn newest_number(&self) -> u64 {
        self.oldest + self.full.len() as u64
    }

    /// Returns the number of chunks.
    pub(super) fn chunks(&self) -> u64 {
        self.full.len() as u64 + 1
    }

    /// Returns a chunk by its number. `None` if it was dropped.
    #[inline]
    pub(super) fn chunk(&self, number: u64) -> Option<&Chunk> {
        let index = number.checked_sub(self.oldest)? as usize;
        match self.full.get(index) {
            None if index == self.full.len() => Some(&self.newest),
            chunk => chunk,
        }
    }

    /// Returns whether a chunk is complete.
    pub(super) fn is_full(&self, number: u64) -> bool {
        number < self.newest_number()
    }

    /// Returns the sequence after the newest event, or the first one that is not missing.
    pub(super) fn next(&self) -> u64 {
        if self.newest.is_empty() { self.covered_from } else { self.newest.next() }
    }

    /// Returns the position after the newest event.
    pub(super) fn end(&self) -> Cursor {
        Cursor { chunk: self.newest_number(), offset: self.newest.used(), sequence: self.next() }
    }

    /// Returns the start of the oldest chunk.
    pub(super) fn start(&self) -> Cursor {
        Cursor { chunk: self.oldest, offset: 0, sequence: self.covered_from }
    }

    /// Returns the start of the chunk with the first event that does not precede `sequence`, of the newest one if
    /// there is none.
    pub(super) fn chunk_of(&self, sequence: u64) -> Cursor {
        let index = self.full.partition_point(|chunk| chunk.next() <= sequence);
        self.start_of(self.oldest + index as u64)
    }

    /// Returns the start of one of the newest `chunks`, the oldest of them; the end if `chunks` is 0.
    pub(super) fn start_of_newest(&self, chunks: u64) -> Cursor {
        match chunks {
            0 => self.end(),
            _ => self.start_of(self.newest_number() + 1 - chunks),
        }
    }

    /// Returns the start of a chunk, with the sequence after the last event of the one before.
    fn start_of(&self, number: u64) -> Cursor {
        let before = number.checked_sub(1).and_then(|before| self.chunk(before));
        let sequence = before.map_or(self.covered_from, Chunk::next);
        Cursor { chunk: number, offset: 0, sequence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{EventKind, UserId};

    fn push_broadcast(history: &mut History, sequence: u64) {
        history.push(sequence, format!("{sequence}|B").as_bytes(), false);
    }

    /// Returns all sequences and lines, in order.
    fn lines(history: &History) -> Vec<(u64, String)> {
        let mut lines = Vec::new();
        let chunks = history.oldest..=history.newest_number();
        for chunk in chunks.map(|number| history.chunk(number).unwrap()) {
            for (_, record) in chunk.records() {
                let line = str::from_utf8(record.wire_line().as_bytes()).unwrap().to_owned();
                lines.push((record.sequence, line.strip_suffix("\r\n").unwrap().to_owned()));
            }
        }
        lines
    }

    fn sequences(history: &History) -> Vec<u64> {
        let lines = lines(history);
        for (sequence, line) in &lines {
            assert_eq!(*line, format!("{sequence}|B"));
        }
        lines.iter().map(|(sequence, _)| *sequence).collect()
    }

    #[test]
    fn it_keeps_the_newest_events_and_at_most_a_sixteenth_more() {
        for max in [1, 2, 15, 16, 31, 32, 63, 64, 100, 1000, 3000] {
            let mut history = History::new(max, 0);
            assert!(history.is_empty() && history.covered_from() == 0);
            // Every third sequence is void, and there are longer gaps.
            let all: Vec<u64> = (5..9000)
                .filter(|sequence| sequence % 3 > 0)
                .map(|sequence| sequence + sequence / 1000 * 10_000)
                .collect();
            for (index, &sequence) in all.iter().enumerate() {
                push_broadcast(&mut history, sequence);
                let least = max.min(index + 1) as u64;
                assert!((least..=least + max as u64 / 16).contains(&history.len()), "of {max}");
                assert_eq!(history.next(), sequence + 1);
            }
            // A small chunk has space for records of any length.
            let most = 8 * max + 40 * (size_of::<Chunk>() + 2 * MAX_RECORD_BYTES + 24 * max / 32);
            let most =
                if max < 64 { 70 * (size_of::<Chunk>() + 3 * MAX_RECORD_BYTES) } else { most };
            assert!(history.bytes() <= most as u64, "{} bytes for {max}", history.bytes());
            let kept = sequences(&history);
            assert_eq!(kept, all[all.len() - kept.len()..]);
            assert_eq!(kept.len() as u64, history.len());
            let before = all[all.len() - kept.len() - 1];
            assert_eq!(history.covered_from(), before + 1);
            for sequence in before..history.next() + 2 {
                let Cursor { chunk: number, offset, sequence: after } = history.chunk_of(sequence);
                let chunk = history.chunk(number).unwrap();
                assert!(offset == 0 && after <= chunk.first(), "of {sequence}");
                assert!(sequence < chunk.next() || !history.is_full(number), "of {sequence}");
                let last = kept.iter().rev().find(|&&kept| kept < chunk.first());
                assert_eq!(after, last.unwrap_or(&before) + 1);
                assert!(number == history.oldest || sequence >= after, "of {sequence}");
            }
        }
    }

    #[test]
    fn a_typical_event_takes_ten_bytes() {
        let mut history = History::new(100_000, 0);
        for sequence in 1_000_000..1_200_000 {
            let (from, to) = (UserId(sequence % 1000), UserId(sequence % 997));
            let line = format!("{sequence}|P|{from}|{to}");
            history.push(sequence, line.as_bytes(), false);
        }
        let events = history.len();
        assert!((100_000..=106_250).contains(&events), "{events}");
        let bytes = history.bytes() as f64 / events as f64;
        assert!(bytes < 11.0, "{bytes} bytes per event");
    }

    #[test]
    fn lines_of_any_length_and_form_come_back() {
        let mut history = History::new(100_000, 0);
        let mut all = Vec::new();
        let numbers = [0, 7, 99_999, 12_345_678, u64::from(u32::MAX), u64::MAX];
        for start in
            [0, 90, 980, 99_990, 9_999_999, 10_u64.pow(13) - 3, 10_u64.pow(18), u64::MAX - 40]
        {
            let users = numbers.iter().flat_map(|a| numbers.iter().map(move |b| (*a, *b)));
            for (sequence, (a, b)) in (start..start + 36).zip(users) {
                let line = match sequence % 4 {
                    0 if start < 10_u64.pow(18) => format!("{sequence:020}|P|{a:020}|{b:020}"),
                    1 => format!("0{sequence}|P|{a}|{b}"),
                    _ => format!("{sequence}|P|{a}|{b}"),
                };
                history.push(sequence, line.as_bytes(), false);
                all.push((sequence, line));
            }
        }
        let kept = lines(&history);
        assert_eq!(kept.len(), all.len());
        kept.iter().zip(&all).for_each(|(kept, pushed)| assert_eq!(kept, pushed));
    }

    #[test]
    fn nothing_is_missing_after_a_reset() {
        let mut history = History::new(2, 100);
        assert_eq!((history.covered_from(), history.next()), (100, 100));
        (100..110).for_each(|sequence| push_broadcast(&mut history, sequence));
        let end = history.end();
        history.clear();
        assert_eq!((history.covered_from(), history.len(), history.next()), (0, 0, 0));
        assert_eq!(history.start(), history.end());
        assert!(history.chunk(end.chunk).is_none(), "positions do not come again");
        push_broadcast(&mut history, 1);
        assert_eq!(sequences(&history), [1]);
    }

    #[test]
    fn a_reset_frees_a_few_chunks_at_a_time() {
        let mut history = History::new(64, 0);
        (1..=20).for_each(|sequence| push_broadcast(&mut history, sequence));
        history.clear();
        let chunks = history.retired.len();
        assert!(chunks > 5, "of two events each");
        for left in (0..chunks).rev() {
            assert!(!history.is_freed());
            history.free_some(1);
            assert_eq!(history.retired.len(), left);
        }
        assert!(history.is_freed());
    }

    #[test]
    fn changes_of_the_graph_are_told_from_events_without_effect() {
        let mut history = History::new(1000, 0);
        history.push(2, b"2|U|1|2", true);
        history.push(3, b"3|F|1|2", false);
        history.push(4, b"4|P|1|2", false);
        let changes: Vec<_> =
            history.newest.records().map(|(_, record)| record.changed_follow()).collect();
        assert_eq!(changes, [Some((UserId(1), UserId(2))), None, None]);
    }

    #[test]
    fn an_index_finds_all_events_of_a_user() {
        let mut history = History::new(32 * 50, 0);
        let user = |number: u64| UserId(if number == 3 { 1 << 32 } else { number });
        for sequence in 1000..1049 {
            let (a, b) = (user(sequence % 5), user(sequence % 3));
            let letter = ["P", "P", "F", "F", "U", "B", "S"][sequence as usize % 7];
            let line = match letter {
                "B" => format!("{sequence}|B"),
                "S" => format!("{sequence}|S|{a}"),
                _ => format!("{sequence}|{letter}|{a}|{b}"),
            };
            history.push(sequence, line.as_bytes(), sequence % 7 != 3);
        }
        let chunk = &history.newest;
        let index = Index::of(chunk);
        let records: Vec<Record<'_>> = chunk.records().map(|(_, record)| record).collect();
        for user in [0, 1, 2, 3, 4].map(user) {
            for role in [Role::Recipient, Role::Author, Role::Follower] {
                let has_role = |record: &Record<'_>| match (role, record.kind()) {
                    (Role::Recipient, EventKind::PrivateMessage { to, .. }) => to == user,
                    (Role::Recipient, EventKind::Follow { followed, .. }) => followed == user,
                    (Role::Author, EventKind::StatusUpdate { from }) => from == user,
                    (Role::Follower, _) => {
                        record.changed_follow().is_some_and(|(follower, _)| follower == user)
                    }
                    _ => false,
                };
                // Two of the users have the same key.
                let found: Vec<u64> = index
                    .places(user, role)
                    .filter_map(|place| index.record(chunk, place))
                    .filter(has_role)
                    .map(|record| record.sequence)
                    .collect();
                let expected: Vec<u64> = records
                    .iter()
                    .filter(|record| has_role(record))
                    .map(|record| record.sequence)
                    .collect();
                assert_eq!(found, expected, "{user} as {role:?}");
            }
        }
        for (from, before) in [(0, 5000), (1010, 1030), (1020, 1020), (1048, 1049)] {
            let broadcasts = index.broadcasts(from, before);
            let expected: Vec<u64> =
                (from.max(1000)..before.min(1049)).filter(|sequence| sequence % 7 == 5).collect();
            let text: String =
                expected.iter().map(|sequence| format!("{sequence}|B\r\n")).collect();
            assert_eq!((broadcasts.len(), broadcasts.text()), (expected.len(), text.as_bytes()));
            let (some, rest) = broadcasts.split_at(2);
            assert_eq!([some.text(), rest.text()].concat(), text.as_bytes());
            let first = rest.first().map(|place| index.sequence(place));
            assert_eq!(first, expected.get(2).copied());
        }
    }
}
