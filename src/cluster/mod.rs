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
//! - After each connection the newest entry that was read must still be in the stream. After a restart or a
//!   failover of the engine (a new *epoch*) all entries that are kept are compared with the stream: others may
//!   have appended something else instead of what was lost.
//! - Each entry names the last entry that its server had read, and a fingerprint of everything up to it (a
//!   [`Link`]). A reader that has read something else there compares what it has kept with the stream. If that
//!   is in order, the other server is the one that has diverged, and its entry counts as it is: the stream is
//!   the arbiter.
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
pub use engine::{Appended, EngineError, Position, SnapshotPointer, StreamEngine, StreamInfo};
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
