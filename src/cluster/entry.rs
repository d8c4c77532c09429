//! The entry of the stream: a batch with its origin.

use std::sync::Arc;

use super::engine::Position;
use super::history::Link;
use crate::engine::{Batch, Remainder};
use crate::journal::{HEADER_BYTES, Header, Kind, MAX_PAYLOAD_BYTES, append_record, lines_from};

/// The length of an [`Origin`], in bytes.
const ORIGIN_BYTES: usize = 32;

/// Where an entry comes from, and what its server had read when it made the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The random ID of the server's process.
    pub server: u64,
    /// The number of the entry among those of its server.
    pub nonce: u64,
    /// The last entry that the server had read. All readers have read it before, too.
    pub base: Link,
}

/// An entry. Its bytes are shared, because they are kept to be appended again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it comes from.
    pub origin: Origin,
    /// The awaited sequence before it.
    pub first: u64,
    /// The awaited sequence after it: its position.
    pub next: Position,
    /// A fingerprint of all its bytes.
    pub fingerprint: u64,
    /// The encoded entry.
    pub bytes: Arc<Vec<u8>>,
}

/// The reason why bytes are not an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadEntry(String);

impl Entry {
    /// Encodes a batch.
    #[must_use]
    pub fn encode(origin: Origin, batch: &Batch) -> Entry {
        let mut bytes = Vec::with_capacity(ORIGIN_BYTES + HEADER_BYTES + batch.lines.len());
        let words = [origin.server, origin.nonce, origin.base.position.0, origin.base.chain];
        bytes.extend_from_slice(words.map(u64::to_le_bytes).as_flattened());
        let header = Header::new(Kind::Batch, 0, (batch.first, batch.next), batch.count);
        append_record(&mut bytes, header, &batch.lines);
        let fingerprint = fingerprint(&bytes);
        let (first, next) = (batch.first, Position(batch.next));
        Entry { origin, first, next, fingerprint, bytes: Arc::new(bytes) }
    }

    /// Creates the first entry of a stream: no sequences before `first`, with a random ID.
    #[must_use]
    pub fn genesis(first: u64, id: u64) -> Entry {
        let origin = Origin { server: id, nonce: 0, base: Link::default() };
        let batch = Batch { first, next: first, ..Batch::default() };
        Entry::encode(origin, &batch)
    }

    /// Returns whether it is the first entry of a stream, whose ID is that of the server.
    #[must_use]
    pub fn is_genesis(&self) -> bool {
        self.first == self.next.0
    }

    /// Decodes the entry at a position, and checks its checksums.
    ///
    /// # Errors
    ///
    /// The bytes are not an entry of this format, or belong to another position.
    pub fn decode(position: Position, bytes: Vec<u8>) -> Result<Entry, BadEntry> {
        let bad = |reason: &str| BadEntry(format!("the entry at {position}: {reason}"));
        let Some((origin, record)) = bytes.split_first_chunk::<ORIGIN_BYTES>() else {
            return Err(bad("it is too short"));
        };
        let Some((header, payload)) = record.split_first_chunk::<HEADER_BYTES>() else {
            return Err(bad("it is too short"));
        };
        let (header, _) = Header::decode(header).map_err(|error| bad(&error.to_string()))?;
        if header.kind != Kind::Batch || header.file_id != 0 {
            return Err(bad("it is not a batch of a stream"));
        }
        if header.next != position.0 || header.first > header.next {
            return Err(bad("it belongs to another position"));
        }
        if payload.len() != header.bytes as usize || payload.len() > MAX_PAYLOAD_BYTES {
            return Err(bad("its length is wrong"));
        }
        if crc32fast::hash(payload) != header.payload_checksum {
            return Err(bad("the checksum of its lines does not match"));
        }
        let word = |index: usize| {
            let bytes = origin.as_chunks::<8>().0.get(index);
            bytes.map_or(0, |&bytes| u64::from_le_bytes(bytes))
        };
        let base = Link { position: Position(word(2)), chain: word(3) };
        Ok(Entry {
            origin: Origin { server: word(0), nonce: word(1), base },
            first: header.first,
            next: position,
            fingerprint: fingerprint(&bytes),
            bytes: Arc::new(bytes),
        })
    }

    /// Returns the lines.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        &self.bytes[ORIGIN_BYTES + HEADER_BYTES..]
    }

    /// Returns the part of the entry that is applied after the sequences before `awaited`, which others
    /// have covered: *the first in the stream counts*. The range is the one of its lines.
    #[must_use]
    pub fn remainder(&self, awaited: u64) -> Remainder {
        let first = self.first.max(awaited);
        let lines = match awaited > self.first {
            true => lines_from(self.lines(), awaited).len(),
            false => self.lines().len(),
        };
        let end = self.bytes.len();
        Remainder::new(first, self.next.0, Arc::clone(&self.bytes), end - lines..end)
    }
}

/// Returns a fingerprint of all bytes of an entry. The header contains the checksum of the lines.
fn fingerprint(bytes: &[u8]) -> u64 {
    let (origin, record) = bytes.split_at(ORIGIN_BYTES);
    let header = record.get(..HEADER_BYTES).unwrap_or(record);
    u64::from(crc32fast::hash(origin)) << 32 | u64::from(crc32fast::hash(header))
}
