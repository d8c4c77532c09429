//! The generated load: the same stream for the same settings, everywhere.

use std::collections::HashMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::event::{Event, write_event};
use super::mix::Mix;
use super::model::Model;
use super::random::Random;
use super::slice::{Load, Slice};

/// What a stream depends on; two programs that agree on it agree on every byte.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plan {
    pub(crate) mix: Mix,
    pub(crate) total_events: u64,
    /// Users have the ids `1..=users`.
    pub(crate) users: u64,
    /// How many of them connect.
    pub(crate) clients: usize,
    pub(crate) seed: u64,
    /// Events are shuffled within batches of 1 to this many, as many as chance says.
    pub(crate) largest_batch: u64,
}

/// Generates a stream slice by slice.
pub(crate) struct Workload {
    plan: Plan,
    random: Random,
    clients: Vec<u64>,
    next_sequence: u64,
    follows: Follows,
    model: Model,
    batch: Batch,
}

impl Workload {
    pub(crate) fn new(plan: Plan) -> Workload {
        let mut random = Random::from_seed(plan.seed);
        let clients = random.distinct(plan.clients, plan.users);
        let model = Model::new(&clients);
        Workload {
            plan,
            random,
            clients,
            next_sequence: 1,
            follows: Follows::default(),
            model,
            batch: Batch::default(),
        }
    }

    /// The ids of the users that connect.
    pub(crate) fn clients(&self) -> &[u64] {
        &self.clients
    }

    fn left(&self) -> u64 {
        self.plan.total_events + 1 - self.next_sequence
    }

    /// Adds one batch: applied in order, sent in disorder.
    fn add_batch(&mut self, slice: &mut Slice) {
        let size = (1 + self.random.below(self.plan.largest_batch)).min(self.left());
        self.batch.clear();
        for _ in 0..size {
            let event = self.choose_event();
            let line = self.batch.push(self.next_sequence, event);
            self.model.apply(event, line, &mut slice.deliveries);
            self.next_sequence += 1;
        }
        self.batch.send_shuffled(&mut self.random, &mut slice.wire);
        slice.events += size;
    }

    fn choose_event(&mut self) -> Event {
        let weights = self.plan.mix.weights;
        let mut chance = self.random.below(weights.total());
        let mut falls_on = |weight: u32| {
            let hit = chance < u64::from(weight);
            chance = chance.wrapping_sub(u64::from(weight));
            hit
        };
        if falls_on(weights.follow) {
            self.choose_follow()
        } else if falls_on(weights.unfollow) {
            self.choose_unfollow()
        } else if falls_on(weights.broadcast) {
            Event::Broadcast
        } else if falls_on(weights.private) {
            let (from, to) = self.choose_pair();
            Event::Private { from, to }
        } else {
            Event::Status { from: self.choose_user() }
        }
    }

    fn choose_follow(&mut self) -> Event {
        let (follower, followed) = self.choose_pair();
        if self.plan.mix.ends_existing_follows {
            self.follows.add((follower, followed));
        }
        Event::Follow { follower, followed }
    }

    /// A follow instead where no follow exists that could end.
    fn choose_unfollow(&mut self) -> Event {
        let pair = if self.plan.mix.ends_existing_follows {
            self.follows.remove_any(&mut self.random)
        } else {
            Some(self.choose_pair())
        };
        match pair {
            Some((follower, followed)) => Event::Unfollow { follower, followed },
            None => self.choose_follow(),
        }
    }

    fn choose_user(&mut self) -> u64 {
        1 + self.random.below(self.plan.users)
    }

    /// Two different users, where there are two.
    fn choose_pair(&mut self) -> (u64, u64) {
        let first = self.choose_user();
        if self.plan.users == 1 {
            return (first, first);
        }
        let second = 1 + self.random.below(self.plan.users - 1);
        (first, if second >= first { second + 1 } else { second })
    }
}

