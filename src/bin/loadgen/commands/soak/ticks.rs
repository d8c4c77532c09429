//! The stream, cut into short ticks, and the expected output of each for the persistent clients.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::codec::Event;
use crate::oracle::in_flight::InFlight;
use crate::oracle::model::Model;
use crate::workload::generator::EventGenerator;
use crate::workload::mix::Mix;
use crate::workload::prng::Prng;

/// Length of a tick; its events are due together, at its start.
const TICK: Duration = Duration::from_millis(2);
/// Ticks per burst: one burst per second.
const TICKS_PER_BURST: u64 = 500;
/// Maximum ticks in flight, two seconds of them, and their maximum memory. No further tick starts
/// until the oldest has arrived. So memory is bounded, and back-pressure delays the source, which
/// counts as latency.
const MAX_IN_FLIGHT: usize = 1000;
const MAX_IN_FLIGHT_BYTES: usize = 1 << 28;
/// Events are shuffled in batches of up to this size.
const MAX_BATCH: u64 = 100;
/// Remembered broadcasts: more than a churn client can lag behind.
const MAX_BROADCASTS: usize = 1 << 17;

/// Send rate of a soak.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Evenly spaced events per second.
    pub(crate) rate: f64,
    /// Additional events, sent at once every second.
    pub(crate) burst: u64,
}

impl Pace {
    /// Returns the number of events due at the start of `tick`.
    fn events_by(self, tick: u64) -> u64 {
        let evenly = self.rate * TICK.as_secs_f64() * (tick + 1) as f64;
        evenly as u64 + self.burst * (tick / TICKS_PER_BURST)
    }
}

/// The generated stream, and the ticks in flight.
pub(super) struct TickSchedule {
    pace: Pace,
    start: Instant,
    generator: EventGenerator,
    model: Model,
    in_flight: InFlight,
    broadcasts: Broadcasts,
}

impl TickSchedule {
    /// Creates a schedule in which the users `persistent` of `users` are the persistent clients.
    pub(super) fn new(
        mix: Mix,
        pace: Pace,
        persistent: &[u64],
        users: u64,
        prng: Prng,
    ) -> TickSchedule {
        TickSchedule {
            pace,
            start: Instant::now(),
            generator: EventGenerator::new(mix, users, MAX_BATCH, prng),
            model: Model::new(persistent),
            in_flight: InFlight::for_clients(persistent.len()),
            broadcasts: Broadcasts::default(),
        }
    }

    /// Returns the sequence of the next event to be sent.
    pub(super) fn next_sequence(&self) -> u64 {
        self.generator.next_sequence()
    }

    pub(super) fn broadcasts(&self) -> &Broadcasts {
        &self.broadcasts
    }

    /// Returns whether all ticks have arrived.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Returns the ticks that have not arrived at every persistent client.
    pub(super) fn in_flight(&mut self) -> &mut InFlight {
        &mut self.in_flight
    }

    fn due(&self, tick: u64) -> Instant {
        self.start + TICK.mul_f64(tick as f64)
    }

    /// Returns the time until the next tick; `None` while too many are in flight.
    pub(super) fn until_next(&self, now: Instant) -> Option<Duration> {
        let in_flight = &self.in_flight;
        let has_capacity =
            in_flight.len() < MAX_IN_FLIGHT && in_flight.memory() < MAX_IN_FLIGHT_BYTES;
        has_capacity.then(|| self.due(in_flight.next()).saturating_duration_since(now))
    }

    /// Starts the next tick if it is due: appends its events to `wire`. Returns whether it did.
    pub(super) fn start_next(&mut self, now: Instant, wire: &mut Vec<u8>) -> bool {
        if self.until_next(now) != Some(Duration::ZERO) {
            return false;
        }
        let number = self.in_flight.next();
        let mut tick = self.in_flight.new_part(self.due(number));
        let end = 1 + self.pace.events_by(number);
        while self.generator.next_sequence() < end {
            let mut sequence = self.generator.next_sequence();
            let (model, broadcasts) = (&mut self.model, &mut self.broadcasts);
            self.generator.write_batch(end - sequence, wire, |event, line| {
                model.apply(event, line, &mut tick.deliveries);
                if event == Event::Broadcast {
                    broadcasts.push(sequence);
                }
                sequence += 1;
            });
        }
        self.in_flight.push(tick);
        true
    }
}

/// The most recent broadcasts.
#[derive(Default)]
pub(super) struct Broadcasts {
    /// Their sequences, ascending.
    recent: VecDeque<u64>,
}

impl Broadcasts {
    pub(super) fn push(&mut self, sequence: u64) {
        if self.recent.len() == MAX_BROADCASTS {
            self.recent.pop_front();
        }
        self.recent.push_back(sequence);
    }

    /// Returns whether a remembered broadcast lies between the two sequences.
    pub(super) fn any_between(&self, after: u64, before: u64) -> bool {
        let next = self.recent.partition_point(|&sequence| sequence <= after);
        self.recent.get(next).is_some_and(|&sequence| sequence < before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(rate: f64, burst: u64) -> TickSchedule {
        let mix = "broadcast".parse().unwrap();
        TickSchedule::new(mix, Pace { rate, burst }, &[1, 2], 2, Prng::from_seed(1))
    }

    #[test]
    fn events_come_evenly_and_in_bursts() {
        let pace = Pace { rate: 10_000.0, burst: 300 };
        assert_eq!([0, 1, 499, 500].map(|tick| pace.events_by(tick)), [20, 40, 10_000, 10_320]);
    }

    #[test]
    fn no_more_ticks_are_under_way_than_may_be() {
        let mut ticks = ticks(1000.0, 0);
        let mut wire = Vec::new();
        let now = ticks.start + Duration::from_secs(60);
        while ticks.start_next(now, &mut wire) {}
        assert_eq!(ticks.in_flight.next(), MAX_IN_FLIGHT as u64);
        assert_eq!(ticks.next_sequence(), 1 + 2 * MAX_IN_FLIGHT as u64);
        for _ in 0..10 {
            ticks.in_flight.get(0).unwrap().1.waiting = 0;
            ticks.in_flight.retire_completed();
        }
        assert_eq!(ticks.in_flight.get(3).unwrap().0, 10);
        assert!(ticks.start_next(now, &mut wire));
    }

    #[test]
    fn broadcasts_between() {
        let mut broadcasts = Broadcasts::default();
        [3, 5, 9].into_iter().for_each(|sequence| broadcasts.push(sequence));
        assert!(broadcasts.any_between(3, 9));
        assert!(!broadcasts.any_between(5, 9));
        assert!(!broadcasts.any_between(9, 100));
        (10..).take(MAX_BROADCASTS).for_each(|sequence| broadcasts.push(sequence));
        assert!(!broadcasts.any_between(1, 9), "forgotten");
    }
}
