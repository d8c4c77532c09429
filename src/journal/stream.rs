//! Journals that follow a stream which several servers share: its entries, and the place of the journal in it.

use std::sync::Arc;

use super::chain::Chain;
use super::error::Error;
use super::names::{SUPERSEDED, SegmentName, SnapshotName};
use super::reader::{RecordReader, Step};
use super::record::{Header, Kind, append_record, append_record_of, read_u64};
use super::recovery::append_segment;
use super::segment::SegmentEnd;
use super::snapshot::{SnapshotPoint, write_snapshot};
use super::state::State;
use super::storage::{Storage, StorageFile};
use super::writer::Position;
use crate::protocol::split_sequence;

/// The length of a [`StreamLink`], in bytes.
const LINK_BYTES: usize = 32;

/// The length of what comes before the bytes of an entry: epoch, chain and fingerprint.
const ENTRY_LINK_BYTES: usize = 24;

/// The length of what comes before the lines in the bytes of an entry: its origin and its own header.
const ENTRY_PREFIX_BYTES: usize = 96;

/// How much longer the payload of an entry is than its lines, in bytes.
pub(super) const MAX_ENTRY_OVERHEAD: usize = ENTRY_LINK_BYTES + ENTRY_PREFIX_BYTES;

/// The place of a journal in a stream, together with the awaited sequence. What the numbers mean is up to the
/// stream; a journal only keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLink {
    /// The random ID of the stream. 0 if it is not known.
    pub stream: u64,
    /// The epoch of the engine in which the stream contained all entries so far.
    pub epoch: u64,
    /// The chain of the fingerprints of all entries so far.
    pub chain: u64,
    /// The fingerprint of the last entry.
    pub fingerprint: u64,
}

/// An entry of a stream, as it was read from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEntry {
    /// The awaited sequence before it. The entry may begin earlier: others have covered that part.
    pub first: u64,
    /// The awaited sequence after it.
    pub next: u64,
    /// The number of lines that are applied.
    pub count: u32,
    /// The place in the stream after it.
    pub link: StreamLink,
    /// The bytes in the stream: 96 bytes, then the lines.
    pub bytes: Arc<Vec<u8>>,
}

impl StreamLink {
    /// Returns the payload of a record of the kind [`Kind::Stream`].
    pub(super) fn encode(self) -> [u8; LINK_BYTES] {
        let mut bytes = [0; LINK_BYTES];
        let StreamLink { stream, epoch, chain, fingerprint } = self;
        let numbers = [stream, epoch, chain, fingerprint].map(u64::to_le_bytes);
        bytes.copy_from_slice(numbers.as_flattened());
        bytes
    }

    /// Decodes the payload of a record of the kind [`Kind::Stream`].
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<StreamLink> {
        (payload.len() == LINK_BYTES).then(|| StreamLink {
            stream: read_u64(payload, 0),
            epoch: read_u64(payload, 8),
            chain: read_u64(payload, 16),
            fingerprint: read_u64(payload, 24),
        })
    }

    /// Appends the record of the file with an ID that says where the journal is in the stream. Returns the
    /// checksum of its header.
    pub(super) fn append_to(
        self,
        out: &mut Vec<u8>,
        file_id: u64,
        awaited: u64,
        previous: u32,
    ) -> u32 {
        let header =
            Header { previous, ..Header::new(Kind::Stream, file_id, (awaited, awaited), 0) };
        append_record(out, header, &self.encode())
    }
}

impl StreamEntry {
    /// Returns the length of its payload, in bytes.
    pub(super) fn payload_bytes(&self) -> usize {
        ENTRY_LINK_BYTES + self.bytes.len()
    }

    /// Appends its record with this header. Returns the checksum of the header.
    pub(super) fn append_to(&self, out: &mut Vec<u8>, header: Header) -> u32 {
        let StreamLink { epoch, chain, fingerprint, .. } = self.link;
        let link = [epoch, chain, fingerprint].map(u64::to_le_bytes);
        append_record_of(out, header, &[link.as_flattened(), &self.bytes])
    }

