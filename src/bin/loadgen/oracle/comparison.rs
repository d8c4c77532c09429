//! What one client has received, compared with what it must receive.

use crate::oracle::expected::{Cursor, ExpectedLine};
use crate::oracle::mismatch::{Mismatch, MismatchKind};
use crate::workload::segment::Segment;

/// The comparison of one client, over all segments. The client's index in a segment is passed to each call.
pub(crate) struct Comparison {
    user: u64,
    /// How far it has got in the current segment.
    pub(crate) cursor: Cursor,
    /// Lines and bytes of the earlier segments.
    lines_before: u64,
    bytes_before: u64,
    /// The first difference, which ends the comparison.
    pub(crate) mismatch: Option<Mismatch>,
}

impl Comparison {
    /// Begins the comparison of a user.
    pub(crate) fn of(user: u64) -> Comparison {
        let cursor = Cursor::default();
        Comparison { user, cursor, lines_before: 0, bytes_before: 0, mismatch: None }
    }

    pub(crate) fn user(&self) -> u64 {
        self.user
    }

    /// Compares received bytes.
    pub(crate) fn check(&mut self, received: &[u8], segment: &Segment, index: usize) {
        if let Some(mismatch) = &mut self.mismatch {
            mismatch.add_received(received);
            return;
        }
        let expected = &segment.deliveries.clients[index];
        let Err(matched) = self.cursor.check(received, expected, &segment.deliveries.broadcasts)
        else {
            return;
        };
        let line = self.line_due(segment, index);
        let known = line.as_ref().map_or(0, |line| (self.cursor.offset - line.start) as usize);
        let kind = if line.is_some() { MismatchKind::Different } else { MismatchKind::Extra };
        let head = line.map_or(Vec::new(), |line| line.text[..known].to_vec());
        let mismatch = self.fail(kind, segment, index);
        mismatch.add_received(&head);
        mismatch.add_received(&received[matched..]);
    }

    /// Records that all lines that are still due in the segment are missing.
    pub(crate) fn fail_for_missing(&mut self, segment: &Segment, index: usize) {
        let received = self.line_due(segment, index).map_or(0, |line| line.number);
        let missing = segment.deliveries.clients[index].lines() - received;
        self.fail(MismatchKind::Missing(missing), segment, index);
    }

    /// Records a mismatch at the next expected byte.
    pub(crate) fn fail(
        &mut self,
        kind: MismatchKind,
        segment: &Segment,
        index: usize,
    ) -> &mut Mismatch {
        let line = self.line_due(segment, index);
        let number =
            line.as_ref().map_or(segment.deliveries.clients[index].lines(), |line| line.number);
        let mismatch = Mismatch::new(
            self.user,
            kind,
            self.lines_before + number + 1,
            self.bytes_before + self.cursor.offset,
        );
        let text = line.map_or(Vec::new(), |line| line.text);
        self.mismatch.insert(mismatch.expecting(text))
    }

    /// Adds the expected totals of a segment that is complete.
    pub(crate) fn end_segment(&mut self, segment: &Segment, index: usize) {
        let due = &segment.deliveries.clients[index];
        self.lines_before += due.lines();
        self.bytes_before += due.len();
    }

    /// Returns the line that contains the next expected byte.
    fn line_due(&self, segment: &Segment, index: usize) -> Option<ExpectedLine> {
        let expected = &segment.deliveries.clients[index];
        expected.line_at(self.cursor.offset, &segment.deliveries.broadcasts)
    }
}
