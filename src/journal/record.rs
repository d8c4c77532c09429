//! The record: the unit of segments and snapshots.

use std::fmt;

use super::stream::MAX_ENTRY_OVERHEAD;

/// The length of a record's header, in bytes. The same in all versions of the format.
pub const HEADER_BYTES: usize = 64;

/// The newest version of the format. All older ones are read, too.
pub const FORMAT_VERSION: u16 = 2;

/// The maximum length of a record's payload, in bytes. A batch is closed at 256 KiB, before it takes a line
/// (of up to 64 KiB) that exceeds this.
pub const MAX_PAYLOAD_BYTES: usize = 512 << 10;

/// The maximum length of any record's payload, in bytes: an entry of a stream has more than its lines.
pub(super) const MAX_RECORD_PAYLOAD_BYTES: usize = MAX_PAYLOAD_BYTES + MAX_ENTRY_OVERHEAD;

const MAGIC: [u8; 4] = *b"EVJR";

/// The offset of the header's own checksum. The same in all versions of the format.
const CHECKSUM_OFFSET: usize = 60;

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first record of a segment. Its payload is a [`SegmentStart`](super::segment::SegmentStart).
    SegmentStart,
    /// Lines in order, each ended by LF.
    Batch,
    /// A reset of the stream: no follows, and the first sequence is awaited. No payload.
    Reset,
    /// The last record of a segment. Its payload is the state hash.
    SegmentEnd,
    /// The first record of a snapshot.
    SnapshotStart,
    /// Follows of a snapshot.
    Follows,
    /// The last record of a snapshot.
    SnapshotEnd,
    /// The second record of each file of a journal that follows a stream. Its payload is a
    /// [`StreamLink`](super::StreamLink).
    Stream,
    /// An entry of the stream that several servers share. Its payload is a
    /// [`StreamEntry`](super::StreamEntry).
    Entry,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::SegmentStart,
        Kind::Batch,
        Kind::Reset,
        Kind::SegmentEnd,
        Kind::SnapshotStart,
        Kind::Follows,
        Kind::SnapshotEnd,
        Kind::Stream,
        Kind::Entry,
    ];

    /// Returns the version of the format that introduced the kind, so that older programs refuse no more
    /// than what they cannot read.
    fn version(self) -> u16 {
        match self {
            Kind::Stream | Kind::Entry => 2,
            _ => 1,
        }
    }

    fn code(self) -> u8 {
        1 + self as u8
    }

    fn from_code(code: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// The header of a record. `FORMAT.md` describes its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The kind of the record.
    pub kind: Kind,
    /// The random ID of the file that the record belongs to, because files are recycled.
    pub file_id: u64,
    /// The awaited sequence before the record.
    pub first: u64,
    /// The awaited sequence after the record.
    pub next: u64,
    /// The number of lines or follows in the payload.
    pub count: u32,
    /// The length of the payload, in bytes.
    pub bytes: u32,
    /// The offset up to which the file was known to be on the disk when the record was written.
    pub synced: u64,
    /// The checksum of the payload.
    pub payload_checksum: u32,
    /// The checksum of the header of the previous record, 0 in the first record of a file.
    pub previous: u32,
}

/// The reason why bytes are not the header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// The bytes do not start like a record.
    Magic,
    /// The checksum does not match.
    Checksum,
    /// The record is intact, but written in another version of the format.
    Version(u16),
    /// The record is intact, but its kind is unknown.
    Kind(u8),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::Magic => f.write_str("no record starts here"),
            HeaderError::Checksum => f.write_str("the checksum of the header does not match"),
            HeaderError::Version(version) => write!(
                f,
                "format version {version}, this program reads versions up to {FORMAT_VERSION}"
            ),
            HeaderError::Kind(kind) => write!(f, "unknown kind of record {kind}"),
        }
    }
}

impl Header {
    /// Creates the header of a record that leads from the first awaited sequence to the second one. Its payload is
    /// not known yet, it is the first of its file, and nothing of that is known to be on the disk.
    #[must_use]
    pub fn new(kind: Kind, file_id: u64, (first, next): (u64, u64), count: u32) -> Header {
        Header {
            kind,
            file_id,
            first,
            next,
            count,
            bytes: 0,
            synced: 0,
            payload_checksum: 0,
            previous: 0,
        }
    }

