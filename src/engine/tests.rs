//! Tests of the engine over the whole range of sequences, on the fast path and on the slow path.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Engine, Full, InsertOutcome, Progress, Recipients, Sink};
use crate::protocol::{
    Decoded, Event, EventDecoder, EventKind, Line, ParseError, Sequence, UserId,
};

/// The only registered user. Private messages to other users have no recipient.
const REGISTERED: UserId = UserId(7);

/// The compared outcome of a run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    insertions: Vec<InsertOutcome>,
    delivered: Vec<String>,
    skipped: Vec<(u64, u64)>,
    awaited: u64,
    buffered: usize,
}

impl Sink for Vec<String> {
    fn offer(&mut self, _recipients: Recipients<'_>, line: Line<'_>) -> Result<(), Full> {
        self.push(String::from_utf8(line.as_bytes().to_vec()).unwrap());
        Ok(())
    }
}

/// Lines that arrive together. After them the gap is skipped, if there is one.
#[derive(Clone, Debug)]
struct Burst {
    lines: Vec<String>,
    /// The sizes of the pieces in which the lines are read, repeated as needed.
    pieces: Vec<usize>,
}

/// The way in which lines are inserted.
#[derive(Clone, Copy, Debug)]
enum Path {
    /// As in the server: up to this many by [`Engine::try_insert_fast`], then one by [`Engine::insert`].
    Fast(usize),
    /// Each line by [`Engine::insert`].
    Slow,
}

fn run(first: u64, window: u32, bursts: &[Burst], path: Path) -> Outcome {
    let mut engine = Engine::new(Sequence::new(first).unwrap(), window);
    engine.register(REGISTERED);
    let mut decoder = EventDecoder::new(256);
    let mut outcome = Outcome::default();
    for burst in bursts {
        let mut rest = burst.lines.concat().into_bytes();
        let pieces: &[usize] = match path {
            Path::Fast(_) => &burst.pieces,
            Path::Slow => &[usize::MAX],
        };
        for &piece in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let tail = rest.split_off(piece.min(rest.len()));
            feed(&mut decoder, &rest);
            rest = tail;
            apply_lines(&mut engine, &mut decoder, path, &mut outcome);
        }
        outcome.skipped.extend(engine.skip_gap().map(|gap| (gap.start, gap.end)));
        apply_ready(&mut engine, &mut outcome);
    }
    outcome.awaited = engine.awaited();
    outcome.buffered = engine.reorder().len();
    outcome
}

fn feed(decoder: &mut EventDecoder, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let unfilled = decoder.buffer_mut().unfilled_mut(bytes.len());
        let (next, rest) = bytes.split_at(unfilled.len());
        unfilled.copy_from_slice(next);
        decoder.buffer_mut().advance(next.len());
        bytes = rest;
    }
}

fn apply_lines(engine: &mut Engine, decoder: &mut EventDecoder, path: Path, outcome: &mut Outcome) {
    loop {
        if let Path::Fast(max) = path {
            let inserted =
                decoder.decode_fast(max, |event, line| engine.try_insert_fast(event, line));
            outcome.insertions.extend(std::iter::repeat_n(InsertOutcome::Buffered, inserted));
        }
        apply_ready(engine, outcome);
        let insertion = match decoder.next_event() {
            None => return,
            Some(Decoded::Event(event, line)) => engine.insert(&event, line),
            Some(Decoded::Malformed(_, ParseError { sequence, .. })) => match sequence {
                Some(sequence) => engine.insert_void(sequence),
                None => continue,
            },
        };
        outcome.insertions.push(insertion);
    }
}

fn apply_ready(engine: &mut Engine, outcome: &mut Outcome) {
    while engine.apply_next(&mut outcome.delivered) == Progress::Applied {}
}

/// Computes the outcome with a `BTreeMap`, for which no sequence is special.
fn reference(first: u64, window: u32, bursts: &[Burst]) -> Outcome {
    let mut outcome = Outcome { awaited: first, ..Outcome::default() };
    let mut buffered: BTreeMap<u64, Option<String>> = BTreeMap::new();
    for burst in bursts {
        for line in burst.lines.iter().map(|line| line.trim_end()) {
            let (sequence, text) = match Event::parse(line.as_bytes()) {
                Ok(event) => (event.sequence, Some(line.to_owned())),
                Err(ParseError { sequence: Some(sequence), .. }) => (sequence, None),
                Err(_) => continue,
            };
            let number = sequence.get();
            let insertion = if number < outcome.awaited {
                InsertOutcome::Late
            } else if number - outcome.awaited >= u64::from(window) {
                InsertOutcome::OutOfWindow
            } else {
                match (buffered.get_mut(&number), text) {
                    (Some(void @ None), text @ Some(_)) => {
                        *void = text;
                        InsertOutcome::Buffered
                    }
                    (Some(_), _) => InsertOutcome::Duplicate,
                    (None, text) => {
                        buffered.insert(number, text);
                        InsertOutcome::Buffered
                    }
                }
            };
            outcome.insertions.push(insertion);
            deliver_ready(&mut buffered, &mut outcome);
        }
        if let Some((&next, _)) = buffered.first_key_value() {
            outcome.skipped.push((outcome.awaited, next));
            outcome.awaited = next;
        }
        deliver_ready(&mut buffered, &mut outcome);
    }
    outcome.buffered = buffered.len();
    outcome
}

