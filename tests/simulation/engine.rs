//! The engine alone, against plain maps: what is received, applied and refused in any order, by
//! whoever comes and goes.

use std::collections::{BTreeMap, BTreeSet};

use eventserver::engine::{Audience, Engine, Offer, Receipt, Recipient, Sink, Step};
use eventserver::protocol::{Event, Line, Sequence, UserId};
use proptest::prelude::*;

use crate::event::{Deed, Meaning, meaning};

/// Recipients, in ascending order, and the line they are told.
type Told = (Vec<u32>, String);

/// Takes what the engine offers, but for so many offers that it refuses first.
#[derive(Default)]
struct Listener {
    everybody: BTreeSet<u32>,
    refusals: usize,
    told: Vec<Told>,
}

impl Sink for Listener {
    fn offer(&mut self, audience: Audience<'_>, line: Line<'_>) -> Offer {
        if self.refusals > 0 {
            self.refusals -= 1;
            return Offer::Refused;
        }
        let mut recipients = match audience {
            Audience::One(Recipient(key)) => vec![key],
            Audience::Several(keys) => keys.to_vec(),
            Audience::Everybody => self.everybody.iter().copied().collect(),
        };
        recipients.sort_unstable();
        self.told.push((recipients, String::from_utf8_lossy(line.as_bytes()).into_owned()));
        Offer::Taken
    }
}

/// The engine, naively.
struct Naive {
    first: u64,
    window: u64,
    awaited: u64,
    waiting: BTreeMap<u64, Option<String>>,
    follows: BTreeSet<(u64, u64)>,
    connected: BTreeMap<u64, u32>,
    refusals: usize,
    told: Vec<Told>,
    lost: u64,
}

impl Naive {
    fn new(first: u64, window: u32) -> Naive {
        Naive {
            first,
            window: window.into(),
            awaited: first,
            waiting: BTreeMap::new(),
            follows: BTreeSet::new(),
            connected: BTreeMap::new(),
            refusals: 0,
            told: Vec::new(),
            lost: 0,
        }
    }

    fn receive(&mut self, sequence: u64, line: Option<&str>) -> Receipt {
        let is_first = !self.waiting.contains_key(&sequence);
        if sequence < self.awaited {
            return Receipt::Late;
        }
        if sequence - self.awaited >= self.window {
            return Receipt::TooFar;
        }
        if !is_first && (line.is_none() || self.waiting[&sequence].is_some()) {
            return Receipt::Duplicate;
        }
        self.waiting.insert(sequence, line.map(str::to_owned));
        Receipt::Waits
    }

    fn apply_next(&mut self) -> Step {
        match self.waiting.get(&self.awaited).cloned() {
            None => return Step::NothingDue,
            Some(None) => {}
            Some(Some(line)) => {
                if !self.apply(&line) {
                    return Step::Refused;
                }
            }
        }
        self.waiting.remove(&self.awaited);
        self.awaited += 1;
        Step::Advanced
    }

    fn apply(&mut self, line: &str) -> bool {
        let Meaning::Event(_, deed) = meaning(line.as_bytes(), usize::MAX) else {
            panic!("{line} is an event")
        };
        let connected = self.connected.iter();
        let is_told = |user: u64| match deed {
            Deed::Follow { followed, .. } => user == followed,
            Deed::Unfollow { .. } => false,
            Deed::Broadcast => true,
            Deed::PrivateMessage { to } => user == to,
            Deed::StatusUpdate { from } => self.follows.contains(&(user, from)),
        };
        let mut audience: Vec<u32> =
            connected.filter(|&(&user, _)| is_told(user)).map(|(_, &key)| key).collect();
        audience.sort_unstable();
        if !audience.is_empty() || deed == Deed::Broadcast {
            if self.refusals > 0 {
                self.refusals -= 1;
                return false;
            }
            self.told.push((audience, line.to_owned()));
        }
        match deed {
            Deed::Follow { follower, followed } => self.follows.insert((follower, followed)),
            Deed::Unfollow { follower, followed } => self.follows.remove(&(follower, followed)),
            _ => true,
        };
        true
    }

    fn skip_gap(&mut self) {
        if let Some((&next, _)) = self.waiting.first_key_value() {
            self.lost += next - self.awaited;
            self.awaited = next;
        }
    }

    fn reset(&mut self) {
        self.lost += self.waiting.values().flatten().count() as u64;
        self.waiting.clear();
        self.follows.clear();
        self.awaited = self.first;
    }
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    /// So far ahead of the awaited one, or behind it where negative.
    Receive(i64, &'static str, u64, u64),
    ReceiveVoid(i64),
    Apply,
    Register(u64),
    Depart(u64),
    Refuse(usize),
    SkipGap,
    Reset,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let distance = || prop_oneof![8 => 0..6_i64, 4 => 0..40_i64, 2 => 0..300_i64, 1 => -3..0_i64];
    let kind = prop::sample::select(vec!["F", "F", "U", "B", "P", "S", "S"]);
    let operation = prop_oneof![
        30 => (distance(), kind, 0..6_u64, 0..6_u64)
            .prop_map(|(distance, kind, one, other)| Operation::Receive(distance, kind, one, other)),
        6 => distance().prop_map(Operation::ReceiveVoid),
        20 => Just(Operation::Apply),
        8 => (0..6_u64).prop_map(Operation::Register),
        4 => (0..6_u64).prop_map(Operation::Depart),
        4 => (1..4_usize).prop_map(Operation::Refuse),
        3 => Just(Operation::SkipGap),
        1 => Just(Operation::Reset),
    ];
    prop::collection::vec(operation, 0..300)
}

fn line(sequence: u64, kind: &str, one: u64, other: u64) -> String {
    match kind {
        "B" => format!("{sequence}|B"),
        "S" => format!("{sequence}|S|{one}"),
        _ => format!("{sequence}|{kind}|{one}|{other}"),
    }
}

/// Engine and model side by side.
struct Pair {
    engine: Engine,
    listener: Listener,
    naive: Naive,
    next_key: u32,
}

impl Pair {
    fn new(first: u64, window: u32) -> Pair {
        let Some(sequence) = Sequence::new(first) else { panic!("{first} is a sequence") };
        Pair {
            engine: Engine::new(sequence, window),
            listener: Listener::default(),
            naive: Naive::new(first, window),
            next_key: 0,
        }
    }

