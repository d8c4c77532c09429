//! The engine alone, and beside it another one of plain maps: whatever is done to both, the same has
//! to come out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use eventserver::engine::{
    Counters, Engine, InsertOutcome, Offer, Progress, Recipient, Recipients, Registration, Sink,
};
use eventserver::protocol::{CompactEvent, Event, Line, Sequence, UserId};

use super::event::{Deed, Meaning, meaning};

/// What is done to both.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    /// A line comes with a sequence so far ahead of the awaited one, or behind it where negative.
    Receive(i64, Text),
    /// The same, on the short way where the engine allows it.
    Admit(i64, Text),
    ReceiveVoid(i64),
    Apply,
    Register(u64),
    Unregister(u64),
    /// Lists of followers are brought up to date, by so many steps.
    Index(usize),
    /// So many offers are refused from now on.
    Refuse(usize),
    SkipGap,
    Reset,
}

/// What a line says, but for its sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text {
    pub(crate) letter: char,
    pub(crate) users: [u64; 2],
    /// Every number is filled up with zeros to so many digits, at most 20.
    pub(crate) digits: usize,
}

impl Text {
    /// The whole line.
    pub(crate) fn with(&self, sequence: u64) -> String {
        let Text { letter, users: [one, other], digits } = *self;
        let head = format!("{sequence:0digits$}|{letter}");
        match letter {
            'B' => head,
            'S' => format!("{head}|{one:0digits$}"),
            _ => format!("{head}|{one:0digits$}|{other:0digits$}"),
        }
    }
}

/// Recipients, in ascending order, and the line they are told.
type Told = (Vec<u32>, String);

/// Takes what the engine offers, but for so many offers that it refuses first.
#[derive(Default)]
pub(crate) struct Listener {
    everybody: BTreeSet<u32>,
    refusals: usize,
    pub(crate) told: Vec<Told>,
}

impl Sink for Listener {
    fn offer(&mut self, audience: Recipients<'_>, line: Line<'_>) -> Offer {
        let mut recipients = match audience {
            Recipients::One(Recipient(number)) => vec![number],
            Recipients::Many(numbers) => {
                // Some may have been registered before.
                numbers.iter().filter(|number| self.everybody.contains(number)).copied().collect()
            }
            Recipients::All => self.everybody.iter().copied().collect(),
        };
        if matches!(audience, Recipients::Many(_)) && recipients.is_empty() {
            return Offer::Taken;
        }
        if self.refusals > 0 {
            self.refusals -= 1;
            return Offer::Refused;
        }
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
    counters: Counters,
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
            counters: Counters::default(),
        }
    }

    fn receive(&mut self, sequence: u64, line: Option<&str>) -> InsertOutcome {
        let is_event = line.is_some();
        if sequence < self.awaited {
            self.counters.late += u64::from(is_event);
            return InsertOutcome::Late;
        }
        if sequence - self.awaited >= self.window {
            return InsertOutcome::OutOfWindow;
        }
        match self.waiting.get(&sequence) {
            Some(None) if is_event => {}
            Some(_) => {
                self.counters.duplicate += u64::from(is_event);
                return InsertOutcome::Duplicate;
            }
            None => {}
        }
        self.waiting.insert(sequence, line.map(str::to_owned));
        InsertOutcome::Buffered
    }

    fn apply_next(&mut self) -> Progress {
        match self.waiting.get(&self.awaited).cloned() {
            None => return Progress::Idle,
            Some(None) => self.counters.void += 1,
            Some(Some(line)) => {
                if !self.apply(&line) {
                    return Progress::Blocked;
                }
            }
        }
        self.waiting.remove(&self.awaited);
        self.awaited += 1;
        Progress::Applied
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
        self.perform(deed);
        true
    }

    fn perform(&mut self, deed: Deed) {
        let Counters { follows, unfollows, broadcasts, private_messages, status_updates, .. } =
            &mut self.counters;
        match deed {
            Deed::Follow { follower, followed } => {
                *follows += 1;
                self.follows.insert((follower, followed));
            }
            Deed::Unfollow { follower, followed } => {
                *unfollows += 1;
                self.follows.remove(&(follower, followed));
            }
            Deed::Broadcast => *broadcasts += 1,
            Deed::PrivateMessage { .. } => *private_messages += 1,
            Deed::StatusUpdate { .. } => *status_updates += 1,
        }
    }

    fn gap(&self) -> Option<Range<u64>> {
        let (&next, _) = self.waiting.first_key_value()?;
        (next > self.awaited).then_some(self.awaited..next)
    }

    fn skip_gap(&mut self) -> Option<Range<u64>> {
        let gap = self.gap()?;
        self.counters.lost += gap.end - gap.start;
        self.awaited = gap.end;
        Some(gap)
    }

    fn reset(&mut self) -> usize {
        let lost = self.waiting.values().flatten().count();
        self.counters.lost += lost as u64;
        self.waiting.clear();
        self.follows.clear();
        self.awaited = self.first;
        lost
    }

    /// How many users there is a reason to remember.
    fn users(&self) -> usize {
        let of_follows = self.follows.iter().flat_map(|&(follower, followed)| [follower, followed]);
        of_follows.chain(self.connected.keys().copied()).collect::<BTreeSet<u64>>().len()
    }
}

