//! Snapshots in the engine, and the start from them.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use super::engine::{Appended, EngineError, Position, SnapshotPointer, StreamEngine, StreamInfo};
use super::entry::{BadEntry, Entry};
use super::history::{History, Link};
use super::replica::{MAX_RETAINED_BYTES, Trouble};
use super::retained::Retained;
use crate::journal::{
    Header, Kind, ReadAt, SnapshotError, SnapshotName, SnapshotPoint, State, StorageFile,
    read_snapshot, write_records,
};

/// The length of a chunk, in bytes, except that of the last one.
const CHUNK_BYTES: usize = 1 << 20;

/// How long a server keeps the right to publish without extending it.
const LOCK_TTL: Duration = Duration::from_secs(30);

/// How often a start begins anew because the snapshot that it was loading was replaced.
const MAX_LOADS: usize = 3;

/// Why a server cannot start from a stream.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The engine is unreachable or refuses.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// The stream does not exist.
    #[error(
        "the stream does not exist: if it is new, run with --stream-create once; if it existed before, the \
         engine has been emptied, and a new stream would start from sequence {first_sequence} again"
    )]
    Missing {
        /// The configured first sequence.
        first_sequence: u64,
    },
    /// The stream starts with another sequence than the configured one.
    #[error(
        "the stream starts with sequence {recorded}, but first_sequence is {configured}: run with \
         --first-sequence {recorded}, or name another stream"
    )]
    FirstSequence {
        /// The configured first sequence.
        configured: u64,
        /// The first sequence of the stream.
        recorded: u64,
    },
    /// The oldest entries were trimmed, and there is no snapshot of them.
    #[error(
        "the stream's oldest entry is at sequence {oldest}, and no snapshot leads there: trim a stream by \
         its servers only"
    )]
    NoSnapshot {
        /// The position of the oldest entry.
        oldest: Position,
    },
    /// The snapshot cannot be used.
    #[error("the published snapshot at sequence {position} cannot be used: {reason}")]
    Snapshot {
        /// The position of the snapshot.
        position: Position,
        /// What is wrong.
        reason: String,
    },
    /// An entry of the stream is wrong.
    #[error("{0}")]
    Entry(#[from] BadEntry),
    /// The entries do not continue each other.
    #[error("{0}")]
    Trouble(Box<Trouble>),
    /// The journal cannot be used.
    #[error("{0}: move the directory away, so that this server reads the stream from its start")]
    Journal(String),
    /// The journal does not follow a stream.
    #[error(
        "the journal is that of a server without --stream: name another data_dir, or leave --stream out"
    )]
    NoStream,
    /// The journal follows another stream.
    #[error(
        "the journal follows another stream than this one: name the stream that it belongs to, or another \
         data_dir"
    )]
    OtherStream,
    /// The stream does not contain what the journal does.
    #[error(
        "diverged: the journal ends at sequence {position} with something else than the stream, which goes on \
         to {end}, because the engine has lost what this server had applied, and others have appended \
         something else; to follow the stream as it is, move the directory away, which then holds what was \
         lost (eventserver journal dump)"
    )]
    Diverged {
        /// The end of the journal.
        position: Position,
        /// The end of the stream.
        end: Position,
    },
}

impl RestoreError {
    /// Returns whether the same attempt may succeed later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, RestoreError::Engine(error) if !error.is_final)
    }
}

/// The state that a stream leads to.
#[derive(Debug)]
pub struct Restored {
    /// The follower graph and the awaited sequence.
    pub state: State,
    /// The entries that were read.
    pub history: History,
    /// The newest entries, to be appended again if the engine loses them.
    pub kept: Retained,
    /// The snapshot from which it was restored.
    pub snapshot: Option<SnapshotPointer>,
    /// The epoch of the engine in which the stream contained these entries.
    pub epoch: u64,
    /// The random ID of the stream. 0 if it is not known.
    pub stream: u64,
}

