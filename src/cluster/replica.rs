//! What one server knows of the stream: the state that its two connections share.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::append_lane::AppendLane;
use super::engine::{
    Appended, EngineError, Found, Position, SnapshotPointer, StreamEngine, StreamInfo,
};
use super::entry::{Entry, Origin};
use super::history::{History, Link};
use super::retained::Retained;
use super::tail_lane::TailLane;
use crate::engine::{Batch, Remainder, StreamStatus};
use crate::journal::{StreamEntry, StreamLink};

/// The maximum number of bytes of entries that are kept to be appended again, if the engine loses them.
pub const MAX_RETAINED_BYTES: usize = 64 << 20;

/// The number of bytes that wait to be applied from which no more are read.
pub const MAX_UNTAKEN_BYTES: usize = 8 << 20;

/// How long nothing new is appended after the engine may have lost entries, so that servers that have them
/// append them again first. Longer than all servers need to notice and to connect again.
pub const GRACE: Duration = Duration::from_secs(5);

/// The time between two attempts while the stream is not as it should be.
pub(super) const RECHECK: Duration = Duration::from_millis(200);

/// How long a read waits for entries.
pub const READ_WAIT: Duration = Duration::from_secs(1);

/// The number of bytes of entries that are read from the journal at once.
pub const RECALL_BYTES: usize = 16 << 20;

/// A call of the engine that a connection makes next. Between two calls nothing is locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// See [`StreamEngine::info`].
    Info,
    /// See [`StreamEngine::entry_at`].
    EntryAt(Position),
    /// See [`StreamEngine::append`].
    Append(Entry),
    /// See [`StreamEngine::create`].
    Create(Entry),
    /// See [`StreamEngine::read`].
    Read(Option<Position>),
    /// See [`StreamEngine::newest_snapshot`].
    NewestSnapshot,
    /// See [`StreamEngine::settle`].
    Settle(u64, bool),
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The answer to [`Request::Info`].
    Info(Option<StreamInfo>),
    /// The answer to [`Request::EntryAt`].
    EntryAt(Option<Vec<u8>>),
    /// The answer to [`Request::Append`] and [`Request::Create`].
    Appended(Appended),
    /// The answer to [`Request::Read`].
    Found(Found),
    /// The answer to [`Request::NewestSnapshot`].
    Snapshot(Option<SnapshotPointer>),
    /// The answer to [`Request::Settle`].
    Settled,
}

/// What a connection does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It makes a call.
    Call(Request),
    /// It reads the entries after a position from the journal, or the oldest ones, up to [`RECALL_BYTES`], and
    /// passes them to [`Replica::on_recalled`].
    Recall(Option<Position>),
    /// It waits until this time, or until it is woken.
    WaitUntil(Duration),
    /// It waits until it is woken.
    Wait,
}

impl Request {
    /// Makes the call.
    ///
    /// # Errors
    ///
    /// The engine is unreachable or refuses.
    pub fn call(&self, engine: &mut impl StreamEngine) -> Result<Response, EngineError> {
        Ok(match self {
            Request::Info => Response::Info(engine.info()?),
            Request::EntryAt(position) => Response::EntryAt(engine.entry_at(*position)?),
            Request::Append(entry) => Response::Appended(engine.append(entry.next, &entry.bytes)?),
            Request::Create(entry) => Response::Appended(engine.create(entry.next, &entry.bytes)?),
            Request::Read(after) => Response::Found(engine.read(*after, READ_WAIT)?),
            Request::NewestSnapshot => Response::Snapshot(engine.newest_snapshot()?),
            Request::Settle(epoch, is_complete) => {
                engine.settle(*epoch, *is_complete)?;
                Response::Settled
            }
        })
    }
}

/// Why a server does not follow the stream at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The engine does not answer as it should.
    Unreachable(String),
    /// The journal cannot be read, which has entries that the engine has lost.
    Journal(String),
    /// The stream does not exist, and this server cannot restore it.
    Missing {
        /// What this server awaits.
        awaited: u64,
    },
    /// The stream ends before the entries that this server has read, and this server has not kept all of
    /// those that are missing.
    Lost {
        /// The first missing sequence.
        first: u64,
        /// The first sequence that this server still has.
        kept: u64,
    },
    /// The entries that this server has not read were trimmed.
    Trimmed {
        /// The first missing sequence.
        first: u64,
        /// The sequence at which the stream continues.
        next: u64,
    },
    /// The stream contradicts what this server has applied.
    Diverged {
        /// The first sequence that is missing or contradicted.
        first: u64,
        /// The sequence after the last one.
        next: u64,
        /// What was found.
        reason: String,
    },
}