/// Engine and model side by side.
pub(crate) struct Pair {
    pub(crate) engine: Engine,
    pub(crate) listener: Listener,
    naive: Naive,
}

impl Pair {
    pub(crate) fn new(first: u64, window: u32) -> Pair {
        let Some(sequence) = Sequence::new(first) else { panic!("{first} is a sequence") };
        Pair {
            engine: Engine::new(sequence, window),
            listener: Listener::default(),
            naive: Naive::new(first, window),
        }
    }

    pub(crate) fn perform(&mut self, operation: Operation) {
        match operation {
            Operation::Receive(distance, text) => {
                if let Some(sequence) = self.near(distance) {
                    self.receive(&text.with(sequence));
                }
            }
            Operation::Admit(distance, text) => {
                if let Some(sequence) = self.near(distance) {
                    self.admit(&text.with(sequence));
                }
            }
            Operation::ReceiveVoid(distance) => {
                if let Some(sequence) = self.near(distance).and_then(Sequence::new) {
                    let receipt = self.engine.insert_void(sequence);
                    assert_eq!(receipt, self.naive.receive(sequence.get(), None));
                }
            }
            Operation::Apply => {
                self.apply();
            }
            Operation::Register(user) => self.register(user),
            Operation::Unregister(user) => self.unregister(user),
            Operation::Index(steps) => self.engine.index_some(steps),
            Operation::Refuse(offers) => {
                self.listener.refusals = offers;
                self.naive.refusals = offers;
            }
            Operation::SkipGap => assert_eq!(self.engine.skip_gap(), self.naive.skip_gap()),
            Operation::Reset => assert_eq!(self.engine.reset(), self.naive.reset()),
        }
    }

    /// Panics unless both are in the same state.
    pub(crate) fn check(&self) {
        let Pair { engine, naive, .. } = self;
        assert_eq!(engine.awaited(), naive.awaited);
        assert_eq!(engine.reorder().len(), naive.waiting.len());
        assert_eq!(engine.has_ready(), naive.waiting.contains_key(&naive.awaited));
        assert_eq!(engine.has_gap(), naive.gap().is_some());
        assert_eq!(*engine.counters(), naive.counters);
    }

    /// Panics unless both have told the same so far, and remember as many users.
    pub(crate) fn check_told(&mut self) {
        assert_eq!(self.listener.told, self.naive.told);
        self.engine.index_some(usize::MAX);
        assert_eq!(self.engine.graph().users(), self.naive.users());
    }

    /// A line on the way that is always open.
    pub(crate) fn receive(&mut self, text: &str) {
        let event = event(text);
        let receipt = self.engine.insert(&event, text.as_bytes().into());
        assert_eq!(receipt, self.naive.receive(event.sequence.get(), Some(text)), "{text}");
    }

    /// A line as a source sends it: on the short way if it is short and the engine wants it so.
    fn admit(&mut self, text: &str) {
        let bytes = format!("{text}\r\n7|S|7\r\n{text}\r\n{text}");
        let line = Line::prefix_of(bytes.as_bytes(), text.len());
        let event = event(text);
        let short = CompactEvent::try_from(&event).ok();
        let is_admitted = short.is_some_and(|short| self.engine.try_insert_fast(&short, line));
        let receipt =
            if is_admitted { InsertOutcome::Buffered } else { self.engine.insert(&event, line) };
        assert_eq!(receipt, self.naive.receive(event.sequence.get(), Some(text)), "{text}");
    }

    pub(crate) fn apply(&mut self) -> Progress {
        let step = self.engine.apply_next(&mut self.listener);
        assert_eq!(step, self.naive.apply_next());
        step
    }

    pub(crate) fn register(&mut self, user: u64) {
        let Registration { recipient, was_registered } = self.engine.register(UserId(user));
        let before = self.naive.connected.insert(user, recipient.0);
        assert_eq!(was_registered, before.is_some());
        let is_new = self.listener.everybody.insert(recipient.0);
        assert_ne!(is_new, was_registered, "each user has a number of its own");
    }

    fn unregister(&mut self, user: u64) {
        self.engine.unregister(UserId(user));
        if let Some(number) = self.naive.connected.remove(&user) {
            self.listener.everybody.remove(&number);
        }
    }

    /// The sequence so far from the awaited one, if there is one.
    fn near(&self, distance: i64) -> Option<u64> {
        let sequence = self.naive.awaited.checked_add_signed(distance);
        sequence.filter(|&sequence| sequence < u64::MAX)
    }
}

fn event(text: &str) -> Event {
    let Ok(event) = Event::parse(text.as_bytes()) else { panic!("{text} is an event") };
    event
}
