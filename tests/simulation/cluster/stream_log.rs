//! The loop's end of a stream whose connections are steps of the simulation.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use eventserver::cluster::{Commit, Replica};
use eventserver::engine::{LogEntry, StateHash};
use eventserver::hub::{CommitLog, Committed};

/// A log over a replica that the simulation drives.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedStream(pub(crate) Rc<RefCell<Replica>>);

impl CommitLog for SimulatedStream {
    fn append(&mut self, entry: LogEntry) {
        match entry {
            LogEntry::Batch(batch) => self.0.borrow_mut().submit(batch),
            LogEntry::Reset { .. } => panic!("a stream has no resets"),
        }
    }

    fn take_committed(&mut self) -> Option<Committed> {
        self.0.borrow_mut().take_commit().map(|commit| match commit {
            Commit::Own { next } => Committed::Before(next),
            Commit::Other(batch) => Committed::Other(batch),
        })
    }

    fn has_committed(&self) -> bool {
        self.0.borrow().has_commit()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn is_behind(&self) -> bool {
        self.0.borrow().trouble().is_some()
    }

    fn stamp_point(&self) -> Option<u64> {
        None
    }

    fn stamp(&mut self, _: StateHash) {}

    fn take_buffer(&mut self) -> Vec<u8> {
        self.0.borrow_mut().take_buffer()
    }

    fn problem(&self) -> Option<String> {
        self.0.borrow().trouble().map(ToString::to_string)
    }

    fn finish(self: Box<Self>, _: Duration) {}
}
