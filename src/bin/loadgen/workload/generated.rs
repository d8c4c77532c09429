//! The generated workload: the same stream for the same settings, everywhere.

use std::io;

use serde::{Deserialize, Serialize};

use crate::oracle::model::Model;
use crate::sys::interrupt;
use crate::workload::generator::EventGenerator;
use crate::workload::mix::Mix;
use crate::workload::prng::Prng;
use crate::workload::segment::{Segment, Workload};

/// The settings that determine a stream. Two programs with equal settings produce equal bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkloadSpec {
    pub(crate) mix: Mix,
    pub(crate) total_events: u64,
    /// Users have the ids `1..=users`.
    pub(crate) users: u64,
    /// Number of users that connect.
    pub(crate) clients: usize,
    pub(crate) seed: u64,
    /// Events are shuffled within batches of random size, up to this.
    #[serde(rename = "largestBatch")]
    pub(crate) max_batch: u64,
}

impl WorkloadSpec {
    /// Describes the run in one line.
    pub(crate) fn describe(&self, command: &str) -> String {
        let order = match self.max_batch {
            1 => "in order".to_owned(),
            batch => format!("in batches of up to {batch}"),
        };
        format!(
            "{command}: {} events of the mix `{}`, seed {}, {order}, {} of {} users connected",
            self.total_events, self.mix, self.seed, self.clients, self.users
        )
    }
}

/// Generates a stream one segment at a time.
pub(crate) struct GeneratedWorkload {
    generator: EventGenerator,
    clients: Vec<u64>,
    left: u64,
    model: Model,
}

impl GeneratedWorkload {
    pub(crate) fn new(spec: WorkloadSpec) -> GeneratedWorkload {
        let mut prng = Prng::from_seed(spec.seed);
        let clients = prng.distinct(spec.clients, spec.users);
        GeneratedWorkload {
            generator: EventGenerator::new(spec.mix, spec.users, spec.max_batch, prng),
            model: Model::new(&clients),
            clients,
            left: spec.total_events,
        }
    }

    /// Returns the ids of the connected users.
    pub(crate) fn clients(&self) -> &[u64] {
        &self.clients
    }
}

impl Workload for GeneratedWorkload {
    fn next_segment(&mut self, segment: &mut Segment) -> io::Result<bool> {
        segment.clear();
        while self.left > 0 && !segment.is_full() {
            interrupt::check()?;
            let (model, deliveries) = (&mut self.model, &mut segment.deliveries);
            let apply = |event, line: &[u8]| model.apply(event, line, deliveries);
            let size = self.generator.write_batch(self.left, &mut segment.wire, apply);
            segment.events += size;
            self.left -= size;
        }
        segment.deliveries.finish();
        Ok(segment.events > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::codec::{Event, Line};
    use crate::workload::segment::MAX_SEGMENT_EVENTS;

    fn spec(mix: &str, total_events: u64) -> WorkloadSpec {
        let mix = mix.parse().unwrap();
        WorkloadSpec { mix, total_events, users: 150, clients: 100, seed: 666, max_batch: 100 }
    }

    fn events(spec: WorkloadSpec) -> Vec<(u64, Event)> {
        let mut workload = GeneratedWorkload::new(spec);
        let mut segment = Segment::for_clients(workload.clients().len());
        let mut events = Vec::new();
        while workload.next_segment(&mut segment).unwrap() {
            for line in segment.wire.trim_ascii_end().split(|&byte| byte == b'\n') {
                let Line::Event(sequence, event) = Line::read(line) else { panic!("{line:?}") };
                events.push((sequence, event));
            }
        }
        events
    }

    #[test]
    fn every_sequence_once_and_none_far_from_its_place() {
        let events = events(spec("verification", 20_000));
        let seen: HashSet<u64> = events.iter().map(|(sequence, _)| *sequence).collect();
        assert_eq!(seen.len(), 20_000);
        for (index, (sequence, _)) in events.iter().enumerate() {
            assert!(sequence.abs_diff(index as u64 + 1) < 100, "{sequence} at {index}");
        }
    }

    #[test]
    fn shares_are_those_of_the_mix() {
        let events = events(spec("verification", 100_000));
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
        let mut events = events(spec("verification", 50_000));
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
        let mut workload = GeneratedWorkload::new(spec("private", MAX_SEGMENT_EVENTS + 1000));
        let mut segment = Segment::for_clients(100);
        let mut total = 0;
        while workload.next_segment(&mut segment).unwrap() {
            assert!(segment.events < MAX_SEGMENT_EVENTS + 100);
            total += segment.events;
        }
        assert_eq!(total, MAX_SEGMENT_EVENTS + 1000);
    }
}
