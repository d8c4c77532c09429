//! The way of one client from the last event that it has to the newest one.

use hashbrown::HashSet;

use super::graph::FollowerGraph;
use super::history::{Entry, History, Kind};
use super::{Engine, Full};
use crate::protocol::{Sequence, UserId};

/// The cost of a status update, in steps: it takes two lookups.
const STATUS_UPDATE_STEPS: usize = 4;

/// A piece of what a client has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed<'a> {
    /// The line of an event that concerned the user, without its terminator.
    Line(&'a [u8]),
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
    /// The position of the next event to pass on.
    cursor: u64,
    /// The position up to which changes are collected.
    scanned: u64,
    /// The followees whose follow differs between `cursor` and `scanned`.
    changed: HashSet<UserId>,
}

impl Walk {
    fn starting_at(position: u64) -> Walk {
        Walk { cursor: position, scanned: position, changed: HashSet::new() }
    }

    fn toggle(&mut self, followee: UserId) {
        if !self.changed.remove(&followee) {
            self.changed.insert(followee);
        }
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
        let is_complete = engine.history().is_none_or(|history| match &self.walk {
            Some(walk) => walk.cursor == history.end(),
            None => {
                self.next >= history.covered_from()
                    && history.position_of(self.next) == history.end()
            }
        });
        if !is_complete {
            self.skip_to(awaited);
        }
        (self.next, self.walk) = (first, None);
    }

    /// Passes on what the client lacks in order, at most `steps` steps of constant time, which it lowers by
    /// those it took. A refused piece is passed on again in the next call.
    pub fn advance(
        &mut self,
        engine: &Engine,
        steps: &mut usize,
        mut sink: impl FnMut(Missed<'_>) -> Result<(), Full>,
    ) -> ResumeProgress {
        let Some(history) = engine.history() else { return ResumeProgress::CaughtUp };
        if self.next > engine.awaited() {
            return ResumeProgress::Ahead;
        }
        let mut walk = self.take_walk(history);
        let progress = match walk.scan(self.user, history, steps) {
            false => ResumeProgress::BudgetExhausted,
            true => match self.tell_gap(&mut sink) {
                Err(Full) => ResumeProgress::Blocked,
                Ok(()) => {
                    let progress = walk.pass_on(self.user, history, engine.graph(), steps, sink);
                    self.next = self.next.max(history.sequence_after(walk.cursor));
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
            Some(walk) if walk.cursor >= history.start() => return walk,
            Some(_) => {
                self.overruns += 1;
                history.end() - history.len().checked_shr(self.overruns).unwrap_or(0)
            }
            None if self.next < history.covered_from() => history.start(),
            None => return Walk::starting_at(history.position_of(self.next)),
        };
        self.skip_to(history.sequence_after(start));
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

impl Walk {
    /// Collects the changes of follows up to the newest event. Returns whether it got there.
    fn scan(&mut self, user: UserId, history: &History, steps: &mut usize) -> bool {
        while self.scanned < history.end() && *steps > 0 {
            let entries = history.run(self.scanned).entries;
            let entries = &entries[..entries.len().min(*steps)];
            for entry in entries {
                if entry.changes_follows_of(user) {
                    self.toggle(entry.subject);
                }
            }
            self.scanned += entries.len() as u64;
            *steps -= entries.len();
        }
        self.scanned == history.end()
    }

    /// Passes on the lines from the cursor on.
    fn pass_on(
        &mut self,
        user: UserId,
        history: &History,
        graph: &FollowerGraph,
        steps: &mut usize,
        mut sink: impl FnMut(Missed<'_>) -> Result<(), Full>,
    ) -> ResumeProgress {
        let followees = graph.followees(user);
        while self.cursor < history.end() {
            let run = history.run(self.cursor);
            for entry in run.entries {
                if *steps == 0 {
                    return ResumeProgress::BudgetExhausted;
                }
                *steps -= 1;
                let is_recipient = match entry.kind {
                    Kind::Broadcast => true,
                    Kind::Unfollow => false,
                    Kind::Follow | Kind::IdempotentFollow | Kind::PrivateMessage => {
                        entry.subject == user
                    }
                    Kind::StatusUpdate => {
                        *steps = steps.saturating_sub(STATUS_UPDATE_STEPS - 1);
                        let is_followee = followees.contains(entry.subject);
                        is_followee != self.changed.contains(&entry.subject)
                    }
                };
                if is_recipient && sink(Missed::Line(run.line(entry))).is_err() {
                    return ResumeProgress::Blocked;
                }
                self.undo_change(user, entry);
                self.cursor += 1;
            }
        }
        ResumeProgress::CaughtUp
    }

    /// Removes the change of an event from the collected ones, because the cursor passes it.
    #[inline]
    fn undo_change(&mut self, user: UserId, entry: &Entry) {
        if entry.changes_follows_of(user) {
            self.toggle(entry.subject);
        }
    }
}