    /// Encodes the header. Returns it and its checksum, which the next header contains.
    #[must_use]
    pub fn encode(&self) -> ([u8; HEADER_BYTES], u32) {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&self.kind.version().to_le_bytes());
        bytes[6] = self.kind.code();
        bytes[8..16].copy_from_slice(&self.file_id.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.next.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.count.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.synced.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.payload_checksum.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.previous.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..CHECKSUM_OFFSET]);
        bytes[CHECKSUM_OFFSET..].copy_from_slice(&checksum.to_le_bytes());
        (bytes, checksum)
    }

    /// Decodes a header and checks its checksum. Returns it and its checksum.
    ///
    /// # Errors
    ///
    /// The bytes are not the header of a record of this version.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<(Header, u32), HeaderError> {
        if bytes[..4] != MAGIC {
            return Err(HeaderError::Magic);
        }
        let checksum = read_u32(bytes, CHECKSUM_OFFSET);
        if crc32fast::hash(&bytes[..CHECKSUM_OFFSET]) != checksum {
            return Err(HeaderError::Checksum);
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if !(1..=FORMAT_VERSION).contains(&version) {
            return Err(HeaderError::Version(version));
        }
        let kind = Kind::from_code(bytes[6]).ok_or(HeaderError::Kind(bytes[6]))?;
        let header = Header {
            kind,
            file_id: read_u64(bytes, 8),
            first: read_u64(bytes, 16),
            next: read_u64(bytes, 24),
            count: read_u32(bytes, 32),
            bytes: read_u32(bytes, 36),
            synced: read_u64(bytes, 40),
            payload_checksum: read_u32(bytes, 48),
            previous: read_u32(bytes, 52),
        };
        Ok((header, checksum))
    }

    /// Returns the length of the record, in bytes.
    #[must_use]
    pub fn record_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.bytes)
    }
}

/// Appends a record to `out`: the header, whose fields for the payload are filled in, and the payload.
/// Returns the checksum of the header.
pub(crate) fn append_record(out: &mut Vec<u8>, header: Header, payload: &[u8]) -> u32 {
    append_record_of(out, header, &[payload])
}

/// The same with a payload in several parts.
pub(super) fn append_record_of(out: &mut Vec<u8>, header: Header, payload: &[&[u8]]) -> u32 {
    let mut payload_checksum = crc32fast::Hasher::new();
    payload.iter().for_each(|part| payload_checksum.update(part));
    let header = Header {
        // A payload has at most MAX_RECORD_PAYLOAD_BYTES.
        bytes: payload.iter().map(|part| part.len()).sum::<usize>() as u32,
        payload_checksum: payload_checksum.finalize(),
        ..header
    };
    let (bytes, checksum) = header.encode();
    out.extend_from_slice(&bytes);
    payload.iter().for_each(|part| out.extend_from_slice(part));
    checksum
}

/// Returns the little-endian number at an offset, 0 beyond the end.
pub(super) fn read_u64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |&chunk| u64::from_le_bytes(chunk))
}

/// Returns the little-endian number at an offset, 0 beyond the end.
pub(super) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |&chunk| u32::from_le_bytes(chunk))
}

/// Returns the little-endian number at an offset, 0 beyond the end.
pub(super) fn read_u128(bytes: &[u8], at: usize) -> u128 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |&chunk| u128::from_le_bytes(chunk))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header {
            kind: Kind::Batch,
            file_id: 0x0123_4567_89AB_CDEF,
            first: 17,
            next: 19,
            count: 2,
            bytes: 9,
            synced: 4096,
            payload_checksum: 0xDEAD_BEEF,
            previous: 0x1234_5678,
        }
    }

    #[test]
    fn the_layout_is_the_one_of_the_format() {
        let (bytes, checksum) = header().encode();
        let expected = [
            &b"EVJR\x01\x00\x02\x00"[..],
            b"\xEF\xCD\xAB\x89\x67\x45\x23\x01",
            b"\x11\0\0\0\0\0\0\0\x13\0\0\0\0\0\0\0",
            b"\x02\0\0\0\x09\0\0\0\x00\x10\0\0\0\0\0\0",
            b"\xEF\xBE\xAD\xDE\x78\x56\x34\x12\0\0\0\0",
        ];
        assert_eq!(bytes[..60], expected.concat());
        assert_eq!(bytes[60..], checksum.to_le_bytes());
        assert_eq!(checksum, crc32fast::hash(&bytes[..60]));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (bytes, _) = header().encode();
        for bit in 0..8 * HEADER_BYTES {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < 32 { HeaderError::Magic } else { HeaderError::Checksum };
            assert_eq!(Header::decode(&flipped), Err(expected), "bit {bit}");
        }
    }

    #[test]
    fn another_version_and_an_unknown_kind_are_named() {
        let with = |offset: usize, value: u8| {
            let (mut bytes, _) = header().encode();
            bytes[offset] = value;
            let checksum = crc32fast::hash(&bytes[..60]);
            bytes[60..].copy_from_slice(&checksum.to_le_bytes());
            Header::decode(&bytes)
        };
        assert_eq!(with(4, 3), Err(HeaderError::Version(3)));
        assert_eq!(with(6, 0), Err(HeaderError::Kind(0)));
        assert_eq!(with(6, 10), Err(HeaderError::Kind(10)));
    }

    proptest! {
        #[test]
        fn roundtrip(
            kind in 0..9_usize,
            numbers in any::<[u64; 4]>(),
            words in any::<[u32; 4]>(),
        ) {
            let header = Header {
                kind: Kind::ALL[kind],
                file_id: numbers[0],
                first: numbers[1],
                next: numbers[2],
                count: words[0],
                bytes: words[1],
                synced: numbers[3],
                payload_checksum: words[2],
                previous: words[3],
            };
            let (bytes, checksum) = header.encode();
            prop_assert_eq!(Header::decode(&bytes), Ok((header, checksum)));
        }
    }
}
