//! The generated load: the same stream for the same settings, everywhere.

use std::io;

use serde::{Deserialize, Serialize};

use crate::oracle::model::Model;
use crate::sys::interrupt;
use crate::workload::generator::EventStream;
use crate::workload::mix::Mix;
use crate::workload::prng::Random;
use crate::workload::segment::{Load, Slice};

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

impl Plan {
    /// Says what will be done.
    pub(crate) fn introduction(&self, command: &str) -> String {
        format!(
            "{command}: {} events of the mix `{}`, seed {}, in batches of up to {}, {} of {} users connected",
            self.total_events, self.mix, self.seed, self.largest_batch, self.clients, self.users
        )
    }
}

/// Generates a stream slice by slice.
pub(crate) struct Workload {
    stream: EventStream,
    clients: Vec<u64>,
    left: u64,
    model: Model,
}

impl Workload {
    pub(crate) fn new(plan: Plan) -> Workload {
        let mut random = Random::from_seed(plan.seed);
        let clients = random.distinct(plan.clients, plan.users);
        Workload {
            stream: EventStream::new(plan.mix, plan.users, plan.largest_batch, random),
            model: Model::new(&clients),
            clients,
            left: plan.total_events,
        }
    }

    /// The ids of the users that connect.
    pub(crate) fn clients(&self) -> &[u64] {
        &self.clients
    }
}

impl Load for Workload {
    fn prepare(&mut self, slice: &mut Slice) -> io::Result<bool> {
        slice.clear();
        while self.left > 0 && !slice.is_full() {
            interrupt::check()?;
            let (model, deliveries) = (&mut self.model, &mut slice.deliveries);
            let apply = |event, line: &[u8]| model.apply(event, line, deliveries);
            let size = self.stream.write_batch(self.left, &mut slice.wire, apply);
            slice.events += size;
            self.left -= size;
        }
        slice.deliveries.complete();
        Ok(slice.events > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::codec::{Event, Line};
    use crate::workload::segment::SLICE_EVENTS;

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
