//! Writing batches to segments.

use std::collections::VecDeque;
use std::io;

use super::error::Error;
use super::names::{SPARE, SegmentName, UNFINISHED_SEGMENT};
use super::record::{HEADER_BYTES, Header, Kind, append_record};
use super::segment::{SegmentEnd, SegmentStart};
use super::storage::{Storage, StorageFile, write_once};
use super::stream::{StreamEntry, StreamLink};
use crate::engine::{Batch, LogEntry, StateHash};

/// The size of a segment, in bytes.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// The size from which a group of records is written, in bytes.
const GROUP_BYTES: usize = 1 << 20;

/// Something to be written: what this server has put in order, or what it has read from a stream.
#[derive(Debug)]
enum Pending {
    Log(LogEntry),
    Stream(StreamEntry),
}

impl Pending {
    /// Returns the length of its record, in bytes.
    fn record_bytes(&self) -> u64 {
        let payload = match self {
            Pending::Log(LogEntry::Batch(batch)) => batch.lines.len(),
            Pending::Log(LogEntry::Reset { .. }) => 0,
            Pending::Stream(entry) => entry.payload_bytes(),
        };
        (HEADER_BYTES + payload) as u64
    }
}

/// Whether an entry counts as committed once it is written, or once it is also on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitPoint {
    /// The operating system has accepted the bytes. They survive the end of the process.
    Written,
    /// The bytes are on the disk. They survive a power cut.
    Synced,
}

/// The end of the records written to a segment, or of those on the disk.
#[derive(Clone, Copy, Debug)]
struct Mark {
    offset: u64,
    checksum: u32,
    awaited: u64,
    /// The place in the stream, in a journal that follows one.
    stream: Option<StreamLink>,
}

/// The segment that records are appended to.
#[derive(Debug)]
struct OpenSegment<F> {
    file: F,
    name: SegmentName,
    /// Whether the file has its name, after everything in it was synced.
    is_named: bool,
    /// The end of the first records, which are all that a segment contains that holds no entry.
    start: Mark,
    synced: Mark,
    written: Mark,
    /// The end and the number of entries that a sync in the background covers.
    syncing: Option<(Mark, u64)>,
}

impl<F: StorageFile> OpenSegment<F> {
    /// Returns the result of the sync in the background once it has ended: the number of entries that are
    /// synced then.
    fn take_synced(&mut self, waits: bool) -> Option<io::Result<u64>> {
        let (mark, entries) = self.syncing?;
        let result = self.file.sync_result(waits)?;
        self.syncing = None;
        Some(result.map(|()| {
            self.synced = mark;
            entries
        }))
    }
}

/// A segment that is complete except for the state hash.
#[derive(Debug)]
struct ClosedSegment<F> {
    file: F,
    id: u64,
    end: Mark,
    /// The number of entries up to its end.
    entries: u64,
}

/// The appending end of a journal: one write and at most one sync for all entries that are pending.
///
/// A segment is *given up* after any error of a write or a sync, because it is unknown what of the bytes is
/// on the disk. Everything that was not known to be there is then written to a new segment, whose first
/// record says where the previous one ends. Therefore entries stay in memory until they are synced.
#[derive(Debug)]
pub struct Writer<S: Storage> {
    storage: S,
    commit_point: CommitPoint,
    segment_bytes: u64,
    first_sequence: u64,
    next_generation: u64,
    /// The end of the last segment before the open one.
    previous: Option<SegmentEnd>,
    /// The awaited sequence and the place in the stream at that end.
    previous_awaited: u64,
    previous_stream: Option<StreamLink>,
    segment: Option<OpenSegment<S::File>>,
    closed: VecDeque<ClosedSegment<S::File>>,
    /// The segment that was given up and the end of what counts of it, until the next one is created.
    given_up: Option<(S::File, u64)>,
    /// Entries that are not written.
    pending: VecDeque<Pending>,
    /// Entries that are written to the open segment and not synced.
    unsynced: VecDeque<Pending>,
    /// The number of entries that were synced.
    synced_entries: u64,
    /// The number of entries that are committed. It never falls.
    committed: u64,
    /// Buffers of synced entries, for reuse.
    free_buffers: Vec<Vec<u8>>,
    group: Vec<u8>,
}

/// Where a journal continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The end of the last segment. `None` in an empty journal.
    pub previous: Option<SegmentEnd>,
    /// The generation of the next segment.
    pub next_generation: u64,
    /// The awaited sequence.
    pub awaited: u64,
    /// The first sequence of the stream.
    pub first_sequence: u64,
    /// The place in the stream that several servers share, if the journal follows one.
    pub stream: Option<StreamLink>,
}

