//! The segments of a journal that belong together, and their replay.

use super::error::{Corruption, Error};
use super::names::{SUPERSEDED, SegmentName, SnapshotName};
use super::reader::{BadRecord, LaterRecords, RecordReader, Step, find_later_records};
use super::record::{HEADER_BYTES, Header, HeaderError, Kind, MAX_RECORD_PAYLOAD_BYTES, read_u128};
use super::segment::{SegmentEnd, SegmentStart};
use super::snapshot::{SnapshotError, SnapshotPoint, read_snapshot};
use super::state::State;
use super::storage::{ReadAt, Storage, read_full};
use crate::engine::StateHash;

/// The segments and snapshots of a directory.
///
/// Each segment names the one before it. The newest segment and those it follows from are the *chain*. Any
/// others were superseded and do not count.
#[derive(Debug)]
pub(super) struct Chain {
    /// The segments of the chain, the newest first. Empty in an empty journal.
    pub(super) segments: Vec<SegmentStart>,
    /// The reason why the chain does not reach back to the first segment of the journal, if it does not.
    /// A snapshot may make up for it.
    pub(super) broken: Option<Corruption>,
    /// The segments that are not part of the chain, the oldest first.
    pub(super) unused: Vec<SegmentName>,
    /// The names of all snapshots, the newest first.
    pub(super) snapshots: Vec<SnapshotName>,
    /// The generation after that of all segments.
    pub(super) next_generation: u64,
}

/// A state to replay segments from.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) state: State,
    /// The snapshot that the state is from. `None`: the state before the first event.
    pub(super) snapshot: Option<SnapshotName>,
    /// The number of segments of the chain that follow.
    pub(super) segments: usize,
    /// Newer snapshots that are damaged, and why.
    pub(super) damaged: Vec<(SnapshotName, String)>,
}

/// A snapshot as a state to replay segments from.
enum LoadedSnapshot {
    /// The chain does not reach back to it.
    Unreached,
    /// Its state, and the number of segments of the chain that follow.
    Usable(Box<State>, usize),
    /// It is damaged. The text says how.
    Damaged(String),
}

/// The end of a replayed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replayed {
    pub(super) end: SegmentEnd,
    /// The offset up to which the segment is known to be on the disk.
    pub(super) synced: u64,
    /// The number of bytes of an incomplete write after the end, and why they are not a record.
    pub(super) torn: Option<(u64, String)>,
}

/// Observes a replay.
pub trait Replay {
    /// Called after each batch, each reset, each entry of a stream and each place in one.
    fn on_record(&mut self, header: &Header, payload: &[u8]);
}

impl Replay for () {
    fn on_record(&mut self, _: &Header, _: &[u8]) {}
}

impl Chain {
    /// Reads the first records of all segments.
    pub(super) fn load<S: Storage>(storage: &S) -> Result<Chain, Error> {
        let names = storage.list().map_err(Error::io("list", "the directory of the journal"))?;
        let mut segments: Vec<SegmentName> =
            names.iter().filter_map(|name| SegmentName::parse(name)).collect();
        let mut snapshots: Vec<SnapshotName> =
            names.iter().filter_map(|name| SnapshotName::parse(name)).collect();
        segments.sort_unstable();
        snapshots.sort_unstable_by(|a, b| b.cmp(a));
        let newest = segments.last().map(|name| name.generation);
        let newest = newest.max(snapshots.first().map(|name| name.generation));
        let next_generation = newest.map_or(1, |newest| newest + 1);
        if names.iter().any(|name| name == SUPERSEDED) {
            segments.clear();
            snapshots.clear();
        }
        let mut chain = Chain {
            segments: Vec::new(),
            broken: None,
            unused: Vec::new(),
            snapshots,
            next_generation,
        };
        let Some(&newest) = segments.last() else { return chain.without_segments() };
        chain.segments.push(read_start(storage, newest)??);
        while let Some(start) = chain.segments.last()
            && let Some(previous) = start.previous
        {
            let next = start.name.first;
            let is_previous = |name: &&SegmentName| {
                (name.generation, name.id) == (previous.generation, previous.id)
            };
            let read = match segments.iter().find(is_previous) {
                Some(&name) => read_start(storage, name)?,
                None => Err(missing_segment(start, previous)),
            };
            match read {
                Ok(start) => chain.segments.push(start),
                Err(corruption) => {
                    chain.broken = Some(Corruption { next: Some(next), ..corruption });
                    break;
                }
            }
        }
        segments.retain(|name| chain.segments.iter().all(|start| start.name != *name));
        chain.unused = segments;
        Ok(chain)
    }

    /// Returns the state before the oldest segment, unless earlier ones are missing.
    pub(super) fn initial_state(&self) -> Option<State> {
        let oldest = self.segments.last().filter(|_| self.broken.is_none())?;
        Some(State::new(oldest.first_sequence))
    }

