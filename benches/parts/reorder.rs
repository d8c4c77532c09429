//! Putting a stream in order, by how far it is out of order.

use std::hint::black_box;
use std::ops::Range;

use criterion::{Criterion, Throughput};
use eventserver::engine::{Head, ReorderBuffer};
use eventserver::protocol::{Event, EventKind, Line, UserId};

use crate::support::{Arrival, Random, line, sequence, size};

/// The first sequence: all of a stream have the same number of digits.
const FIRST: u64 = 1_000_000;

/// What came out. The digest is another one for every other order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Passed {
    events: u64,
    bytes: usize,
    digest: u64,
}

impl Passed {
    fn take(&mut self, line: Line<'_>) {
        self.events += 1;
        self.bytes += line.len();
        let last_byte = u64::from(line.as_bytes()[line.len() - 1]);
        self.digest = self.digest.wrapping_mul(31).wrapping_add(last_byte);
    }
}

/// A stream in the order of its arrival. The lines stand one behind another, as in a read buffer.
#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    lines: Vec<(Event, Range<u32>)>,
}

/// A buffer that is new for each run takes a whole stream of a million events. With the two last
/// orders all of them wait at once, which is the largest disorder that a window of a million allows;
/// the time to grow the buffer, and to give it back, is part of the whole.
pub(crate) fn every_disorder(criterion: &mut Criterion) {
    let lines = private_messages(size(1_000_000, 20_000));
    let expected = passed_in_order(&lines);
    let mut group = criterion.benchmark_group("reorder");
    group.throughput(Throughput::Elements(expected.events)).sample_size(10);
    for (name, arrival) in [
        ("in order", Arrival::InOrder),
        ("batches of 100", Arrival::Batches(100)),
        ("batches of 10,000", Arrival::Batches(10_000)),
        ("reverse", Arrival::Reverse),
        ("random", Arrival::Random),
    ] {
        let stream = arriving(&lines, arrival);
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert_eq!(put_in_order(black_box(&stream)), expected));
        });
    }
    group.finish();
}

fn private_messages(count: u64) -> Vec<String> {
    let mut random = Random::new(2);
    let mut user = || UserId(random.below(1_000_000));
    (FIRST..FIRST + count)
        .map(|sequence| line(sequence, EventKind::PrivateMessage { from: user(), to: user() }))
        .collect()
}

fn passed_in_order(lines: &[String]) -> Passed {
    let mut passed = Passed::default();
    lines.iter().for_each(|line| passed.take(Line::Slice(line.as_bytes())));
    passed
}

fn arriving(lines: &[String], arrival: Arrival) -> Stream {
    let mut numbered: Vec<(u64, &String)> = (FIRST..).zip(lines).collect();
    arrival.arrange(&mut numbered);
    let mut stream = Stream::default();
    for (number, line) in numbered {
        let start = stream.bytes.len() as u32;
        stream.bytes.extend_from_slice(line.as_bytes());
        let event = Event::parse(line.as_bytes()).unwrap();
        assert_eq!(event.sequence, sequence(number));
        stream.lines.push((event, start..stream.bytes.len() as u32));
    }
    stream
}

/// Takes out what is due after each line that comes.
fn put_in_order(stream: &Stream) -> Passed {
    let mut buffer = ReorderBuffer::new(sequence(FIRST), stream.lines.len() as u32);
    let mut passed = Passed::default();
    for (event, line) in &stream.lines {
        let behind = &stream.bytes[line.start as usize..];
        buffer.insert(event, Line::prefix_of(behind, line.len()));
        while let Head::Event(_, line) = buffer.head() {
            passed.take(line);
            buffer.advance();
        }
    }
    assert_eq!(buffer.len(), 0);
    passed
}
