//! The newest applied events, from which a client that comes back gets what it has missed.

use std::collections::VecDeque;

use crate::protocol::{EventKind, Line, UserId};

/// The maximum number of events per chunk. Chunks are recycled, so that keeping an event allocates nothing.
const MAX_CHUNK_EVENTS: usize = 4096;

/// A ring keeps up to this part of its events more than it has to, because it drops whole chunks.
const CHUNKS_PER_RING: usize = 16;

/// The typical length of a line, for which a new chunk has space.
const TYPICAL_LINE_BYTES: usize = 24;

/// The maximum length of the line of an event.
const MAX_LINE_BYTES: usize = 64;

/// A ring of the newest applied events.
///
/// An event takes 32 bytes and its line, at most 64 bytes; an unfollow, which no client receives, has no
/// line. Typical lines make this about 55 bytes per event. The ring keeps at most 4,096 events more than it
/// has to. Its memory grows with use.
///
/// Every event has a *position*, which counts the events since the ring was created. Positions go on across a
/// [reset](Self::clear), unlike sequences.
#[derive(Debug)]
pub struct History {
    /// All full except the last one.
    chunks: VecDeque<Chunk>,
    max_events: u64,
    /// The number of events of a full chunk: a power of two.
    chunk_events: u64,
    /// The position of the oldest event.
    start: u64,
    /// The position after the newest event.
    end: u64,
    /// The first sequence from which on no event is missing.
    covered_from: u64,
}

/// Consecutive events and their lines.
#[derive(Debug)]
struct Chunk {
    entries: Vec<Entry>,
    lines: Vec<u8>,
}

/// The type of a kept event, and whether it changed the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A follow that existed already.
    IdempotentFollow,
    /// A new follow.
    Follow,
    /// The end of a follow that existed. Others are not kept.
    Unfollow,
    Broadcast,
    PrivateMessage,
    StatusUpdate,
}

/// A kept event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) sequence: u64,
    /// The followed user, the recipient of a private message, or the author of a status update.
    pub(super) subject: UserId,
    /// The follower of a follow or an unfollow.
    pub(super) follower: UserId,
    line_offset: u32,
    line_bytes: u8,
    pub(super) kind: Kind,
}

impl Entry {
    /// Returns whether the event changed whom `user` follows.
    #[inline]
    pub(super) fn changes_follows_of(&self, user: UserId) -> bool {
        self.follower == user && matches!(self.kind, Kind::Follow | Kind::Unfollow)
    }
}

/// Consecutive events of one chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    pub(super) entries: &'a [Entry],
    lines: &'a [u8],
}

impl<'a> Run<'a> {
    /// Returns the line of one of the entries.
    #[inline]
    pub(super) fn line(&self, entry: &Entry) -> &'a [u8] {
        let start = entry.line_offset as usize;
        &self.lines[start..start + usize::from(entry.line_bytes)]
    }
}

impl History {
    /// Creates an empty ring that keeps at least the newest `max_events` (at least 1). No event with a sequence
    /// before `covered_from` will be pushed; 0 for the start of a stream, before which there was none.
    #[must_use]
    pub fn new(max_events: usize, covered_from: u64) -> History {
        let max_events = max_events.max(1);
        let chunk_events = (max_events / CHUNKS_PER_RING).clamp(1, MAX_CHUNK_EVENTS);
        History {
            chunks: VecDeque::new(),
            max_events: max_events as u64,
            chunk_events: 1 << chunk_events.ilog2(),
            start: 0,
            end: 0,
            covered_from,
        }
    }

