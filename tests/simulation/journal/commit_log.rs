//! A log whose thread is a step of the simulation.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use eventserver::engine::{LogEntry, StateHash};
use eventserver::hub::{CommitLog, Committed};
use eventserver::journal::{CommitPoint, Error, Position, Writer};

use super::memory_disk::MemoryDisk;

/// The size of segments, in bytes: a few entries.
const SEGMENT_BYTES: u64 = 2000;

/// A message to the thread.
#[derive(Debug)]
enum Message {
    Entry(LogEntry),
    Stamp(StateHash),
}

/// What a step of the thread does besides writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    None,
    /// It starts a sync, which ends with one of the next steps.
    InBackground,
    AtOnce,
}

/// The thread and what it shares with the loop.
#[derive(Debug)]
pub(crate) struct DiskThread {
    writer: Writer<MemoryDisk>,
    messages: VecDeque<Message>,
    committed: u64,
    /// The number of committed entries that the loop has taken.
    taken: u64,
    stamp_point: Option<u64>,
    stamped: u64,
    problem: Option<String>,
    /// All entries so far.
    pub(crate) entries: Vec<LogEntry>,
    /// The number of entries that a power cut must not take.
    pub(crate) durable: u64,
    /// The number of entries that it must not take once the sync in the background has ended.
    durable_after_sync: u64,
    /// The number of waits of the loop. Most of them are long enough.
    waits: u64,
    commit_point: CommitPoint,
}

/// The loop's end of the log.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedLog(pub(crate) Rc<RefCell<DiskThread>>);

impl SimulatedLog {
    pub(crate) fn new(disk: MemoryDisk, position: Position, commit_point: CommitPoint) -> Self {
        let writer = Writer::new(disk, position, commit_point).with_segment_bytes(SEGMENT_BYTES);
        SimulatedLog(Rc::new(RefCell::new(DiskThread {
            writer,
            messages: VecDeque::new(),
            committed: 0,
            taken: 0,
            stamp_point: None,
            stamped: 0,
            problem: None,
            entries: Vec::new(),
            durable: 0,
            durable_after_sync: 0,
            waits: 0,
            commit_point,
        })))
    }
}

impl DiskThread {
    /// Takes all messages, writes, and tells the loop. Syncs what was committed before if asked to.
    pub(crate) fn step(&mut self, sync: Sync) {
        while let Some(message) = self.messages.pop_front() {
            match message {
                Message::Entry(entry) => self.writer.append(entry),
                Message::Stamp(hash) => drop(self.writer.stamp(hash)),
            }
        }
        let taken = self.entries.len() as u64;
        let was_syncing = self.writer.is_syncing();
        let polled = self.writer.poll_sync();
        if was_syncing && polled.is_ok() && !self.writer.is_syncing() {
            self.durable = self.durable.max(self.durable_after_sync);
        }
        let written = polled.and_then(|()| self.writer.flush());
        let done = written.and_then(|()| match sync {
            Sync::None => Ok(()),
            Sync::InBackground => {
                self.start_sync(taken);
                Ok(())
            }
            Sync::AtOnce => self.writer.sync(),
        });
        self.problem = done.err().map(|error: Error| error.to_string());
        if self.commit_point == CommitPoint::Synced {
            self.durable = self.writer.committed();
        } else if !self.writer.has_pending() && !self.writer.has_unsynced() {
            self.durable = taken;
        }
        self.writer.take_free_buffers().for_each(drop);
        self.stamp_point = self.writer.unstamped();
        self.committed = self.writer.committed();
    }

    fn start_sync(&mut self, taken: u64) {
        if !self.writer.is_syncing() {
            self.writer.start_sync();
            self.durable_after_sync = taken;
        }
    }

    pub(crate) fn committed(&self) -> u64 {
        self.committed
    }

    /// Returns whether everything that the loop has passed is committed.
    pub(crate) fn is_idle(&self) -> bool {
        self.committed == self.entries.len() as u64 && self.messages.is_empty()
    }
}

impl CommitLog for SimulatedLog {
    fn append(&mut self, entry: LogEntry) {
        let mut thread = self.0.borrow_mut();
        thread.entries.push(entry.clone());
        thread.messages.push_back(Message::Entry(entry));
    }

    fn is_prompt(&self) -> bool {
        self.0.borrow().commit_point == CommitPoint::Written
    }

    /// Lets the thread write meanwhile, in three of four waits.
    fn await_committed(&mut self, _: u64) {
        let mut thread = self.0.borrow_mut();
        thread.waits += 1;
        if !thread.waits.is_multiple_of(4) {
            thread.step(Sync::None);
        }
    }

    fn take_committed(&mut self) -> Option<Committed> {
        self.has_committed().then(|| {
            self.0.borrow_mut().taken += 1;
            Committed::Oldest
        })
    }

    fn has_committed(&self) -> bool {
        let thread = self.0.borrow();
        let is_stamp_on_its_way = thread.stamped > 0 && thread.stamp_point == Some(thread.stamped);
        !is_stamp_on_its_way && thread.taken < thread.committed
    }

    fn stamp_point(&self) -> Option<u64> {
        let thread = self.0.borrow();
        thread.stamp_point.filter(|&point| point > thread.stamped)
    }

    fn stamp(&mut self, hash: StateHash) {
        if let Some(point) = self.stamp_point() {
            let mut thread = self.0.borrow_mut();
            thread.stamped = point;
            thread.messages.push_back(Message::Stamp(hash));
        }
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn problem(&self) -> Option<String> {
        self.0.borrow().problem.clone()
    }

    fn finish(self: Box<Self>, _: Duration) {
        self.0.borrow_mut().step(Sync::AtOnce);
    }
}
