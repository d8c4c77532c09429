//! The way of one client from the last event that it has to the newest one.

use hashbrown::HashSet;

use super::graph::{Followees, FollowerGraph};
use super::history::{Broadcasts, Chunk, Cursor, History, Index, Place, Record, Role, WireLine};
use super::{Engine, Full};
use crate::protocol::{EventKind, Sequence, UserId};

/// The cost of passing an event that is no broadcast, in steps: its text is parsed.
const PARSE_STEPS: usize = 2;

/// The additional cost of a status update, in steps: it takes two lookups.
const STATUS_UPDATE_STEPS: usize = 3;

/// The cost of indexing an event, in steps.
const INDEX_STEPS: u64 = 8;

/// The cost of a lookup in an index, in steps.
const LOOKUP_STEPS: usize = 10;

/// The maximum number of followees of a user that are looked up in an index. With more, all events are passed.
const MAX_LOOKUPS: usize = if cfg!(test) { 2 } else { 128 };

/// The maximum number of broadcasts that are passed on at once: enough that each costs little, few enough that
/// those that do not fit can be tried alone.
const BROADCASTS_AT_ONCE: usize = 64;

/// A piece of what a client has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed<'a> {
    /// The lines of events that concerned the user.
    Lines {
        /// The lines, each ended by CRLF.
        text: &'a [u8],
        /// Their number, at least 1.
        count: u64,
    },
    /// Sequences whose events may be missing.
    Gap {
        /// The first sequence.
        first: u64,
        /// The last sequence.
        last: u64,
    },
}

/// The result of one step of a [`Resume`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeProgress {
    /// The client has all that was applied. Live events continue it.
    CaughtUp,
    /// The client claims to have events that are not applied yet.
    Ahead,
    /// The sink is full.
    Blocked,
    /// The budget is exhausted.
    BudgetExhausted,
}

/// A client that has everything up to a sequence, and gets all later events that concern its user, as the
/// follower graph was at each of them.
///
/// The graph of the past is today's graph and the followees of the user that changed since: those that a follow
/// or an unfollow of the user has changed an odd number of times. So the events after the sequence are passed
/// twice: first to collect these changes, then to take them back one by one and pass on the lines. Events that
/// are applied meanwhile are passed too, before the second pass goes on.
///
/// Both passes cost a few nanoseconds per event. Where a crowd comes back at once, they use the indexes of the
/// ring's chunks instead, and pass a chunk at the cost of what concerns the user in it.
#[derive(Debug)]
pub struct Resume {
    user: UserId,
    /// The first sequence that is not done with: passed on, without a recipient in the user, or in a gap.
    next: u64,
    /// A gap that the client does not know of: its first sequence, and the one after its last.
    untold: Option<(u64, u64)>,
    /// `None` before the first step.
    walk: Option<Walk>,
    /// How many times the ring has dropped events before they were passed.
    overruns: u32,
}

#[derive(Debug)]
struct Walk {
    /// The next event to pass on.
    cursor: Cursor,
    /// The event up to which changes are collected.
    scanned: Cursor,
    /// The followees whose follow differs between `cursor` and `scanned`.
    changed: HashSet<UserId>,
}

/// Why a walk stopped before the end of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    Blocked,
    BudgetExhausted,
}

/// What lines are passed on for: a user and its followees.
struct Reader<'a> {
    user: UserId,
    followees: Followees<'a>,
    /// All of them, unless there are too many to look up.
    few_followees: Option<Vec<UserId>>,
    /// The first sequence that the client may lack.
    from: u64,
}

impl Walk {
    fn starting_at(start: Cursor) -> Walk {
        Walk { cursor: start, scanned: start, changed: HashSet::new() }
    }
}

impl Resume {
    /// Creates the resume of a user that has everything up to a sequence.
    #[must_use]
    pub fn after(sequence: Sequence, user: UserId) -> Resume {
        Resume { user, next: sequence.get() + 1, untold: None, walk: None, overruns: 0 }
    }

    /// Returns the first sequence that the client may lack.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Gives up to wait for the sequences that the client claims to have: it is told that these are a gap, and
    /// continues with `awaited`.
    pub fn give_up_waiting(&mut self, awaited: u64) {
        if self.next > awaited {
            self.untold = Some((awaited, self.next));
            self.next = awaited;
        }
    }

