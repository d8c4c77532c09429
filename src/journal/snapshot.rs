//! Snapshots: the state at the end of a segment.

use std::io;

use super::error::Error;
use super::names::{SnapshotName, UNFINISHED_SNAPSHOT};
use super::reader::{BadRecord, RecordReader, Step};
use super::record::{HEADER_BYTES, Header, HeaderError, Kind, append_record};
use super::record::{read_u32, read_u64, read_u128};
use super::segment::SegmentEnd;
use super::state::State;
use super::storage::{ReadAt, Storage, StorageFile, read_full, write_once};
use super::stream::StreamLink;
use crate::protocol::UserId;

/// The size at which a record of follows is written, in bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// The maximum number of followees in one group, so that a chunk does not exceed its size by much.
const MAX_GROUP_FOLLOWEES: u32 = 4096;

const START_BYTES: usize = 24;
const END_BYTES: usize = 24;

/// The segment at whose end a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPoint {
    /// The generation of the segment.
    pub generation: u64,
    /// The random ID of the segment.
    pub id: u64,
}

impl SnapshotPoint {
    /// Returns whether the point is the end of a segment.
    #[must_use]
    pub fn is_end_of(self, end: &SegmentEnd) -> bool {
        (self.generation, self.id) == (end.generation, end.id)
    }
}

/// Appends records to a file.
struct Appender<'a, F, P> {
    file: &'a mut F,
    /// Called after each record.
    pause: P,
    file_id: u64,
    awaited: u64,
    offset: u64,
    checksum: u32,
    record: Vec<u8>,
}

impl<F: StorageFile, P: FnMut()> Appender<'_, F, P> {
    fn append(&mut self, kind: Kind, count: u32, payload: &[u8]) -> io::Result<()> {
        self.record.clear();
        let header = Header {
            previous: self.checksum,
            ..Header::new(kind, self.file_id, (self.awaited, self.awaited), count)
        };
        self.checksum = append_record(&mut self.record, header, payload);
        write_once(self.file, self.offset, &self.record)?;
        self.offset += self.record.len() as u64;
        (self.pause)();
        Ok(())
    }
}

/// Writes a snapshot of `state`, which was reached at the end of the segment `point`. It gets its name once
/// on the disk. Returns the name and the length in bytes. Calls `pause` after each record.
///
/// # Errors
///
/// The storage refused. There is no snapshot then.
pub fn write_snapshot<S: Storage>(
    storage: &mut S,
    state: &State,
    point: SnapshotPoint,
    pause: impl FnMut(),
) -> Result<(SnapshotName, u64), Error> {
    let name = SnapshotName { generation: point.generation, awaited: state.awaited };
    let written = write_unfinished(storage, state, point, pause).and_then(|bytes| {
        storage.rename(UNFINISHED_SNAPSHOT, &name.to_string())?;
        storage.sync()?;
        Ok(bytes)
    });
    match written {
        Ok(bytes) => Ok((name, bytes)),
        Err(error) => {
            // The next attempt replaces the file where it cannot be removed.
            let _ = storage.remove(UNFINISHED_SNAPSHOT);
            Err(Error::io("write", &name.to_string())(error))
        }
    }
}

fn write_unfinished<S: Storage>(
    storage: &mut S,
    state: &State,
    point: SnapshotPoint,
    pause: impl FnMut(),
) -> io::Result<u64> {
    let mut file = storage.create(UNFINISHED_SNAPSHOT, 0)?;
    let bytes = write_records(&mut file, storage.random_id(), state, point, pause)?;
    file.sync()?;
    Ok(bytes)
}

/// Writes the records of a snapshot in order, with `file_id` in each. Returns their length in bytes. Calls `pause`
/// after each of them.
pub(crate) fn write_records(
    file: &mut impl StorageFile,
    file_id: u64,
    state: &State,
    point: SnapshotPoint,
    pause: impl FnMut(),
) -> io::Result<u64> {
    let mut out = Appender {
        file,
        pause,
        file_id,
        awaited: state.awaited,
        offset: 0,
        checksum: 0,
        record: Vec::new(),
    };
    let start = [point.generation, point.id, state.first_sequence].map(u64::to_le_bytes);
    out.append(Kind::SnapshotStart, 0, start.as_flattened())?;
    if let Some(link) = state.stream {
        out.append(Kind::Stream, 0, &link.encode())?;
    }
    let follows = write_follows(&mut out, state)?;
    let mut end = follows.to_le_bytes().to_vec();
    end.extend_from_slice(&state.hash().0.to_le_bytes());
    out.append(Kind::SnapshotEnd, 0, &end)?;
    Ok(out.offset)
}