/// The progress of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The stream was created.
    Created,
    /// The journal has gone further than the stream, whose end is `None` if it does not exist.
    Ahead {
        /// The end of the journal.
        position: Position,
        /// The end of the stream.
        end: Option<Position>,
    },
    /// The stream was trimmed beyond the end of the journal.
    Behind {
        /// The end of the journal.
        position: Position,
    },
    /// A snapshot was loaded.
    Loaded {
        /// Its position.
        position: Position,
    },
    /// Entries were read.
    Read {
        /// The last position.
        position: Position,
        /// Where the stream ended at the start.
        end: Position,
    },
}

/// Restores the state from the newest snapshot and the entries after it, up to the end of the stream. Creates
/// a stream that does not exist, with the random number `create` as its ID, if there is one. Keeps the newest
/// `max_events` of the events after the snapshot.
///
/// # Errors
///
/// The engine is unreachable, the stream does not exist, or its content is wrong.
pub fn restore(
    engine: &mut impl StreamEngine,
    first_sequence: u64,
    create: Option<u64>,
    max_events: usize,
    mut progress: impl FnMut(Progress),
) -> Result<Restored, RestoreError> {
    for attempt in 1.. {
        let info = open_or_create(engine, first_sequence, create, &mut progress)?;
        let mut restored = base(engine, first_sequence)?.with_first_sequence(first_sequence)?;
        restored.epoch = info.epoch;
        restored.state.keep_history(max_events);
        if let Some(SnapshotPointer { position, .. }) = restored.snapshot {
            progress(Progress::Loaded { position });
        }
        match restored.read_on(engine, info.end, &mut progress) {
            Ok(()) => return Ok(restored),
            // The stream was trimmed while it was read.
            Err(RestoreError::NoSnapshot { .. })
                if attempt < MAX_LOADS && engine.newest_snapshot()? != restored.snapshot => {}
            Err(error) => return Err(error),
        }
    }
    Err(EngineError::passing("the stream changes too fast").into())
}

/// Returns what is known of the stream. Creates one that does not exist, with the random number `create` as its
/// ID, if there is one.
fn open_or_create(
    engine: &mut impl StreamEngine,
    first_sequence: u64,
    create: Option<u64>,
    progress: &mut impl FnMut(Progress),
) -> Result<StreamInfo, RestoreError> {
    let missing = RestoreError::Missing { first_sequence };
    match (engine.info()?, create) {
        (Some(info), _) => Ok(info),
        (None, None) => Err(missing),
        (None, Some(id)) => {
            let genesis = Entry::genesis(first_sequence, id);
            if engine.create(genesis.next, &genesis.bytes)? == Appended::Accepted {
                progress(Progress::Created);
                let info = engine.info()?;
                engine.settle(info.map_or(0, |info| info.epoch), true)?;
            }
            engine.info()?.ok_or(missing)
        }
    }
}

/// Returns the state at the newest snapshot, or before the first event if there is none.
fn base(engine: &mut impl StreamEngine, first_sequence: u64) -> Result<Restored, RestoreError> {
    for attempt in 1.. {
        let Some(pointer) = engine.newest_snapshot()? else { break };
        match load(engine, &pointer) {
            Ok(state) => {
                let link = Link { position: pointer.position, chain: pointer.chain };
                let history = History::starting_at(link, pointer.fingerprint);
                return Ok(Restored::new(state, history, Some(pointer), pointer.stream));
            }
            // It was replaced while it was loaded.
            Err(_) if attempt < MAX_LOADS && engine.newest_snapshot()? != Some(pointer) => {}
            Err(error) => return Err(error),
        }
    }
    let genesis = match engine.read(None, Duration::ZERO)?.entries.into_iter().next() {
        Some((position, bytes)) => Entry::decode(position, bytes)?,
        None => return Err(RestoreError::Missing { first_sequence }),
    };
    if !genesis.is_genesis() {
        return Err(RestoreError::NoSnapshot { oldest: genesis.next });
    }
    let link = Link::default().then(genesis.next, genesis.fingerprint);
    let history = History::starting_at(link, genesis.fingerprint);
    let stream = genesis.origin.server;
    let mut restored = Restored::new(State::new(genesis.first), history, None, stream);
    restored.keep(genesis);
    Ok(restored)
}

