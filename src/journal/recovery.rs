//! Restoring the state from a journal.

use std::io;
use std::ops::Range;

use super::chain::{Chain, Replay};
use super::error::Error;
use super::names::{
    SUPERSEDED, SegmentName, SnapshotName, UNFINISHED_SEGMENT, UNFINISHED_SNAPSHOT,
};
use super::record::{Header, Kind, append_record};
use super::segment::{SegmentEnd, SegmentStart};
use super::state::State;
use super::storage::{ReadAt, Storage, StorageFile, read_full, write_once};
use super::stream::{StreamEntry, remove_marker, remove_superseded};
use super::writer::Position;

/// The minimum number of bytes between two notices of progress.
const PROGRESS_BYTES: u64 = 1 << 20;

/// Something worth telling during a recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A snapshot is damaged, and an older one or all segments are used instead.
    DamagedSnapshot {
        /// The name of the file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// Another part of a snapshot is loaded.
    Loading {
        /// The number of bytes loaded so far.
        bytes: u64,
        /// The length of the snapshot in bytes.
        total: u64,
    },
    /// The recovery has a starting point.
    Base {
        /// The snapshot, if there is one.
        snapshot: Option<SnapshotName>,
        /// The awaited sequence.
        awaited: u64,
        /// The number of segments that follow.
        segments: usize,
    },
    /// Another MiB of segments is replayed.
    Progress {
        /// The number of bytes replayed so far.
        bytes: u64,
        /// The number of bytes to replay in total, approximately.
        total: u64,
        /// The awaited sequence.
        awaited: u64,
    },
}

/// An incomplete write at the end of the journal, as a crash leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub file: String,
    /// The offset of the first torn byte.
    pub offset: u64,
    /// The number of bytes.
    pub bytes: u64,
    /// Why they are not a record.
    pub reason: String,
}

impl TornTail {
    /// Returns the name of the file to which the bytes are copied before they are cut off.
    #[must_use]
    pub fn copy_name(&self) -> String {
        format!("{}.cut-{}", self.file, self.offset)
    }
}

/// The state of a journal, and what remains to be done before it is written again.
#[derive(Debug)]
pub struct Recovery {
    /// The restored state.
    pub state: State,
    /// Where the journal continues.
    pub position: Position,
    /// The incomplete write at the end, if any.
    pub torn: Option<TornTail>,
    /// The number of lines replayed.
    pub lines: u64,
    /// The number of bytes replayed after the newest snapshot.
    pub(super) bytes: u64,
    /// The number of segments replayed after it.
    pub(super) segments: usize,
    /// The newest snapshot that is not known to be damaged.
    pub(super) newest_snapshot: Option<SnapshotName>,
    /// The newest segment, and up to where it is known to be on the disk. `None` in an empty journal.
    newest: Option<(SegmentName, u64)>,
    damaged_snapshots: Vec<SnapshotName>,
}

/// Counts what is replayed and reports progress.
struct Counter<'a, N, R> {
    on_notice: &'a mut N,
    observer: &'a mut R,
    bytes: u64,
    total: u64,
    lines: u64,
}

impl<N: FnMut(Notice), R: Replay> Replay for Counter<'_, N, R> {
    fn on_record(&mut self, header: &Header, payload: &[u8]) {
        self.observer.on_record(header, payload);
        let before = self.bytes / PROGRESS_BYTES;
        self.bytes += header.record_bytes();
        self.lines += u64::from(header.count);
        if self.bytes / PROGRESS_BYTES > before {
            let (bytes, total, awaited) = (self.bytes, self.total, header.next);
            (self.on_notice)(Notice::Progress { bytes, total, awaited });
        }
    }
}

impl Recovery {
    /// Reads a journal and changes nothing. `first_sequence` is the first sequence of an empty journal. Another
    /// one has to start with the same.
    ///
    /// # Errors
    ///
    /// The journal is corrupt, cannot be read, has another version or another first sequence.
    pub fn read<S: Storage>(
        storage: &S,
        first_sequence: u64,
        on_notice: impl FnMut(Notice),
    ) -> Result<Recovery, Error> {
        Recovery::read_with_history(storage, first_sequence, 0, &mut (), on_notice)
    }

    /// The same, and keeps at least the newest `max_events` events, if that is not 0 and the journal reaches back that
    /// far. It then starts at an older snapshot if it has to. Passes what is replayed to `observer`.
    ///
    /// # Errors
    ///
    /// As those of [`read`](Self::read).
    pub fn read_with_history<S: Storage>(
        storage: &S,
        first_sequence: u64,
        max_events: usize,
        observer: &mut impl Replay,
        mut on_notice: impl FnMut(Notice),
    ) -> Result<Recovery, Error> {
        let chain = Chain::load(storage)?;
        let Some(newest) = chain.segments.first() else {
            let mut recovery = Recovery::empty(first_sequence, chain.next_generation);
            recovery.state.keep_history(max_events);
            return Ok(recovery);
        };
        if newest.first_sequence != first_sequence {
            let recorded = newest.first_sequence;
            return Err(Error::FirstSequence { configured: first_sequence, recorded });
        }
        Recovery::replay(storage, &chain, max_events, observer, &mut on_notice)
    }

