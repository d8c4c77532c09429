//! Clients that drop their connections at random and come back with the last sequence that they have parsed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::workload::prng::Prng;

/// How a client leaves and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// It reads what its socket holds before it leaves. Otherwise that is lost with the connection.
    pub(crate) reads_first: bool,
    /// The new connection is opened before the old one is closed, so that it takes over.
    pub(crate) takes_over: bool,
}

/// Decides which client comes back, when and how.
pub(crate) struct Reconnects {
    /// Where clients connect.
    pub(crate) to: SocketAddr,
    /// The mean time between two clients.
    every: Duration,
    random: Prng,
    next: Instant,
    /// The number of clients that came back so far.
    pub(crate) count: u64,
}

impl Reconnects {
    pub(crate) fn new(to: SocketAddr, every: Duration, seed: u64) -> Reconnects {
        let mut reconnects =
            Reconnects { to, every, random: Prng::from_seed(seed), next: Instant::now(), count: 0 };
        reconnects.set_next(Instant::now());
        reconnects
    }

    /// Returns a client, by its index among `clients`, that is to come back now.
    pub(crate) fn take_due(&mut self, now: Instant, clients: usize) -> Option<(usize, Way)> {
        if now < self.next {
            return None;
        }
        self.set_next(now);
        self.count += 1;
        let way =
            Way { reads_first: self.random.below(2) == 0, takes_over: self.random.below(4) == 0 };
        Some((self.random.index(clients), way))
    }

    fn set_next(&mut self, now: Instant) {
        let share = self.random.below(2001) as f64 / 1000.0;
        self.next = now + self.every.mul_f64(share);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn clients_come_back_in_every_way_about_as_often_as_asked() {
        let every = Duration::from_millis(10);
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let start = Instant::now();
        let mut reconnects = Reconnects::new(to, every, 7);
        let mut seen = [[0; 2]; 2];
        for millis in 0..10_000 {
            let due = reconnects.take_due(start + Duration::from_millis(millis), 3);
            if let Some((client, way)) = due {
                assert!(client < 3);
                seen[usize::from(way.reads_first)][usize::from(way.takes_over)] += 1;
            }
        }
        assert!((800..1200).contains(&reconnects.count), "{}", reconnects.count);
        assert!(seen.as_flattened().iter().all(|&count| count > 50), "{seen:?}");
    }
}
