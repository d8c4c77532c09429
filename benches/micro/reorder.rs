//! Putting a stream in order, by its degree of disorder.

use std::hint::black_box;
use std::ops::Range;

use criterion::{Criterion, Throughput};
use eventserver::engine::{Head, ReorderBuffer};
use eventserver::protocol::{Event, EventKind, Line, UserId};

use crate::support::{ArrivalOrder, Prng, line, scaled, sequence};

/// The first sequence, so that all sequences have the same number of digits.
const FIRST: u64 = 1_000_000;

/// The released events. The digest depends on their order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Released {
    events: u64,
    bytes: usize,
    digest: u64,
}

impl Released {
    fn add(&mut self, line: Line<'_>) {
        self.events += 1;
        self.bytes += line.len();
        let last_byte = u64::from(line.as_bytes()[line.len() - 1]);
        self.digest = self.digest.wrapping_mul(31).wrapping_add(last_byte);
    }
}

/// A stream in the order of arrival. The lines follow each other as in a read buffer.
#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    lines: Vec<(Event, Range<u32>)>,
}

/// Passes a stream of a million events to a new buffer per run. In the last two orders all of them
/// wait at once, the largest disorder that a window of a million allows. The time to grow and free
/// the buffer is included.
pub(crate) fn every_disorder(criterion: &mut Criterion) {
    let lines = private_messages(scaled(1_000_000, 20_000));
    let expected = released_in_order(&lines);
    let mut group = criterion.benchmark_group("reorder");
    group.throughput(Throughput::Elements(expected.events)).sample_size(10);
    for (name, arrival) in [
        ("in order", ArrivalOrder::InOrder),
        ("batches of 100", ArrivalOrder::Batches(100)),
        ("batches of 10,000", ArrivalOrder::Batches(10_000)),
        ("reverse", ArrivalOrder::Reverse),
        ("random", ArrivalOrder::Random),
    ] {
        let stream = arriving(&lines, arrival);
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert_eq!(put_in_order(black_box(&stream)), expected));
        });
    }
    group.finish();
}

fn private_messages(count: u64) -> Vec<String> {
    let mut random = Prng::new(2);
    let mut user = || UserId(random.below(1_000_000));
    (FIRST..FIRST + count)
        .map(|sequence| line(sequence, EventKind::PrivateMessage { from: user(), to: user() }))
        .collect()
}

fn released_in_order(lines: &[String]) -> Released {
    let mut released = Released::default();
    lines.iter().for_each(|line| released.add(Line::Slice(line.as_bytes())));
    released
}

fn arriving(lines: &[String], arrival: ArrivalOrder) -> Stream {
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

/// Releases what is due after each inserted line.
fn put_in_order(stream: &Stream) -> Released {
    let mut buffer = ReorderBuffer::new(sequence(FIRST), stream.lines.len() as u32);
    let mut released = Released::default();
    for (event, line) in &stream.lines {
        let rest = &stream.bytes[line.start as usize..];
        buffer.insert(event, Line::prefix_of(rest, line.len()));
        while let Head::Event(_, line) = buffer.head() {
            released.add(line);
            buffer.advance();
        }
    }
    assert_eq!(buffer.len(), 0);
    released
}