    /// Removes the restored state. What remains to be done must be [done](Self::complete) before.
    pub fn take_state(&mut self) -> State {
        let State { first_sequence, .. } = self.state;
        std::mem::replace(&mut self.state, State::new(first_sequence))
    }

    /// The same as [`read`](Self::read), with the first sequence that is recorded.
    pub(super) fn read_recorded<S: Storage>(
        storage: &S,
        mut on_notice: impl FnMut(Notice),
    ) -> Result<Recovery, Error> {
        let chain = Chain::load(storage)?;
        match chain.segments.is_empty() {
            true => Ok(Recovery::empty(0, chain.next_generation)),
            false => Recovery::replay(storage, &chain, 0, &mut (), &mut on_notice),
        }
    }

    fn empty(first_sequence: u64, next_generation: u64) -> Recovery {
        let position = Position {
            previous: None,
            next_generation,
            awaited: first_sequence,
            first_sequence,
            stream: None,
        };
        Recovery {
            state: State::new(first_sequence),
            position,
            torn: None,
            lines: 0,
            bytes: 0,
            segments: 0,
            newest_snapshot: None,
            newest: None,
            damaged_snapshots: Vec::new(),
        }
    }

    fn replay<S: Storage>(
        storage: &S,
        chain: &Chain,
        max_events: usize,
        observer: &mut impl Replay,
        on_notice: &mut impl FnMut(Notice),
    ) -> Result<Recovery, Error> {
        let base = chain.load_base_for(storage, max_events, |bytes, total| {
            on_notice(Notice::Loading { bytes, total });
        })?;
        for (name, reason) in &base.damaged {
            let (file, reason) = (name.to_string(), reason.clone());
            on_notice(Notice::DamagedSnapshot { file, reason });
        }
        let (mut state, segments) = (base.state, base.segments);
        state.keep_history(max_events);
        on_notice(Notice::Base { snapshot: base.snapshot, awaited: state.awaited, segments });
        let total = (0..segments).map(|index| segment_bytes(storage, chain, index)).sum();
        let mut counter = Counter { on_notice, observer, bytes: 0, total, lines: 0 };
        let mut recovery = Recovery::empty(state.first_sequence, chain.next_generation);
        let mut bytes_before = 0;
        // An older base may have been chosen for the sake of the history.
        recovery.newest_snapshot = chain
            .snapshots
            .iter()
            .find(|name| base.damaged.iter().all(|(damaged, _)| damaged != *name))
            .copied();
        for index in (0..segments).rev() {
            let replayed = chain.replay(storage, index, &mut state, &mut counter)?;
            let name = chain.segments[index].name;
            match recovery
                .newest_snapshot
                .is_some_and(|newest| name.generation <= newest.generation)
            {
                true => bytes_before = counter.bytes,
                false => recovery.segments += 1,
            }
            recovery.position.previous = Some(replayed.end);
            recovery.newest = Some((name, replayed.synced));
            recovery.torn = replayed.torn.map(|(bytes, reason)| TornTail {
                file: name.to_string(),
                offset: replayed.end.offset,
                bytes,
                reason,
            });
        }
        (recovery.position.awaited, recovery.position.stream) = (state.awaited, state.stream);
        (recovery.lines, recovery.bytes) = (counter.lines, counter.bytes - bytes_before);
        recovery.damaged_snapshots = base.damaged.into_iter().map(|(name, _)| name).collect();
        Ok(Recovery { state, ..recovery })
    }

    /// Completes the newest segment, so that the journal can be continued: copies a torn tail aside and cuts
    /// it off, appends the state hash, and writes the segment to the disk. Moves damaged snapshots aside and
    /// removes unfinished files. An interrupted call can be repeated.
    ///
    /// # Errors
    ///
    /// The storage refused.
    pub fn complete<S: Storage>(&self, storage: &mut S) -> Result<(), Error> {
        let names = list(storage)?;
        if names.iter().any(|name| name == SUPERSEDED) {
            remove_superseded(storage)?;
            remove_marker(storage)?;
        }
        if let Some(torn) = &self.torn {
            copy_aside(storage, torn)?;
        }
        if let (Some((name, synced)), Some(end)) = (self.newest, self.position.previous) {
            let name = name.to_string();
            let completed = storage.open(&name).and_then(|mut file| {
                rewrite(&mut file, synced..end.offset)?;
                self.append_hash(&mut file, end)?;
                file.sync()
            });
            completed.map_err(Error::io("complete", &name))?;
        }
        for name in &self.damaged_snapshots {
            let name = name.to_string();
            let renamed = storage.rename(&name, &format!("{name}.damaged"));
            renamed.map_err(Error::io("rename", &name))?;
        }
        for name in [UNFINISHED_SEGMENT, UNFINISHED_SNAPSHOT] {
            if names.iter().any(|each| each == name) {
                storage.remove(name).map_err(Error::io("remove", name))?;
            }
        }
        storage.sync().map_err(Error::io("sync", "the directory of the journal"))
    }

