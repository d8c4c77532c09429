//! The stream, cut into short ticks, and what each of them must bring to the steady clients.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::event::Event;
use super::super::in_flight::InFlight;
use super::super::mix::Mix;
use super::super::model::Model;
use super::super::random::Random;
use super::super::stream::EventStream;

/// The events of a tick are due together, at its beginning.
const TICK: Duration = Duration::from_millis(2);
/// A burst comes once in so many ticks: each second.
const TICKS_A_BURST: u64 = 500;
/// Ticks in flight, two seconds of them, and the memory that they may take; no more are begun before
/// the oldest has arrived. So memory is bounded, and a server that waits for a client makes the
/// source late, which counts as latency.
const MOST_UNDER_WAY: usize = 1000;
const MAX_IN_FLIGHT_BYTES: usize = 1 << 28;
/// Events are shuffled in batches of up to this many.
const LARGEST_BATCH: u64 = 100;
/// Broadcasts that are remembered: more than a visitor can be behind.
const MOST_BROADCASTS: usize = 1 << 17;

/// How many events are sent when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Events a second, evenly.
    pub(crate) rate: f64,
    /// Events that come besides, all at once, every second.
    pub(crate) burst: u64,
}

impl Pace {
    /// How many events are due at the beginning of this tick.
    fn events_by(self, tick: u64) -> u64 {
        let evenly = self.rate * TICK.as_secs_f64() * (tick + 1) as f64;
        evenly as u64 + self.burst * (tick / TICKS_A_BURST)
    }
}

/// The stream so far, and the ticks that have not arrived at every steady client.
pub(super) struct Ticks {
    pace: Pace,
    start: Instant,
    stream: EventStream,
    model: Model,
    in_flight: InFlight,
    broadcasts: Broadcasts,
}

impl Ticks {
    /// The steady clients are the users `steady` of `users`.
    pub(super) fn new(mix: Mix, pace: Pace, steady: &[u64], users: u64, random: Random) -> Ticks {
        Ticks {
            pace,
            start: Instant::now(),
            stream: EventStream::new(mix, users, LARGEST_BATCH, random),
            model: Model::new(steady),
            in_flight: InFlight::for_clients(steady.len()),
            broadcasts: Broadcasts::default(),
        }
    }

    /// The sequence of the first event that has not been sent.
    pub(super) fn next_sequence(&self) -> u64 {
        self.stream.next_sequence()
    }

    pub(super) fn broadcasts(&self) -> &Broadcasts {
        &self.broadcasts
    }

    /// Whether all ticks have arrived.
    pub(super) fn is_at_rest(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// The ticks that have not arrived at every steady client.
    pub(super) fn in_flight(&mut self) -> &mut InFlight {
        &mut self.in_flight
    }

    fn due(&self, tick: u64) -> Instant {
        self.start + TICK.mul_f64(tick as f64)
    }

    /// The time until the next tick; `None` while too many are under way.
    pub(super) fn until_next(&self, now: Instant) -> Option<Duration> {
        let in_flight = &self.in_flight;
        let has_room = in_flight.len() < MOST_UNDER_WAY && in_flight.memory() < MAX_IN_FLIGHT_BYTES;
        has_room.then(|| self.due(in_flight.next()).saturating_duration_since(now))
    }

    /// Begins the next tick if it is due: appends its events to `wire`. Returns whether it was.
    pub(super) fn begin_next(&mut self, now: Instant, wire: &mut Vec<u8>) -> bool {
        if self.until_next(now) != Some(Duration::ZERO) {
            return false;
        }
        let number = self.in_flight.next();
        let mut tick = self.in_flight.new_part(self.due(number));
        let end = 1 + self.pace.events_by(number);
        while self.stream.next_sequence() < end {
            let mut sequence = self.stream.next_sequence();
            let (model, broadcasts) = (&mut self.model, &mut self.broadcasts);
            self.stream.write_batch(end - sequence, wire, |event, line| {
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

/// The last broadcasts.
#[derive(Default)]
pub(super) struct Broadcasts {
    /// Their sequences, ascending.
    recent: VecDeque<u64>,
}

impl Broadcasts {
    pub(super) fn push(&mut self, sequence: u64) {
        if self.recent.len() == MOST_BROADCASTS {
            self.recent.pop_front();
        }
        self.recent.push_back(sequence);
    }

    /// Whether one lies between these two, as far as is remembered.
    pub(super) fn any_between(&self, after: u64, before: u64) -> bool {
        let next = self.recent.partition_point(|&sequence| sequence <= after);
        self.recent.get(next).is_some_and(|&sequence| sequence < before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(rate: f64, burst: u64) -> Ticks {
        let mix = "broadcast".parse().unwrap();
        Ticks::new(mix, Pace { rate, burst }, &[1, 2], 2, Random::from_seed(1))
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
        while ticks.begin_next(now, &mut wire) {}
        assert_eq!(ticks.in_flight.next(), MOST_UNDER_WAY as u64);
        assert_eq!(ticks.next_sequence(), 1 + 2 * MOST_UNDER_WAY as u64);
        for _ in 0..10 {
            ticks.in_flight.get(0).unwrap().1.waiting = 0;
            ticks.in_flight.forget_arrived();
        }
        assert_eq!(ticks.in_flight.get(3).unwrap().0, 10);
        assert!(ticks.begin_next(now, &mut wire));
    }

    #[test]
    fn broadcasts_between() {
        let mut broadcasts = Broadcasts::default();
        [3, 5, 9].into_iter().for_each(|sequence| broadcasts.push(sequence));
        assert!(broadcasts.any_between(3, 9));
        assert!(!broadcasts.any_between(5, 9));
        assert!(!broadcasts.any_between(9, 100));
        (10..).take(MOST_BROADCASTS).for_each(|sequence| broadcasts.push(sequence));
        assert!(!broadcasts.any_between(1, 9), "forgotten");
    }
}