/// The [names](Trouble::name) of all kinds of trouble.
pub const TROUBLES: [&str; 6] =
    ["unreachable", "missing", "lost", "trimmed", "diverged", "journal"];

impl Trouble {
    /// Returns whether it ends by itself as soon as the engine or the disk works again.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Trouble::Unreachable(_) | Trouble::Journal(_))
    }

    /// Returns a name for metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Trouble::Unreachable(_) => TROUBLES[0],
            Trouble::Missing { .. } => TROUBLES[1],
            Trouble::Lost { .. } => TROUBLES[2],
            Trouble::Trimmed { .. } => TROUBLES[3],
            Trouble::Diverged { .. } => TROUBLES[4],
            Trouble::Journal(_) => TROUBLES[5],
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Unreachable(error) => write!(f, "stream unreachable: {error}"),
            Trouble::Journal(error) => write!(
                f,
                "paused by the disk: the engine has lost entries, and those in the journal cannot be read: \
                 {error}"
            ),
            Trouble::Missing { awaited } => write!(
                f,
                "the stream is gone: it does not exist any more, {awaited} is awaited, and this server has \
                 not kept all entries"
            ),
            Trouble::Lost { first, kept } => write!(
                f,
                "diverged: the engine has lost sequences {first} to {}, which this server has applied and \
                 not kept; nothing is applied until another server appends them again",
                kept.saturating_sub(1)
            ),
            Trouble::Trimmed { first, next } => write!(
                f,
                "too far behind: the stream has been trimmed, sequences {first} to {} are not in it any \
                 more",
                next.saturating_sub(1)
            ),
            Trouble::Diverged { first, next, reason } => write!(
                f,
                "diverged at sequences {first} to {}: {reason}; nothing more is applied",
                next.saturating_sub(1)
            ),
        }
    }
}

/// Why an entry is not applied.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It does not continue what was read.
    Trouble(Trouble),
    /// Its server had read something else than this one, so that one of the two has diverged.
    Contradiction,
}

/// An entry of the stream, as it is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Commit {
    /// The oldest batches in flight up to this sequence; the last of them ends there.
    Own {
        /// The sequence after the last.
        next: u64,
    },
    /// A batch of another server.
    Other(Remainder),
}

/// An own batch that was not read back.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) next: u64,
    pub(super) bytes: usize,
    pub(super) content: Content,
}

/// The content of an own batch. It is encoded when it is first appended, and its bytes never change
/// afterwards.
#[derive(Debug)]
pub(super) enum Content {
    Batch(Batch),
    Entry(Entry),
}

/// The entries that were read and not passed to the journal.
#[derive(Debug)]
struct JournalFeed {
    /// The random ID of the stream.
    stream: u64,
    entries: VecDeque<StreamEntry>,
    /// The position up to which the journal is known to have everything.
    committed: Position,
}

/// The state of one server in the stream. Two connections drive it: the [`AppendLane`] and the
/// [`TailLane`]. Both ask it for the next call, make the call without holding it, and pass it the answer.
#[derive(Debug)]
pub struct Replica {
    /// The random ID of this process.
    id: u64,
    next_nonce: u64,
    pub(super) history: History,
    /// The newest entries that were read, the oldest first.
    pub(super) retained: Retained,
    max_retained_bytes: usize,
    /// What is to be journaled, if this server has a journal.
    journal: Option<JournalFeed>,
    /// Entries that were read from the journal to be appended again, each with the position before it.
    pub(super) recalled: VecDeque<(Position, Entry)>,
    pub(super) pending: VecDeque<Pending>,
    commits: VecDeque<Commit>,
    untaken_bytes: usize,
    free_buffers: Vec<Vec<u8>>,
    /// The largest end of the stream that was seen since the last connection.
    pub(super) end: Position,
    pub(super) append: AppendLane,
    pub(super) tail: TailLane,
    pub(super) status: StreamStatus,
}

impl Replica {
    /// Creates the state of a server with a random ID that has read the stream as `history` says, in this
    /// epoch of the engine. `kept` are the newest entries, as far as they are known.
    #[must_use]
    pub fn new(id: u64, history: History, kept: Retained, epoch: u64) -> Replica {
        let newest = history.newest().link;
        let mut replica = Replica {
            id,
            next_nonce: 1,
            history,
            retained: kept,
            max_retained_bytes: MAX_RETAINED_BYTES,
            journal: None,
            recalled: VecDeque::new(),
            pending: VecDeque::new(),
            commits: VecDeque::new(),
            untaken_bytes: 0,
            free_buffers: Vec::new(),
            end: newest.position,
            append: AppendLane::default(),
            tail: TailLane::new(epoch, newest),
            status: StreamStatus::default(),
        };
        replica.forget_old();
        replica
    }

