//! Committing: events are passed to a log before they are applied.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::time::Duration;

use crate::engine::{
    Batch, Engine, FollowerGraph, History, LogEntry, Remainder, StateHash, StreamStatus,
};
use crate::hub::budgets::Budgets;
use crate::protocol::EventDecoder;

/// A log to which ordered events are written before they are applied. Implementations must not block,
/// because they run in the loop; [`await_committed`](Self::await_committed) may wait for a moment.
pub trait CommitLog: Debug {
    /// Appends an entry. The entries of one log continue each other.
    fn append(&mut self, entry: LogEntry);

    /// Takes the next entry that was committed. When there is one, the loop has to be woken: see
    /// [`set_wakes`](Self::set_wakes).
    fn take_committed(&mut self) -> Option<Committed>;

    /// Returns whether [`take_committed`](Self::take_committed) has something.
    fn has_committed(&self) -> bool;

    /// Returns whether commits usually take microseconds, so that it is worth waiting for them within a
    /// turn.
    fn is_prompt(&self) -> bool {
        false
    }

    /// Waits until a prompt log has committed its first `entries` entries, but not for longer than a fraction
    /// of a millisecond, and not if the last wait was in vain and the log has not caught up since.
    fn await_committed(&mut self, entries: u64) {
        let _ = entries;
    }

    /// Sets whether the log has to wake the loop once something more is committed. A log that wakes it each
    /// time may ignore this.
    fn set_wakes(&self, wakes: bool) {
        let _ = wakes;
    }

    /// Returns whether others append to the log, too.
    fn is_shared(&self) -> bool {
        false
    }

    /// Returns whether others may have committed entries that were not taken yet, so that what is missing
    /// here may be there.
    fn is_behind(&self) -> bool {
        false
    }

    /// Returns whether what comes next was removed from the log, so that only a new start can go on.
    fn is_outrun(&self) -> bool {
        false
    }

    /// Returns the number of entries after which the log wants to know the state hash, if any. It must not
    /// rise to a number of entries that were taken before.
    fn stamp_point(&self) -> Option<u64>;

    /// Takes the state hash after the entries of the [`stamp_point`](Self::stamp_point).
    fn stamp(&mut self, hash: StateHash);

    /// Returns an empty buffer, one that was used before if possible.
    fn take_buffer(&mut self) -> Vec<u8>;

    /// Returns why nothing is committed at present, if the log knows of a problem.
    fn problem(&self) -> Option<String>;

    /// Returns what operators see of a log that others append to, too.
    fn stream_status(&self) -> Option<StreamStatus> {
        None
    }

    /// Completes the log, within `timeout`.
    fn finish(self: Box<Self>, timeout: Duration);
}

/// A log, and the state that its entries lead to.
#[derive(Debug)]
pub struct RestoredLog<L> {
    /// The log, ready to be continued.
    pub log: L,
    /// The follower graph.
    pub graph: FollowerGraph,
    /// The awaited sequence.
    pub awaited: u64,
    /// The newest events before it, if clients may resume.
    pub history: Option<History>,
}

/// An entry of the log that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The oldest entry in flight.
    Oldest,
    /// All batches in flight before this sequence. Others have covered those that the log does not contain.
    Before(u64),
    /// A batch of others. The batches in flight that it covers will not be committed.
    Other(Remainder),
}

/// The number of bytes of a line of others, which has passed the limit of their servers.
const MAX_LINE_BYTES: usize = 1 << 16;

/// An entry that was passed to the log and is not committed, or is not applied completely.
#[derive(Clone, Copy, Debug)]
enum InFlight {
    Batch {
        /// The sequence after the last.
        next: u64,
        bytes: usize,
    },
    Reset {
        /// The state hash before the reset, which takes effect in memory at once.
        hash_before: Option<StateHash>,
    },
}

/// The log, if there is one, and the entries on their way to it.
///
/// Everything that is in order is copied into a batch, and applied once the log has committed it. Without a
/// log the engine applies everything that is in order.
///
/// A *prompt* log gets small batches, and the turn waits for each before it fills the next but one. So what
/// is applied was received a moment ago and is still in the cache, and what a turn has read leaves in the
/// same turn, as without a log. Where a wait takes too long, the events are applied in a later turn.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    log: Option<Box<dyn CommitLog>>,
    is_prompt: bool,
    /// The batch that is being filled.
    batch: Batch,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    /// The number of entries that were removed from `in_flight`.
    committed: u64,
    /// The sequence after the last committed one.
    committed_next: u64,
    /// Decodes batches of others. Its buffer is reused.
    decoder: EventDecoder,
}