impl<S: Storage> Writer<S> {
    /// Creates a writer that continues at `position`. It creates a segment with the first entry.
    pub fn new(storage: S, position: Position, commit_point: CommitPoint) -> Writer<S> {
        Writer {
            storage,
            commit_point,
            segment_bytes: SEGMENT_BYTES,
            first_sequence: position.first_sequence,
            next_generation: position.next_generation,
            previous: position.previous,
            previous_awaited: position.awaited,
            previous_stream: position.stream,
            segment: None,
            closed: VecDeque::new(),
            given_up: None,
            pending: VecDeque::new(),
            unsynced: VecDeque::new(),
            synced_entries: 0,
            committed: 0,
            free_buffers: Vec::new(),
            group: Vec::new(),
        }
    }

    /// Returns the writer with another size of segments than [`SEGMENT_BYTES`]. A segment holds at least
    /// one entry.
    #[must_use]
    pub fn with_segment_bytes(self, segment_bytes: u64) -> Writer<S> {
        Writer { segment_bytes, ..self }
    }

    /// Returns when an entry counts as committed.
    pub fn commit_point(&self) -> CommitPoint {
        self.commit_point
    }

    /// Adds an entry, to be written by [`flush`](Self::flush).
    pub fn append(&mut self, entry: LogEntry) {
        self.pending.push_back(Pending::Log(entry));
    }

    /// Adds an entry of the stream that the journal follows, to be written by [`flush`](Self::flush).
    pub fn append_stream(&mut self, entry: StreamEntry) {
        self.pending.push_back(Pending::Stream(entry));
    }

    /// Writes all pending entries, and syncs them if they are committed only then.
    ///
    /// # Errors
    ///
    /// The storage refused. Nothing is lost: the next call tries again, in a new segment where needed.
    pub fn flush(&mut self) -> Result<(), Error> {
        while !self.pending.is_empty() {
            self.write_group()?;
        }
        match self.commit_point {
            CommitPoint::Written => Ok(()),
            CommitPoint::Synced => self.sync(),
        }
    }

