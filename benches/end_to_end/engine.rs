//! The engine from bytes to deliveries, without send queues.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use eventserver::engine::{Engine, Progress};
use eventserver::protocol::{Decoded, EventDecoder, UserId};

use crate::captured::CapturedStream;
use crate::support::{ArrivalOrder, CONNECTED, CountingSink, fill, scaled, sequence};
use crate::workload::Workload;

/// Bytes per read, about what the server reads.
const READ_BYTES: usize = 1 << 20;

/// Lines that the server inserts before it applies what is due.
const FAST_BATCH_LINES: usize = 128;

/// The verification program's stream: split, parsed, ordered and routed to its 100 clients.
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

/// A million events of an even mix, all but the first waiting at once, compared with the same
/// events in order: the cost of the largest disorder that a window of a million allows.
pub(crate) fn full_disorder(criterion: &mut Criterion) {
    let events = scaled(1_000_000, 20_000);
    let workload = Workload::even_mix(events);
    let clients: Vec<u64> = (0..CONNECTED).collect();
    let mut group = criterion.benchmark_group("engine, even mix");
    group.throughput(Throughput::Elements(events)).sample_size(10);
    for (name, arrival) in [
        ("in order", ArrivalOrder::InOrder),
        ("batches of 100", ArrivalOrder::Batches(100)),
        ("reverse", ArrivalOrder::Reverse),
        ("random", ArrivalOrder::Random),
    ] {
        let bytes = workload.arriving(arrival);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let sink = run(black_box(&bytes), events, &clients);
                assert_eq!(sink.deliveries(), workload.deliveries);
            });
        });
    }
    group.finish();
}

/// Passes the whole stream to a new engine with a window that holds all of it.
fn run(bytes: &[u8], events: u64, clients: &[u64]) -> CountingSink {
    let mut engine = Engine::new(sequence(1), events as u32);
    let mut sink = CountingSink::new(clients.len());
    for &user in clients {
        engine.register(UserId(user));
    }
    let mut decoder = EventDecoder::new(256);
    for piece in bytes.chunks(READ_BYTES) {
        fill(decoder.buffer_mut(), piece);
        apply(&mut decoder, &mut engine, &mut sink);
    }
    assert_eq!(engine.counters().applied(), events);
    sink
}

/// Inserts typical lines in batches, as the server does.
fn apply(decoder: &mut EventDecoder, engine: &mut Engine, sink: &mut CountingSink) {
    loop {
        decoder.decode_fast(FAST_BATCH_LINES, |event, line| engine.try_insert_fast(event, line));
        while engine.apply_next(sink) == Progress::Applied {}
        match decoder.next_event() {
            None => return,
            Some(Decoded::Event(event, line)) => engine.insert(&event, line),
            Some(Decoded::Malformed(..)) => panic!("a line is malformed"),
        };
    }
}
