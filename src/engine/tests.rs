//! The engine over the whole range of sequences, by its fast path and by its slow path.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Engine, InsertOutcome, Offer, Progress, Recipients, Sink};
use crate::protocol::{
    Decoded, Event, EventDecoder, EventKind, Line, ParseError, Sequence, UserId,
};

/// The user who is connected; private messages to any other are delivered to nobody.
const CONNECTED: UserId = UserId(7);

/// What is compared: what became of each line, which lines were delivered, and the counts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    receipts: Vec<InsertOutcome>,
    delivered: Vec<String>,
    skipped: Vec<(u64, u64)>,
    awaited: u64,
    waiting: usize,
}

impl Sink for Vec<String> {
    fn offer(&mut self, _audience: Recipients<'_>, line: Line<'_>) -> Offer {
        self.push(String::from_utf8(line.as_bytes().to_vec()).unwrap());
        Offer::Taken
    }
}

/// Lines that arrive together; then the gap is given up, if there is one.
#[derive(Clone, Debug)]
struct Burst {
    lines: Vec<String>,
    /// The sizes of the pieces in which they are read, again and again.
    pieces: Vec<usize>,
}

/// How lines reach the engine.
#[derive(Clone, Copy, Debug)]
enum Path {
    /// As in the server: up to so many through [`Engine::admit`], then one that is received.
    Fast(usize),
    /// Each line is received.
    Slow,
}

fn run(first: u64, window: u32, bursts: &[Burst], path: Path) -> Outcome {
    let mut engine = Engine::new(Sequence::new(first).unwrap(), window);
    engine.register(CONNECTED);
    let mut events = EventDecoder::new(256);
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
            let later = rest.split_off(piece.min(rest.len()));
            feed(&mut events, &rest);
            rest = later;
            apply_lines(&mut engine, &mut events, path, &mut outcome);
        }
        outcome.skipped.extend(engine.skip_gap().map(|gap| (gap.start, gap.end)));
        apply_due(&mut engine, &mut outcome);
    }
    outcome.awaited = engine.awaited();
    outcome.waiting = engine.reorder().occupied();
    outcome
}

fn feed(events: &mut EventDecoder, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let spare = events.lines.unfilled_mut(bytes.len());
        let (now, later) = bytes.split_at(spare.len());
        spare.copy_from_slice(now);
        events.lines.advance(now.len());
        bytes = later;
    }
}

fn apply_lines(engine: &mut Engine, events: &mut EventDecoder, path: Path, outcome: &mut Outcome) {
    loop {
        if let Path::Fast(most) = path {
            let admitted = events.decode_fast(most, |event, line| engine.admit(event, line));
            outcome.receipts.extend(std::iter::repeat_n(InsertOutcome::Buffered, admitted));
        }
        apply_due(engine, outcome);
        let receipt = match events.next_event() {
            None => return,
            Some(Decoded::Event(event, line)) => engine.receive(&event, line),
            Some(Decoded::Malformed(_, ParseError { sequence, .. })) => match sequence {
                Some(sequence) => engine.insert_void(sequence),
                None => continue,
            },
        };
        outcome.receipts.push(receipt);
    }
}

fn apply_due(engine: &mut Engine, outcome: &mut Outcome) {
    while engine.apply_next(&mut outcome.delivered) == Progress::Applied {}
}

/// The same with a sorted map, for which no sequence is special.
fn expected(first: u64, window: u32, bursts: &[Burst]) -> Outcome {
    let mut outcome = Outcome { awaited: first, ..Outcome::default() };
    let mut waiting: BTreeMap<u64, Option<String>> = BTreeMap::new();
    for burst in bursts {
        for line in burst.lines.iter().map(|line| line.trim_end()) {
            let (sequence, text) = match Event::parse(line.as_bytes()) {
                Ok(event) => (event.sequence, Some(line.to_owned())),
                Err(ParseError { sequence: Some(sequence), .. }) => (sequence, None),
                Err(_) => continue,
            };
            let number = sequence.get();
            let receipt = if number < outcome.awaited {
                InsertOutcome::Late
            } else if number - outcome.awaited >= u64::from(window) {
                InsertOutcome::OutOfWindow
            } else {
                match (waiting.get_mut(&number), text) {
                    (Some(void @ None), text @ Some(_)) => {
                        *void = text;
                        InsertOutcome::Buffered
                    }
                    (Some(_), _) => InsertOutcome::Duplicate,
                    (None, text) => {
                        waiting.insert(number, text);
                        InsertOutcome::Buffered
                    }
                }
            };
            outcome.receipts.push(receipt);
            deliver_due(&mut waiting, &mut outcome);
        }
        if let Some((&next, _)) = waiting.first_key_value() {
            outcome.skipped.push((outcome.awaited, next));
            outcome.awaited = next;
        }
        deliver_due(&mut waiting, &mut outcome);
    }
    outcome.waiting = waiting.len();
    outcome
}

fn deliver_due(waiting: &mut BTreeMap<u64, Option<String>>, outcome: &mut Outcome) {
    while let Some(line) = waiting.remove(&outcome.awaited) {
        outcome.delivered.extend(line.filter(|line| is_delivered(line)));
        outcome.awaited += 1;
    }
}

fn is_delivered(line: &str) -> bool {
    match Event::parse(line.as_bytes()).unwrap().kind {
        EventKind::Broadcast => true,
        EventKind::PrivateMessage { to, .. } => to == CONNECTED,
        kind => panic!("no line is {kind:?}"),
    }
}

/// A first sequence and a window, each at any size and often at an end of its range.
fn orders() -> impl Strategy<Value = (u64, u32)> {
    let first = prop_oneof![
        0..300_u64,
        Sequence::MAX.get() - 300..=Sequence::MAX.get(),
        0..=Sequence::MAX.get(),
    ];
    let window = prop_oneof![1..300_u32, 1..=1_u32 << 26, Just(1_u32 << 26)];
    (first, window)
}

/// Numbers around the first sequence, where those beyond the largest start at 0 again, around both ends of
/// the range, and any others. None makes the ring of a large window long.
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
    fn both_paths_do_what_a_sorted_map_does_at_any_sequence(
        ((first, window), bursts) in orders().prop_flat_map(|order| (Just(order), bursts(order.0))),
        most in 1..64_usize,
    ) {
        let expected = expected(first, window, &bursts);
        prop_assert_eq!(&run(first, window, &bursts, Path::Slow), &expected);
        prop_assert_eq!(&run(first, window, &bursts, Path::Fast(most)), &expected);
    }
}

#[test]
fn a_small_sequence_is_late_once_the_largest_are_awaited() {
    let first = u64::MAX - 9;
    for piece in [1, 1000] {
        let line = |number: u64| format!("{number}|P|1|7\n");
        // The first line waits behind a gap, so that there is a ring for the small ones to fall into.
        let lines = [first + 1, 3, 0, first, 5].map(line).to_vec();
        let bursts =
            [Burst { lines, pieces: vec![piece] }, Burst { lines: vec![], pieces: vec![1] }];
        let outcome = run(first, 1 << 26, &bursts, Path::Fast(32));
        use InsertOutcome::{Buffered, Late};
        assert_eq!(outcome.receipts, [Buffered, Late, Late, Buffered, Late]);
        assert_eq!(outcome.delivered.len(), 2);
        assert_eq!((outcome.awaited, outcome.waiting), (first + 2, 0));
    }
}