    /// Writes everything to the disk that [`flush`](Self::flush) has written.
    ///
    /// # Errors
    ///
    /// The storage refused. The next [`flush`](Self::flush) writes it again, to a new segment.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.take_background_sync(true)?;
        let Some(segment) = &mut self.segment else { return Ok(()) };
        if segment.synced.offset == segment.written.offset {
            return Ok(());
        }
        if let Err(error) = segment.file.sync() {
            return Err(self.give_up_after_sync(error));
        }
        segment.synced = segment.written;
        self.count_synced(self.written());
        Ok(())
    }

    /// Starts to do the same in the background, unless that is under way or the storage cannot. Meanwhile
    /// [`flush`](Self::flush) may write more.
    pub fn start_sync(&mut self) {
        let written = self.written();
        if let Some(segment) = &mut self.segment
            && segment.syncing.is_none()
            && segment.synced.offset < segment.written.offset
            && segment.file.start_sync()
        {
            segment.syncing = Some((segment.written, written));
        }
    }

    /// Takes the result of a sync in the background if it has ended.
    ///
    /// # Errors
    ///
    /// It has failed, as described for [`sync`](Self::sync).
    pub fn poll_sync(&mut self) -> Result<(), Error> {
        self.take_background_sync(false)
    }

    /// Returns whether a sync runs in the background.
    pub fn is_syncing(&self) -> bool {
        self.segment.as_ref().is_some_and(|segment| segment.syncing.is_some())
    }

    /// Returns whether something is written and not synced.
    pub fn has_unsynced(&self) -> bool {
        !self.unsynced.is_empty()
    }

    /// Returns the number of bytes that are written and not synced.
    pub fn unsynced_bytes(&self) -> u64 {
        self.segment.as_ref().map_or(0, |it| it.written.offset - it.synced.offset)
    }

    /// Returns whether entries are pending.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Returns the number of committed entries. It never falls.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// Returns the number of entries up to the end of the first segment that is closed and lacks its state
    /// hash. The caller passes the hash of the state after that many entries to [`stamp`](Self::stamp).
    pub fn unstamped(&self) -> Option<u64> {
        self.closed.front().map(|segment| segment.entries)
    }

    /// Writes the state hash to the end of the first segment that is closed and lacks it. Returns whether it
    /// is written. The hash is optional, so that an error has no other effect than a later snapshot.
    pub fn stamp(&mut self, hash: StateHash) -> bool {
        let Some(ClosedSegment { mut file, id, end, .. }) = self.closed.pop_front() else {
            return false;
        };
        let header = Header {
            synced: end.offset,
            previous: end.checksum,
            ..Header::new(Kind::SegmentEnd, id, (end.awaited, end.awaited), 0)
        };
        let mut record = Vec::new();
        append_record(&mut record, header, &hash.0.to_le_bytes());
        write_once(&mut file, end.offset, &record).is_ok()
            && file.truncate(end.offset + record.len() as u64).is_ok()
    }

    /// Syncs everything that was written, and frees the space that the open segment has reserved.
    ///
    /// # Errors
    ///
    /// The storage refused.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.flush()?;
        self.sync()?;
        if let Some(segment) = &mut self.segment {
            let name = segment.name.to_string();
            segment.file.truncate(segment.written.offset).map_err(Error::io("truncate", &name))?;
        }
        Ok(())
    }

    /// Removes and returns the buffers of synced entries, emptied.
    pub fn take_free_buffers(&mut self) -> impl Iterator<Item = Vec<u8>> {
        self.free_buffers.drain(..)
    }

    fn take_background_sync(&mut self, waits: bool) -> Result<(), Error> {
        match self.segment.as_mut().and_then(|segment| segment.take_synced(waits)) {
            Some(Ok(entries)) => self.count_synced(entries),
            Some(Err(error)) => return Err(self.give_up_after_sync(error)),
            None => {}
        }
        Ok(())
    }

    fn give_up_after_sync(&mut self, error: io::Error) -> Error {
        let name = self.segment.as_ref().map_or_else(String::new, |it| it.name.to_string());
        self.give_up_segment();
        Error::io("sync", &name)(error)
    }

    /// Writes pending entries to the open segment, or to a new one if there is none or the next entry does
    /// not fit.
    fn write_group(&mut self) -> Result<(), Error> {
        let Some(mut segment) = self.segment.take() else { return self.create_segment() };
        let name = segment.name.to_string();
        let written = self.append_group(&mut segment);
        self.segment = Some(segment);
        match written {
            Ok(0) => self.close_segment(),
            Ok(_) => {
                self.count_written();
                Ok(())
            }
            Err(error) => {
                self.give_up_segment();
                Err(Error::io("write", &name)(error))
            }
        }
    }

    /// Appends pending entries that fit a segment, up to about [`GROUP_BYTES`], with one write. They are then
    /// unsynced. Returns their number.
    fn append_group(&mut self, segment: &mut OpenSegment<S::File>) -> io::Result<usize> {
        self.group.clear();
        let mut end = segment.written;
        let mut count = 0;
        for entry in &self.pending {
            let is_first = end.offset == segment.start.offset;
            let fits = is_first || end.offset + entry.record_bytes() <= self.segment_bytes;
            if !fits || self.group.len() >= GROUP_BYTES {
                break;
            }
            end = append_entry(&mut self.group, entry, segment, end);
            count += 1;
        }
        if count > 0 {
            // Zeros mark the end, because the file may hold records of another segment.
            self.group.resize(self.group.len() + HEADER_BYTES, 0);
            write_once(&mut segment.file, segment.written.offset, &self.group)?;
            segment.written = end;
            self.unsynced.extend(self.pending.drain(..count));
        }
        Ok(count)
    }

    /// Creates the next segment with its first entries, all on the disk before it gets its name. So a segment
    /// never lacks its first record.
    fn create_segment(&mut self) -> Result<(), Error> {
        let name = SegmentName {
            generation: self.next_generation,
            first: self.previous_awaited,
            id: self.storage.random_id(),
        };
        // A generation is used once, whatever becomes of the file.
        self.next_generation += 1;
        match self.try_create_segment(name) {
            Ok(segment) => {
                self.segment = Some(segment);
                self.count_written();
                self.count_synced(self.written());
                if let Some((mut file, end)) = self.given_up.take() {
                    // All after its end is in the new segment now. Without effect where it fails.
                    let _ = file.truncate(end);
                }
                Ok(())
            }
            Err(error) => {
                self.requeue_unsynced();
                // Where the file cannot be removed, the next attempt replaces it or creates a newer one.
                let _ = self.storage.remove(UNFINISHED_SEGMENT);
                let _ = self.storage.remove(&name.to_string());
                Err(Error::io("create", &name.to_string())(error))
            }
        }
    }

    fn try_create_segment(&mut self, name: SegmentName) -> io::Result<OpenSegment<S::File>> {
        let mut file = match self.recycle_spare() {
            Some(file) => file,
            None => self.storage.create(UNFINISHED_SEGMENT, self.segment_bytes)?,
        };
        let start =
            SegmentStart { name, first_sequence: self.first_sequence, previous: self.previous };
        let mut record = Vec::new();
        let stream = self.previous_stream;
        let checksum = start.append_with_link(&mut record, stream);
        write_once(&mut file, 0, &record)?;
        let offset = record.len() as u64;
        let start = Mark { offset, checksum, awaited: name.first, stream };
        let mut segment = OpenSegment {
            file,
            name,
            is_named: false,
            start,
            synced: start,
            written: start,
            syncing: None,
        };
        // What was committed has to be in the segment, because the one given up no longer counts.
        loop {
            self.append_group(&mut segment)?;
            if self.written() >= self.committed {
                break;
            }
        }
        segment.file.sync()?;
        self.storage.rename(UNFINISHED_SEGMENT, &name.to_string())?;
        self.storage.sync()?;
        segment.is_named = true;
        segment.synced = segment.written;
        Ok(segment)
    }

    /// Makes the spare file the next segment, if there is one.
    fn recycle_spare(&mut self) -> Option<S::File> {
        let renamed = self.storage.rename(SPARE, UNFINISHED_SEGMENT);
        renamed.and_then(|()| self.storage.open(UNFINISHED_SEGMENT)).ok()
    }

    /// Closes the open segment, with everything in it on the disk.
    fn close_segment(&mut self) -> Result<(), Error> {
        self.sync()?;
        if let Some(segment) = self.segment.take() {
            self.set_previous(&segment, segment.written);
            self.closed.push_back(ClosedSegment {
                id: segment.name.id,
                end: segment.written,
                entries: self.synced_entries,
                file: segment.file,
            });
        }
        Ok(())
    }

    /// Never writes to the open segment again. What was not synced is pending again.
    fn give_up_segment(&mut self) {
        self.requeue_unsynced();
        if let Some(segment) = self.segment.take() {
            self.set_previous(&segment, segment.synced);
            // What was written and committed survives the end of the process only in this file, until it
            // is in the next one.
            self.given_up = Some((segment.file, segment.synced.offset));
        }
    }

    fn requeue_unsynced(&mut self) {
        while let Some(entry) = self.unsynced.pop_back() {
            self.pending.push_front(entry);
        }
    }

    /// Returns the number of entries that are written, synced or not.
    fn written(&self) -> u64 {
        self.synced_entries + self.unsynced.len() as u64
    }

    fn count_written(&mut self) {
        if self.commit_point == CommitPoint::Written {
            self.committed = self.committed.max(self.written());
        }
    }

    /// Counts the first `entries` entries as synced.
    fn count_synced(&mut self, entries: u64) {
        let newly_synced = (entries - self.synced_entries) as usize;
        self.synced_entries = entries;
        self.committed = self.committed.max(self.synced_entries);
        for entry in self.unsynced.drain(..newly_synced) {
            if let Pending::Log(LogEntry::Batch(Batch { mut lines, .. })) = entry {
                lines.clear();
                self.free_buffers.push(lines);
            }
        }
    }

    fn set_previous(&mut self, segment: &OpenSegment<S::File>, end: Mark) {
        self.previous = Some(SegmentEnd {
            generation: segment.name.generation,
            id: segment.name.id,
            offset: end.offset,
            checksum: end.checksum,
        });
        self.previous_awaited = end.awaited;
        self.previous_stream = end.stream;
    }
}