    /// Returns the header of its record, in the file with an ID.
    pub(super) fn header(&self, file_id: u64) -> Header {
        Header::new(Kind::Entry, file_id, (self.first, self.next), self.count)
    }
}

/// The content of a record of the kind [`Kind::Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryPayload<'a> {
    /// The epoch of the engine in which it was read.
    pub epoch: u64,
    /// The chain after the entry.
    pub chain: u64,
    /// The fingerprint of the entry.
    pub fingerprint: u64,
    /// The bytes in the stream.
    pub bytes: &'a [u8],
}

impl<'a> EntryPayload<'a> {
    /// Decodes a payload. `None` if it is too short.
    #[must_use]
    pub fn decode(payload: &'a [u8]) -> Option<EntryPayload<'a>> {
        let bytes = payload.get(ENTRY_LINK_BYTES..)?;
        (bytes.len() >= ENTRY_PREFIX_BYTES).then(|| EntryPayload {
            epoch: read_u64(payload, 0),
            chain: read_u64(payload, 8),
            fingerprint: read_u64(payload, 16),
            bytes,
        })
    }

    /// Returns the lines that are applied after the sequences before `awaited`.
    pub(super) fn lines_from(self, awaited: u64) -> &'a [u8] {
        lines_from(self.bytes.get(ENTRY_PREFIX_BYTES..).unwrap_or_default(), awaited)
    }
}

/// Returns the lines, of those in order, that come after the sequences before `awaited`.
pub(crate) fn lines_from(mut lines: &[u8], awaited: u64) -> &[u8] {
    while !lines.is_empty() && sequence_of(lines).is_none_or(|sequence| sequence < awaited) {
        let end = memchr::memchr(b'\n', lines).map_or(lines.len(), |end| end + 1);
        lines = &lines[end..];
    }
    lines
}

/// Returns the lines that a batch or an entry applies.
pub(super) fn applied_lines<'a>(header: &Header, payload: &'a [u8]) -> &'a [u8] {
    match header.kind {
        Kind::Batch => payload,
        Kind::Entry => EntryPayload::decode(payload)
            .map(|entry| entry.lines_from(header.first))
            .unwrap_or_default(),
        _ => &[],
    }
}

/// Returns the sequence at the start of a line.
pub(super) fn sequence_of(line: &[u8]) -> Option<u64> {
    split_sequence(line).map(|(sequence, _)| sequence.get())
}

/// Consecutive entries of a stream that were read from a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamPart {
    /// The fingerprint of the entry after which they come. `None` if the journal does not contain that place,
    /// or if they are the oldest ones.
    pub after: Option<u64>,
    /// For each entry the awaited sequences before and after it, and its bytes in the stream.
    pub entries: Vec<(u64, u64, Vec<u8>)>,
}

/// Reads the entries after a place in the stream, or the oldest ones if it is `None`, until they take
/// `max_bytes` or the journal ends. Runs beside a [`Writer`](super::Writer) of the same directory. The entries
/// that it has just written may be missing.
///
/// # Errors
///
/// The journal is corrupt, or cannot be read.
pub fn read_entries<S: Storage>(
    storage: &S,
    after: Option<u64>,
    max_bytes: usize,
) -> Result<StreamPart, Error> {
    let chain = Chain::load(storage)?;
    // The segment that begins there, or contains it.
    let contains = |name: &SegmentName| after.is_some_and(|after| name.first <= after);
    let first = chain.segments.iter().position(|start| contains(&start.name));
    let first = first.or_else(|| after.is_none().then(|| chain.segments.len().checked_sub(1))?);
    let Some(first) = first else { return Ok(StreamPart::default()) };
    let mut part =
        PartReader { after, is_found: after.is_none(), max_bytes, ..PartReader::default() };
    for index in (0..=first).rev() {
        let is_last = part.read_segment(storage, &chain, index)?;
        if is_last || !part.is_found {
            break;
        }
    }
    Ok(part.part)
}

#[derive(Debug, Default)]
struct PartReader {
    after: Option<u64>,
    /// Whether the place was found after which the entries come.
    is_found: bool,
    max_bytes: usize,
    bytes: usize,
    part: StreamPart,
}

