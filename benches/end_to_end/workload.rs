//! Generated streams and their expected deliveries.

use std::collections::{HashMap, HashSet};

use eventserver::protocol::{EventKind, UserId};

use crate::support::{ArrivalOrder, CONNECTED, Prng, line};

/// Users of an even mix. The first [`CONNECTED`] of them are connected.
const USERS: u64 = 1_000;

/// A stream from sequence 1, and the expected deliveries to the connected users 0 to 99.
pub(crate) struct Workload {
    /// The lines in order.
    lines: Vec<String>,
    pub(crate) deliveries: u64,
    /// Bytes of all deliveries, terminators included.
    pub(crate) delivered_bytes: u64,
}

impl Workload {
    pub(crate) fn broadcasts(events: u64) -> Workload {
        Workload::of((0..events).map(|_| EventKind::Broadcast))
    }

    /// Creates messages, each to one connected user.
    pub(crate) fn private_messages(events: u64) -> Workload {
        let mut random = Prng::new(6);
        let mut user = || UserId(random.below(CONNECTED));
        Workload::of((0..events).map(|_| EventKind::PrivateMessage { from: user(), to: user() }))
    }

    /// Creates a fifth of each type, with one user in ten connected.
    pub(crate) fn even_mix(events: u64) -> Workload {
        let mut random = Prng::new(7);
        Workload::of((0..events).map(|_| {
            let mut user = || UserId(random.below(USERS));
            let (a, b) = (user(), user());
            match random.below(5) {
                0 => EventKind::Follow { follower: a, followed: b },
                1 => EventKind::Unfollow { follower: a, followed: b },
                2 => EventKind::Broadcast,
                3 => EventKind::PrivateMessage { from: a, to: b },
                _ => EventKind::StatusUpdate { from: a },
            }
        }))
    }

    /// Returns the number of events.
    pub(crate) fn events(&self) -> u64 {
        self.lines.len() as u64
    }

    /// Returns the bytes of the stream in the order of arrival.
    pub(crate) fn arriving(&self, arrival: ArrivalOrder) -> Vec<u8> {
        let mut lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        arrival.arrange(&mut lines);
        let mut bytes = lines.join("\n").into_bytes();
        bytes.push(b'\n');
        bytes
    }

    fn of(kinds: impl Iterator<Item = EventKind>) -> Workload {
        let mut workload = Workload { lines: Vec::new(), deliveries: 0, delivered_bytes: 0 };
        let mut model = Model::default();
        for (sequence, kind) in (1..).zip(kinds) {
            let line = line(sequence, kind);
            let audience = model.audience(kind);
            workload.deliveries += audience;
            workload.delivered_bytes += audience * (line.len() as u64 + 2);
            workload.lines.push(line);
        }
        workload
    }
}

/// A reference follower graph.
#[derive(Default)]
struct Model {
    followers: HashMap<UserId, HashSet<UserId>>,
}

impl Model {
    /// Applies an event, and returns the number of connected recipients.
    fn audience(&mut self, kind: EventKind) -> u64 {
        match kind {
            EventKind::Follow { follower, followed } => {
                self.followers.entry(followed).or_default().insert(follower);
                u64::from(is_connected(followed))
            }
            EventKind::Unfollow { follower, followed } => {
                self.followers.entry(followed).or_default().remove(&follower);
                0
            }
            EventKind::Broadcast => CONNECTED,
            EventKind::PrivateMessage { to, .. } => u64::from(is_connected(to)),
            EventKind::StatusUpdate { from } => {
                let followers = self.followers.entry(from).or_default();
                followers.iter().filter(|&&user| is_connected(user)).count() as u64
            }
        }
    }
}

fn is_connected(user: UserId) -> bool {
    user.0 < CONNECTED
}