/// The result of [`Commits::stage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Staged {
    /// Everything that is in order is staged.
    All,
    /// The log accepts no more for now.
    Full,
    /// As many sequences as allowed are staged, and more are in order.
    Some,
}

impl Commits {
    /// Creates commits to `log`, for an engine that awaits the sequence `awaited`.
    pub(crate) fn new(log: Box<dyn CommitLog>, awaited: u64) -> Commits {
        let decoder = EventDecoder::new(MAX_LINE_BYTES);
        let is_prompt = log.is_prompt();
        Commits {
            log: Some(log),
            is_prompt,
            committed_next: awaited,
            decoder,
            ..Commits::default()
        }
    }

    /// Returns why nothing is committed at present, if the log knows of a problem.
    pub(crate) fn problem(&self) -> Option<String> {
        self.log.as_ref().and_then(|log| log.problem())
    }

    /// Returns what operators see of a log that others append to, too.
    pub(crate) fn stream_status(&self) -> Option<StreamStatus> {
        self.log.as_ref().and_then(|log| log.stream_status())
    }

    /// Removes the log, so that the caller can finish it.
    pub(crate) fn take_log(&mut self) -> Option<Box<dyn CommitLog>> {
        self.log.take()
    }

    /// Returns whether the log accepts no more for now: it has too much to write, or too much is not
    /// applied. Sources are not read then.
    #[inline]
    pub(crate) fn is_full(&self, engine: &Engine, budgets: &Budgets) -> bool {
        self.log.is_some()
            && (self.in_flight_bytes + self.batch.lines.len() >= budgets.in_flight_bytes
                || engine.unapplied() >= budgets.unapplied)
    }

    /// Copies events that are in order into batches, at most as many as `max` says, which it lowers.
    #[inline]
    pub(crate) fn stage(
        &mut self,
        engine: &mut Engine,
        max: &mut usize,
        budgets: &Budgets,
    ) -> Staged {
        match self.log {
            None => Staged::All,
            Some(_) => self.stage_to_log(engine, max, budgets),
        }
    }

    fn stage_to_log(&mut self, engine: &mut Engine, max: &mut usize, budgets: &Budgets) -> Staged {
        while engine.has_unstaged() {
            if self.is_full(engine, budgets) {
                return Staged::Full;
            }
            if *max == 0 {
                return Staged::Some;
            }
            *max -= engine.stage(&mut self.batch, *max);
            let is_prompt_batch =
                self.is_prompt && self.batch.lines.len() >= budgets.prompt_batch_bytes;
            if is_prompt_batch || self.batch.is_full() {
                self.append_batch();
                self.await_committed(self.in_flight.len().saturating_sub(1));
            }
        }
        match self.is_full(engine, budgets) {
            true => Staged::Full,
            false => Staged::All,
        }
    }

    /// Passes the batch to the log at the end of a turn, unless the log is busy: then it is passed when it
    /// is full, or once the log is idle. So the log writes few large batches instead of many small ones.
    pub(crate) fn end_turn(&mut self) {
        if !self.batch.is_empty() && (self.in_flight.is_empty() || self.is_prompt) {
            self.append_batch();
        }
    }

    /// Passes the batch to a prompt log, and gives it the time to commit everything. Returns whether
    /// something is committed.
    pub(crate) fn await_all_committed(&mut self) -> bool {
        if !self.is_prompt {
            return false;
        }
        self.end_turn();
        self.await_committed(self.in_flight.len());
        self.log.as_ref().is_some_and(|log| log.has_committed())
    }

    /// Gives a prompt log the time to commit the first `entries` entries in flight.
    fn await_committed(&mut self, entries: usize) {
        if let (Some(log), true, 1..) = (&mut self.log, self.is_prompt, entries) {
            log.await_committed(self.committed + entries as u64);
        }
    }

    /// Sets whether the log has to wake the loop once something more is committed.
    #[inline]
    pub(crate) fn set_wakes(&self, wakes: bool) {
        if let Some(log) = &self.log {
            log.set_wakes(wakes);
        }
    }