fn load(engine: &mut impl StreamEngine, pointer: &SnapshotPointer) -> Result<State, RestoreError> {
    let failed = |reason: String| RestoreError::Snapshot { position: pointer.position, reason };
    let file = ChunkReader { engine: RefCell::new((engine, None)), pointer };
    let name = SnapshotName { generation: 0, awaited: pointer.position.0 };
    match read_snapshot(&file, name, |_| {}) {
        Ok((state, _)) => Ok(state),
        Err(SnapshotError::Io(error)) => Err(failed(error.to_string())),
        Err(SnapshotError::Version(version)) => {
            Err(failed(format!("it has format version {version}")))
        }
        Err(SnapshotError::Damaged(reason)) => Err(failed(reason)),
    }
}

impl Restored {
    pub(super) fn new(
        state: State,
        history: History,
        snapshot: Option<SnapshotPointer>,
        stream: u64,
    ) -> Restored {
        Restored { state, history, kept: Retained::default(), snapshot, epoch: 0, stream }
    }

    /// Checks that the stream starts with the configured first sequence.
    fn with_first_sequence(self, configured: u64) -> Result<Restored, RestoreError> {
        match self.state.first_sequence {
            recorded if recorded == configured => Ok(self),
            recorded => Err(RestoreError::FirstSequence { configured, recorded }),
        }
    }

    pub(super) fn position(&self) -> Position {
        self.history.newest().link.position
    }

    /// Reads the entries up to the end of the stream. Reads the newest one each time once more: as long as it is
    /// there, nothing after it was trimmed.
    fn read_on(
        &mut self,
        engine: &mut impl StreamEngine,
        end: Position,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), RestoreError> {
        while self.position() < end {
            let newest = self.position();
            let entries = engine.read(newest.before(), Duration::ZERO)?.entries;
            let oldest = entries.first().map_or(end, |&(oldest, _)| oldest);
            match entries.len() {
                _ if oldest != newest => return Err(RestoreError::NoSnapshot { oldest }),
                // Its end was removed by hand.
                1 => break,
                _ => {}
            }
            for (position, bytes) in entries.into_iter().skip(1) {
                self.apply(Entry::decode(position, bytes)?)?;
            }
            progress(Progress::Read { position: self.position(), end });
        }
        Ok(())
    }

    fn apply(&mut self, entry: Entry) -> Result<(), RestoreError> {
        let remainder = entry.remainder(self.position().0);
        self.history.admit(&entry).map_err(|trouble| RestoreError::Trouble(Box::new(trouble)))?;
        let lines = remainder.lines();
        let range = (remainder.first, remainder.next);
        let header = Header {
            bytes: lines.len() as u32,
            ..Header::new(Kind::Batch, 0, range, remainder.count())
        };
        self.state.apply(&header, lines).map_err(|reason| {
            RestoreError::Trouble(Box::new(Trouble::Diverged {
                first: header.first,
                next: header.next,
                reason,
            }))
        })?;
        self.keep(entry);
        Ok(())
    }

    fn keep(&mut self, entry: Entry) {
        self.kept.push(entry);
        self.kept.trim(MAX_RETAINED_BYTES, |_| true);
    }
}

/// A snapshot that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The position of the snapshot.
    pub position: Position,
    /// The length of the snapshot, in bytes.
    pub bytes: u64,
    /// The position before which the stream was trimmed: the one of the snapshot before.
    pub trimmed_before: Option<Position>,
}

/// Publishes a snapshot of the stream up to its end, and trims the entries before the last snapshot. `None` if
/// another server does so at the moment. `random` is a number that no other snapshot has.
///
/// # Errors
///
/// The engine is unreachable, or the content of the stream is wrong. Nothing is published.
pub fn publish(
    engine: &mut impl StreamEngine,
    first_sequence: u64,
    random: u64,
) -> Result<Option<Published>, RestoreError> {
    if !engine.lock_snapshots(random, LOCK_TTL)? {
        return Ok(None);
    }
    let published = publish_locked(engine, first_sequence, random);
    engine.unlock_snapshots(random)?;
    published.map(Some)
}

