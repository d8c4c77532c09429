//! Checking a journal offline: all of its files, and what a server would start from.

use super::chain::{Chain, Replay};
use super::error::{Corruption, Error};
use super::names::{SegmentName, SnapshotName};
use super::record::{Header, Kind};
use super::recovery::{Recovery, TornTail};
use super::snapshot::{SnapshotError, read_snapshot};
use super::state::State;
use super::storage::{ReadAt, Storage};
use crate::engine::StateHash;

/// A segment or a snapshot that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// A segment.
    Segment(SegmentReport),
    /// A snapshot that is intact.
    Snapshot(SnapshotReport),
    /// A file with damage.
    Damaged(Corruption),
}

/// The content of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// The name of the file.
    pub name: SegmentName,
    /// The length of its valid records, in bytes.
    pub bytes: u64,
    /// What it contains.
    pub totals: Totals,
    /// The awaited sequence after it.
    pub next: u64,
    /// The state after it. `None` if the events before it are no longer there, so that the records are
    /// checked, but not where they lead to.
    pub hash: Option<StateHash>,
}

/// The content of an intact snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotReport {
    /// The name of the file.
    pub name: SnapshotName,
    /// The length of the file, in bytes.
    pub bytes: u64,
    /// The number of follows.
    pub follows: u64,
    /// The state hash.
    pub hash: StateHash,
}

/// Counts of what segments contain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Batches.
    pub batches: u64,
    /// Lines in them.
    pub lines: u64,
    /// Sequences without a line: void, or given up.
    pub absent: u64,
    /// Resets of the stream.
    pub resets: u64,
    /// Bytes of the records.
    pub bytes: u64,
}

impl Totals {
    fn add(&mut self, other: &Totals) {
        self.batches += other.batches;
        self.lines += other.lines;
        self.absent += other.absent;
        self.resets += other.resets;
        self.bytes += other.bytes;
    }
}

impl Replay for Totals {
    fn on_record(&mut self, header: &Header, _: &[u8]) {
        self.bytes += header.record_bytes();
        match header.kind {
            Kind::Reset => self.resets += 1,
            Kind::Stream => {}
            _ => {
                self.batches += 1;
                self.lines += u64::from(header.count);
                self.absent += header.next - header.first - u64::from(header.count);
            }
        }
    }
}

/// The result of [`inspect`].
#[derive(Debug)]
pub struct Inspection {
    /// The number of segments, damaged ones included.
    pub segments: u64,
    /// The number of snapshots, damaged ones included.
    pub snapshots: u64,
    /// What the intact segments contain.
    pub totals: Totals,
    /// The number of damaged files.
    pub damaged: u64,
    /// Segments that no other one continues, so that they do not count.
    pub unused: Vec<String>,
    /// What a server would start from. `None` for an empty journal.
    pub start: Result<Option<Start>, Error>,
}

/// The state that a server would start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The awaited sequence.
    pub awaited: u64,
    /// The number of follows.
    pub follows: u64,
    /// The state hash.
    pub hash: StateHash,
    /// An incomplete write that the start would cut off.
    pub torn: Option<TornTail>,
}

/// Checks all files of a journal and changes nothing. Passes each to `on_file`, in the order in which they
/// were written.
///
/// A damaged file need not hinder a start: an older snapshot may replace a damaged one, and segments before
/// the newest snapshot are only needed if that one is damaged.
///
/// # Errors
///
/// The directory cannot be read.
pub fn inspect<S: Storage>(
    storage: &S,
    mut on_file: impl FnMut(Checked),
) -> Result<Inspection, Error> {
    let mut inspection = Inspection {
        segments: 0,
        snapshots: 0,
        totals: Totals::default(),
        damaged: 0,
        unused: Vec::new(),
        start: Ok(None),
    };
    match Chain::load(storage) {
        Ok(chain) => {
            inspection.unused = chain.unused.iter().map(SegmentName::to_string).collect();
            let mut check = Check { storage, chain: &chain, state: chain.initial_state() };
            check.check_all(|checked| {
                inspection.count(&checked);
                on_file(checked);
            })?;
        }
        // The start is refused with the same reason.
        Err(Error::Corrupt(_)) => inspection.damaged += 1,
        Err(error) => return Err(error),
    }
    inspection.start = match Recovery::read_recorded(storage, |_| {}) {
        Ok(recovery) => Ok(recovery.position.previous.map(|_| Start::of(&recovery))),
        Err(error @ Error::Io { .. }) => return Err(error),
        Err(error) => Err(error),
    };
    Ok(inspection)
}