    /// Appends an applied event. `has_changed` is whether it changed the follower graph.
    #[inline]
    pub fn push(&mut self, sequence: u64, kind: EventKind, line: Line<'_>, has_changed: bool) {
        const NO_USER: UserId = UserId(0);
        let (kind, subject, follower) = match kind {
            EventKind::Follow { follower, followed } if has_changed => {
                (Kind::Follow, followed, follower)
            }
            EventKind::Follow { follower, followed } => {
                (Kind::IdempotentFollow, followed, follower)
            }
            EventKind::Unfollow { follower, followed } if has_changed => {
                (Kind::Unfollow, followed, follower)
            }
            // It has no recipient, and nothing has changed.
            EventKind::Unfollow { .. } => return,
            EventKind::Broadcast => (Kind::Broadcast, NO_USER, NO_USER),
            EventKind::PrivateMessage { to, .. } => (Kind::PrivateMessage, to, NO_USER),
            EventKind::StatusUpdate { from } => (Kind::StatusUpdate, from, NO_USER),
        };
        if (self.end - self.start).is_multiple_of(self.chunk_events) {
            self.add_chunk();
        }
        let Some(chunk) = self.chunks.back_mut() else { return };
        let line_offset = chunk.lines.len() as u32;
        let line_bytes = if kind == Kind::Unfollow { 0 } else { chunk.append(&line) };
        chunk.entries.push(Entry { sequence, subject, follower, line_offset, line_bytes, kind });
        self.end += 1;
    }

    /// Appends an empty chunk: the oldest one, if enough events are kept without it.
    #[cold]
    fn add_chunk(&mut self) {
        let is_full = self.len() + 1 >= self.max_events + self.chunk_events;
        let oldest = if is_full { self.chunks.pop_front() } else { None };
        let chunk = match oldest {
            Some(mut chunk) => {
                self.start += chunk.entries.len() as u64;
                if let Some(last) = chunk.entries.last() {
                    self.covered_from = last.sequence + 1;
                }
                chunk.entries.clear();
                chunk.lines.clear();
                chunk
            }
            None => {
                let events = self.chunk_events as usize;
                Chunk {
                    entries: Vec::with_capacity(events),
                    lines: Vec::with_capacity(events * TYPICAL_LINE_BYTES),
                }
            }
        };
        self.chunks.push_back(chunk);
    }

    /// Removes all events, because the stream starts again at its first sequence.
    pub fn clear(&mut self) {
        self.chunks = VecDeque::new();
        self.start = self.end;
        self.covered_from = 0;
    }

    /// Returns the number of kept events.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Returns whether no event is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Returns the memory of the kept events, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let bytes =
            |chunk: &Chunk| chunk.entries.capacity() * size_of::<Entry>() + chunk.lines.capacity();
        self.chunks.iter().map(bytes).sum::<usize>() as u64
    }

    /// Returns the first sequence from which on no event is missing: 0 if none is missing since the start of
    /// the stream.
    #[must_use]
    pub fn covered_from(&self) -> u64 {
        self.covered_from
    }

    /// Returns the position of the oldest event.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Returns the position after the newest event.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Returns the position of the first event that does not precede `sequence`.
    pub(super) fn position_of(&self, sequence: u64) -> u64 {
        let is_before =
            |chunk: &Chunk| chunk.entries.last().is_some_and(|entry| entry.sequence < sequence);
        let index = self.chunks.partition_point(is_before);
        let position = self.start + index as u64 * self.chunk_events;
        match self.chunks.get(index) {
            None => self.end,
            Some(chunk) => {
                let entries = &chunk.entries;
                position + entries.partition_point(|entry| entry.sequence < sequence) as u64
            }
        }
    }

    /// Returns the first sequence that follows all events before `position`.
    pub(super) fn sequence_after(&self, position: u64) -> u64 {
        match position.checked_sub(1).filter(|&last| last >= self.start) {
            Some(last) => self.run(last).entries[0].sequence + 1,
            None => self.covered_from,
        }
    }

    /// Returns some events from `position` on: at least one, unless there is none.
    pub(super) fn run(&self, position: u64) -> Run<'_> {
        let offset = position - self.start;
        match self.chunks.get((offset / self.chunk_events) as usize) {
            None => Run { entries: &[], lines: &[] },
            Some(chunk) => {
                let first = (offset % self.chunk_events) as usize;
                Run { entries: &chunk.entries[first..], lines: &chunk.lines }
            }
        }
    }
}