    /// Returns the replica with another bound on the bytes that it keeps to append them again.
    #[must_use]
    pub fn with_max_retained_bytes(mut self, bytes: usize) -> Replica {
        self.max_retained_bytes = bytes;
        self.forget_old();
        self
    }

    /// Returns the replica of a server with a journal, which takes the entries of the stream with this ID from
    /// [`take_unjournaled`](Self::take_unjournaled) and applies none before.
    #[must_use]
    pub fn with_journal(mut self, stream: u64) -> Replica {
        let committed = self.position();
        self.journal = Some(JournalFeed { stream, entries: VecDeque::new(), committed });
        self
    }

    /// Returns whether the server has a journal.
    #[must_use]
    pub fn has_journal(&self) -> bool {
        self.journal.is_some()
    }

    /// Takes the oldest entry that was read and not passed to the journal.
    pub fn take_unjournaled(&mut self) -> Option<StreamEntry> {
        self.journal.as_mut()?.entries.pop_front()
    }

    /// Returns the last position that was read.
    #[must_use]
    pub fn position(&self) -> Position {
        self.history.newest().link.position
    }

    /// Returns the link after the last entry that was read, and the fingerprint of that entry.
    #[must_use]
    pub fn newest(&self) -> (Link, u64) {
        let newest = self.history.newest();
        (newest.link, newest.fingerprint)
    }

    /// Returns the number of bytes of the entries after a position that this server has read.
    #[must_use]
    pub fn bytes_after(&self, position: Position) -> u64 {
        self.history.bytes_after(position)
    }

    /// Takes an own batch, which continues those before it.
    pub fn submit(&mut self, batch: Batch) {
        let (next, bytes) = (batch.next, batch.lines.len());
        // Others may have covered it since it was made.
        if Position(next) <= self.position() {
            self.recycle(batch.lines);
            return;
        }
        self.pending.push_back(Pending { next, bytes, content: Content::Batch(batch) });
    }

    /// Returns the next entry to be applied. If the server has a journal, the entry has to be committed there.
    pub fn take_commit(&mut self) -> Option<Commit> {
        let commit = self.commits.pop_front()?;
        let next = match &commit {
            Commit::Own { next } => *next,
            Commit::Other(remainder) => {
                self.untaken_bytes -= remainder.lines().len();
                remainder.next
            }
        };
        if let Some(journal) = &mut self.journal {
            journal.committed = Position(next);
            self.forget_old();
        }
        Some(commit)
    }

    /// Returns whether [`take_commit`](Self::take_commit) has something.
    #[must_use]
    pub fn has_commit(&self) -> bool {
        !self.commits.is_empty()
    }

