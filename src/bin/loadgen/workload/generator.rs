//! Generator of an endless stream of events, deterministic for given settings.

use std::collections::HashMap;

use crate::codec::{Event, write_event};
use crate::workload::mix::Mix;
use crate::workload::prng::Prng;

/// Chooses events and writes them in batches: numbered in order, sent shuffled.
pub(crate) struct EventGenerator {
    mix: Mix,
    /// Users have the ids `1..=users`.
    users: u64,
    max_batch: u64,
    prng: Prng,
    next_sequence: u64,
    follows: FollowSet,
    batch: Batch,
}

impl EventGenerator {
    /// Creates a generator; events are shuffled within batches of random size, up to `max_batch`.
    pub(crate) fn new(mix: Mix, users: u64, max_batch: u64, prng: Prng) -> EventGenerator {
        EventGenerator {
            mix,
            users,
            max_batch,
            prng,
            next_sequence: 1,
            follows: FollowSet::default(),
            batch: Batch::default(),
        }
    }

    /// Returns the sequence of the next event.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Appends a batch of at most `max` events to `wire`. Before, passes each event with its line
    /// to `apply` in sequence order. Returns the size of the batch.
    pub(crate) fn write_batch(
        &mut self,
        max: u64,
        wire: &mut Vec<u8>,
        mut apply: impl FnMut(Event, &[u8]),
    ) -> u64 {
        let size = (1 + self.prng.below(self.max_batch)).min(max);
        self.batch.clear();
        for _ in 0..size {
            let event = self.choose_event();
            apply(event, self.batch.push(self.next_sequence, event));
            self.next_sequence += 1;
        }
        self.batch.append_shuffled(&mut self.prng, wire);
        size
    }

    /// Appends `event` to `wire`. Before, passes it with its line to `apply`.
    pub(crate) fn write_one(
        &mut self,
        event: Event,
        wire: &mut Vec<u8>,
        apply: impl FnOnce(Event, &[u8]),
    ) {
        let start = wire.len();
        write_event(wire, self.next_sequence, event);
        apply(event, &wire[start..]);
        wire.push(b'\n');
        self.next_sequence += 1;
    }

    /// Appends one broadcast to `wire`, and returns its line without the terminator.
    pub(crate) fn write_broadcast(&mut self, wire: &mut Vec<u8>) -> Vec<u8> {
        let mut line = Vec::new();
        write_event(&mut line, self.next_sequence, Event::Broadcast);
        self.next_sequence += 1;
        wire.extend_from_slice(&line);
        wire.push(b'\n');
        line
    }

    fn choose_event(&mut self) -> Event {
        let weights = self.mix.weights;
        let mut chance = self.prng.below(weights.total());
        let mut hits = |weight: u32| {
            let hit = chance < u64::from(weight);
            chance = chance.wrapping_sub(u64::from(weight));
            hit
        };
        if hits(weights.follow) {
            self.choose_follow()
        } else if hits(weights.unfollow) {
            self.choose_unfollow()
        } else if hits(weights.broadcast) {
            Event::Broadcast
        } else if hits(weights.private) {
            let (from, to) = self.choose_pair();
            Event::Private { from, to }
        } else {
            Event::Status { from: self.choose_user() }
        }
    }

    fn choose_follow(&mut self) -> Event {
        let (follower, followed) = self.choose_pair();
        if self.mix.ends_existing_follows {
            self.follows.add((follower, followed));
        }
        Event::Follow { follower, followed }
    }

    /// Chooses an unfollow, or a follow if no follow exists that could end.
    fn choose_unfollow(&mut self) -> Event {
        let pair = if self.mix.ends_existing_follows {
            self.follows.remove_any(&mut self.prng)
        } else {
            Some(self.choose_pair())
        };
        match pair {
            Some((follower, followed)) => Event::Unfollow { follower, followed },
            None => self.choose_follow(),
        }
    }

    fn choose_user(&mut self) -> u64 {
        1 + self.prng.below(self.users)
    }

    /// Chooses two different users, if there are two.
    fn choose_pair(&mut self) -> (u64, u64) {
        let first = self.choose_user();
        if self.users == 1 {
            return (first, first);
        }
        let second = 1 + self.prng.below(self.users - 1);
        (first, if second >= first { second + 1 } else { second })
    }
}

/// The lines of one batch, in order.
#[derive(Default)]
struct Batch {
    text: Vec<u8>,
    lines: Vec<(usize, usize)>,
}

impl Batch {
    fn clear(&mut self) {
        self.text.clear();
        self.lines.clear();
    }

    fn push(&mut self, sequence: u64, event: Event) -> &[u8] {
        let start = self.text.len();
        write_event(&mut self.text, sequence, event);
        self.lines.push((start, self.text.len()));
        &self.text[start..]
    }

    fn append_shuffled(&mut self, prng: &mut Prng, wire: &mut Vec<u8>) {
        prng.shuffle(&mut self.lines);
        for &(start, end) in &self.lines {
            wire.extend_from_slice(&self.text[start..end]);
            wire.push(b'\n');
        }
    }
}

/// The current follows, with removal of a random one in constant time.
#[derive(Default)]
struct FollowSet {
    pairs: Vec<(u64, u64)>,
    indices: HashMap<(u64, u64), usize>,
}

impl FollowSet {
    fn add(&mut self, pair: (u64, u64)) {
        if self.indices.contains_key(&pair) {
            return;
        }
        self.indices.insert(pair, self.pairs.len());
        self.pairs.push(pair);
    }

    fn remove_any(&mut self, prng: &mut Prng) -> Option<(u64, u64)> {
        if self.pairs.is_empty() {
            return None;
        }
        let index = prng.index(self.pairs.len());
        let pair = self.pairs.swap_remove(index);
        self.indices.remove(&pair);
        if let Some(moved) = self.pairs.get(index) {
            self.indices.insert(*moved, index);
        }
        Some(pair)
    }
}