/// Writes all follows, in groups of one follower each. Returns their number.
fn write_follows(
    out: &mut Appender<'_, impl StorageFile, impl FnMut()>,
    state: &State,
) -> io::Result<u64> {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
    let (mut total, mut in_chunk) = (0, 0);
    let mut group: Option<(UserId, u32, usize)> = None;
    for (follower, followed) in state.graph.follows() {
        let (count, count_at) = match group {
            Some((of, count, at)) if of == follower && count < MAX_GROUP_FOLLOWEES => (count, at),
            _ => {
                if chunk.len() >= CHUNK_BYTES {
                    out.append(Kind::Follows, in_chunk, &chunk)?;
                    chunk.clear();
                    in_chunk = 0;
                }
                chunk.extend_from_slice(&follower.0.to_le_bytes());
                chunk.extend_from_slice(&[0; 4]);
                (0, chunk.len() - 4)
            }
        };
        chunk.extend_from_slice(&followed.0.to_le_bytes());
        chunk[count_at..count_at + 4].copy_from_slice(&(count + 1).to_le_bytes());
        group = Some((follower, count + 1, count_at));
        in_chunk += 1;
        total += 1;
    }
    if in_chunk > 0 {
        out.append(Kind::Follows, in_chunk, &chunk)?;
    }
    Ok(total)
}

/// The reason why a snapshot is not used.
#[derive(Debug)]
pub enum SnapshotError {
    /// The file cannot be read.
    Io(io::Error),
    /// It was written in another version of the format.
    Version(u16),
    /// The content is wrong. The text says where and why.
    Damaged(String),
}

impl From<io::Error> for SnapshotError {
    fn from(error: io::Error) -> SnapshotError {
        SnapshotError::Io(error)
    }
}

/// Reads a snapshot, checks its checksums and its state hash, and returns the state and the segment at whose
/// end it was taken. Passes the number of bytes read to `on_bytes` after each record of follows.
///
/// # Errors
///
/// The snapshot cannot be read or is damaged.
pub fn read_snapshot(
    file: &impl ReadAt,
    name: SnapshotName,
    mut on_bytes: impl FnMut(u64),
) -> Result<(State, SnapshotPoint), SnapshotError> {
    let mut records = RecordReader::starting_at(file, read_file_id(file)?, 0, 0);
    let (header, start) = expect_record(&mut records, Kind::SnapshotStart)?;
    let point = SnapshotPoint { generation: read_u64(&start, 0), id: read_u64(&start, 8) };
    let mut state = State::new(read_u64(&start, 16));
    state.awaited = header.next;
    if start.len() != START_BYTES
        || (point.generation, state.awaited) != (name.generation, name.awaited)
    {
        return Err(SnapshotError::Damaged("the content does not match the name".to_owned()));
    }
    let mut follows = 0;
    loop {
        let offset = records.offset();
        match records.next_record()? {
            Step::Record(Header { kind: Kind::Follows, count, .. }, payload) => {
                if load_follows(&mut state, payload) != Some(count) {
                    return Err(SnapshotError::Damaged(format!(
                        "the follows at offset {offset} are malformed"
                    )));
                }
                follows += u64::from(count);
                on_bytes(records.offset());
            }
            Step::Record(Header { kind: Kind::Stream, .. }, payload) if state.stream.is_none() => {
                state.stream = StreamLink::decode(payload);
            }
            Step::Record(Header { kind: Kind::SnapshotEnd, .. }, payload) => {
                let is_complete = payload.len() == END_BYTES
                    && (read_u64(payload, 0), read_u128(payload, 8)) == (follows, state.hash().0);
                return match is_complete {
                    true => Ok((state, point)),
                    false => {
                        Err(SnapshotError::Damaged("the state hash does not match".to_owned()))
                    }
                };
            }
            step => return Err(unexpected(&step, offset)),
        }
    }
}

/// Reads the file ID of the first record.
fn read_file_id(file: &impl ReadAt) -> io::Result<u64> {
    let mut bytes = [0; HEADER_BYTES];
    read_full(file, 0, &mut bytes)?;
    Ok(read_u64(&bytes, 8))
}

fn expect_record(
    records: &mut RecordReader<'_, impl ReadAt>,
    kind: Kind,
) -> Result<(Header, Vec<u8>), SnapshotError> {
    let offset = records.offset();
    match records.next_record()? {
        Step::Record(header, payload) if header.kind == kind => Ok((header, payload.to_vec())),
        step => Err(unexpected(&step, offset)),
    }
}

fn unexpected(step: &Step<'_>, offset: u64) -> SnapshotError {
    SnapshotError::Damaged(match step {
        Step::Bad(BadRecord::Header(HeaderError::Version(version))) => {
            return SnapshotError::Version(*version);
        }
        Step::Bad(bad) => format!("offset {offset}: {bad}"),
        Step::End => format!("the file ends at offset {offset}"),
        Step::Record(header, _) => {
            format!("offset {offset}: a record of the kind {:?} does not belong here", header.kind)
        }
    })
}

/// Adds the follows of a chunk. Returns their number, or `None` if the chunk is malformed.
fn load_follows(state: &mut State, mut chunk: &[u8]) -> Option<u32> {
    let mut total = 0;
    while !chunk.is_empty() {
        let (group, rest) = chunk.split_at_checked(12)?;
        let (follower, count) = (UserId(read_u64(group, 0)), read_u32(group, 8));
        let (followees, rest) = rest.split_at_checked(8 * count as usize)?;
        for followed in followees.as_chunks::<8>().0 {
            state.graph.follow(follower, UserId(u64::from_le_bytes(*followed)));
        }
        total += count;
        chunk = rest;
    }
    Some(total)
}