    /// Returns the damage of the segment before the chain, if it is there and damaged. It may also be
    /// missing, because a snapshot has replaced it.
    pub(super) fn damaged_start(&self) -> Option<&Corruption> {
        let oldest = self.segments.last()?.name.to_string();
        self.broken.as_ref().filter(|broken| broken.file != oldest)
    }

    /// Returns the empty chain, unless there are snapshots, whose segments are then missing.
    fn without_segments(self) -> Result<Chain, Error> {
        match self.snapshots.first() {
            None => Ok(self),
            Some(snapshot) => Err(Error::Corrupt(Corruption {
                file: snapshot.to_string(),
                offset: 0,
                first: snapshot.awaited,
                next: None,
                reason: "the segments after this snapshot are missing".to_owned(),
            })),
        }
    }

    /// Loads the newest snapshot that is intact, or the state before the first event. Passes the number of
    /// bytes of a snapshot that are read, and its length, to `on_bytes` again and again.
    pub(super) fn load_base<S: Storage>(
        &self,
        storage: &S,
        mut on_bytes: impl FnMut(u64, u64),
    ) -> Result<Base, Error> {
        let mut damaged = Vec::new();
        for &name in &self.snapshots {
            match self.try_snapshot(storage, name, &mut on_bytes)? {
                LoadedSnapshot::Unreached => {}
                LoadedSnapshot::Usable(state, segments) => {
                    return Ok(Base { state: *state, snapshot: Some(name), segments, damaged });
                }
                LoadedSnapshot::Damaged(reason) => damaged.push((name, reason)),
            }
        }
        if let Some(broken) = &self.broken {
            return Err(Error::Corrupt(broken.clone()));
        }
        let first_sequence = self.segments.last().map_or(0, |start| start.first_sequence);
        let (state, segments) = (State::new(first_sequence), self.segments.len());
        Ok(Base { state, snapshot: None, segments, damaged })
    }

    /// Loads the newest base that is at least `events` before the newest segment, or else the oldest one: after it all
    /// these events are replayed.
    pub(super) fn load_base_for<S: Storage>(
        &self,
        storage: &S,
        events: usize,
        mut on_bytes: impl FnMut(u64, u64),
    ) -> Result<Base, Error> {
        let newest = self.segments.first().map_or(0, |start| start.name.first);
        let latest = newest.saturating_sub(events as u64);
        if events == 0 || self.snapshots.first().is_none_or(|name| name.awaited <= latest) {
            return self.load_base(storage, on_bytes);
        }
        let base =
            |(state, segments), snapshot| Base { state, snapshot, segments, damaged: Vec::new() };
        for &name in self.snapshots.iter().filter(|name| name.awaited <= latest) {
            if let LoadedSnapshot::Usable(state, segments) =
                self.try_snapshot(storage, name, &mut on_bytes)?
            {
                return Ok(base((*state, segments), Some(name)));
            }
        }
        if let Some(state) = self.initial_state() {
            return Ok(base((state, self.segments.len()), None));
        }
        for &name in self.snapshots.iter().rev() {
            if let LoadedSnapshot::Usable(state, segments) =
                self.try_snapshot(storage, name, &mut on_bytes)?
            {
                return Ok(base((*state, segments), Some(name)));
            }
        }
        self.load_base(storage, on_bytes)
    }

    /// Loads the snapshot `name` if it is intact and the chain continues it. Returns its state and the number
    /// of segments after it.
    pub(super) fn load_snapshot<S: Storage>(
        &self,
        storage: &S,
        name: SnapshotName,
    ) -> Result<Option<(State, usize)>, Error> {
        Ok(match self.try_snapshot(storage, name, |_, _| {})? {
            LoadedSnapshot::Usable(state, segments) => Some((*state, segments)),
            LoadedSnapshot::Unreached | LoadedSnapshot::Damaged(_) => None,
        })
    }

    fn try_snapshot<S: Storage>(
        &self,
        storage: &S,
        name: SnapshotName,
        mut on_bytes: impl FnMut(u64, u64),
    ) -> Result<LoadedSnapshot, Error> {
        let Some(segments) = self.segments_after(name)? else {
            return Ok(LoadedSnapshot::Unreached);
        };
        let text = name.to_string();
        let file = storage.open(&text).map_err(Error::io("open", &text))?;
        let length = file.size().map_err(Error::io("read", &text))?;
        match read_snapshot(&file, name, |bytes| on_bytes(bytes, length)) {
            Ok((state, point)) => Ok(match self.mismatch(&state, point, segments) {
                None => LoadedSnapshot::Usable(Box::new(state), segments),
                Some(reason) => LoadedSnapshot::Damaged(reason),
            }),
            Err(SnapshotError::Damaged(reason)) => Ok(LoadedSnapshot::Damaged(reason)),
            Err(SnapshotError::Version(version)) => Err(Error::Version { file: text, version }),
            Err(SnapshotError::Io(error)) => Err(Error::io("read", &text)(error)),
        }
    }

