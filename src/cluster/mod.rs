//! Several servers, one stream: what is appended, read and applied, and what happens after failures.
//!
//! Pure: the engine that keeps the stream is behind the [`StreamEngine`] trait, time and random numbers are
//! passed in as values. No sockets, no clock, no threads, no log.
//!
//! # The stream
//!
//! All servers are equal. Each appends batches of what its sources have sent, and applies only what it reads
//! back. There is no leader: the order of the stream decides.
//!
//! An [`Entry`] is a batch: the first sequence, the next awaited one, and the lines. It is the record of a
//! journal ([`crate::journal`]) with file ID 0, after 32 bytes that name its [`Origin`]. Its [`Position`] is
//! the next awaited sequence, so that positions rise with the sequence, and an engine that demands rising
//! positions refuses a batch that others have covered. A batch that covers more is accepted, and every reader
//! skips the part that it has: *the first in the stream counts*. The first entry of a stream, the *genesis*,
//! holds no sequence. It tells the first one.
//!
//! # What a reader checks
//!
//! - An entry that begins after the awaited sequence leaves a hole. The reader has diverged.
//! - An entry that begins at the awaited sequence or before may still follow others that the reader lacks, because
//!   they were trimmed. So a reader that is behind the newest snapshot reads the entry at its position once more with what
//!   follows: as long as that one is there, nothing after it was trimmed. The same holds for a start.
//! - After each connection the newest entry that was read must still be in the stream.
//! - After a restart or a failover of the engine (a new *epoch*) everything that was read is compared with the stream,
//!   because others may have appended something else instead of what was lost, and then the same batch again: equal
//!   entries at equal positions do not tell. What tells is the chain of the fingerprints of all entries up to one (a
//!   [`Link`]). The newest snapshot names the stream's own, as its publisher has read it; without a snapshot the
//!   stream has its first entry. From there the entries must lead to the chain of the reader, or from the reader's
//!   to that of a snapshot that is ahead of it. This reads as much as a restart does.
//! - Each entry names the last entry that its server had read, with its link. A reader that has read something
//!   else there compares, from the last place on that is proven in this epoch. If that is in order, the other server is
//!   the one that has diverged, and its entry counts as it is: the stream is the arbiter.
//!
//! # After a loss
//!
//! A server that is ahead of the stream appends again what it has read and kept, the same bytes at the same
//! positions, before anything else. Others that are not ahead notice by the epoch that entries may be missing,
//! and append nothing new for [`GRACE`], counted from the first write that the engine accepts; then they
//! settle, which spares servers that come later the wait. A server that has not kept everything waits for
//! another that has, and says so.
//!
//! What was committed can be lost only if no server that still has it reaches the engine within that time.
//! Servers that have applied it report that they have diverged.
//!
//! # Journals
//!
//! A server may keep the entries that it has read in a [journal](crate::journal) of its own, and applies each only
//! after it is committed there. A start continues at the end of the journal ([`resume`]), if the stream holds the
//! same entry there or ends before: what the engine has lost is then read from the journal and appended again,
//! however much it is. A new journal, and one beyond whose end the stream was trimmed, begins at the end of the stream
//! ([`begin_journal`]).
//!
//! # State
//!
//! A [`Replica`] is the state of one server. Two connections drive it: one appends, one reads. Each asks for
//! its [`Next`] call, makes it, and passes the answer back.

mod append_lane;
mod audit;
mod backoff;
mod engine;
mod entry;
mod history;
mod journaled;
mod replica;
mod retained;
mod snapshot;
mod tail_lane;
#[cfg(test)]
mod tests;

pub use append_lane::AppendLane;
#[cfg(feature = "cluster")]
pub(crate) use backoff::Backoff;
pub use engine::{
    Appended, EngineError, Found, Position, SnapshotPointer, StreamEngine, StreamInfo,
};
pub use entry::{BadEntry, Entry, Origin};
pub use history::{History, Link, Remembered};
pub use journaled::{JournaledEntries, begin_journal, resume};
pub use replica::{
    Commit, GRACE, MAX_RETAINED_BYTES, MAX_UNTAKEN_BYTES, Next, READ_WAIT, RECALL_BYTES, Replica,
    Request, Response, TROUBLES, Trouble,
};
pub use retained::Retained;
pub use snapshot::{Progress, Published, RestoreError, Restored, publish, restore};
pub use tail_lane::TailLane;
