//! Resumes against a model that keeps every event and all follows before it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A sink that takes everything.
struct Anything;

impl Sink for Anything {
    fn offer(&mut self, _: Recipients<'_>, _: Line<'_>) -> Result<(), Full> {
        Ok(())
    }
}

/// An applied event, with the follows before it.
struct Applied {
    sequence: u64,
    line: String,
    kind: EventKind,
    follows: BTreeSet<(u64, u64)>,
}

impl Applied {
    fn concerns(&self, user: u64) -> bool {
        match self.kind {
            EventKind::Follow { followed: UserId(told), .. }
            | EventKind::PrivateMessage { to: UserId(told), .. } => told == user,
            EventKind::Unfollow { .. } => false,
            EventKind::Broadcast => true,
            EventKind::StatusUpdate { from } => self.follows.contains(&(user, from.0)),
        }
    }
}

/// A client in the middle of a resume.
struct Comeback {
    user: u64,
    resume: Resume,
    /// The lines received so far.
    lines: Vec<String>,
    /// The first sequence that is neither received nor told missing.
    due: u64,
    /// A gap that has to be told, of an earlier stream or of sequences that the client claims to have.
    earlier_gap: Option<(u64, u64)>,
    /// Sequences before this one may be missing: a gap may be that of an earlier stream or the same of this one.
    may_start_at: Option<u64>,
    is_caught_up: bool,
}

/// Returns the id of a user. Two of them share a key in the indexes.
fn id_of(user: u64) -> u64 {
    if user == 4 { 1 << 32 } else { user }
}

/// An engine that keeps events, and the model.
struct World {
    engine: Engine,
    max_events: usize,
    /// The events of the current stream.
    applied: Vec<Applied>,
    follows: BTreeSet<(u64, u64)>,
    comebacks: Vec<Comeback>,
}

#[derive(Clone, Debug)]
enum Step {
    /// Some events: letters and users, or voids.
    Apply(Vec<(char, u64, u64)>),
    /// A user comes back with what it has up to so many sequences before the awaited one, or after it if that is
    /// negative.
    ComeBack(u64, i64),
    /// Each client gets so many steps, and a sink for so many pieces.
    Advance(usize, usize),
    /// Missing sequences are skipped.
    Skip(u64),
    Reset,
    GiveUpWaiting,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let event = (
        proptest::sample::select(vec!['F', 'F', 'F', 'U', 'U', 'B', 'P', 'S', 'S', 'S', 'X']),
        1..5_u64,
        1..5_u64,
    );
    let step = prop_oneof![
        6 => proptest::collection::vec(event, 1..12).prop_map(Step::Apply),
        4 => (1..5_u64, -5..40_i64).prop_map(|(user, back)| Step::ComeBack(user, back)),
        8 => (1..30_usize, 0..6_usize).prop_map(|(steps, space)| Step::Advance(steps, space)),
        1 => (1..5_u64).prop_map(Step::Skip),
        1 => Just(Step::Reset),
        1 => Just(Step::GiveUpWaiting),
    ];
    proptest::collection::vec(step, 1..60)
}

impl World {
    fn new(first: u64, max_events: usize) -> World {
        let mut engine = Engine::new(Sequence::new(first).unwrap(), 1000);
        engine.keep_history(History::new(max_events, 0));
        World {
            engine,
            max_events,
            applied: Vec::new(),
            follows: BTreeSet::new(),
            comebacks: Vec::new(),
        }
    }

    fn apply(&mut self, event: (char, u64, u64)) {
        self.apply_all(&[event]);
    }

    /// Inserts events, applies them, and then keeps them.
    fn apply_all(&mut self, events: &[(char, u64, u64)]) {
        let awaited = self.engine.awaited();
        for (sequence, &event) in (awaited..).zip(events) {
            self.insert(sequence, event);
        }
        for _ in events {
            assert_eq!(self.engine.apply_next(&mut Anything), Progress::Applied);
        }
        self.engine.keep_applied();
    }

    fn insert(&mut self, sequence: u64, (letter, a, b): (char, u64, u64)) {
        let [a, b] = [a, b].map(id_of);
        let line = match letter {
            'B' => format!("{sequence}|B"),
            'S' => format!("{sequence}|S|{a}"),
            // Too long for a slot of the reorder buffer.
            'P' if b == id_of(4) => format!("{sequence}|P|{a:020}|{b:020}"),
            // Its sequence has leading zeros.
            'P' if b == 3 => format!("{sequence:05}|P|{a}|{b}"),
            _ => format!("{sequence}|{letter}|{a}|{b}"),
        };
        match Event::parse(line.as_bytes()) {
            Err(_) => drop(self.engine.insert_void(Sequence::new(sequence).unwrap())),
            Ok(event) => {
                // Followed by more bytes, as in a buffer.
                let padded = format!("{line}\n{}", "1|B\n".repeat(20));
                self.engine.insert(&event, Line::prefix_of(padded.as_bytes(), line.len()));
                let follows = self.follows.clone();
                match event.kind {
                    EventKind::Follow { .. } => drop(self.follows.insert((a, b))),
                    EventKind::Unfollow { .. } => drop(self.follows.remove(&(a, b))),
                    _ => {}
                }
                self.applied.push(Applied { sequence, line, kind: event.kind, follows });
            }
        }
    }

