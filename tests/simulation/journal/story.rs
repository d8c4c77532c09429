//! What the sources send: the same bytes for the same sequence of a stream, whoever sends them.

use std::collections::BTreeSet;

use super::prng::Prng;

/// The number of users, whose IDs start at 1.
pub(crate) const USERS: u64 = 4;

/// The line of one sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// An event: its bytes, and what it does.
    Event(Vec<u8>, Effect),
    /// A malformed line that uses up the sequence.
    Void(Vec<u8>),
    /// No source ever sends this sequence.
    Hole,
}

/// The effect of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Follow(u64, u64),
    Unfollow(u64, u64),
    Broadcast,
    Private(u64),
    Status(u64),
}

/// The pairs of follower and followed.
pub(crate) type Follows = BTreeSet<(u64, u64)>;

/// All streams of a run. A reset begins the next one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Story {
    pub(crate) seed: u64,
    pub(crate) has_holes: bool,
}

impl Story {
    /// Returns the line of a sequence in a stream.
    pub(crate) fn line(self, stream: u64, sequence: u64) -> Line {
        let mut random = Prng::new(self.seed ^ (stream << 48) ^ sequence.rotate_left(20));
        let (a, b) = (1 + random.below(USERS), 1 + random.below(USERS));
        let effect = match random.below(20) {
            0..6 => Effect::Follow(a, b),
            6..8 => Effect::Unfollow(a, b),
            8..10 => Effect::Broadcast,
            10..13 => Effect::Private(b),
            13..18 => Effect::Status(a),
            18 if self.has_holes => return Line::Hole,
            _ => return Line::Void(format!("{sequence}|X|{a}").into_bytes()),
        };
        let zeros = ["", "", "", "0", "0000000000"][random.below(5) as usize];
        let bytes = match effect {
            Effect::Follow(a, b) => format!("{sequence}|F|{a}|{zeros}{b}"),
            Effect::Unfollow(a, b) => format!("{sequence}|U|{zeros}{a}|{b}"),
            Effect::Broadcast => format!("{zeros}{sequence}|B"),
            Effect::Private(to) => format!("{sequence}|P|{zeros}{a}|{to}"),
            Effect::Status(from) => format!("{sequence}|S|{zeros}{from}"),
        };
        Line::Event(bytes.into_bytes(), effect)
    }

    /// Returns the follows before a sequence of a stream that starts at `first`.
    pub(crate) fn follows(self, stream: u64, first: u64, awaited: u64) -> Follows {
        let mut follows = Follows::new();
        for sequence in first..awaited {
            if let Line::Event(_, effect) = self.line(stream, sequence) {
                effect.apply(&mut follows);
            }
        }
        follows
    }
}

impl Effect {
    /// Applies the effect to the follows.
    pub(crate) fn apply(self, follows: &mut Follows) {
        match self {
            Effect::Follow(a, b) => drop(follows.insert((a, b))),
            Effect::Unfollow(a, b) => drop(follows.remove(&(a, b))),
            Effect::Broadcast | Effect::Private(_) | Effect::Status(_) => {}
        }
    }

    /// Returns whether a connected user is told, with the follows before the event.
    pub(crate) fn concerns(self, user: u64, follows: &Follows) -> bool {
        match self {
            Effect::Follow(_, b) => b == user,
            Effect::Unfollow(..) => false,
            Effect::Broadcast => true,
            Effect::Private(to) => to == user,
            Effect::Status(from) => follows.contains(&(user, from)),
        }
    }
}
