//! A part of a run, prepared in memory before the clock starts.

use std::io;
use std::time::Duration;

use crate::oracle::model::ExpectedDeliveries;
use crate::workload::handshake::Handshake;

/// Maximum events of a segment.
pub(crate) const MAX_SEGMENT_EVENTS: u64 = 2_000_000;
/// Maximum memory of a segment's expected output, in bytes. Mixes with many deliveries reach it:
/// two million events then take a few segments, each of which has a better chance to stay in cache.
pub(crate) const MAX_SEGMENT_BYTES: usize = 1 << 28;

/// Bytes that the source sends, and the expected output of every client.
#[derive(Default)]
pub(crate) struct Segment {
    pub(crate) wire: Vec<u8>,
    pub(crate) deliveries: ExpectedDeliveries,
    pub(crate) events: u64,
    /// Send schedule; empty if everything may be sent at once.
    pub(crate) schedule: Vec<DueAt>,
}

/// From `after` the start of the segment on, the bytes before `end` may be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DueAt {
    pub(crate) after: Duration,
    pub(crate) end: usize,
}

impl Segment {
    pub(crate) fn for_clients(count: usize) -> Segment {
        Segment { deliveries: ExpectedDeliveries::for_clients(count), ..Segment::default() }
    }

    /// Clears the segment and keeps its allocations.
    pub(crate) fn clear(&mut self) {
        self.wire.clear();
        self.deliveries.clear();
        self.schedule.clear();
        self.events = 0;
    }

    /// Returns the number of bytes that may have been sent after `elapsed`.
    pub(crate) fn sendable_bytes(&self, elapsed: Duration) -> usize {
        if self.schedule.is_empty() {
            return self.wire.len();
        }
        let due = self.schedule.partition_point(|due| due.after <= elapsed);
        due.checked_sub(1).map_or(0, |last| self.schedule[last].end)
    }

    /// Returns the time until more bytes may be sent; `None` if the schedule is complete.
    pub(crate) fn until_next_due(&self, elapsed: Duration) -> Option<Duration> {
        let next = self.schedule.partition_point(|due| due.after <= elapsed);
        self.schedule.get(next).map(|due| due.after - elapsed)
    }

    /// Returns whether the next events belong to another segment.
    pub(crate) fn is_full(&self) -> bool {
        self.events >= MAX_SEGMENT_EVENTS || self.deliveries.memory() >= MAX_SEGMENT_BYTES
    }
}

/// A source of segments, with the handshakes of source and clients.
pub(crate) trait Workload {
    /// Replaces `segment` by the next one; returns `false` at the end.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    fn next_segment(&mut self, segment: &mut Segment) -> io::Result<bool>;

    /// Returns the handshake of the source.
    fn source_handshake(&self) -> Handshake {
        Handshake::default()
    }

    /// Returns the handshake of the client of `user`.
    fn client_handshake(&self, user: u64) -> Handshake {
        Handshake::of_user(user)
    }

    /// Returns whether the server may write to the source; such bytes are ignored.
    fn source_expects_replies(&self) -> bool {
        false
    }
}
