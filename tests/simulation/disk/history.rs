//! Random entries and the states that they lead to, by a model that shares no code with the journal.

use std::collections::BTreeSet;

use eventserver::engine::{Batch, LogEntry};
use eventserver::journal::{CommitPoint, Notice, Position, Recovery, Storage, Writer};

use crate::journal::memory_disk::MemoryDisk;
use crate::sim::prng::Prng;

/// The size of segments in tests, in bytes: a few entries.
pub(crate) const SEGMENT_BYTES: u64 = 1000;

/// The state after some entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModelState {
    pub(crate) awaited: u64,
    pub(crate) follows: BTreeSet<(u64, u64)>,
}

/// Entries, and the states before the first and after each of them.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) first_sequence: u64,
    pub(crate) entries: Vec<LogEntry>,
    pub(crate) states: Vec<ModelState>,
}

impl History {
    /// Creates an empty history.
    pub(crate) fn new(first_sequence: u64) -> History {
        let state = ModelState { awaited: first_sequence, follows: BTreeSet::new() };
        History { first_sequence, entries: Vec::new(), states: vec![state] }
    }

    /// Creates a history of random entries.
    pub(crate) fn random(random: &mut Prng, entries: usize) -> History {
        let mut history = History::new(random.below(3) * 1000);
        (0..entries).for_each(|_| history.extend(random));
        history
    }

    /// Returns the last state.
    pub(crate) fn last(&self) -> &ModelState {
        self.states.last().unwrap()
    }

    /// Adds a random entry.
    pub(crate) fn extend(&mut self, random: &mut Prng) {
        let mut state = self.last().clone();
        let entry = if random.below(20) == 0 {
            let awaited = state.awaited;
            state = ModelState { awaited: self.first_sequence, follows: BTreeSet::new() };
            LogEntry::Reset { awaited, first: self.first_sequence }
        } else {
            LogEntry::Batch(random_batch(random, &mut state))
        };
        self.entries.push(entry);
        self.states.push(state);
    }

    /// Forgets all entries after the first ones.
    pub(crate) fn truncate(&mut self, entries: usize) {
        self.entries.truncate(entries);
        self.states.truncate(entries + 1);
    }
}

/// Returns a batch of random lines, with sequences that have none, and updates the state.
fn random_batch(random: &mut Prng, state: &mut ModelState) -> Batch {
    let first = state.awaited;
    let (mut count, mut lines) = (0, Vec::new());
    for _ in 0..random.below(6) + 1 {
        let sequence = state.awaited;
        state.awaited += 1;
        let (a, b) = (random.below(5), random.below(5) << (random.below(2) * 40));
        let line = match random.below(8) {
            0 => continue,
            1 | 2 => {
                state.follows.insert((a, b));
                format!("{sequence}|F|{a}|{b}")
            }
            3 => {
                state.follows.insert((a, b));
                format!("000{sequence}|F|{a:0>20}|{b:0>20}")
            }
            4 => {
                state.follows.remove(&(a, b));
                format!("{sequence}|U|{a}|{b}")
            }
            5 => format!("{sequence}|B"),
            6 => format!("{sequence}|P|{a}|{b}"),
            _ => format!("{sequence}|S|{a}"),
        };
        lines.extend_from_slice(line.as_bytes());
        lines.push(b'\n');
        count += 1;
    }
    Batch { first, next: state.awaited, count, lines }
}

/// Returns the state of a recovery as the model has it.
pub(crate) fn state_of(recovery: &Recovery) -> ModelState {
    let follows = recovery.state.graph.follows().map(|(a, b)| (a.0, b.0)).collect();
    assert_eq!(recovery.position.awaited, recovery.state.awaited);
    ModelState { awaited: recovery.state.awaited, follows }
}

/// Returns a writer that continues at `position`, with small segments.
pub(crate) fn writer_at(
    disk: &MemoryDisk,
    position: Position,
    commit_point: CommitPoint,
) -> Writer<MemoryDisk> {
    Writer::new(disk.clone(), position, commit_point).with_segment_bytes(SEGMENT_BYTES)
}

/// Returns the position of an empty journal.
pub(crate) fn start(first_sequence: u64) -> Position {
    Position {
        previous: None,
        next_generation: 1,
        awaited: first_sequence,
        first_sequence,
        stream: None,
    }
}

/// Recovers, without completing the journal.
pub(crate) fn read(
    disk: &MemoryDisk,
    first_sequence: u64,
) -> Result<Recovery, eventserver::journal::Error> {
    Recovery::read(disk, first_sequence, |_: Notice| {})
}

/// Writes the entries of a history from `from` on, each with its own flush, and stamps closed segments as the
/// server does.
pub(crate) fn write_all(writer: &mut Writer<MemoryDisk>, history: &History, from: usize) {
    for entry in &history.entries[from..] {
        writer.append(entry.clone());
        writer.flush().unwrap();
        stamp_closed(writer, history, from);
    }
    writer.sync().unwrap();
}

/// Stamps closed segments with the hash of the state after their last entry. The writer began after `from`
/// entries.
pub(crate) fn stamp_closed(writer: &mut Writer<MemoryDisk>, history: &History, from: usize) {
    while let Some(entries) = writer.unstamped() {
        let state = &history.states[from + entries as usize];
        writer.stamp(hash_of(state));
    }
}

/// Returns the state hash of a state.
pub(crate) fn hash_of(state: &ModelState) -> eventserver::engine::StateHash {
    use eventserver::engine::FollowerGraph;
    use eventserver::protocol::UserId;
    let mut graph = FollowerGraph::with_state_hash();
    state.follows.iter().for_each(|&(a, b)| graph.follow(UserId(a), UserId(b)));
    graph.state_hash(state.awaited).unwrap()
}

/// Returns the names of all segments in order.
pub(crate) fn segments(disk: &MemoryDisk) -> Vec<String> {
    disk.list()
        .unwrap()
        .into_iter()
        .filter(|name| name.ends_with("0.segment") || is_segment(name))
        .collect()
}

fn is_segment(name: &str) -> bool {
    eventserver::journal::SegmentName::parse(name).is_some()
}
