//! Decoding a stream into events.

use std::hint::black_box;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use eventserver::protocol::{Decoded, EventDecoder, EventKind, UserId};

use crate::lines;
use crate::support::{Prng, captured_bytes, fill, line, scaled};

/// Measures the lines of one type at a time, with well-predicted branches.
pub(crate) fn each_type(criterion: &mut Criterion) {
    let mut random = Prng::new(1);
    let mut user = || UserId(random.below(1_000_000));
    let (a, b) = (user(), user());
    let mut group = criterion.benchmark_group("parse");
    for (name, kind) in [
        ("follow", EventKind::Follow { follower: a, followed: b }),
        ("unfollow", EventKind::Unfollow { follower: a, followed: b }),
        ("broadcast", EventKind::Broadcast),
        ("private", EventKind::PrivateMessage { from: a, to: b }),
        ("status", EventKind::StatusUpdate { from: a }),
    ] {
        let stream: String = (1_000_000..).take(1_000).map(|at| line(at, kind) + "\n").collect();
        measure(&mut group, name, stream.as_bytes());
    }
    // IDs of more than eight digits make the lines too long for the fast path.
    let (a, b) = (UserId(u64::MAX), UserId(u64::MAX - 1));
    let long = EventKind::PrivateMessage { from: a, to: b };
    let stream: String = (1_000_000..).take(1_000).map(|at| line(at, long) + "\n").collect();
    measure(&mut group, "private, long ids", stream.as_bytes());
    group.finish();
}

/// Measures the types as the verification program mixes them, with unpredictable branches.
pub(crate) fn verification_mix(criterion: &mut Criterion) {
    let captured = captured_bytes();
    let count = scaled(usize::MAX, 1_000);
    let end = lines(&captured).take(count).map(|line| line.len() + 1).sum();
    let mut group = criterion.benchmark_group("parse");
    measure(&mut group, "verification mix", &captured[..end]);
    group.finish();
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, stream: &[u8]) {
    let text = std::str::from_utf8(stream).unwrap();
    let sequences = text.lines().map(|line| line.split('|').next().unwrap().parse::<u64>());
    let expected: u64 = sequences.map(Result::unwrap).sum();
    group.throughput(Throughput::Elements(text.lines().count() as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| assert_eq!(sum_of_sequences(black_box(stream)), expected));
    });
}

/// Decodes every event so that the compiler cannot remove any.
fn sum_of_sequences(stream: &[u8]) -> u64 {
    let mut decoder = EventDecoder::new(256);
    fill(decoder.buffer_mut(), stream);
    let mut sum = 0;
    while let Some(received) = decoder.next_event() {
        let Decoded::Event(event, _) = black_box(received) else { panic!("a line is malformed") };
        sum += event.sequence.get();
    }
    sum
}
