//! Differential test of the engine: the same operations on the engine and on a reference made of
//! maps must give the same results.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use eventserver::engine::{
    Counters, Engine, Full, InsertOutcome, Progress, Recipient, Recipients, Registration, Sink,
};
use eventserver::protocol::{CompactEvent, Event, Line, Sequence, UserId};

use super::event::{Action, ParsedLine, parse_line};

/// An operation on both.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    /// A line whose sequence is at this distance from the awaited one.
    Receive(i64, LineTemplate),
    /// The same, by the fast path where the engine accepts it.
    Admit(i64, LineTemplate),
    ReceiveVoid(i64),
    Apply,
    Register(u64),
    Unregister(u64),
    /// Updates the lists of followers, by this many steps.
    Index(usize),
    /// The sink refuses this many offers.
    Refuse(usize),
    SkipGap,
    Reset,
}

/// A line without its sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineTemplate {
    pub(crate) letter: char,
    pub(crate) users: [u64; 2],
    /// Every number is padded with zeros to this many digits, at most 20.
    pub(crate) digits: usize,
}

impl LineTemplate {
    /// Returns the line with this sequence.
    pub(crate) fn with(&self, sequence: u64) -> String {
        let LineTemplate { letter, users: [one, other], digits } = *self;
        let head = format!("{sequence:0digits$}|{letter}");
        match letter {
            'B' => head,
            'S' => format!("{head}|{one:0digits$}"),
            _ => format!("{head}|{one:0digits$}|{other:0digits$}"),
        }
    }
}

/// Recipients in ascending order, and the line delivered to them.
type Delivered = (Vec<u32>, String);

/// A sink that records deliveries, and can refuse a number of offers first.
#[derive(Default)]
pub(crate) struct RecordingSink {
    everybody: BTreeSet<u32>,
    refusals: usize,
    pub(crate) delivered: Vec<Delivered>,
}

impl Sink for RecordingSink {
    fn offer(&mut self, audience: Recipients<'_>, line: Line<'_>) -> Result<(), Full> {
        let mut recipients = match audience {
            Recipients::One(Recipient(number)) => vec![number],
            Recipients::Many(numbers) => {
                // Some may be unregistered.
                numbers.iter().filter(|number| self.everybody.contains(number)).copied().collect()
            }
            Recipients::All => self.everybody.iter().copied().collect(),
        };
        if matches!(audience, Recipients::Many(_)) && recipients.is_empty() {
            return Ok(());
        }
        if self.refusals > 0 {
            self.refusals -= 1;
            return Err(Full);
        }
        recipients.sort_unstable();
        self.delivered.push((recipients, String::from_utf8_lossy(line.as_bytes()).into_owned()));
        Ok(())
    }
}

/// A simple implementation of the engine.
struct ReferenceEngine {
    first: u64,
    window: u64,
    awaited: u64,
    waiting: BTreeMap<u64, Option<String>>,
    follows: BTreeSet<(u64, u64)>,
    connected: BTreeMap<u64, u32>,
    refusals: usize,
    delivered: Vec<Delivered>,
    counters: Counters,
}

