//! The start of a server that keeps what it has read in a journal of its own.

use std::sync::Arc;

use super::engine::{EngineError, Position, StreamEngine, StreamInfo};
use super::entry::Entry;
use super::history::{History, Link};
use super::replica::MAX_RETAINED_BYTES;
use super::retained::Retained;
use super::snapshot::{Progress, RestoreError, Restored, restore};
use crate::journal::{
    self, EntryPayload, Header, Kind, Recovery, Replay, Storage, StreamEntry, StreamLink, begin_at,
    begin_with,
};

/// The entries of a stream that a journal contains, collected while it is replayed.
#[derive(Debug, Default)]
pub struct JournaledEntries {
    history: Option<History>,
    kept: Retained,
    /// Why a record is not an entry that continues those before it.
    bad: Option<String>,
}

impl Replay for JournaledEntries {
    fn on_record(&mut self, header: &Header, payload: &[u8]) {
        let taken = match header.kind {
            Kind::Stream => self.on_place(header, payload),
            Kind::Entry => self.on_entry(header, payload),
            _ => Ok(()),
        };
        if let Err(reason) = taken {
            self.bad.get_or_insert(reason);
        }
    }
}

impl JournaledEntries {
    /// Takes the place in the stream after which a segment begins. The first one counts.
    fn on_place(&mut self, header: &Header, payload: &[u8]) -> Result<(), String> {
        let link = StreamLink::decode(payload).ok_or("a place in the stream is malformed")?;
        // Before the first entry there is no place.
        if self.history.is_none() && link.chain != 0 {
            let position = Position(header.next);
            let place = Link { position, chain: link.chain };
            self.history = Some(History::starting_at(place, link.fingerprint));
        }
        Ok(())
    }

    fn on_entry(&mut self, header: &Header, payload: &[u8]) -> Result<(), String> {
        let payload = EntryPayload::decode(payload).ok_or("an entry is too short")?;
        let position = Position(header.next);
        let entry =
            Entry::decode(position, payload.bytes.to_vec()).map_err(|error| error.to_string())?;
        match &mut self.history {
            Some(history) => history.admit(&entry).map_err(|trouble| trouble.to_string())?,
            None => {
                let link = Link::default().then(position, entry.fingerprint);
                self.history = Some(History::starting_at(link, entry.fingerprint));
            }
        }
        let chain = self.history.as_ref().map(|history| history.newest().link.chain);
        if (chain, entry.fingerprint) != (Some(payload.chain), payload.fingerprint) {
            return Err(format!("the entry at {position} is not the one that was read"));
        }
        self.kept.push(entry);
        self.kept.trim(MAX_RETAINED_BYTES, |_| true);
        Ok(())
    }

    /// Returns the state of a server that has recovered these entries. `None` if the journal is empty.
    ///
    /// # Errors
    ///
    /// The journal does not follow a stream.
    pub fn restored(self, recovery: &mut Recovery) -> Result<Option<Restored>, RestoreError> {
        if let Some(reason) = self.bad {
            return Err(RestoreError::Journal(reason));
        }
        let is_empty = recovery.position.previous.is_none();
        match (recovery.position.stream, self.history) {
            (Some(link), Some(history)) => {
                let state = recovery.take_state();
                let mut restored = Restored::new(state, history, None, link.stream);
                (restored.kept, restored.epoch) = (self.kept, link.epoch);
                Ok(Some(restored))
            }
            _ if is_empty => Ok(None),
            _ => Err(RestoreError::NoStream),
        }
    }
}