    /// Returns the number of segments after a snapshot. `None` if the chain does not reach back to it.
    fn segments_after(&self, name: SnapshotName) -> Result<Option<usize>, Error> {
        let Some(newest) = self.segments.first() else { return Ok(None) };
        if name.generation >= newest.name.generation {
            return Err(Error::Corrupt(Corruption {
                file: name.to_string(),
                offset: 0,
                first: newest.name.first,
                next: None,
                reason: format!(
                    "the segments after this snapshot are missing, the newest one is {}",
                    newest.name
                ),
            }));
        }
        let follows = |start: &SegmentStart| {
            start.previous.is_some_and(|previous| previous.generation == name.generation)
        };
        Ok(self.segments.iter().position(follows).map(|index| index + 1))
    }

    /// Returns why an intact snapshot does not continue with the segment after it, if so.
    fn mismatch(&self, state: &State, point: SnapshotPoint, segments: usize) -> Option<String> {
        let next = &self.segments[segments - 1];
        let is_continued = next.previous.is_some_and(|previous| point.is_end_of(&previous))
            && next.name.first == state.awaited
            && next.first_sequence == state.first_sequence;
        (!is_continued).then(|| format!("{} does not continue it", next.name))
    }

    /// Returns the end of the segment at an index that the next one states. `None` for the newest segment.
    pub(super) fn stated_end(&self, index: usize) -> Option<SegmentEnd> {
        self.segments[index.checked_sub(1)?].previous
    }

    /// Replays the segment at an index. Returns its end.
    pub(super) fn replay<S: Storage>(
        &self,
        storage: &S,
        index: usize,
        state: &mut State,
        observer: &mut impl Replay,
    ) -> Result<Replayed, Error> {
        let start = &self.segments[index];
        let name = start.name.to_string();
        let file = storage.open(&name).map_err(Error::io("open", &name))?;
        let next = index.checked_sub(1).map(|next| self.segments[next].name.first);
        let segment = Segment { name: &name, file: &file, start, next };
        if start.first_sequence != state.first_sequence {
            let reason = format!("another first sequence, {}", start.first_sequence);
            return Err(segment.corrupt(0, state, reason));
        }
        segment.replay(self.stated_end(index), state, observer)
    }
}

/// A segment that is replayed.
struct Segment<'a, F> {
    name: &'a str,
    file: &'a F,
    start: &'a SegmentStart,
    /// The first sequence of the next segment, if there is one.
    next: Option<u64>,
}