/// Appends the record of an entry. Returns the end after it.
fn append_entry<F>(
    out: &mut Vec<u8>,
    entry: &Pending,
    segment: &OpenSegment<F>,
    end: Mark,
) -> Mark {
    // An unnamed segment is synced before it can be found.
    let synced = if segment.is_named { segment.synced.offset } else { end.offset };
    let id = segment.name.id;
    let continued = |header| Header { synced, previous: end.checksum, ..header };
    let (checksum, awaited, stream) = match entry {
        Pending::Log(log) => {
            let (kind, count, lines) = match log {
                LogEntry::Batch(batch) => (Kind::Batch, batch.count, &batch.lines[..]),
                LogEntry::Reset { .. } => (Kind::Reset, 0, &[][..]),
            };
            let header = continued(Header::new(kind, id, log.range(), count));
            (append_record(out, header, lines), header.next, end.stream)
        }
        Pending::Stream(entry) => {
            (entry.append_to(out, continued(entry.header(id))), entry.next, Some(entry.link))
        }
    };
    let offset = end.offset + entry.record_bytes();
    Mark { offset, checksum, awaited, stream }
}

/// Returns whether the error is that of a full disk.
#[must_use]
pub fn is_disk_full(error: &Error) -> bool {
    match error {
        Error::Io { error, .. } => matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero
        ),
        _ => false,
    }
}
