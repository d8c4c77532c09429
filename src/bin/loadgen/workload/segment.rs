//! A stretch of a run, prepared in memory before the clock starts.

use std::io;
use std::time::Duration;

use crate::oracle::model::ExpectedDeliveries;
use crate::workload::handshake::Handshake;

/// A slice ends at this many events …
pub(crate) const MAX_SEGMENT_EVENTS: u64 = 2_000_000;
/// … or when what clients must receive for it takes this many bytes of memory: a few slices for two
/// million events of a mix with many deliveries, where a single one would not stay in any cache.
pub(crate) const MAX_SEGMENT_BYTES: usize = 1 << 28;

/// What the source sends, and what every client must receive for it.
#[derive(Default)]
pub(crate) struct Segment {
    pub(crate) wire: Vec<u8>,
    pub(crate) deliveries: ExpectedDeliveries,
    pub(crate) events: u64,
    /// When the source may send how much; empty: everything at once.
    pub(crate) schedule: Vec<DueAt>,
}

/// From `after` the slice's start on, the bytes before `end` may be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DueAt {
    pub(crate) after: Duration,
    pub(crate) end: usize,
}

impl Segment {
    pub(crate) fn for_clients(count: usize) -> Segment {
        Segment { deliveries: ExpectedDeliveries::for_clients(count), ..Segment::default() }
    }

    /// Makes it empty and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.wire.clear();
        self.deliveries.clear();
        self.schedule.clear();
        self.events = 0;
    }

    /// How many bytes may have been sent when so much time has passed.
    pub(crate) fn sendable_bytes(&self, elapsed: Duration) -> usize {
        if self.schedule.is_empty() {
            return self.wire.len();
        }
        let due = self.schedule.partition_point(|due| due.after <= elapsed);
        due.checked_sub(1).map_or(0, |last| self.schedule[last].end)
    }

    /// The time until more may be sent than now; `None` when nothing will be added.
    pub(crate) fn until_next_due(&self, elapsed: Duration) -> Option<Duration> {
        let next = self.schedule.partition_point(|due| due.after <= elapsed);
        self.schedule.get(next).map(|due| due.after - elapsed)
    }

    /// Whether the next events belong into another slice.
    pub(crate) fn is_full(&self) -> bool {
        self.events >= MAX_SEGMENT_EVENTS || self.deliveries.memory() >= MAX_SEGMENT_BYTES
    }
}

/// Where slices come from, and how source and clients introduce themselves before them.
pub(crate) trait Workload {
    /// Replaces `segment` by the next one; `false` when there is none.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    fn next_segment(&mut self, segment: &mut Segment) -> io::Result<bool>;

    /// What the source writes first.
    fn source_handshake(&self) -> Handshake {
        Handshake::default()
    }

    /// What the client of `user` writes first.
    fn client_handshake(&self, user: u64) -> Handshake {
        Handshake::of_user(user)
    }

    /// Whether the server may write to the source; what it writes is not looked at.
    fn source_expects_replies(&self) -> bool {
        false
    }
}