    /// Continues with the stream that `engine` is about to start again. What the client lacks of the current one is
    /// a gap, because the engine forgets the follows, too.
    pub fn on_reset(&mut self, engine: &Engine) {
        let (awaited, first) = (engine.awaited(), engine.first().get());
        if self.next > awaited {
            return;
        }
        let is_complete = engine.history().is_none_or(|history| {
            self.next >= history.covered_from() && self.next >= history.next()
        });
        if !is_complete {
            self.skip_to(awaited);
        }
        (self.next, self.walk) = (first, None);
    }

    /// Passes on what the client lacks in order, at most `steps` steps of constant time, which it lowers by
    /// those it took. It may take those of one more chunk to index. A refused piece is passed on again in the next
    /// call. `others` is the number of clients that are about to do the same.
    pub fn advance(
        &mut self,
        engine: &Engine,
        steps: &mut usize,
        others: usize,
        mut sink: impl FnMut(Missed<'_>) -> Result<(), Full>,
    ) -> ResumeProgress {
        let Some(history) = engine.history() else { return ResumeProgress::CaughtUp };
        if self.next > engine.awaited() {
            return ResumeProgress::Ahead;
        }
        let mut walk = self.take_walk(history);
        let progress = match walk.scan(self.user, history, steps, others) {
            false => ResumeProgress::BudgetExhausted,
            true => match self.tell_gap(&mut sink) {
                Err(Full) => ResumeProgress::Blocked,
                Ok(()) => {
                    let reader = Reader::new(self.user, engine.graph(), self.next);
                    let progress = walk.pass_on(&reader, history, steps, sink);
                    self.next = self.next.max(walk.cursor.sequence);
                    progress
                }
            },
        };
        if progress == ResumeProgress::CaughtUp {
            debug_assert!(walk.changed.is_empty(), "today's follows are those of the graph");
            self.next = engine.awaited();
        }
        self.walk = Some(walk);
        progress
    }

    /// Returns a gap that the client does not know of: its first sequence, and the one after its last.
    #[cfg(test)]
    pub(super) fn untold_gap(&self) -> Option<(u64, u64)> {
        self.untold
    }

    fn tell_gap(
        &mut self,
        sink: &mut impl FnMut(Missed<'_>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        if let Some((first, end)) = self.untold {
            sink(Missed::Gap { first, last: end - 1 })?;
            self.untold = None;
        }
        Ok(())
    }

    /// Returns the walk. It starts at the first sequence that the client lacks, or where the ring starts.
    ///
    /// Where the ring has dropped events during the walk, the walk starts again in its newer half, the next time in
    /// its newest quarter, and so on: a client that the stream outruns again and again reaches its end in the end.
    fn take_walk(&mut self, history: &History) -> Walk {
        let start = match self.walk.take() {
            Some(walk) if history.chunk(walk.cursor.chunk).is_some() => return walk,
            // Where the walk had passed all that was dropped, it goes on.
            _ if self.next >= history.covered_from() => {
                return Walk::starting_at(history.chunk_of(self.next));
            }
            Some(_) => {
                self.overruns += 1;
                history.start_of_newest(history.chunks().checked_shr(self.overruns).unwrap_or(0))
            }
            None => history.start(),
        };
        self.skip_to(start.sequence);
        Walk::starting_at(start)
    }

    /// Skips the sequences before `next`, whose events the client does not get.
    fn skip_to(&mut self, next: u64) {
        let first = match self.untold {
            Some((first, end)) if end == self.next => first,
            _ => self.next,
        };
        self.untold = Some((first, next));
        self.next = next;
    }
}

impl<'a> Reader<'a> {
    fn new(user: UserId, graph: &'a FollowerGraph, from: u64) -> Reader<'a> {
        let followees = graph.followees(user);
        Reader { user, followees, few_followees: followees.at_most(MAX_LOOKUPS), from }
    }
}

impl Walk {
    /// Collects the changes of follows up to the newest event. Returns whether it got there.
    fn scan(&mut self, user: UserId, history: &History, steps: &mut usize, others: usize) -> bool {
        while *steps > 0
            && let Some(chunk) = history.chunk(self.scanned.chunk)
        {
            let is_full = history.is_full(self.scanned.chunk);
            if is_full && self.scanned.offset == 0 {
                let indexed = chunk.begin_walk(others);
                *steps = steps.saturating_sub((INDEX_STEPS * indexed) as usize);
            }
            match chunk.index() {
                Some(index) if self.scanned.offset == 0 => {
                    *steps = steps.saturating_sub(LOOKUP_STEPS);
                    self.scan_index(user, chunk, index);
                }
                _ if self.scan_records(user, chunk, steps) => {}
                _ => return false,
            }
            if !is_full {
                return true;
            }
            self.scanned = start_after(chunk, self.scanned.chunk);
        }
        self.scanned.chunk == history.end().chunk && self.scanned.offset == history.end().offset
    }