    /// Returns an empty buffer, one that was used before if there is one.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        self.free_buffers.pop().unwrap_or_default()
    }

    /// Returns whether all own batches were read back or are covered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Returns why this server does not follow the stream at present, the most serious reason if there are
    /// several.
    #[must_use]
    pub fn trouble(&self) -> Option<&Trouble> {
        let troubles = [self.tail_trouble(), self.append_trouble()];
        let troubles = || troubles.iter().copied().flatten();
        troubles().find(|trouble| !trouble.is_passing()).or(troubles().next())
    }

    /// Returns why this server cannot append.
    #[must_use]
    pub fn append_trouble(&self) -> Option<&Trouble> {
        self.append.trouble()
    }

    /// Returns why this server cannot read.
    #[must_use]
    pub fn tail_trouble(&self) -> Option<&Trouble> {
        self.tail.trouble()
    }

    /// Describes a trouble, with the way out.
    #[must_use]
    pub fn describe(&self, trouble: &Trouble) -> String {
        let way_out = match (trouble, self.has_journal()) {
            (Trouble::Unreachable(_) | Trouble::Journal(_), _) => return trouble.to_string(),
            (Trouble::Missing { .. }, _) => "restore the engine from its backup",
            (Trouble::Trimmed { .. }, _) => "a new start loads the newest snapshot",
            (_, false) => "restart this server to follow the stream as it is",
            (_, true) => {
                "to follow the stream as it is, stop this server, move its data_dir away, which holds what \
                 was lost, and start it again"
            }
        };
        format!("{trouble}; {way_out}")
    }

    /// Returns whether it is uncertain that the stream contains what this server has read, which is compared or
    /// appended again.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.tail.is_in_doubt()
    }

    /// Returns how far the stream is ahead of this server, in sequences.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.end.0.saturating_sub(self.position().0)
    }

    /// Returns what an operator sees.
    #[must_use]
    pub fn status(&self) -> StreamStatus {
        StreamStatus {
            position: self.position().0,
            end: self.end.0.max(self.position().0),
            retained_bytes: self.retained.bytes() as u64,
            trouble: self.trouble().map(Trouble::name),
            ..self.status.clone()
        }
    }

    /// Returns whether so much waits to be applied that no more is read.
    pub(super) fn is_full(&self) -> bool {
        self.untaken_bytes >= MAX_UNTAKEN_BYTES
    }

    /// Returns an own batch as an entry.
    pub(super) fn encoded(&mut self, index: usize) -> Option<Entry> {
        let base = self.history.newest().link;
        let pending = self.pending.get_mut(index)?;
        if let Content::Batch(batch) = &mut pending.content {
            let origin = Origin { server: self.id, nonce: self.next_nonce, base };
            self.next_nonce += 1;
            let entry = Entry::encode(origin, batch);
            let lines = std::mem::take(&mut batch.lines);
            pending.content = Content::Entry(entry);
            self.recycle(lines);
        }
        match &self.pending.get(index)?.content {
            Content::Entry(entry) => Some(entry.clone()),
            Content::Batch(_) => None,
        }
    }

    /// Takes an entry that was read. *The first in the stream counts*: only the part is applied that
    /// others have not covered. The bases of entries up to `excused` are not compared with what was read.
    pub(super) fn accept(
        &mut self,
        position: Position,
        bytes: Vec<u8>,
        excused: Option<Position>,
    ) -> Result<(), Refusal> {
        let awaited = self.position().0;
        if position.0 <= awaited {
            return Ok(());
        }
        let entry = Entry::decode(position, bytes).map_err(|error| {
            let (next, reason) = (position.0, error.to_string());
            Refusal::Trouble(Trouble::Diverged { first: awaited, next, reason })
        })?;
        if excused.is_none_or(|excused| position > excused)
            && self.history.contradicts(entry.origin.base)
        {
            return Err(Refusal::Contradiction);
        }
        self.history.admit(&entry).map_err(Refusal::Trouble)?;
        let remainder = entry.remainder(awaited);
        self.journal(&entry, &remainder);
        let is_own = self.cover(&entry);
        match is_own {
            true => {
                self.status.own_entries += 1;
                self.commits.push_back(Commit::Own { next: position.0 });
            }
            false => {
                self.status.other_entries += 1;
                self.untaken_bytes += remainder.lines().len();
                self.commits.push_back(Commit::Other(remainder));
            }
        }
        self.end = self.end.max(position);
        self.retained.push(entry);
        self.forget_old();
        Ok(())
    }

    /// Passes an entry to the journal, if there is one.
    fn journal(&mut self, entry: &Entry, remainder: &Remainder) {
        let Some(JournalFeed { stream, entries, .. }) = &mut self.journal else { return };
        let link = StreamLink {
            stream: *stream,
            epoch: self.tail.epoch().unwrap_or_default(),
            chain: self.history.newest().link.chain,
            fingerprint: entry.fingerprint,
        };
        entries.push_back(StreamEntry {
            first: remainder.first,
            next: remainder.next,
            count: remainder.count(),
            link,
            bytes: Arc::clone(&entry.bytes),
        });
    }

    /// Removes the own batches that an entry covers. Returns whether the entry is the last of them.
    fn cover(&mut self, entry: &Entry) -> bool {
        let mut is_own = false;
        while self.pending.front().is_some_and(|it| it.next <= entry.next.0)
            && let Some(pending) = self.pending.pop_front()
        {
            is_own = matches!(&pending.content, Content::Entry(own) if own.origin == entry.origin);
            self.append.on_removed();
            if let Content::Batch(batch) = pending.content {
                self.recycle(batch.lines);
            }
        }
        if self.pending.is_empty() {
            self.append.on_idle();
        }
        is_own
    }

    /// Forgets the oldest entries that are kept, as far as they are in the journal, if there is one.
    fn forget_old(&mut self) {
        let journal = self.journal.as_ref();
        self.retained.trim(self.max_retained_bytes, |entry| {
            journal.is_none_or(|journal| entry.next <= journal.committed)
        });
    }

    fn recycle(&mut self, mut lines: Vec<u8>) {
        if self.free_buffers.len() < 64 {
            lines.clear();
            self.free_buffers.push(lines);
        }
    }

    /// Returns whether the entry that was found at a position is the one that this server has read there.
    /// `None` if it has read none there.
    pub(super) fn matches(&self, position: Position, found: Vec<u8>) -> Option<bool> {
        let known = self.history.find(position)?.fingerprint;
        let found = Entry::decode(position, found);
        Some(found.is_ok_and(|entry| entry.fingerprint == known))
    }

    /// Returns the bytes of own batches that were not read back.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending.iter().map(|pending| pending.bytes).sum()
    }
}