impl Load for Workload {
    fn prepare(&mut self, slice: &mut Slice) -> io::Result<bool> {
        slice.clear();
        while self.left() > 0 && !slice.is_full() {
            self.add_batch(slice);
        }
        slice.deliveries.complete();
        Ok(slice.events > 0)
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

    fn send_shuffled(&mut self, random: &mut Random, wire: &mut Vec<u8>) {
        random.shuffle(&mut self.lines);
        for &(start, end) in &self.lines {
            wire.extend_from_slice(&self.text[start..end]);
            wire.push(b'\n');
        }
    }
}

/// The follows in force, any of which can be taken out at random in constant time.
#[derive(Default)]
struct Follows {
    pairs: Vec<(u64, u64)>,
    places: HashMap<(u64, u64), usize>,
}

impl Follows {
    fn add(&mut self, pair: (u64, u64)) {
        if self.places.contains_key(&pair) {
            return;
        }
        self.places.insert(pair, self.pairs.len());
        self.pairs.push(pair);
    }

    fn remove_any(&mut self, random: &mut Random) -> Option<(u64, u64)> {
        if self.pairs.is_empty() {
            return None;
        }
        let place = random.index(self.pairs.len());
        let pair = self.pairs.swap_remove(place);
        self.places.remove(&pair);
        if let Some(moved) = self.pairs.get(place) {
            self.places.insert(*moved, place);
        }
        Some(pair)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::event::Line;
    use super::super::slice::SLICE_EVENTS;
    use super::*;

    fn plan(mix: &str, total_events: u64) -> Plan {
        let mix = mix.parse().unwrap();
        Plan { mix, total_events, users: 150, clients: 100, seed: 666, largest_batch: 100 }
    }

    fn events(plan: Plan) -> Vec<(u64, Event)> {
        let mut workload = Workload::new(plan);
        let mut slice = Slice::for_clients(workload.clients().len());
        let mut events = Vec::new();
        while workload.prepare(&mut slice).unwrap() {
            for line in slice.wire.trim_ascii_end().split(|&byte| byte == b'\n') {
                let Line::Event(sequence, event) = Line::read(line) else { panic!("{line:?}") };
                events.push((sequence, event));
            }
        }
        events
    }

    #[test]
    fn every_sequence_once_and_none_far_from_its_place() {
        let events = events(plan("verification", 20_000));
        let seen: HashSet<u64> = events.iter().map(|(sequence, _)| *sequence).collect();
        assert_eq!(seen.len(), 20_000);
        for (place, (sequence, _)) in events.iter().enumerate() {
            assert!(sequence.abs_diff(place as u64 + 1) < 100, "{sequence} at {place}");
        }
    }

    #[test]
    fn shares_are_those_of_the_mix() {
        let events = events(plan("verification", 100_000));
        let count = |wanted: fn(&Event) -> bool| {
            events.iter().filter(|(_, event)| wanted(event)).count() as f64 / events.len() as f64
        };
        let private = count(|event| matches!(event, Event::Private { .. }));
        let status = count(|event| matches!(event, Event::Status { .. }));
        let broadcast = count(|event| matches!(event, Event::Broadcast));
        assert!((private - 0.15).abs() < 0.01, "{private}");
        assert!((status - 0.5499).abs() < 0.01, "{status}");
        assert!((0.00002..0.0004).contains(&broadcast), "{broadcast}");
    }

    #[test]
    fn the_verification_mix_ends_only_follows_that_exist() {
        let mut events = events(plan("verification", 50_000));
        events.sort_unstable_by_key(|(sequence, _)| *sequence);
        let mut follows = HashSet::new();
        for (sequence, event) in events {
            match event {
                Event::Follow { follower, followed } => {
                    follows.insert((follower, followed));
                }
                Event::Unfollow { follower, followed } => {
                    assert!(follows.remove(&(follower, followed)), "{sequence}");
                }
                _ => {}
            }
        }
    }

    #[test]
    fn long_streams_come_in_slices() {
        let mut workload = Workload::new(plan("private", SLICE_EVENTS + 1000));
        let mut slice = Slice::for_clients(100);
        let mut total = 0;
        while workload.prepare(&mut slice).unwrap() {
            assert!(slice.events < SLICE_EVENTS + 100);
            total += slice.events;
        }
        assert_eq!(total, SLICE_EVENTS + 1000);
    }
}