    /// Collects the changes of the rest of a chunk. Returns whether that is all.
    fn scan_records(&mut self, user: UserId, chunk: &Chunk, steps: &mut usize) -> bool {
        let Cursor { offset, sequence, .. } = &mut self.scanned;
        while let Some((record, end)) = chunk.record(*offset, *sequence) {
            if *steps == 0 {
                return false;
            }
            *steps -= 1;
            (*offset, *sequence) = (end, record.sequence + 1);
            if let Some((follower, followed)) = record.changed_follow()
                && follower == user
            {
                toggle(&mut self.changed, followed);
            }
        }
        true
    }

    fn scan_index(&mut self, user: UserId, chunk: &Chunk, index: &Index) {
        for (_, followed) in changes_of(user, chunk, index) {
            toggle(&mut self.changed, followed);
        }
    }

    /// Passes on the lines from the cursor on.
    fn pass_on(
        &mut self,
        reader: &Reader<'_>,
        history: &History,
        steps: &mut usize,
        mut sink: impl FnMut(Missed<'_>) -> Result<(), Full>,
    ) -> ResumeProgress {
        while let Some(chunk) = history.chunk(self.cursor.chunk) {
            let is_full = history.is_full(self.cursor.chunk);
            let index = chunk.index().filter(|_| is_full);
            let places = index.and_then(|index| self.places(reader, chunk, index));
            let result = match (index, places) {
                (Some(index), Some(places)) => {
                    self.pass_on_places(&places, reader, chunk, index, steps, &mut sink)
                }
                _ => self.pass_on_records(reader, chunk, steps, &mut sink),
            };
            match result {
                Err(Stopped::Blocked) => return ResumeProgress::Blocked,
                Err(Stopped::BudgetExhausted) => return ResumeProgress::BudgetExhausted,
                Ok(()) if is_full => self.cursor = start_after(chunk, self.cursor.chunk),
                Ok(()) => break,
            }
        }
        ResumeProgress::CaughtUp
    }

    /// Passes on the lines of the rest of a chunk.
    fn pass_on_records(
        &mut self,
        reader: &Reader<'_>,
        chunk: &Chunk,
        steps: &mut usize,
        sink: &mut impl FnMut(Missed<'_>) -> Result<(), Full>,
    ) -> Result<(), Stopped> {
        while let Some((record, end)) = chunk.record(self.cursor.offset, self.cursor.sequence) {
            if *steps == 0 {
                return Err(Stopped::BudgetExhausted);
            }
            *steps -= 1;
            if record.sequence >= reader.from
                && self.concerns(reader, &record, steps)
                && sink(missed_line(&record.wire_line())).is_err()
            {
                return Err(Stopped::Blocked);
            }
            // The cursor passes the change.
            if let Some((follower, followed)) = record.changed_follow()
                && follower == reader.user
            {
                toggle(&mut self.changed, followed);
            }
            (self.cursor.offset, self.cursor.sequence) = (end, record.sequence + 1);
        }
        Ok(())
    }

    /// Returns whether the user was a recipient of the event at the cursor.
    fn concerns(&self, reader: &Reader<'_>, record: &Record<'_>, steps: &mut usize) -> bool {
        if record.is_broadcast() {
            return true;
        }
        *steps = steps.saturating_sub(PARSE_STEPS - 1);
        match record.kind() {
            EventKind::Broadcast => true,
            EventKind::Unfollow { .. } => false,
            EventKind::Follow { followed: recipient, .. }
            | EventKind::PrivateMessage { to: recipient, .. } => recipient == reader.user,
            EventKind::StatusUpdate { from } => {
                *steps = steps.saturating_sub(STATUS_UPDATE_STEPS);
                reader.followees.contains(from) != self.changed.contains(&from)
            }
        }
    }

    /// Returns the places of the events to pass on in the rest of a chunk, in order, without broadcasts. `None` if
    /// its index does not help: the user follows others at its start and its end, or too many.
    fn places(&self, reader: &Reader<'_>, chunk: &Chunk, index: &Index) -> Option<Vec<Place>> {
        let followees = reader.few_followees.as_ref()?;
        if self.changed.len() > MAX_LOOKUPS
            || changes_of(reader.user, chunk, index).next().is_some()
        {
            return None;
        }
        let kind_at = |place| index.record(chunk, place).map(|record| record.kind());
        let to_user = index.places(reader.user, Role::Recipient).filter(|&place| {
            matches!(
                kind_at(place),
                Some(EventKind::Follow { followed: user, .. } | EventKind::PrivateMessage { to: user, .. })
                    if user == reader.user
            )
        });
        let mut places: Vec<Place> = to_user.collect();
        let today = followees.iter().filter(|followee| !self.changed.contains(*followee));
        let former = self.changed.iter().filter(|&&user| !reader.followees.contains(user));
        for &from in today.chain(former) {
            places.extend(
                index
                    .places(from, Role::Author)
                    .filter(|&place| kind_at(place) == Some(EventKind::StatusUpdate { from })),
            );
        }
        let from = reader.from.max(self.cursor.sequence);
        places.retain(|&place| index.sequence(place) >= from);
        places.sort_unstable();
        Some(places)
    }

    /// Passes on the events at these places and the broadcasts of the rest of a chunk.
    fn pass_on_places(
        &mut self,
        places: &[Place],
        reader: &Reader<'_>,
        chunk: &Chunk,
        index: &Index,
        steps: &mut usize,
        sink: &mut impl FnMut(Missed<'_>) -> Result<(), Full>,
    ) -> Result<(), Stopped> {
        let lookups = 1 + reader.few_followees.as_ref().map_or(0, Vec::len) + self.changed.len();
        if *steps == 0 {
            return Err(Stopped::BudgetExhausted);
        }
        // The lookups are for nothing unless at least one event is passed on.
        let left = steps.saturating_sub(LOOKUP_STEPS * lookups);
        *steps = left.max(1);
        let mut next = reader.from.max(self.cursor.sequence);
        for &place in places {
            let sequence = index.sequence(place);
            self.pass_on_broadcasts(index.broadcasts(next, sequence), index, steps, sink)?;
            self.stop_at(place, index, steps)?;
            *steps = steps.saturating_sub(PARSE_STEPS);
            if let Some(record) = index.record(chunk, place)
                && sink(missed_line(&record.wire_line())).is_err()
            {
                return Err(Stopped::Blocked);
            }
            next = sequence + 1;
        }
        self.pass_on_broadcasts(index.broadcasts(next, chunk.next()), index, steps, sink)?;
        *steps = left.min(*steps);
        Ok(())
    }

    fn pass_on_broadcasts(
        &mut self,
        mut left: Broadcasts<'_>,
        index: &Index,
        steps: &mut usize,
        sink: &mut impl FnMut(Missed<'_>) -> Result<(), Full>,
    ) -> Result<(), Stopped> {
        let mut at_once = BROADCASTS_AT_ONCE;
        while let Some(place) = left.first() {
            self.stop_at(place, index, steps)?;
            let (some, rest) = left.split_at(at_once.min(*steps));
            let missed = Missed::Lines { text: some.text(), count: some.len() as u64 };
            match sink(missed) {
                Ok(()) => left = rest,
                Err(Full) if some.len() > 1 => at_once = 1,
                Err(Full) => return Err(Stopped::Blocked),
            }
            *steps = steps.saturating_sub(some.len().div_ceil(8));
        }
        Ok(())
    }

    /// Moves the cursor to a place, and stops there if no steps are left.
    fn stop_at(&mut self, place: Place, index: &Index, steps: &usize) -> Result<(), Stopped> {
        (self.cursor.offset, self.cursor.sequence) = (place.offset(), index.sequence(place));
        if *steps == 0 { Err(Stopped::BudgetExhausted) } else { Ok(()) }
    }
}

/// Returns the start of the next chunk.
fn start_after(chunk: &Chunk, number: u64) -> Cursor {
    Cursor { chunk: number + 1, offset: 0, sequence: chunk.next() }
}

/// Iterates over the changed follows of a user in a chunk.
fn changes_of<'a>(
    user: UserId,
    chunk: &'a Chunk,
    index: &'a Index,
) -> impl Iterator<Item = (UserId, UserId)> + 'a {
    index
        .places(user, Role::Follower)
        .filter_map(|place| index.record(chunk, place)?.changed_follow())
        .filter(move |&(follower, _)| follower == user)
}

fn missed_line(line: &WireLine) -> Missed<'_> {
    Missed::Lines { text: line.as_bytes(), count: 1 }
}

/// Adds or removes the change of a follow.
fn toggle(changed: &mut HashSet<UserId>, followee: UserId) {
    if !changed.remove(&followee) {
        changed.insert(followee);
    }
}
