//! The reference sequencer, made of ordered maps.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use eventserver::hub::Stats;

use super::event::{Action, ParsedLine, parse_line};
use super::kernel::SocketId;

/// The line by which a source asks for answers.
const SYNC: &[u8] = b"SYNC";

/// A line of a source, without its terminator.
pub(crate) type Line = Rc<[u8]>;

/// The observable progress of the sequencer. Hardly any step leaves all of it unchanged, so that it
/// identifies the server's position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) awaited: u64,
    pub(crate) waiting: usize,
    pub(crate) follows: u64,
    pub(crate) unfollows: u64,
    pub(crate) broadcasts: u64,
    pub(crate) private_messages: u64,
    pub(crate) status_updates: u64,
    pub(crate) malformed: u64,
    pub(crate) void: u64,
    pub(crate) duplicate: u64,
    pub(crate) late: u64,
    pub(crate) lost: u64,
}

impl Counts {
    /// Returns the server's counts.
    pub(crate) fn of(totals: &Stats) -> Counts {
        let engine = totals.engine();
        Counts {
            awaited: totals.awaited(),
            waiting: totals.buffered_events(),
            follows: engine.follows,
            unfollows: engine.unfollows,
            broadcasts: engine.broadcasts,
            private_messages: engine.private_messages,
            status_updates: engine.status_updates,
            malformed: totals.malformed(),
            void: engine.void,
            duplicate: engine.duplicate,
            late: engine.late,
            lost: engine.lost,
        }
    }

    /// Returns the number of applied events.
    pub(crate) fn applied(&self) -> u64 {
        self.follows
            + self.unfollows
            + self.broadcasts
            + self.private_messages
            + self.status_updates
    }
}

/// Puts lines in the order of their sequences, one small step at a time.
#[derive(Clone, Debug)]
pub(crate) struct Sequencer {
    first: u64,
    window: u64,
    max_line_bytes: usize,
    counts: Counts,
    /// Events and voids that have arrived, by sequence.
    waiting: BTreeMap<u64, Option<(Line, Action)>>,
    /// Lines that were read and not processed yet, by source.
    pending: BTreeMap<SocketId, VecDeque<Line>>,
    /// Processed lines of each source.
    processed: BTreeMap<SocketId, u64>,
    /// Sources that exceeded the window.
    out_of_window: Vec<SocketId>,
    /// Events applied since they were last taken.
    applied: Vec<(u64, Line, Action)>,
    /// Sources whose `SYNC` was processed since they were last taken.
    synced: Vec<SocketId>,
}