fn deliver_ready(buffered: &mut BTreeMap<u64, Option<String>>, outcome: &mut Outcome) {
    while let Some(line) = buffered.remove(&outcome.awaited) {
        outcome.delivered.extend(line.filter(|line| is_delivered(line)));
        outcome.awaited += 1;
    }
}

fn is_delivered(line: &str) -> bool {
    match Event::parse(line.as_bytes()).unwrap().kind {
        EventKind::Broadcast => true,
        EventKind::PrivateMessage { to, .. } => to == REGISTERED,
        kind => panic!("no line is {kind:?}"),
    }
}

/// Generates a first sequence and a window, often at a bound of its range.
fn orders() -> impl Strategy<Value = (u64, u32)> {
    let first = prop_oneof![
        0..300_u64,
        Sequence::MAX.get() - 300..=Sequence::MAX.get(),
        0..=Sequence::MAX.get(),
    ];
    let window = prop_oneof![1..300_u32, 1..=1_u32 << 26, Just(1_u32 << 26)];
    (first, window)
}

/// Generates numbers around the first sequence (wrapping), around both ends of the range, and arbitrary
/// ones. None of them grows the ring of a large window far.
fn numbers(first: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        12 => (0..40_u64).prop_map(move |offset| first.wrapping_add(offset)),
        4 => (-40..700_i64).prop_map(move |offset| first.wrapping_add_signed(offset)),
        2 => 0..40_u64,
        1 => u64::MAX - 40..=u64::MAX,
        1 => any::<u64>(),
    ]
}

fn lines(first: u64) -> impl Strategy<Value = String> {
    let rest = prop_oneof![
        6 => Just("|B"),
        6 => Just("|P|1|7"),
        2 => Just("|P|1|8"),
        2 => Just("|P|000000000000000001|00000000000000000007"),
        1 => Just("|X"),
    ];
    let end = prop_oneof![Just("\n"), Just("\r\n")];
    (numbers(first), rest, end).prop_map(|(number, rest, end)| format!("{number}{rest}{end}"))
}

fn bursts(first: u64) -> impl Strategy<Value = Vec<Burst>> {
    let lines = proptest::collection::vec(lines(first), 0..60);
    let pieces = proptest::collection::vec(1..300_usize, 1..5);
    let burst = (lines, pieces).prop_map(|(lines, pieces)| Burst { lines, pieces });
    proptest::collection::vec(burst, 1..5)
}

proptest! {
    #[test]
    fn both_paths_match_btree_map_at_any_sequence(
        ((first, window), bursts) in orders().prop_flat_map(|order| (Just(order), bursts(order.0))),
        max in 1..64_usize,
    ) {
        let expected = reference(first, window, &bursts);
        prop_assert_eq!(&run(first, window, &bursts, Path::Slow), &expected);
        prop_assert_eq!(&run(first, window, &bursts, Path::Fast(max)), &expected);
    }
}

#[test]
fn a_small_sequence_is_late_once_the_largest_are_awaited() {
    let first = u64::MAX - 9;
    for piece in [1, 1000] {
        let line = |number: u64| format!("{number}|P|1|7\n");
        // The first line is buffered after a gap, so that the small sequences meet an allocated ring.
        let lines = [first + 1, 3, 0, first, 5].map(line).to_vec();
        let bursts =
            [Burst { lines, pieces: vec![piece] }, Burst { lines: vec![], pieces: vec![1] }];
        let outcome = run(first, 1 << 26, &bursts, Path::Fast(32));
        use InsertOutcome::{Buffered, Late};
        assert_eq!(outcome.insertions, [Buffered, Late, Late, Buffered, Late]);
        assert_eq!(outcome.delivered.len(), 2);
        assert_eq!((outcome.awaited, outcome.buffered), (first + 2, 0));
    }
}