    fn come_back(&mut self, user: u64, back: i64) {
        let user = id_of(user);
        let last = self.engine.awaited().saturating_sub(1);
        let sequence = last.saturating_add_signed(-back);
        let resume = Resume::after(Sequence::new(sequence).unwrap(), UserId(user));
        let (lines, due) = (Vec::new(), sequence + 1);
        let comeback = Comeback {
            user,
            resume,
            lines,
            due,
            earlier_gap: None,
            may_start_at: None,
            is_caught_up: false,
        };
        self.comebacks.push(comeback);
    }

    fn advance(&mut self, steps: usize, space: usize) {
        let World { engine, applied, comebacks, .. } = self;
        let others = comebacks.len().saturating_sub(1);
        for comeback in comebacks.iter_mut() {
            let (mut steps, mut space) = (steps, space);
            let Comeback { resume, lines, .. } = comeback;
            let progress = resume.advance(engine, &mut steps, others, |missed| {
                let new = lines_of(missed);
                space = space.checked_sub(new.len()).ok_or(Full)?;
                lines.extend(new);
                Ok(())
            });
            comeback.check(applied, engine.history().unwrap().covered_from());
            match progress {
                ResumeProgress::CaughtUp => {
                    comeback.is_caught_up = true;
                    if comeback.due_of(applied).next().is_some() {
                        comeback.skip_what_may_be_missing();
                    }
                    assert!(comeback.due_of(applied).next().is_none(), "lines are missing");
                }
                ResumeProgress::Ahead => assert!(comeback.due > engine.awaited()),
                ResumeProgress::Blocked => assert_eq!(space, 0),
                ResumeProgress::BudgetExhausted => assert_eq!(steps, 0),
            }
        }
        comebacks.retain(|comeback| !comeback.is_caught_up);
    }

    fn skip(&mut self, count: u64) {
        let sequence = self.engine.awaited() + count;
        self.engine.insert_void(Sequence::new(sequence).unwrap());
        assert!(self.engine.skip_gap().is_some());
        self.engine.apply_next(&mut Anything);
        self.engine.keep_applied();
    }

    fn reset(&mut self) {
        let World { engine, applied, comebacks, follows, .. } = self;
        let (awaited, first) = (engine.awaited(), engine.first().get());
        for comeback in comebacks.iter_mut() {
            comeback.resume.on_reset(engine);
            if comeback.due <= awaited {
                let told = comeback.resume.untold_gap();
                // A gap that was told may have been one of this stream.
                if told.is_none_or(|(first, _)| comeback.may_start_at.is_some_and(|at| at <= first))
                {
                    comeback.skip_what_may_be_missing();
                }
                let due: Vec<u64> = comeback.due_of(applied).map(|event| event.sequence).collect();
                if let (Some(&oldest), Some(&newest)) = (due.first(), due.last()) {
                    let Some((first, end)) = told else { panic!("{oldest} is forgotten") };
                    assert!(first <= oldest && newest < end && end <= awaited);
                }
                (comeback.earlier_gap, comeback.due) = (told, first);
            }
        }
        engine.reset();
        (*applied, *follows) = (Vec::new(), BTreeSet::new());
    }

    fn give_up_waiting(&mut self) {
        let awaited = self.engine.awaited();
        for comeback in &mut self.comebacks {
            if comeback.due > awaited {
                comeback.resume.give_up_waiting(awaited);
                comeback.earlier_gap = Some((awaited, comeback.due));
                comeback.due = awaited;
            }
        }
        // At once, before the ring can drop the same sequences.
        self.advance(1000, 1);
    }

    /// Lets every client get everything.
    fn finish(&mut self) {
        self.give_up_waiting();
        self.advance(usize::MAX, usize::MAX);
        assert!(self.comebacks.is_empty(), "all have caught up");
    }

    fn perform(&mut self, step: &Step) {
        match step {
            Step::Apply(events) => self.apply_all(events),
            &Step::ComeBack(user, back) => self.come_back(user, back),
            &Step::Advance(steps, space) => self.advance(steps, space),
            &Step::Skip(count) => self.skip(count),
            Step::Reset => self.reset(),
            Step::GiveUpWaiting => self.give_up_waiting(),
        }
        let kept = self.engine.history().unwrap().len();
        let most = self.max_events + (self.max_events / 16).max(1);
        assert!(kept <= most as u64, "{kept} of {} events are kept", self.max_events);
    }
}