fn publish_locked(
    engine: &mut impl StreamEngine,
    first_sequence: u64,
    id: u64,
) -> Result<Published, RestoreError> {
    let Restored { state, history, snapshot, stream, .. } =
        restore(engine, first_sequence, None, 0, |_| {})?;
    let newest = *history.newest();
    let position = newest.link.position;
    let point = SnapshotPoint { generation: 0, id: 0 };
    let mut file = ChunkWriter { engine, id, chunk: Vec::new(), chunks: 0, written: 0 };
    let written = write_records(&mut file, id, &state, point, || {}).and_then(|bytes| {
        file.put_chunk()?;
        Ok((bytes, file.chunks))
    });
    let (bytes, chunks) =
        written.map_err(|error| RestoreError::Snapshot { position, reason: error.to_string() })?;
    let pointer = SnapshotPointer {
        position,
        id,
        chunks,
        chain: newest.link.chain,
        fingerprint: newest.fingerprint,
        stream,
    };
    if !engine.lock_snapshots(id, LOCK_TTL)? {
        return Err(lost_lock().into());
    }
    engine.publish(&pointer)?;
    let trimmed_before = snapshot.map(|snapshot| snapshot.position);
    if let Some(before) = trimmed_before {
        engine.trim(before)?;
    }
    Ok(Published { position, bytes, trimmed_before })
}

fn lost_lock() -> EngineError {
    EngineError::passing("another server has begun a snapshot, because this one took too long")
}

/// A snapshot that is written to the engine in chunks, in order.
struct ChunkWriter<'a, E> {
    engine: &'a mut E,
    id: u64,
    chunk: Vec<u8>,
    chunks: u32,
    written: u64,
}

impl<E: StreamEngine> ChunkWriter<'_, E> {
    fn put_chunk(&mut self) -> io::Result<()> {
        let put = match self.engine.lock_snapshots(self.id, LOCK_TTL) {
            Ok(true) => self.engine.put_chunk(self.id, self.chunks, &self.chunk),
            Ok(false) => Err(lost_lock()),
            Err(error) => Err(error),
        };
        self.chunks += 1;
        self.chunk.clear();
        put.map_err(io::Error::other)
    }
}

impl<E> ReadAt for ChunkWriter<'_, E> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.written)
    }

    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl<E: StreamEngine> StorageFile for ChunkWriter<'_, E> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        if offset != self.written {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(rest.len().min(CHUNK_BYTES - self.chunk.len()));
            self.chunk.extend_from_slice(piece);
            rest = more;
            if self.chunk.len() == CHUNK_BYTES {
                self.put_chunk()?;
            }
        }
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The index and the content of a chunk.
type Chunk = (u32, Vec<u8>);

/// A snapshot that is read from the engine, one chunk at a time.
struct ChunkReader<'a, E> {
    /// The engine and the chunk that was read last.
    engine: RefCell<(&'a mut E, Option<Chunk>)>,
    pointer: &'a SnapshotPointer,
}

impl<E: StreamEngine> ReadAt for ChunkReader<'_, E> {
    fn size(&self) -> io::Result<u64> {
        Ok(u64::from(self.pointer.chunks) * CHUNK_BYTES as u64)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let index = (offset / CHUNK_BYTES as u64) as u32;
        if index >= self.pointer.chunks {
            return Ok(0);
        }
        let (engine, chunk) = &mut *self.engine.borrow_mut();
        if chunk.as_ref().is_none_or(|&(read, _)| read != index) {
            let read = engine.chunk(self.pointer.id, index).map_err(io::Error::other)?;
            let read = read.ok_or_else(|| io::Error::other(format!("chunk {index} is gone")))?;
            *chunk = Some((index, read));
        }
        let start = (offset % CHUNK_BYTES as u64) as usize;
        let content = chunk.as_ref().and_then(|(_, content)| content.get(start..));
        let content = content.unwrap_or_default();
        let copied = content.len().min(bytes.len());
        bytes[..copied].copy_from_slice(&content[..copied]);
        Ok(copied)
    }
}