impl PartReader {
    /// Reads a segment of the chain. Returns whether enough was read.
    fn read_segment<S: Storage>(
        &mut self,
        storage: &S,
        chain: &Chain,
        index: usize,
    ) -> Result<bool, Error> {
        let SegmentName { id, .. } = chain.segments[index].name;
        let name = chain.segments[index].name.to_string();
        let end = chain.stated_end(index).map(|end| end.offset);
        let file = storage.open(&name).map_err(Error::io("open", &name))?;
        let mut records = RecordReader::starting_at(&file, id, 0, 0);
        while end.is_none_or(|end| records.offset() < end)
            && let Step::Record(header, payload) =
                records.next_record().map_err(Error::io("read", &name))?
        {
            if self.bytes >= self.max_bytes {
                return Ok(true);
            }
            self.take(&header, payload);
        }
        Ok(false)
    }

    fn take(&mut self, header: &Header, payload: &[u8]) {
        match header.kind {
            Kind::Entry => {
                let Some(entry) = EntryPayload::decode(payload) else { return };
                if self.is_found {
                    self.bytes += entry.bytes.len();
                    self.part.entries.push((header.first, header.next, entry.bytes.to_vec()));
                } else {
                    self.find(header.next, entry.fingerprint);
                }
            }
            Kind::Stream if !self.is_found => {
                let link = StreamLink::decode(payload);
                // Before the first entry there is no place.
                if let Some(link) = link.filter(|link| link.chain != 0) {
                    self.find(header.next, link.fingerprint);
                }
            }
            _ => {}
        }
    }

    fn find(&mut self, next: u64, fingerprint: u64) {
        if self.after == Some(next) {
            self.is_found = true;
            self.part.after = Some(fingerprint);
        }
    }
}

/// Begins a journal at a state with a place in a stream, in place of what the directory contains. Returns where
/// it continues. After an interruption the journal is empty.
///
/// # Errors
///
/// The storage refused.
pub fn begin_at<S: Storage>(storage: &mut S, state: &State) -> Result<Position, Error> {
    let marked = storage.create(SUPERSEDED, 0).and_then(|mut file| file.sync());
    marked.and_then(|()| storage.sync()).map_err(Error::io("create", SUPERSEDED))?;
    let next_generation = Chain::load(storage)?.next_generation;
    remove_superseded(storage)?;
    // The segment that led to the state is in the stream, not here.
    let point = SnapshotPoint { generation: next_generation, id: storage.random_id() };
    write_snapshot(storage, state, point, || {})?;
    let SnapshotPoint { generation, id } = point;
    let mut position = Position {
        previous: Some(SegmentEnd { generation, id, offset: 0, checksum: 0 }),
        next_generation: next_generation + 1,
        awaited: state.awaited,
        first_sequence: state.first_sequence,
        stream: state.stream,
    };
    append_segment(storage, &mut position, None, state)?;
    remove_marker(storage)?;
    Ok(position)
}

/// Begins an empty journal with the first entry of a stream, which leads to `state`. Returns where it continues.
///
/// # Errors
///
/// The storage refused.
pub fn begin_with<S: Storage>(
    storage: &mut S,
    mut position: Position,
    entry: &StreamEntry,
    state: &State,
) -> Result<Position, Error> {
    append_segment(storage, &mut position, Some(entry), state)?;
    Ok(position)
}

/// Removes all files of a journal that another one was about to replace, if there are any.
pub(super) fn remove_superseded<S: Storage>(storage: &mut S) -> Result<(), Error> {
    let list = || Error::io("list", "the directory of the journal");
    let names = storage.list().map_err(list())?;
    for name in names {
        if SegmentName::parse(&name).is_some() || SnapshotName::parse(&name).is_some() {
            storage.remove(&name).map_err(Error::io("remove", &name))?;
        }
    }
    storage.sync().map_err(Error::io("sync", "the directory of the journal"))
}

/// Removes the mark that the files of a directory are superseded.
pub(super) fn remove_marker<S: Storage>(storage: &mut S) -> Result<(), Error> {
    let removed = storage.remove(SUPERSEDED).and_then(|()| storage.sync());
    removed.map_err(Error::io("remove", SUPERSEDED))
}