    fn append_batch(&mut self) {
        let Some(log) = &mut self.log else { return };
        let batch = match self.batch.is_small() {
            // In a buffer of its size, because a log may keep entries for long.
            true => {
                let batch = self.batch.clone();
                self.batch.clear();
                batch
            }
            false => {
                let lines = log.take_buffer();
                std::mem::replace(&mut self.batch, Batch { lines, ..Batch::default() })
            }
        };
        let bytes = batch.lines.len();
        self.in_flight_bytes += bytes;
        self.in_flight.push_back(InFlight::Batch { next: batch.next, bytes });
        log.append(LogEntry::Batch(batch));
    }

    /// Records a reset, before it takes effect. Everything in order is applied, so the batch is empty.
    pub(crate) fn on_reset(&mut self, engine: &Engine) {
        let Some(log) = &mut self.log else { return };
        let first = engine.first().get();
        self.in_flight.push_back(InFlight::Reset { hash_before: engine.state_hash() });
        log.append(LogEntry::Reset { awaited: engine.awaited(), first });
    }

    /// Returns whether others may have committed what is missing here.
    #[inline]
    pub(crate) fn is_behind(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.is_behind())
    }

    /// Returns whether only a new start can go on.
    pub(crate) fn is_outrun(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.is_outrun())
    }

    /// Lets the engine apply what the log has committed since, up to the next sequence at which the log
    /// wants to know the state hash, and until enough can be applied. Returns whether there is more to apply.
    pub(crate) fn advance(&mut self, engine: &mut Engine, budgets: &Budgets) -> bool {
        let mut has_advanced = false;
        loop {
            let Some(log) = &mut self.log else { return has_advanced };
            // Before the stamp point, which rises before more is committed.
            let has_committed = log.has_committed();
            if log.stamp_point() == Some(self.committed) {
                let hash = match self.in_flight.front() {
                    Some(&InFlight::Reset { hash_before }) => hash_before,
                    // A gap may be skipped after it, which changes no follow.
                    _ if engine.awaited() >= self.committed_next => {
                        engine.graph().state_hash(self.committed_next)
                    }
                    _ => return has_advanced,
                };
                log.stamp(hash.unwrap_or(StateHash(0)));
                continue;
            }
            if !has_committed || has_enough(log.as_ref(), self.committed_next, engine, budgets) {
                return has_advanced;
            }
            let Some(committed) = log.take_committed() else { return has_advanced };
            self.committed += 1;
            has_advanced |= self.on_committed(committed, engine);
        }
    }

    /// Lets the engine apply an entry. Returns whether there is something to apply.
    fn on_committed(&mut self, committed: Committed, engine: &mut Engine) -> bool {
        match committed {
            Committed::Oldest => match self.remove_oldest() {
                Some(InFlight::Batch { next, .. }) => self.commit(next, engine),
                Some(InFlight::Reset { .. }) => {
                    self.committed_next = engine.first().get();
                    false
                }
                None => false,
            },
            Committed::Before(next) => {
                self.remove_covered(next);
                self.commit(next, engine)
            }
            Committed::Other(batch) => {
                let next = batch.next;
                self.remove_covered(next);
                if self.batch.next <= next {
                    self.batch.clear();
                }
                engine.commit_other(batch.first, next, batch.lines(), &mut self.decoder);
                self.committed_next = next;
                true
            }
        }
    }

    fn commit(&mut self, next: u64, engine: &mut Engine) -> bool {
        self.committed_next = next;
        engine.commit(next);
        true
    }

    fn remove_oldest(&mut self) -> Option<InFlight> {
        let oldest = self.in_flight.pop_front()?;
        if let InFlight::Batch { bytes, .. } = oldest {
            self.in_flight_bytes -= bytes;
        }
        Some(oldest)
    }

    /// Removes the batches in flight before a sequence.
    fn remove_covered(&mut self, before: u64) {
        while let Some(InFlight::Batch { next, .. }) = self.in_flight.front()
            && *next <= before
        {
            self.remove_oldest();
        }
    }

    /// Returns whether [`advance`](Self::advance) has something to do.
    pub(crate) fn can_advance(&self, engine: &Engine, budgets: &Budgets) -> bool {
        let Some(log) = &self.log else { return false };
        if log.stamp_point() == Some(self.committed) {
            return engine.awaited() >= self.committed_next
                || matches!(self.in_flight.front(), Some(InFlight::Reset { .. }));
        }
        log.has_committed() && !has_enough(log.as_ref(), self.committed_next, engine, budgets)
    }

    /// Panics unless the invariants between two turns hold.
    pub(crate) fn check(&self, engine: &Engine) {
        let batches = self.in_flight.iter().filter(|entry| matches!(entry, InFlight::Batch { .. }));
        assert!(
            batches.count() == 0 || engine.unapplied() > 0,
            "what is not committed is not applied"
        );
        assert!(self.batch.is_empty() || !self.in_flight.is_empty(), "an idle log gets the batch");
    }
}