impl<F: ReadAt> Segment<'_, F> {
    fn replay(
        &self,
        stated: Option<SegmentEnd>,
        state: &mut State,
        observer: &mut impl Replay,
    ) -> Result<Replayed, Error> {
        let SegmentName { generation, id, .. } = self.start.name;
        let mut records = RecordReader::starting_at(self.file, id, 0, 0);
        let (mut is_start, mut synced) = (true, 0);
        loop {
            let (offset, checksum) = (records.offset(), records.checksum());
            let end = SegmentEnd { generation, id, offset, checksum };
            if let Some(stated) = stated
                && offset >= stated.offset
            {
                if end != stated {
                    let reason = "the next segment states another end".to_owned();
                    return Err(self.corrupt(offset, state, reason));
                }
                self.check_stamp(&mut records, state)?;
                return Ok(Replayed { end, synced, torn: None });
            }
            let bad = match records.next_record().map_err(Error::io("read", self.name))? {
                Step::Record(header, _) if is_start => {
                    if header.kind != Kind::SegmentStart {
                        let reason = "the first record is missing".to_owned();
                        return Err(self.corrupt(offset, state, reason));
                    }
                    is_start = false;
                    continue;
                }
                Step::Record(header, payload)
                    if header.kind == Kind::SegmentEnd && stated.is_none() =>
                {
                    self.compare_hash(offset, state, payload)?;
                    return Ok(Replayed { end, synced, torn: None });
                }
                Step::Record(header, payload) => {
                    state
                        .apply(&header, payload)
                        .map_err(|reason| self.corrupt(offset, state, reason))?;
                    observer.on_record(&header, payload);
                    synced = header.synced;
                    continue;
                }
                Step::End => None,
                Step::Bad(bad) => Some(bad),
            };
            if let Some(BadRecord::Header(HeaderError::Version(version))) = bad {
                return Err(Error::Version { file: self.name.to_owned(), version });
            }
            if stated.is_some() {
                return Err(self.corrupt(offset, state, describe(bad)));
            }
            let torn = self.torn_tail(offset, state, bad)?;
            return Ok(Replayed { end, synced, torn });
        }
    }

    /// Examines what follows the last valid record of the newest segment.
    ///
    /// A record with a valid header further on that was written after the bytes before it were on the disk
    /// proves that a crash did not cause this.
    fn torn_tail(
        &self,
        offset: u64,
        state: &State,
        bad: Option<BadRecord>,
    ) -> Result<Option<(u64, String)>, Error> {
        let read_error = || Error::io("read", self.name);
        let later = find_later_records(self.file, offset, self.start.name.id);
        let LaterRecords { end, synced, first, .. } = later.map_err(read_error())?;
        if synced > offset {
            let corruption =
                Corruption { next: first, ..self.corruption(offset, state, describe(bad)) };
            return Err(Error::Corrupt(corruption));
        }
        if bad.is_none() && end == 0 {
            return Ok(None);
        }
        let length = self.file.size().map_err(read_error())?;
        let left = length.saturating_sub(offset) as usize;
        let mut tail = vec![0; left.min(HEADER_BYTES + MAX_RECORD_PAYLOAD_BYTES)];
        let read = read_full(self.file, offset, &mut tail).map_err(read_error())?;
        let last = tail[..read].iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let bytes = (end.min(length).saturating_sub(offset)).max(last as u64);
        Ok(Some((bytes, describe(bad))))
    }

    /// Compares the hash after the end of a segment, if there is one.
    fn check_stamp(&self, records: &mut RecordReader<'_, F>, state: &State) -> Result<(), Error> {
        let offset = records.offset();
        match records.next_record() {
            Ok(Step::Record(header, payload)) if header.kind == Kind::SegmentEnd => {
                self.compare_hash(offset, state, payload)
            }
            _ => Ok(()),
        }
    }

    fn compare_hash(&self, offset: u64, state: &State, payload: &[u8]) -> Result<(), Error> {
        let recorded = StateHash(read_u128(payload, 0));
        if recorded == state.hash() || !state.knows_follows() {
            return Ok(());
        }
        let reason =
            format!("the state hash is {}, but the records lead to {}", recorded, state.hash());
        Err(self.corrupt(offset, state, reason))
    }

    fn corrupt(&self, offset: u64, state: &State, reason: String) -> Error {
        Error::Corrupt(self.corruption(offset, state, reason))
    }

    fn corruption(&self, offset: u64, state: &State, reason: String) -> Corruption {
        let Segment { name, next, .. } = *self;
        Corruption { file: name.to_owned(), offset, first: state.awaited, next, reason }
    }
}

fn describe(bad: Option<BadRecord>) -> String {
    bad.map_or_else(|| "a record is missing".to_owned(), |bad| bad.to_string())
}

/// Reads the first record of a segment.
fn read_start<S: Storage>(
    storage: &S,
    name: SegmentName,
) -> Result<Result<SegmentStart, Corruption>, Error> {
    let text = name.to_string();
    let file = storage.open(&text).map_err(Error::io("open", &text))?;
    let mut records = RecordReader::starting_at(&file, name.id, 0, 0);
    let step = records.next_record().map_err(Error::io("read", &text))?;
    let reason = match step {
        Step::Record(header, payload) => match SegmentStart::decode(name, &header, payload) {
            Some(start) => return Ok(Ok(start)),
            None => "the first record does not match the name".to_owned(),
        },
        Step::Bad(BadRecord::Header(HeaderError::Version(version))) => {
            return Err(Error::Version { file: text, version });
        }
        Step::Bad(bad) => bad.to_string(),
        Step::End => describe(None),
    };
    let first = name.first;
    Ok(Err(Corruption { file: text, offset: 0, first, next: None, reason }))
}

impl From<Corruption> for Error {
    fn from(corruption: Corruption) -> Error {
        Error::Corrupt(corruption)
    }
}

fn missing_segment(start: &SegmentStart, previous: SegmentEnd) -> Corruption {
    let SegmentEnd { generation, id, .. } = previous;
    Corruption {
        file: start.name.to_string(),
        offset: 0,
        first: start.first_sequence,
        next: Some(start.name.first),
        reason: format!(
            "the segment before it, {generation:010}-*-{id:016x}.segment, is missing, and no \
             snapshot replaces it"
        ),
    }
}

/// Returns the state hash that follows the stated end of a segment, if it does.
pub(super) fn read_stamp<S: Storage>(
    storage: &S,
    name: SegmentName,
    end: SegmentEnd,
) -> Option<StateHash> {
    let file = storage.open(&name.to_string()).ok()?;
    let mut records = RecordReader::starting_at(&file, end.id, end.offset, end.checksum);
    match records.next_record() {
        Ok(Step::Record(header, payload)) if header.kind == Kind::SegmentEnd => {
            Some(StateHash(read_u128(payload, 0)))
        }
        _ => None,
    }
}
