//! The loop's end of a stream whose connections are steps of the simulation.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use eventserver::cluster::{Commit, Replica};
use eventserver::engine::{LogEntry, StateHash};
use eventserver::hub::{CommitLog, Committed};

use crate::journal::commit_log::SimulatedLog;

/// A log over a replica that the simulation drives, and over a journal if the server has one.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedStream {
    pub(crate) replica: Rc<RefCell<Replica>>,
    pub(crate) journal: Option<SimulatedLog>,
}

impl CommitLog for SimulatedStream {
    fn append(&mut self, entry: LogEntry) {
        match entry {
            LogEntry::Batch(batch) => self.replica.borrow_mut().submit(batch),
            LogEntry::Reset { .. } => panic!("a stream has no resets"),
        }
    }

    fn take_committed(&mut self) -> Option<Committed> {
        if !self.has_committed() {
            return None;
        }
        if let Some(journal) = &mut self.journal {
            journal.take_committed();
        }
        self.replica.borrow_mut().take_commit().map(|commit| match commit {
            Commit::Own { next } => Committed::Before(next),
            Commit::Other(batch) => Committed::Other(batch),
        })
    }

    fn has_committed(&self) -> bool {
        self.replica.borrow().has_commit()
            && self.journal.as_ref().is_none_or(CommitLog::has_committed)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn is_behind(&self) -> bool {
        let replica = self.replica.borrow();
        replica.trouble().is_some() || replica.is_in_doubt()
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
        self.replica.borrow_mut().take_buffer()
    }

    fn problem(&self) -> Option<String> {
        self.replica.borrow().trouble().map(ToString::to_string)
    }

    fn finish(self: Box<Self>, _: Duration) {}
}
