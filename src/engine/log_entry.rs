//! The changes of the state, as they are written to a log before they are applied.

use std::ops::Range;
use std::sync::Arc;

/// The size of its lines from which a batch is complete, in bytes. It may exceed it by one line.
const BATCH_BYTES: usize = 256 << 10;

/// Consecutive sequences and their lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The first sequence.
    pub first: u64,
    /// The sequence after the last.
    pub next: u64,
    /// The number of lines. Sequences without a line are void or were given up.
    pub count: u32,
    /// The lines in order as they were received, each ended by LF.
    pub lines: Vec<u8>,
}

impl Batch {
    /// Returns whether the batch contains no sequence.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first == self.next
    }

    /// Returns whether the batch has its full size. Its lines take at least 256 KiB, or its sequences
    /// without a line are as many.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.lines.len() >= BATCH_BYTES || self.next - self.first >= BATCH_BYTES as u64
    }

    /// Returns whether the lines take less than a quarter of their buffer.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.lines.len() < self.lines.capacity() / 4
    }

    /// Removes everything, and keeps the buffer.
    pub fn clear(&mut self) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        *self = Batch { lines, ..Batch::default() };
    }

    /// Appends the next sequence and its line.
    pub(super) fn push(&mut self, line: &[u8]) {
        self.lines.extend_from_slice(line);
        self.lines.push(b'\n');
        self.next += 1;
        self.count += 1;
    }
}

/// A batch of others that shares its bytes with the log, without the sequences that were covered before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remainder {
    /// The first sequence.
    pub first: u64,
    /// The sequence after the last.
    pub next: u64,
    bytes: Arc<Vec<u8>>,
    lines: Range<usize>,
}

impl Remainder {
    /// Creates the batch whose lines are this range of `bytes`.
    #[must_use]
    pub fn new(first: u64, next: u64, bytes: Arc<Vec<u8>>, lines: Range<usize>) -> Remainder {
        Remainder { first, next, bytes, lines }
    }

    /// Returns the lines, in order, each ended by LF. Sequences without a line are void or were given up.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        self.bytes.get(self.lines.clone()).unwrap_or_default()
    }

    /// Returns the number of lines.
    #[must_use]
    pub fn count(&self) -> u32 {
        memchr::memchr_iter(b'\n', self.lines()).count() as u32
    }
}

/// One change of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEntry {
    /// Events in order.
    Batch(Batch),
    /// A reset of the stream.
    Reset {
        /// The awaited sequence before the reset.
        awaited: u64,
        /// The first sequence, which is awaited after it.
        first: u64,
    },
}

impl LogEntry {
    /// Returns the awaited sequences before and after the entry.
    #[must_use]
    pub fn range(&self) -> (u64, u64) {
        match self {
            LogEntry::Batch(batch) => (batch.first, batch.next),
            LogEntry::Reset { awaited, first } => (*awaited, *first),
        }
    }
}