/// Returns whether so much is committed and not applied that no more is taken. Without others nothing is
/// committed that is not counted as staged.
fn has_enough(
    log: &dyn CommitLog,
    committed_next: u64,
    engine: &Engine,
    budgets: &Budgets,
) -> bool {
    log.is_shared() && committed_next.saturating_sub(engine.awaited()) >= budgets.unapplied
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::engine::{Full, Progress, Recipients, Sink};
    use crate::protocol::{Event, Line, Sequence, UserId};

    /// A log whose progress the test decides.
    #[derive(Clone, Debug, Default)]
    struct TestLog(Rc<RefCell<TestLogState>>);

    #[derive(Debug, Default)]
    struct TestLogState {
        committed: u64,
        taken: u64,
        stamp_point: Option<u64>,
        stamps: Vec<StateHash>,
    }

    impl CommitLog for TestLog {
        fn append(&mut self, _: LogEntry) {}

        fn take_committed(&mut self) -> Option<Committed> {
            self.has_committed().then(|| {
                self.0.borrow_mut().taken += 1;
                Committed::Oldest
            })
        }

        fn has_committed(&self) -> bool {
            let state = self.0.borrow();
            state.taken < state.committed
        }

        fn stamp_point(&self) -> Option<u64> {
            self.0.borrow().stamp_point
        }

        fn stamp(&mut self, hash: StateHash) {
            let mut state = self.0.borrow_mut();
            state.stamp_point = None;
            state.stamps.push(hash);
        }

        fn take_buffer(&mut self) -> Vec<u8> {
            Vec::new()
        }

        fn problem(&self) -> Option<String> {
            None
        }

        fn finish(self: Box<Self>, _: Duration) {}
    }

    struct Nowhere;

    impl Sink for Nowhere {
        fn offer(&mut self, _: Recipients<'_>, _: Line<'_>) -> Result<(), Full> {
            Ok(())
        }
    }

    #[test]
    fn the_hash_before_and_after_a_reset_is_that_of_its_own_state() {
        let mut graph = FollowerGraph::with_state_hash();
        let empty = graph.state_hash(1);
        graph.follow(UserId(1), UserId(2));
        let followed = graph.state_hash(2);
        for (stamp_point, expected) in [(1, followed), (2, empty)] {
            let (log, budgets) = (TestLog::default(), Budgets::default());
            let first = Sequence::new(1).unwrap();
            let graph = FollowerGraph::with_state_hash();
            let mut engine = Engine::with_log(first, 1, graph, 10);
            let mut commits = Commits::new(Box::new(log.clone()), 1);
            let line = b"1|F|1|2";
            engine.insert(&Event::parse(line).unwrap(), Line::Slice(line));
            assert_eq!(commits.stage(&mut engine, &mut 10, &budgets), Staged::All);
            commits.end_turn();
            log.0.borrow_mut().committed = 1;
            assert!(commits.advance(&mut engine, &budgets));
            assert_eq!(engine.apply_next(&mut Nowhere), Progress::Applied);
            commits.on_reset(&engine);
            engine.reset();
            let mut state = log.0.borrow_mut();
            (state.committed, state.stamp_point) = (2, Some(stamp_point));
            drop(state);
            assert!(commits.can_advance(&engine, &budgets));
            commits.advance(&mut engine, &budgets);
            assert_eq!(log.0.borrow().stamps, [expected.unwrap()], "after {stamp_point} entries");
            assert!(!commits.can_advance(&engine, &budgets));
        }
    }
}