/// Finds the place from which a server with a journal reads the stream: `journaled` is what it has recovered.
/// Returns `None` if the journal is continued, or the state at the end of the stream, as
/// [`restore`] does, from which the journal has to begin.
///
/// A journal that has gone further than the stream is continued, because its server appends again what the
/// engine has lost.
///
/// # Errors
///
/// The engine is unreachable, the stream does not exist, or the journal is that of another stream or has gone
/// another way than this one.
pub fn resume(
    engine: &mut impl StreamEngine,
    first_sequence: u64,
    create: Option<u64>,
    max_events: usize,
    journaled: Option<&Restored>,
    mut progress: impl FnMut(Progress),
) -> Result<Option<Restored>, RestoreError> {
    let Some(journaled) = journaled else {
        return restore(engine, first_sequence, create, max_events, progress).map(Some);
    };
    let position = journaled.position();
    for is_last in [false, true] {
        let Some(info) = engine.info()? else {
            progress(Progress::Ahead { position, end: None });
            return Ok(None);
        };
        check_identity(engine, first_sequence, journaled.stream)?;
        if info.end < position {
            progress(Progress::Ahead { position, end: Some(info.end) });
            return Ok(None);
        }
        let found = engine.entry_at(position)?.map(|bytes| Entry::decode(position, bytes));
        let is_trimmed = info.oldest.map_or(info.end > position, |oldest| oldest > position);
        match found.transpose()? {
            Some(found) if is_newest(journaled, &found) => return Ok(None),
            None if info.oldest.is_none() && info.end == position => return Ok(None),
            None if is_trimmed => {
                progress(Progress::Behind { position });
                return restore(engine, first_sequence, None, max_events, progress).map(Some);
            }
            // It may just have been trimmed.
            None if !is_last => {}
            _ => return Err(diverged(journaled, &info)),
        }
    }
    Err(EngineError::passing("the stream changes too fast").into())
}

/// Begins the journal that a [`Recovery`] has left at `position` from a state to which [`resume`] has led.
/// Returns where the journal continues.
///
/// # Errors
///
/// The storage refused.
pub fn begin_journal<S: Storage>(
    storage: &mut S,
    position: journal::Position,
    restored: &mut Restored,
) -> Result<journal::Position, journal::Error> {
    let link = restored.link();
    restored.state.stream = Some(link);
    match restored.kept.oldest() {
        Some(genesis) if is_new(genesis, restored) && position.previous.is_none() => {
            let before = StreamLink { chain: 0, fingerprint: 0, ..link };
            let entry = StreamEntry {
                first: genesis.first,
                next: genesis.next.0,
                count: 0,
                link,
                bytes: Arc::clone(&genesis.bytes),
            };
            let position = journal::Position { stream: Some(before), ..position };
            begin_with(storage, position, &entry, &restored.state)
        }
        _ => begin_at(storage, &restored.state),
    }
}

/// Returns whether the stream contains nothing but its first entry.
fn is_new(oldest: &Entry, restored: &Restored) -> bool {
    oldest.is_genesis() && oldest.next == restored.position()
}

fn is_newest(journaled: &Restored, found: &Entry) -> bool {
    journaled.history.newest().fingerprint == found.fingerprint
}

fn diverged(journaled: &Restored, info: &StreamInfo) -> RestoreError {
    RestoreError::Diverged { position: journaled.position(), end: info.end }
}

/// Compares the ID of the journal's stream with that of the engine's, as far as it is known.
fn check_identity(
    engine: &mut impl StreamEngine,
    first_sequence: u64,
    journaled: u64,
) -> Result<(), RestoreError> {
    let published = engine.newest_snapshot()?.map(|snapshot| snapshot.stream);
    let found = match published.filter(|&stream| stream != 0) {
        Some(stream) => Some(stream),
        None => {
            let position = Position(first_sequence);
            let genesis = engine.entry_at(position)?.map(|bytes| Entry::decode(position, bytes));
            genesis.transpose()?.filter(Entry::is_genesis).map(|genesis| genesis.origin.server)
        }
    };
    match found {
        Some(stream) if journaled != 0 && stream != journaled => Err(RestoreError::OtherStream),
        _ => Ok(()),
    }
}

impl Restored {
    /// Returns the place in the stream, as a journal keeps it.
    #[must_use]
    pub fn link(&self) -> StreamLink {
        let newest = self.history.newest();
        StreamLink {
            stream: self.stream,
            epoch: self.epoch,
            chain: newest.link.chain,
            fingerprint: newest.fingerprint,
        }
    }
}