impl Inspection {
    /// Returns whether nothing is damaged.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.damaged == 0 && self.start.is_ok()
    }

    fn count(&mut self, checked: &Checked) {
        let is_segment = |file: &str| SegmentName::parse(file).is_some();
        match checked {
            Checked::Segment(report) => {
                self.segments += 1;
                self.totals.add(&report.totals);
            }
            Checked::Snapshot(_) => self.snapshots += 1,
            Checked::Damaged(corruption) => {
                self.damaged += 1;
                match is_segment(&corruption.file) {
                    true => self.segments += 1,
                    false => self.snapshots += 1,
                }
            }
        }
    }
}

impl Start {
    fn of(recovery: &Recovery) -> Start {
        Start {
            awaited: recovery.state.awaited,
            follows: recovery.state.graph.follows().count() as u64,
            hash: recovery.state.hash(),
            torn: recovery.torn.clone(),
        }
    }
}

/// A check of all files.
struct Check<'a, S> {
    storage: &'a S,
    chain: &'a Chain,
    /// The state before the next segment, if it is known.
    state: Option<State>,
}

impl<S: Storage> Check<'_, S> {
    fn check_all(&mut self, mut on_file: impl FnMut(Checked)) -> Result<(), Error> {
        if let Some(broken) = self.chain.damaged_start() {
            on_file(Checked::Damaged(broken.clone()));
        }
        let mut snapshots = self.chain.snapshots.clone();
        for index in (0..self.chain.segments.len()).rev() {
            let generation = self.chain.segments[index].name.generation;
            // A snapshot may be older than all segments.
            while let Some(&name) = snapshots.last()
                && name.generation < generation
            {
                snapshots.pop();
                on_file(self.check_snapshot(name, index)?);
            }
            on_file(self.check_segment(index)?);
        }
        while let Some(name) = snapshots.pop() {
            on_file(self.check_snapshot(name, 0)?);
        }
        Ok(())
    }

    /// Checks a snapshot and compares it with the state before the segment at an index. Uses it as that
    /// state if none is known.
    fn check_snapshot(&mut self, name: SnapshotName, next: usize) -> Result<Checked, Error> {
        let text = name.to_string();
        let damaged = |reason| Corruption {
            file: name.to_string(),
            offset: 0,
            first: name.awaited,
            next: None,
            reason,
        };
        let file = self.storage.open(&text).map_err(Error::io("open", &text))?;
        let (state, point) = match read_snapshot(&file, name, |_| {}) {
            Ok(read) => read,
            Err(SnapshotError::Damaged(reason)) => return Ok(Checked::Damaged(damaged(reason))),
            Err(SnapshotError::Version(version)) => {
                return Err(Error::Version { file: text, version });
            }
            Err(SnapshotError::Io(error)) => return Err(Error::io("read", &text)(error)),
        };
        let start = self.chain.segments.get(next).filter(|start| {
            start.previous.is_some_and(|previous| previous.generation == name.generation)
        });
        if let Some(start) = start
            && (!start.previous.is_some_and(|previous| point.is_end_of(&previous))
                || start.name.first != state.awaited)
        {
            return Ok(Checked::Damaged(damaged(format!("{} does not continue it", start.name))));
        }
        let hash = state.hash();
        if start.is_some()
            && let Some(replayed) = &self.state
            && replayed.hash() != hash
        {
            let reason = format!(
                "its state hash is {hash}, but the segments before lead to {}",
                replayed.hash()
            );
            return Ok(Checked::Damaged(damaged(reason)));
        }
        let bytes = file.size().map_err(Error::io("read", &text))?;
        let follows = state.graph.follows().count() as u64;
        if start.is_some() {
            self.state = Some(state);
        }
        Ok(Checked::Snapshot(SnapshotReport { name, bytes, follows, hash }))
    }

    /// Checks a segment: every record and, if the state before it is known, where they lead to.
    fn check_segment(&mut self, index: usize) -> Result<Checked, Error> {
        let start = &self.chain.segments[index];
        let unknown = || State::with_unknown_follows(start.first_sequence, start.name.first);
        let mut state = self.state.take().unwrap_or_else(unknown);
        let mut totals = Totals::default();
        match self.chain.replay(self.storage, index, &mut state, &mut totals) {
            Ok(replayed) => {
                let is_known = state.knows_follows();
                let report = SegmentReport {
                    name: start.name,
                    bytes: replayed.end.offset,
                    totals,
                    next: state.awaited,
                    hash: is_known.then(|| state.hash()),
                };
                self.state = is_known.then_some(state);
                Ok(Checked::Segment(report))
            }
            Err(Error::Corrupt(corruption)) => Ok(Checked::Damaged(corruption)),
            Err(error) => Err(error),
        }
    }
}
