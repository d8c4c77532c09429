//! Reading lines as events, every byte of them checked.

use std::hint::black_box;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use eventserver::protocol::{Event, EventKind, Line, UserId};

use crate::lines;
use crate::support::{Random, captured_bytes, line, size};

/// One type's lines after another: what a branch that is always foreseen costs.
pub(crate) fn each_type(criterion: &mut Criterion) {
    let mut random = Random::new(1);
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
        let lines: Vec<Line<'_>> = lines(stream.as_bytes()).collect();
        assert!(lines.iter().all(|&line| parse(line).kind == kind));
        measure(&mut group, name, &lines);
    }
    group.finish();
}

/// The types as the verification program mixes them: no branch can be foreseen.
pub(crate) fn verification_mix(criterion: &mut Criterion) {
    let captured = captured_bytes();
    let lines: Vec<Line<'_>> = lines(&captured).take(size(usize::MAX, 1_000)).collect();
    let mut group = criterion.benchmark_group("parse");
    measure(&mut group, "verification mix", &lines);
    group.finish();
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, lines: &[Line<'_>]) {
    let expected: u64 = lines.iter().map(|&line| leading_number(line)).sum();
    group.throughput(Throughput::Elements(lines.len() as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let sequences = lines.iter().map(|&line| parse(line).sequence.get());
            assert_eq!(sequences.sum::<u64>(), expected);
        });
    });
}

/// An event of which the compiler cannot leave out what is not asked for.
fn parse(line: Line<'_>) -> Event {
    black_box(Event::parse(black_box(line)).unwrap())
}

fn leading_number(line: Line<'_>) -> u64 {
    let text = std::str::from_utf8(line.as_bytes()).unwrap();
    text.split('|').next().unwrap().parse().unwrap()
}