impl Chunk {
    /// Makes space for lines that are longer than typical ones, by a part only: doubling would waste memory in each chunk.
    #[cold]
    fn grow(&mut self) {
        self.lines.reserve_exact((self.lines.len() / 8).max(MAX_LINE_BYTES));
    }

    /// Appends a line, and returns its length.
    #[inline]
    fn append(&mut self, line: &Line<'_>) -> u8 {
        if self.lines.capacity() - self.lines.len() < MAX_LINE_BYTES {
            self.grow();
        }
        match *line {
            // A fixed length is copied without a call.
            Line::Padded { bytes, len } => {
                let end = self.lines.len() + len;
                self.lines.extend_from_slice(bytes);
                self.lines.truncate(end);
                len as u8
            }
            Line::Slice(bytes) => {
                self.lines.extend_from_slice(bytes);
                bytes.len() as u8
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push_broadcast(history: &mut History, sequence: u64) {
        let line = format!("{sequence}|B");
        history.push(sequence, EventKind::Broadcast, line.as_bytes().into(), false);
    }

    fn sequences(history: &History) -> Vec<u64> {
        let mut sequences = Vec::new();
        let mut position = history.start();
        while position < history.end() {
            let run = history.run(position);
            assert!(!run.entries.is_empty());
            for entry in run.entries {
                assert_eq!(run.line(entry), format!("{}|B", entry.sequence).as_bytes());
                sequences.push(entry.sequence);
            }
            position += run.entries.len() as u64;
        }
        sequences
    }

    #[test]
    fn it_keeps_the_newest_events_and_at_most_a_chunk_more() {
        for max in [1, 2, 15, 16, 31, 32, 100, 1000] {
            let mut history = History::new(max, 0);
            assert!(history.is_empty() && history.covered_from() == 0);
            // Every third sequence is void.
            let all: Vec<u64> = (5..5000).filter(|sequence| sequence % 3 > 0).collect();
            for (index, &sequence) in all.iter().enumerate() {
                push_broadcast(&mut history, sequence);
                let least = max.min(index + 1) as u64;
                assert!((least..=least + max as u64 / 16).contains(&history.len()), "of {max}");
            }
            // Each chunk has space for one more line of any length.
            let most = (max + max / 16 + 2) * (60 + MAX_LINE_BYTES / history.chunk_events as usize);
            assert!(history.bytes() <= most as u64, "{} bytes for {max}", history.bytes());
            let kept = sequences(&history);
            assert_eq!(kept, all[all.len() - kept.len()..]);
            let before = all[all.len() - kept.len() - 1];
            assert_eq!(history.covered_from(), before + 1);
            for sequence in before..5002 {
                let position = history.position_of(sequence);
                let index = kept.partition_point(|&other| other < sequence);
                assert_eq!(position, history.start() + index as u64, "of {sequence}");
                let after = if index == 0 { before + 1 } else { kept[index - 1] + 1 };
                assert_eq!(history.sequence_after(position), after);
            }
        }
    }

    #[test]
    fn nothing_is_missing_after_a_reset() {
        let mut history = History::new(2, 100);
        assert_eq!(history.covered_from(), 100);
        (100..110).for_each(|sequence| push_broadcast(&mut history, sequence));
        let end = history.end();
        history.clear();
        assert_eq!((history.covered_from(), history.start(), history.end()), (0, end, end));
        push_broadcast(&mut history, 1);
        assert_eq!((sequences(&history), history.position_of(1)), (vec![1], end));
    }

    #[test]
    fn what_no_client_needs_is_not_kept() {
        let (follower, followed) = (UserId(1), UserId(2));
        let mut history = History::new(10, 0);
        history.push(1, EventKind::Unfollow { follower, followed }, b"1|U|1|2"[..].into(), false);
        assert!(history.is_empty());
        history.push(2, EventKind::Unfollow { follower, followed }, b"2|U|1|2"[..].into(), true);
        let run = history.run(0);
        assert_eq!((run.entries[0].kind, run.line(&run.entries[0])), (Kind::Unfollow, &b""[..]));
        assert!(size_of::<Entry>() <= 32);
    }
}
