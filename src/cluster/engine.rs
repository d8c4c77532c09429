//! The interface to the engine that keeps the stream.

use std::fmt;
use std::time::Duration;

/// The place of an entry in the stream: the sequence that is awaited after it.
///
/// Positions rise in the stream. An engine refuses an entry whose position is not after the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// Returns the position to read after so that the entry at this one comes first. `None`: from the oldest
    /// one on.
    #[must_use]
    pub fn before(self) -> Option<Position> {
        self.0.checked_sub(1).map(Position)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an engine says of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// The largest position that was ever appended.
    pub end: Position,
    /// The position of the oldest entry that was not trimmed. `None` if all were.
    pub oldest: Option<Position>,
    /// A fingerprint of the engine's process and its replication history. It changes with a restart and a
    /// failover, after which the newest entries may be missing.
    pub epoch: u64,
    /// Whether servers have [settled](StreamEngine::settle) in this epoch.
    pub is_settled: bool,
}

/// What a read has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The entries, the oldest first.
    pub entries: Vec<(Position, Vec<u8>)>,
    /// The position of the newest published snapshot, looked at after the entries. What comes after it was not
    /// trimmed.
    pub snapshot: Option<Position>,
}

/// What became of an entry that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The entry is the last one of the stream.
    Accepted,
    /// The stream has reached the entry's position already. Nothing was appended.
    Covered,
    /// The stream does not exist. Nothing was appended.
    Missing,
}

/// Why an engine did not answer as it should. The connection is dropped afterwards, because it is unknown
/// what took effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct EngineError {
    /// The reason, without credentials.
    pub reason: String,
    /// Whether it is no use to try again, because the engine has answered that it refuses: a wrong password, a
    /// key of another kind.
    pub is_final: bool,
}

impl EngineError {
    /// Creates the error of an engine that may answer later.
    #[must_use]
    pub fn passing(reason: impl Into<String>) -> EngineError {
        EngineError { reason: reason.into(), is_final: false }
    }

    /// Creates the error of an engine that refuses for good.
    #[must_use]
    pub fn lasting(reason: impl Into<String>) -> EngineError {
        EngineError { reason: reason.into(), is_final: true }
    }
}

/// The pointer to a published snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPointer {
    /// The position at which the snapshot was taken.
    pub position: Position,
    /// The random ID of the snapshot, a part of its chunks' names.
    pub id: u64,
    /// The number of chunks.
    pub chunks: u32,
    /// The [chain](super::Link::chain) at the position.
    pub chain: u64,
    /// The fingerprint of the entry at the position.
    pub fingerprint: u64,
    /// The random ID of the stream. 0 if an older version has published the snapshot.
    pub stream: u64,
}

/// An engine that keeps one ordered stream, and a place for snapshots beside it.
///
/// Every call may block, up to a timeout of the implementation's own. After an error the implementation
/// connects again at the next call.
pub trait StreamEngine {
    /// Returns what is known of the stream, or `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// The engine is unreachable or refuses, as for all other functions.
    fn info(&mut self) -> Result<Option<StreamInfo>, EngineError>;

    /// Returns the entry at a position, if the stream holds it.
    ///
    /// # Errors
    ///
    /// See [`info`](Self::info).
    fn entry_at(&mut self, position: Position) -> Result<Option<Vec<u8>>, EngineError>;

    /// Appends an entry, if its position is after all others. Does not create the stream.
    ///
    /// # Errors
    ///
    /// See [`info`](Self::info). The entry may have been appended all the same.
    fn append(&mut self, position: Position, entry: &[u8]) -> Result<Appended, EngineError>;

    /// Creates the stream with its first entry, unless it exists.
    ///
    /// # Errors
    ///
    /// See [`info`](Self::info).
    fn create(&mut self, position: Position, entry: &[u8]) -> Result<Appended, EngineError>;

    /// Returns the oldest entries after a position, or all from the oldest on if it is `None`. Waits up to
    /// `wait` for the first one. Returns few enough that they take a few MiB, but two if there are as many.
    ///
    /// # Errors
    ///
    /// See [`info`](Self::info).
    fn read(&mut self, after: Option<Position>, wait: Duration) -> Result<Found, EngineError>;

    /// Notes that servers begin to wait for others that have what the engine may have lost before this epoch,
    /// or (`is_complete`) that they have waited for long enough.
    ///
    /// # Errors
    ///
    /// See [`info`](Self::info).
    fn settle(&mut self, epoch: u64, is_complete: bool) -> Result<(), EngineError>;

    /// Removes the entries before a position.
    ///
    /// # Errors
    ///
    /// See [`info`](Self::info).
    fn trim(&mut self, before: Position) -> Result<(), EngineError>;

    /// Takes or extends the right to publish a snapshot, for the time `ttl`. Returns whether `owner` has it.
    ///
    /// # Errors
    ///
    /// See [`info`](Self::info).
    fn lock_snapshots(&mut self, owner: u64, ttl: Duration) -> Result<bool, EngineError>;

    /// Gives up the right to publish a snapshot.
    ///
    /// # Errors
    ///
    /// See [`info`](Self::info).
    fn unlock_snapshots(&mut self, owner: u64) -> Result<(), EngineError>;

    /// Stores a chunk of an unpublished snapshot. It is forgotten if the snapshot is not published.
    ///
    /// # Errors
    ///
    /// See [`info`](Self::info).
    fn put_chunk(&mut self, id: u64, index: u32, bytes: &[u8]) -> Result<(), EngineError>;

    /// Returns a chunk of a snapshot, if it is still there.
    ///
    /// # Errors
    ///
    /// See [`info`](Self::info).
    fn chunk(&mut self, id: u64, index: u32) -> Result<Option<Vec<u8>>, EngineError>;

    /// Publishes a snapshot, all chunks of which are stored. The one before it is forgotten after a while,
    /// so that a server that is loading it can finish.
    ///
    /// # Errors
    ///
    /// See [`info`](Self::info).
    fn publish(&mut self, pointer: &SnapshotPointer) -> Result<(), EngineError>;

    /// Returns the newest published snapshot.
    ///
    /// # Errors
    ///
    /// See [`info`](Self::info).
    fn newest_snapshot(&mut self) -> Result<Option<SnapshotPointer>, EngineError>;
}