impl Comeback {
    /// Returns the lines that the client lacks.
    fn due_of<'a>(&self, applied: &'a [Applied]) -> impl Iterator<Item = &'a Applied> {
        let (user, due) = (self.user, self.due);
        applied.iter().filter(move |event| event.sequence >= due && event.concerns(user))
    }

    fn skip_what_may_be_missing(&mut self) {
        if let Some(sequence) = self.may_start_at.take() {
            self.due = self.due.max(sequence);
        }
    }

    /// Checks new lines: each is the next that is due, unless a gap covers those before it.
    fn check(&mut self, applied: &[Applied], covered_from: u64) {
        for line in std::mem::take(&mut self.lines) {
            let next = self.due_of(applied).next();
            if let Some(gap) = line.strip_prefix("gap ") {
                let (first, last) = gap.split_once(' ').unwrap();
                let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
                assert!(first <= last);
                if self.earlier_gap.take_if(|gap| *gap == (first, last + 1)).is_some() {
                    self.may_start_at = Some(last + 1).filter(|_| first < covered_from);
                } else {
                    if next.is_some_and(|next| next.sequence < first) {
                        self.skip_what_may_be_missing();
                    }
                    let next = self.due_of(applied).next();
                    assert!(next.is_none_or(|next| next.sequence >= first), "{line} hides a line");
                    assert!(first < covered_from, "{line}, but nothing is missing");
                    self.due = last + 1;
                }
                continue;
            }
            if next.is_some_and(|next| next.line != line) {
                self.skip_what_may_be_missing();
            }
            let Some(next) = self.due_of(applied).next() else { panic!("{line} is not due") };
            assert_eq!(line, next.line);
            self.due = next.sequence + 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_client_gets_what_it_has_missed(
        first in proptest::sample::select(vec![0, 1, 1000]),
        max_events in proptest::sample::select(vec![1, 2, 7, 20, 200, 100_000]),
        steps in steps(),
    ) {
        let mut world = World::new(first, max_events);
        steps.iter().for_each(|step| world.perform(step));
        world.finish();
    }
}

/// Returns the lines of a piece, without their terminators.
fn lines_of(missed: Missed<'_>) -> Vec<String> {
    match missed {
        Missed::Gap { first, last } => vec![format!("gap {first} {last}")],
        Missed::Lines { text, count } => {
            let text = str::from_utf8(text).unwrap();
            let lines = text.split_inclusive("\r\n").map(|line| line.strip_suffix("\r\n").unwrap());
            let lines: Vec<String> = lines.map(str::to_owned).collect();
            assert_eq!(lines.len() as u64, count);
            lines
        }
    }
}

/// Comes back at once, and returns what is missed and how it ended.
fn resume_after(engine: &Engine, user: u64, sequence: u64) -> (Vec<String>, ResumeProgress) {
    let mut resume = Resume::after(Sequence::new(sequence).unwrap(), UserId(user));
    let mut lines = Vec::new();
    let progress = resume.advance(engine, &mut 1_000_000, 0, |missed| {
        lines.extend(lines_of(missed));
        Ok(())
    });
    (lines, progress)
}

fn world_of(max_events: usize, first: u64, events: &[(char, u64, u64)]) -> World {
    let mut world = World::new(first, max_events);
    events.iter().for_each(|&event| world.apply(event));
    world
}

#[test]
fn a_client_gets_what_comes_after_its_sequence() {
    let world =
        world_of(100, 1, &[('B', 0, 0), ('P', 1, 2), ('P', 2, 1), ('X', 0, 0), ('B', 0, 0)]);
    let all = |sequence| resume_after(&world.engine, 2, sequence).0;
    assert_eq!(all(0), ["1|B", "2|P|1|2", "5|B"], "nothing precedes the stream");
    assert_eq!(all(1), ["2|P|1|2", "5|B"]);
    assert_eq!(all(4), ["5|B"]);
    assert!(all(5).is_empty());
    assert_eq!(resume_after(&world.engine, 2, 5).1, ResumeProgress::CaughtUp);
    assert_eq!(resume_after(&world.engine, 2, 6).1, ResumeProgress::Ahead);
}

#[test]
fn status_updates_go_to_those_who_followed_at_the_time() {
    let world = world_of(
        100,
        1,
        &[
            ('S', 9, 0),
            ('F', 1, 9),
            ('S', 9, 0),
            // Neither of these changes anything.
            ('F', 1, 9),
            ('U', 1, 8),
            ('S', 9, 0),
            ('U', 1, 9),
            ('S', 9, 0),
            ('F', 1, 9),
            ('F', 9, 1),
            ('S', 9, 0),
        ],
    );
    let lines = resume_after(&world.engine, 1, 0).0;
    assert_eq!(lines, ["3|S|9", "6|S|9", "10|F|9|1", "11|S|9"]);
    assert_eq!(resume_after(&world.engine, 1, 6).0, ["10|F|9|1", "11|S|9"]);
    assert_eq!(resume_after(&world.engine, 9, 0).0, ["2|F|1|9", "4|F|1|9", "9|F|1|9"]);
}

#[test]
fn a_gap_is_told_if_and_only_if_events_may_be_missing() {
    let events: Vec<(char, u64, u64)> = vec![('B', 0, 0); 10];
    let world = world_of(3, 100, &events);
    // 100 to 106 are dropped.
    let lines = |sequence| resume_after(&world.engine, 1, sequence).0;
    assert_eq!(lines(106), ["107|B", "108|B", "109|B"]);
    assert_eq!(lines(105), ["gap 106 106", "107|B", "108|B", "109|B"]);
    assert_eq!(lines(0), ["gap 1 106", "107|B", "108|B", "109|B"]);
    let world = world_of(10, 100, &events);
    assert_eq!(resume_after(&world.engine, 1, 0).0.len(), 10, "nothing precedes the stream");
}

#[test]
fn a_client_that_waits_in_vain_continues_with_the_awaited_sequence() {
    let mut world = world_of(100, 1, &[('B', 0, 0)]);
    let mut resume = Resume::after(Sequence::new(9).unwrap(), UserId(1));
    resume.give_up_waiting(world.engine.awaited());
    world.apply(('B', 0, 0));
    let mut pieces = Vec::new();
    let progress = resume.advance(&world.engine, &mut 1000, 0, |missed| {
        pieces.extend(lines_of(missed));
        Ok(())
    });
    assert_eq!(progress, ResumeProgress::CaughtUp);
    assert_eq!(pieces, ["gap 2 9", "2|B"]);
}

#[test]
fn a_client_that_the_stream_outruns_is_told_and_reaches_the_end() {
    let mut world = World::new(1, 64);
    (0..64).for_each(|_| world.apply(('B', 0, 0)));
    world.come_back(1, 64);
    for round in 0.. {
        assert!(round < 10, "it starts nearer to the end each time");
        world.advance(65, 1);
        if world.comebacks.is_empty() {
            break;
        }
        (0..100).for_each(|_| world.apply(('B', 0, 0)));
    }
}

#[test]
fn events_of_a_large_ring_are_kept_before_it_is_freed() {
    let mut world = World::new(1, 100_000);
    world.engine = Engine::new(Sequence::new(1).unwrap(), 1 << 20);
    world.engine.keep_history(History::new(100_000, 0));
    (1..10_001).rev().for_each(|sequence| world.insert(sequence, ('B', 0, 0)));
    while world.engine.apply_next(&mut Anything) == Progress::Applied {}
    world.engine.keep_applied();
    let lines = resume_after(&world.engine, 1, 0).0;
    assert_eq!((lines.len(), &*lines[9999]), (10_000, "10000|B"));
}

#[test]
fn events_that_others_have_committed_do_not_replace_applied_ones_before_they_are_kept() {
    let mut engine = Engine::with_log(Sequence::new(1).unwrap(), 1, FollowerGraph::new(), 1000);
    engine.share_log();
    engine.keep_history(History::new(1000, 0));
    let mut decoder = EventDecoder::new(64);
    // The ring has 128 slots, so the second batch uses those of the first.
    for first in [1, 101, 201] {
        let lines: String =
            (first..first + 100).map(|sequence| format!("{sequence}|B\n")).collect();
        engine.commit_other(first, first + 100, lines.as_bytes(), &mut decoder);
        while engine.apply_next(&mut Anything) == Progress::Applied {}
    }
    engine.keep_applied();
    let expected: Vec<String> = (1..301).map(|sequence| format!("{sequence}|B")).collect();
    assert_eq!(resume_after(&engine, 1, 0).0, expected);
}

#[test]
fn a_step_of_a_walk_over_indexes_is_bounded_too() {
    let mut world = World::new(1, 6400);
    (0..6201).for_each(|_| world.apply(('P', 1, 2)));
    let steps_of = |user| {
        let mut resume = Resume::after(Sequence::new(0).unwrap(), UserId(user));
        let mut rounds = 0;
        while resume.advance(&world.engine, &mut 100, 9, |_| Ok(())) != ResumeProgress::CaughtUp {
            rounds += 1;
            assert!(rounds < 10_000, "the resume does not end");
        }
        rounds
    };
    steps_of(3);
    // 31 full chunks are looked up twice each, at ten steps.
    assert!((6..9).contains(&steps_of(3)), "{} rounds", steps_of(3));
}
