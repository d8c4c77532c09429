//! The comparison of everything that a server has read with the stream.

use super::engine::Position;
use super::entry::Entry;
use super::history::{History, Link};

/// A walk through the stream between the place that a server has reached and one whose link the engine tells: the
/// newest snapshot, or the start of the stream.
///
/// Equal entries at equal positions do not tell that two histories are the same, because a batch may be
/// appended again after something else. Equal chains do. The engine's link is the stream's own: a publisher has
/// read it from there, and a failover that loses entries loses the snapshots after them, too. So the entries
/// between both links must lead from the earlier one to the later one, whichever that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Audit {
    /// The place up to which the walk has come.
    reached: Link,
    /// The link to which it must lead.
    goal: Link,
    /// Whether the goal is what the server has reached, so that the places before it can be compared, too.
    is_backed: bool,
    /// The last place up to which the server is known to have read what the stream contains.
    agreed: Position,
}

/// What a walk has found so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing against the server. More entries are to be read.
    Open,
    /// The server has read what the stream contains.
    Right,
    /// The server has read something else, between these positions.
    Wrong {
        /// Up to here both are known to be the same.
        agreed: Position,
        /// Here they are not.
        at: Position,
    },
}

impl Audit {
    /// Starts a walk between the newest entry of a history and a place in the stream, the link of which is certain.
    pub(super) fn between(history: &History, certain: Link) -> Audit {
        let own = history.newest().link;
        let is_backed = certain.position <= own.position;
        let (reached, goal) = if is_backed { (certain, own) } else { (own, certain) };
        Audit { reached, goal, is_backed, agreed: Position::default() }
    }

    /// Returns the position after which entries are to be read. `None`: from the oldest one on.
    pub(super) fn after(&self) -> Option<Position> {
        (self.reached != Link::default()).then_some(self.reached.position)
    }

    /// Takes the entries that follow in the stream.
    pub(super) fn take(&mut self, entries: Vec<(Position, Vec<u8>)>, history: &History) -> Verdict {
        let (before, mut verdict) = (self.reached, Verdict::Open);
        for (position, bytes) in entries {
            let Ok(entry) = Entry::decode(position, bytes) else { return self.wrong(position) };
            self.reached = self.reached.then(position, entry.fingerprint);
            verdict = self.judge(history);
            if verdict != Verdict::Open {
                break;
            }
        }
        match self.reached == before {
            true => self.wrong(self.goal.position),
            false => verdict,
        }
    }

    /// Compares the place that was reached.
    pub(super) fn judge(&mut self, history: &History) -> Verdict {
        let Audit { reached, goal, .. } = *self;
        if reached == goal {
            return Verdict::Right;
        }
        if reached == Link::default() {
            return Verdict::Open;
        }
        if reached.position >= goal.position || self.is_backed && history.contradicts(reached) {
            return self.wrong(reached.position);
        }
        if self.is_backed && history.find(reached.position).is_some() {
            self.agreed = reached.position;
        }
        Verdict::Open
    }

    fn wrong(&self, at: Position) -> Verdict {
        Verdict::Wrong { agreed: self.agreed, at }
    }
}