impl ReferenceEngine {
    fn new(first: u64, window: u32) -> ReferenceEngine {
        ReferenceEngine {
            first,
            window: window.into(),
            awaited: first,
            waiting: BTreeMap::new(),
            follows: BTreeSet::new(),
            connected: BTreeMap::new(),
            refusals: 0,
            delivered: Vec::new(),
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
        let ParsedLine::Event(_, action) = parse_line(line.as_bytes(), usize::MAX) else {
            panic!("{line} is no event")
        };
        let connected = self.connected.iter();
        let is_recipient = |user: u64| match action {
            Action::Follow { followed, .. } => user == followed,
            Action::Unfollow { .. } => false,
            Action::Broadcast => true,
            Action::PrivateMessage { to } => user == to,
            Action::StatusUpdate { from } => self.follows.contains(&(user, from)),
        };
        let mut audience: Vec<u32> =
            connected.filter(|&(&user, _)| is_recipient(user)).map(|(_, &key)| key).collect();
        audience.sort_unstable();
        if !audience.is_empty() || action == Action::Broadcast {
            if self.refusals > 0 {
                self.refusals -= 1;
                return false;
            }
            self.delivered.push((audience, line.to_owned()));
        }
        self.perform(action);
        true
    }

    fn perform(&mut self, action: Action) {
        let Counters { follows, unfollows, broadcasts, private_messages, status_updates, .. } =
            &mut self.counters;
        match action {
            Action::Follow { follower, followed } => {
                *follows += 1;
                self.follows.insert((follower, followed));
            }
            Action::Unfollow { follower, followed } => {
                *unfollows += 1;
                self.follows.remove(&(follower, followed));
            }
            Action::Broadcast => *broadcasts += 1,
            Action::PrivateMessage { .. } => *private_messages += 1,
            Action::StatusUpdate { .. } => *status_updates += 1,
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

    /// Returns the number of users that are connected or take part in a follow.
    fn users(&self) -> usize {
        let of_follows = self.follows.iter().flat_map(|&(follower, followed)| [follower, followed]);
        of_follows.chain(self.connected.keys().copied()).collect::<BTreeSet<u64>>().len()
    }
}

/// The engine and its reference.
pub(crate) struct Differential {
    pub(crate) engine: Engine,
    pub(crate) sink: RecordingSink,
    reference: ReferenceEngine,
}

impl Differential {
    pub(crate) fn new(first: u64, window: u32) -> Differential {
        let Some(sequence) = Sequence::new(first) else { panic!("{first} is no sequence") };
        Differential {
            engine: Engine::new(sequence, window),
            sink: RecordingSink::default(),
            reference: ReferenceEngine::new(first, window),
        }
    }

    pub(crate) fn perform(&mut self, operation: Operation) {
        match operation {
            Operation::Receive(distance, text) => {
                if let Some(sequence) = self.sequence_at(distance) {
                    self.receive(&text.with(sequence));
                }
            }
            Operation::Admit(distance, text) => {
                if let Some(sequence) = self.sequence_at(distance) {
                    self.admit(&text.with(sequence));
                }
            }
            Operation::ReceiveVoid(distance) => {
                if let Some(sequence) = self.sequence_at(distance).and_then(Sequence::new) {
                    let receipt = self.engine.insert_void(sequence);
                    assert_eq!(receipt, self.reference.receive(sequence.get(), None));
                }
            }
            Operation::Apply => {
                self.apply();
            }
            Operation::Register(user) => self.register(user),
            Operation::Unregister(user) => self.unregister(user),
            Operation::Index(steps) => self.engine.index_some(steps),
            Operation::Refuse(offers) => {
                self.sink.refusals = offers;
                self.reference.refusals = offers;
            }
            Operation::SkipGap => assert_eq!(self.engine.skip_gap(), self.reference.skip_gap()),
            Operation::Reset => assert_eq!(self.engine.reset(), self.reference.reset()),
        }
    }

    /// Panics unless both are in the same state.
    pub(crate) fn check(&self) {
        let Differential { engine, reference, .. } = self;
        assert_eq!(engine.awaited(), reference.awaited);
        assert_eq!(engine.reorder().len(), reference.waiting.len());
        assert_eq!(engine.has_ready(), reference.waiting.contains_key(&reference.awaited));
        assert_eq!(engine.has_gap(), reference.gap().is_some());
        assert_eq!(*engine.counters(), reference.counters);
    }

    /// Panics unless both have delivered the same and hold the same number of users.
    pub(crate) fn check_delivered(&mut self) {
        assert_eq!(self.sink.delivered, self.reference.delivered);
        self.engine.index_some(usize::MAX);
        assert_eq!(self.engine.graph().users(), self.reference.users());
    }

    /// Inserts a line by the general path.
    pub(crate) fn receive(&mut self, text: &str) {
        let event = event(text);
        let receipt = self.engine.insert(&event, text.as_bytes().into());
        assert_eq!(receipt, self.reference.receive(event.sequence.get(), Some(text)), "{text}");
    }

    /// Inserts a line as the server does: by the fast path if it is short and the engine accepts
    /// it.
    fn admit(&mut self, text: &str) {
        let bytes = format!("{text}\r\n7|S|7\r\n{text}\r\n{text}");
        let line = Line::prefix_of(bytes.as_bytes(), text.len());
        let event = event(text);
        let short = CompactEvent::try_from(&event).ok();
        let is_admitted = short.is_some_and(|short| self.engine.try_insert_fast(&short, line));
        let receipt =
            if is_admitted { InsertOutcome::Buffered } else { self.engine.insert(&event, line) };
        assert_eq!(receipt, self.reference.receive(event.sequence.get(), Some(text)), "{text}");
    }

    pub(crate) fn apply(&mut self) -> Progress {
        let step = self.engine.apply_next(&mut self.sink);
        assert_eq!(step, self.reference.apply_next());
        step
    }

    pub(crate) fn register(&mut self, user: u64) {
        let Registration { recipient, was_registered } = self.engine.register(UserId(user));
        let before = self.reference.connected.insert(user, recipient.0);
        assert_eq!(was_registered, before.is_some());
        let is_new = self.sink.everybody.insert(recipient.0);
        assert_ne!(is_new, was_registered, "each user has its own number");
    }

    fn unregister(&mut self, user: u64) {
        self.engine.unregister(UserId(user));
        if let Some(number) = self.reference.connected.remove(&user) {
            self.sink.everybody.remove(&number);
        }
    }

    /// Returns the sequence at this distance from the awaited one, if it exists.
    fn sequence_at(&self, distance: i64) -> Option<u64> {
        let sequence = self.reference.awaited.checked_add_signed(distance);
        sequence.filter(|&sequence| sequence < u64::MAX)
    }
}

fn event(text: &str) -> Event {
    let Ok(event) = Event::parse(text.as_bytes()) else { panic!("{text} is no event") };
    event
}