    /// Continues the journal by a segment that holds no entry, on the disk before it gets its name.
    pub(super) fn append_empty_segment<S: Storage>(
        &mut self,
        storage: &mut S,
    ) -> Result<(), Error> {
        append_segment(storage, &mut self.position, None, &self.state)
    }

    fn append_hash(&self, file: &mut impl StorageFile, end: SegmentEnd) -> io::Result<()> {
        append_hash(file, end, &self.state)
    }
}

/// Continues a journal by a segment that holds at most one entry and leads to `state`, on the disk before it
/// gets its name.
pub(super) fn append_segment<S: Storage>(
    storage: &mut S,
    position: &mut Position,
    entry: Option<&StreamEntry>,
    state: &State,
) -> Result<(), Error> {
    let Position { previous, next_generation, awaited, first_sequence, stream } = *position;
    // A generation is used once, whatever becomes of the file.
    position.next_generation += 1;
    let name = SegmentName { generation: next_generation, first: awaited, id: storage.random_id() };
    let mut record = Vec::new();
    let start = SegmentStart { name, first_sequence, previous };
    let mut checksum = start.append_with_link(&mut record, stream);
    if let Some(entry) = entry {
        checksum =
            entry.append_to(&mut record, Header { previous: checksum, ..entry.header(name.id) });
        (position.awaited, position.stream) = (entry.next, Some(entry.link));
    }
    let offset = record.len() as u64;
    let end = SegmentEnd { generation: next_generation, id: name.id, offset, checksum };
    let created = storage.create(UNFINISHED_SEGMENT, 0).and_then(|mut file| {
        write_once(&mut file, 0, &record)?;
        append_hash(&mut file, end, state)?;
        file.sync()?;
        storage.rename(UNFINISHED_SEGMENT, &name.to_string())?;
        storage.sync()
    });
    created.map_err(Error::io("create", &name.to_string()))?;
    position.previous = Some(end);
    Ok(())
}

/// Appends the hash of the state to which a segment leads, and cuts off what follows.
fn append_hash(file: &mut impl StorageFile, end: SegmentEnd, state: &State) -> io::Result<()> {
    let header = Header {
        synced: end.offset,
        previous: end.checksum,
        ..Header::new(Kind::SegmentEnd, end.id, (state.awaited, state.awaited), 0)
    };
    let mut record = Vec::new();
    append_record(&mut record, header, &state.hash().0.to_le_bytes());
    file.truncate(end.offset)?;
    write_once(file, end.offset, &record)
}

fn list<S: Storage>(storage: &S) -> Result<Vec<String>, Error> {
    storage.list().map_err(Error::io("list", "the directory of the journal"))
}

/// Writes bytes again that the file holds already. A sync that failed before a restart may have left them
/// only in the memory of the operating system, and another sync would pass over them.
fn rewrite(file: &mut impl StorageFile, range: Range<u64>) -> io::Result<()> {
    let mut piece = vec![0; (1 << 20).min((range.end - range.start) as usize)];
    let mut offset = range.start;
    while offset < range.end {
        let bytes = piece.len().min((range.end - offset) as usize);
        let read = read_full(file, offset, &mut piece[..bytes])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        write_once(file, offset, &piece[..read])?;
        offset += read as u64;
    }
    Ok(())
}

/// Returns the length of a segment, as far as it is known.
fn segment_bytes<S: Storage>(storage: &S, chain: &Chain, index: usize) -> u64 {
    let length = |name: SegmentName| storage.open(&name.to_string()).and_then(|file| file.size());
    match chain.stated_end(index) {
        Some(end) => end.offset,
        None => length(chain.segments[index].name).unwrap_or(0),
    }
}

/// Copies the bytes of a torn tail to a file of their own.
fn copy_aside<S: Storage>(storage: &mut S, torn: &TornTail) -> Result<(), Error> {
    let range = torn.offset..torn.offset + torn.bytes;
    copy_range(storage, &torn.file, range, &torn.copy_name())
}

/// Copies a part of a file to a file of its own, which is on the disk then.
pub(super) fn copy_range<S: Storage>(
    storage: &mut S,
    name: &str,
    range: Range<u64>,
    copy_name: &str,
) -> Result<(), Error> {
    let file = storage.open(name).map_err(Error::io("open", name))?;
    let mut copy = storage.create(copy_name, 0).map_err(Error::io("create", copy_name))?;
    let length = range.end - range.start;
    let mut piece = vec![0; (1 << 20).min(length as usize)];
    let mut copied = 0;
    while copied < length {
        let bytes = piece.len().min((length - copied) as usize);
        let read = read_full(&file, range.start + copied, &mut piece[..bytes])
            .map_err(Error::io("read", name))?;
        if read == 0 {
            break;
        }
        write_once(&mut copy, copied, &piece[..read]).map_err(Error::io("write", copy_name))?;
        copied += read as u64;
    }
    copy.sync().and_then(|()| storage.sync()).map_err(Error::io("sync", copy_name))
}