    fn receive(&mut self, text: &str) {
        let Ok(event) = Event::parse(text.as_bytes()) else { panic!("{text} is an event") };
        let receipt = self.engine.receive(&event, text.as_bytes().into());
        assert_eq!(receipt, self.naive.receive(event.sequence.get(), Some(text)), "{text}");
    }

    fn apply(&mut self) -> Step {
        let step = self.engine.apply_next(&mut self.listener);
        assert_eq!(step, self.naive.apply_next());
        step
    }

    fn register(&mut self, user: u64) {
        let key = self.next_key;
        self.next_key += 1;
        let older = self.engine.register(UserId(user), Recipient(key)).map(|older| older.0);
        assert_eq!(older, self.naive.connected.insert(user, key));
        self.listener.everybody.insert(key);
        older.map(|older| self.listener.everybody.remove(&older));
    }

    fn depart(&mut self, user: u64) {
        if let Some(key) = self.naive.connected.remove(&user) {
            self.engine.depart(UserId(user), Recipient(key));
            self.listener.everybody.remove(&key);
        }
    }

    fn perform(&mut self, operation: Operation) {
        let near = |distance: i64| {
            let sequence = self.naive.awaited.checked_add_signed(distance);
            sequence.filter(|&sequence| sequence < u64::MAX)
        };
        match operation {
            Operation::Receive(distance, kind, one, other) => {
                if let Some(sequence) = near(distance) {
                    self.receive(&line(sequence, kind, one, other));
                }
            }
            Operation::ReceiveVoid(distance) => {
                if let Some(sequence) = near(distance).and_then(Sequence::new) {
                    let receipt = self.engine.receive_void(sequence);
                    assert_eq!(receipt, self.naive.receive(sequence.get(), None));
                }
            }
            Operation::Apply => {
                self.apply();
            }
            Operation::Register(user) => self.register(user),
            Operation::Depart(user) => self.depart(user),
            Operation::Refuse(offers) => {
                self.listener.refusals = offers;
                self.naive.refusals = offers;
            }
            Operation::SkipGap => {
                self.engine.skip_gap();
                self.naive.skip_gap();
            }
            Operation::Reset => {
                self.engine.reset();
                self.naive.reset();
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.engine.awaited(), self.naive.awaited);
        assert_eq!(self.engine.reorder().occupied(), self.naive.waiting.len());
        assert_eq!(self.engine.counters().lost, self.naive.lost);
        assert_eq!(self.listener.told, self.naive.told);
    }
}

proptest! {
    #[test]
    fn the_engine_does_what_plain_maps_do(
        first in prop::sample::select(vec![0, 1, 1000, u64::MAX - 100]),
        window in prop::sample::select(vec![1, 2, 7, 128, 129, 1000]),
        operations in operations(),
    ) {
        let mut pair = Pair::new(first, window);
        for operation in operations {
            pair.perform(operation);
            pair.check();
        }
    }

    #[test]
    fn any_permutation_within_the_window_gives_the_ordered_result(
        events in prop::collection::vec(
            (prop::sample::select(vec!["F", "U", "B", "P", "S"]), 0..6_u64, 0..6_u64), 1..400),
        window in 1..300_u32,
        choices in prop::collection::vec(any::<prop::sample::Index>(), 400),
    ) {
        let lines: Vec<String> = (1..).zip(events)
            .map(|(sequence, (kind, one, other))| line(sequence, kind, one, other))
            .collect();
        let (mut ordered, mut permuted) = (Pair::new(1, 1), Pair::new(1, window));
        for user in 0..5 {
            ordered.register(user);
            permuted.register(user);
        }
        for line in &lines {
            ordered.receive(line);
            prop_assert_eq!(ordered.apply(), Step::Advanced);
        }
        let mut to_come: BTreeSet<usize> = (0..lines.len()).collect();
        for choice in &choices[..lines.len()] {
            let awaited = permuted.engine.awaited() as usize - 1;
            let allowed: Vec<usize> =
                to_come.range(..awaited + window as usize).copied().collect();
            let next = *choice.get(&allowed);
            to_come.remove(&next);
            permuted.receive(&lines[next]);
            while permuted.apply() == Step::Advanced {}
        }
        prop_assert_eq!(permuted.engine.awaited(), lines.len() as u64 + 1);
        prop_assert_eq!(permuted.listener.told, ordered.listener.told);
    }
}
