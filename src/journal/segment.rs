//! The first record of a segment.

use super::names::SegmentName;
use super::record::{Header, Kind, append_record, read_u32, read_u64};
use super::stream::StreamLink;

/// The length of the payload of a [`SegmentStart`], in bytes.
const PAYLOAD_BYTES: usize = 44;

/// The end of the valid part of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentEnd {
    /// The generation of the segment.
    pub generation: u64,
    /// The random ID of the segment.
    pub id: u64,
    /// The offset of the end, in bytes. Everything before was on the disk when the next segment was created,
    /// and nothing after it counts, except a record with the state hash.
    pub offset: u64,
    /// The checksum of the header of the last record.
    pub checksum: u32,
}

/// The content of the first record of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentStart {
    /// The name of the segment, which is repeated here.
    pub name: SegmentName,
    /// The first sequence of the stream, which a reset returns to.
    pub first_sequence: u64,
    /// The end of the previous segment. `None` for the first segment of a journal.
    pub previous: Option<SegmentEnd>,
}

impl SegmentStart {
    /// Appends the record to `out`. Returns the checksum of its header.
    fn append_to(&self, out: &mut Vec<u8>) -> u32 {
        let SegmentStart { name, first_sequence, previous } = *self;
        let none = SegmentEnd { generation: 0, id: 0, offset: 0, checksum: 0 };
        let previous = previous.unwrap_or(none);
        let mut payload = Vec::with_capacity(PAYLOAD_BYTES);
        let numbers =
            [name.generation, first_sequence, previous.generation, previous.id, previous.offset];
        numbers.iter().for_each(|number| payload.extend_from_slice(&number.to_le_bytes()));
        payload.extend_from_slice(&previous.checksum.to_le_bytes());
        let header = Header::new(Kind::SegmentStart, name.id, (name.first, name.first), 0);
        append_record(out, header, &payload)
    }

    /// Appends the record and, in a journal that follows a stream, the one of the place there. Returns the
    /// checksum of the last header.
    pub(super) fn append_with_link(&self, out: &mut Vec<u8>, stream: Option<StreamLink>) -> u32 {
        let checksum = self.append_to(out);
        let SegmentName { id, first, .. } = self.name;
        stream.map_or(checksum, |link| link.append_to(out, id, first, checksum))
    }

    /// Decodes the record of the segment `name`. Returns `None` if it is not one of this segment.
    #[must_use]
    pub fn decode(name: SegmentName, header: &Header, payload: &[u8]) -> Option<SegmentStart> {
        let is_of_segment = header.kind == Kind::SegmentStart
            && header.file_id == name.id
            && (header.first, header.next) == (name.first, name.first)
            && payload.len() == PAYLOAD_BYTES
            && read_u64(payload, 0) == name.generation;
        let previous = SegmentEnd {
            generation: read_u64(payload, 16),
            id: read_u64(payload, 24),
            offset: read_u64(payload, 32),
            checksum: read_u32(payload, 40),
        };
        is_of_segment.then_some(SegmentStart {
            name,
            first_sequence: read_u64(payload, 8),
            previous: (previous.id != 0).then_some(previous),
        })
    }
}