impl Sequencer {
    pub(crate) fn new(first: u64, window: u32, max_line_bytes: usize) -> Sequencer {
        Sequencer {
            first,
            window: window.into(),
            max_line_bytes,
            counts: Counts { awaited: first, ..Counts::default() },
            waiting: BTreeMap::new(),
            pending: BTreeMap::new(),
            processed: BTreeMap::new(),
            out_of_window: Vec::new(),
            applied: Vec::new(),
            synced: Vec::new(),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts { waiting: self.waiting.len(), ..self.counts }
    }

    pub(crate) fn awaited(&self) -> u64 {
        self.counts.awaited
    }

    pub(crate) fn push(&mut self, source: SocketId, line: Line) {
        if !self.out_of_window.contains(&source) {
            self.pending.entry(source).or_default().push_back(line);
        }
    }

    /// Returns the sources with unprocessed lines.
    pub(crate) fn sources_with_lines(&self) -> Vec<SocketId> {
        self.pending.iter().filter(|(_, lines)| !lines.is_empty()).map(|(&id, _)| id).collect()
    }

    pub(crate) fn lines_of(&self, source: SocketId) -> u64 {
        self.processed.get(&source).copied().unwrap_or(0)
    }

    pub(crate) fn is_out_of_window(&self, source: SocketId) -> bool {
        self.out_of_window.contains(&source)
    }

    /// Returns what can be applied next: `None` for nothing, `Some(None)` for a void.
    pub(crate) fn due(&self) -> Option<&Option<(Line, Action)>> {
        self.waiting.get(&self.awaited())
    }

    /// Returns whether something waits for a missing sequence.
    pub(crate) fn has_gap(&self) -> bool {
        self.due().is_none() && !self.waiting.is_empty()
    }

    /// Returns the sequence at which the stream starts.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the applied events since the last call, with their sequences.
    pub(crate) fn take_applied(&mut self) -> Vec<(u64, Line, Action)> {
        std::mem::take(&mut self.applied)
    }

    pub(crate) fn take_synced(&mut self) -> Vec<SocketId> {
        std::mem::take(&mut self.synced)
    }

    /// Advances, with the sources in this order, until the counts equal `seen` and as many lines of
    /// each source were processed as `received` lists. Returns false if that never happens; then
    /// everything possible has been done.
    ///
    /// A due event may wait while later lines are processed, because the server inserts lines in
    /// batches.
    pub(crate) fn run_to(
        &mut self,
        sources: &[SocketId],
        seen: &Counts,
        received: &BTreeMap<SocketId, u64>,
    ) -> bool {
        loop {
            let is_known = |source: &SocketId| received.contains_key(source);
            let is_through =
                |source: &SocketId| received.get(source) == Some(&self.lines_of(*source));
            let left: Vec<SocketId> =
                sources.iter().copied().filter(|source| !is_through(source)).collect();
            if self.counts() == *seen && !left.iter().any(is_known) {
                while self.is_next_silent(&left) {
                    self.step(&left);
                }
                return true;
            }
            let may_apply = self.awaited() < seen.awaited;
            let has_applied = may_apply && self.apply_due();
            if !has_applied && !self.process_next(&left) {
                return false;
            }
        }
    }

    /// Advances as far as possible, with the sources in this order.
    pub(crate) fn run(&mut self, sources: &[SocketId]) {
        while self.step(sources) {}
    }

    /// Skips the missing sequences before the first that waits.
    pub(crate) fn skip_gap(&mut self) {
        if let Some((&next, _)) = self.waiting.first_key_value() {
            self.counts.lost += next - self.awaited();
            self.counts.awaited = next;
        }
    }

    /// Resets to the first sequence; waiting events are lost.
    pub(crate) fn reset(&mut self) {
        self.counts.lost += self.waiting.values().flatten().count() as u64;
        self.waiting.clear();
        self.counts.awaited = self.first;
    }

    pub(crate) fn forget(&mut self, source: SocketId) {
        self.pending.remove(&source);
    }

    /// Applies what is due, or else processes the next line. Returns false if there is neither.
    fn step(&mut self, sources: &[SocketId]) -> bool {
        self.apply_due() || self.process_next(sources)
    }

    /// Applies what is due. Returns false if nothing is.
    fn apply_due(&mut self) -> bool {
        let Some(due) = self.waiting.remove(&self.counts.awaited) else { return false };
        self.counts.awaited += 1;
        match due {
            Some(event) => self.apply(event),
            None => self.counts.void += 1,
        }
        true
    }

    fn process_next(&mut self, sources: &[SocketId]) -> bool {
        for source in sources {
            if let Some(line) = self.pending.get_mut(source).and_then(VecDeque::pop_front) {
                *self.processed.entry(*source).or_default() += 1;
                self.process(*source, line);
                return true;
            }
        }
        false
    }

    fn apply(&mut self, (line, action): (Line, Action)) {
        *match action {
            Action::Follow { .. } => &mut self.counts.follows,
            Action::Unfollow { .. } => &mut self.counts.unfollows,
            Action::Broadcast => &mut self.counts.broadcasts,
            Action::PrivateMessage { .. } => &mut self.counts.private_messages,
            Action::StatusUpdate { .. } => &mut self.counts.status_updates,
        } += 1;
        self.applied.push((self.counts.awaited - 1, line, action));
    }

    fn process(&mut self, source: SocketId, line: Line) {
        if *line == *SYNC {
            self.synced.push(source);
            return;
        }
        let (sequence, event) = match parse_line(&line, self.max_line_bytes) {
            ParsedLine::Event(sequence, action) => (sequence, Some((line, action))),
            ParsedLine::Void(sequence) => (sequence, None),
            ParsedLine::NoSequence => {
                self.counts.malformed += 1;
                return;
            }
        };
        let is_event = event.is_some();
        self.counts.malformed += u64::from(!is_event);
        if sequence < self.awaited() {
            self.counts.late += u64::from(is_event);
        } else if sequence - self.awaited() >= self.window {
            self.out_of_window.push(source);
            self.pending.remove(&source);
        } else if matches!(self.waiting.get(&sequence), Some(Some(_))) {
            self.counts.duplicate += u64::from(is_event);
        } else {
            self.waiting.insert(sequence, event);
        }
    }

    /// Returns whether the next step changes no count: it closes a source, replaces a void, or is a question.
    fn is_next_silent(&self, sources: &[SocketId]) -> bool {
        let mut next = sources.iter().filter_map(|source| self.pending.get(source)?.front());
        let Some(line) = next.next() else { return false };
        if **line == *SYNC {
            return self.due().is_none();
        }
        let ParsedLine::Event(sequence, _) = parse_line(line, self.max_line_bytes) else {
            return false;
        };
        let is_out_of_window =
            sequence >= self.awaited() && sequence - self.awaited() >= self.window;
        self.due().is_none()
            && (is_out_of_window || matches!(self.waiting.get(&sequence), Some(None)))
    }
}
