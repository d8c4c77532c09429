//! Bytes in, deliveries out, without a queue for anybody.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use eventserver::engine::{Engine, Progress};
use eventserver::protocol::{Decoded, EventDecoder, UserId};

use crate::captured::CapturedStream;
use crate::load::Load;
use crate::support::{Arrival, CONNECTED, CountingSink, fill, sequence, size};

/// Read of the source at a time, which is about what the server reads.
const READ_BYTES: usize = 1 << 20;

/// What the server takes before it applies what has become due.
const FAST_BATCH_LINES: usize = 128;

/// The verification program's stream: split, parsed, put in order and routed to its 100 clients.
pub(crate) fn captured_stream(criterion: &mut Criterion) {
    let CapturedStream { bytes, expected } = CapturedStream::open();
    let clients: Vec<u64> = expected.iter().map(|each| each.user).collect();
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(CapturedStream::EVENTS));
    group.bench_function("captured stream", |bencher| {
        bencher.iter(|| {
            let sink = run(black_box(&bytes), CapturedStream::EVENTS, &clients);
            for (recipient, expected) in expected.iter().enumerate() {
                assert_eq!(sink.received(recipient), expected.events, "user {}", expected.user);
            }
        });
    });
    group.finish();
}

/// A million events of an even mix, of which all but the first wait at once, against the same in
/// order: what the whole engine loses to the largest disorder that a window of a million allows.
pub(crate) fn full_disorder(criterion: &mut Criterion) {
    let events = size(1_000_000, 20_000);
    let load = Load::even_mix(events);
    let clients: Vec<u64> = (0..CONNECTED).collect();
    let mut group = criterion.benchmark_group("engine, even mix");
    group.throughput(Throughput::Elements(events)).sample_size(10);
    for (name, arrival) in [
        ("in order", Arrival::InOrder),
        ("batches of 100", Arrival::Batches(100)),
        ("reverse", Arrival::Reverse),
        ("random", Arrival::Random),
    ] {
        let bytes = load.arriving(arrival);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let sink = run(black_box(&bytes), events, &clients);
                assert_eq!(sink.deliveries(), load.deliveries);
            });
        });
    }
    group.finish();
}

/// A new engine takes the whole stream, with a window that holds all of it.
fn run(bytes: &[u8], events: u64, clients: &[u64]) -> CountingSink {
    let mut engine = Engine::new(sequence(1), events as u32);
    let mut sink = CountingSink::new(clients.len());
    for &user in clients {
        engine.register(UserId(user));
    }
    let mut reader = EventDecoder::new(256);
    for piece in bytes.chunks(READ_BYTES) {
        fill(&mut reader.lines, piece);
        apply(&mut reader, &mut engine, &mut sink);
    }
    assert_eq!(engine.counters().applied(), events);
    sink
}

/// The way of the server: usual lines by the dozen.
fn apply(reader: &mut EventDecoder, engine: &mut Engine, sink: &mut CountingSink) {
    loop {
        reader.decode_fast(FAST_BATCH_LINES, |event, line| engine.try_insert_fast(event, line));
        while engine.apply_next(sink) == Progress::Applied {}
        match reader.next_event() {
            None => return,
            Some(Decoded::Event(event, line)) => engine.insert(&event, line),
            Some(Decoded::Malformed(..)) => panic!("a line is malformed"),
        };
    }
}
