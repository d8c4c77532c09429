//! The loop's end of the stream.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::threads::Shared;
use crate::cluster::Commit;
use crate::engine::{LogEntry, StateHash, StreamStatus};
use crate::hub::{CommitLog, Committed};
use crate::server::journal::JournalThread;

/// The time between two looks whether everything was read back, at the end.
const FINISH_POLL: Duration = Duration::from_millis(10);

/// The log that several servers share.
#[derive(Debug)]
pub(crate) struct StreamLog {
    shared: Arc<Shared>,
    /// The journal of what was read, if there is one. Nothing is applied before it is committed there.
    journal: Option<JournalThread>,
}

impl StreamLog {
    pub(super) fn new(shared: Arc<Shared>, journal: Option<JournalThread>) -> StreamLog {
        StreamLog { shared, journal }
    }
}

impl CommitLog for StreamLog {
    fn append(&mut self, entry: LogEntry) {
        // A stream has no resets: the settings exclude each other.
        if let LogEntry::Batch(batch) = entry {
            let mut replica = self.shared.replica();
            replica.submit(batch);
            self.shared.on_loop(&replica);
        }
    }

    fn take_committed(&mut self) -> Option<Committed> {
        if !self.has_committed() {
            return None;
        }
        if let Some(journal) = &mut self.journal {
            journal.take_committed();
        }
        let mut replica = self.shared.replica();
        let commit = replica.take_commit();
        self.shared.on_loop(&replica);
        commit.map(|commit| match commit {
            Commit::Own { next } => Committed::Before(next),
            Commit::Other(batch) => Committed::Other(batch),
        })
    }

    fn has_committed(&self) -> bool {
        // Entries are passed to both in the same order.
        self.shared.has_commit() && self.journal.as_ref().is_none_or(CommitLog::has_committed)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn is_behind(&self) -> bool {
        self.shared.is_behind()
    }

    fn is_outrun(&self) -> bool {
        self.shared.is_outrun()
    }

    fn stamp_point(&self) -> Option<u64> {
        self.journal.as_ref().and_then(CommitLog::stamp_point)
    }

    fn stamp(&mut self, hash: StateHash) {
        if let Some(journal) = &mut self.journal {
            journal.stamp(hash);
        }
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        self.shared.replica().take_buffer()
    }

    fn problem(&self) -> Option<String> {
        if let Some(problem) = self.journal.as_ref().and_then(CommitLog::problem) {
            return Some(problem);
        }
        if !self.shared.is_behind() {
            return None;
        }
        let replica = self.shared.replica();
        Some(replica.trouble().map_or_else(
            || {
                let status = replica.status();
                format!("catching up: sequence {} of {}", status.position, status.end)
            },
            |trouble| replica.describe(trouble),
        ))
    }

    fn stream_status(&self) -> Option<StreamStatus> {
        Some(self.shared.replica().status())
    }

    /// Waits until everything was read back.
    fn finish(self: Box<Self>, timeout: Duration) {
        let start = Instant::now();
        while !self.shared.replica().is_idle() && start.elapsed() < timeout {
            thread::sleep(FINISH_POLL);
        }
        let replica = self.shared.replica();
        if !replica.is_idle() {
            log::error!(
                "stream abandoned after {} ms with {} bytes of lines not committed: their sources have \
                 to send them again",
                timeout.as_millis(),
                replica.pending_bytes()
            );
        }
        drop(replica);
        self.shared.stop();
        if let Some(journal) = self.journal {
            Box::new(journal).finish(timeout);
        }
    }
}
