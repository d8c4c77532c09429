//! What an event costs once its turn has come, by type: who is concerned, and what it changes.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use eventserver::engine::{Engine, InsertOutcome, Progress};
use eventserver::protocol::{Event, EventKind, Line, PADDED_LINE_BYTES, UserId};

use crate::support::{CONNECTED, CountingSink, Random, line, sequence, size};

/// Events a run, enough that the check behind them does not count.
const EVENTS: u64 = 1_000;

/// How many of a user's followers are connected.
const CONNECTED_FOLLOWERS: u64 = 10;

/// Everybody who follows `KNOWN` is connected.
const KNOWN: UserId = UserId(1_000_000_000);

/// Followed by the same users, and by a million who are not connected.
const CELEBRITY: UserId = UserId(1_000_000_001);

/// Where users start who are not connected.
const ELSEWHERE: u64 = 1_000;

/// Events, each with its line, that leave the graph as they found it.
struct Load {
    events: Vec<(EventKind, BufferedLine)>,
    deliveries: u64,
}

/// A line as it stands in a read buffer: in front of those behind it.
struct BufferedLine {
    bytes: Vec<u8>,
    len: usize,
}

impl BufferedLine {
    fn new(sequence: u64, kind: EventKind) -> BufferedLine {
        let mut bytes = line(sequence, kind).into_bytes();
        let len = bytes.len();
        bytes.resize(len + PADDED_LINE_BYTES, b'\n');
        BufferedLine { bytes, len }
    }

    fn as_line(&self) -> Line<'_> {
        Line::prefix_of(&self.bytes, self.len)
    }
}

/// Each run applies a thousand events of one type, which come in order. The status updates of a
/// celebrity are to cost about as much as those of a user without idle followers.
pub(crate) fn each_type(criterion: &mut Criterion) {
    let idle_followers = size(1_000_000, 10_000) - CONNECTED_FOLLOWERS;
    let (mut engine, mut sink) = server_with(idle_followers);
    let mut group = criterion.benchmark_group("route");
    group.throughput(Throughput::Elements(EVENTS));
    for (name, load) in [
        ("follow, unfollow", follows_and_unfollows()),
        ("broadcast", repeated(EventKind::Broadcast, CONNECTED)),
        ("private", private_messages()),
        ("status, 10 of 10 followers connected", status_updates(KNOWN)),
        ("status, 10 of 1,000,000 followers connected", status_updates(CELEBRITY)),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let before = sink.deliveries();
                apply(&mut engine, &mut sink, black_box(&load.events));
                assert_eq!(sink.deliveries() - before, load.deliveries);
            });
        });
    }
    group.finish();
}

/// Users 0 to 99 are connected, the first ten of them follow two others.
fn server_with(idle_followers: u64) -> (Engine, CountingSink) {
    let mut engine = Engine::new(sequence(1), 1);
    let mut sink = CountingSink::new(CONNECTED as usize);
    for user in 0..CONNECTED {
        engine.register(UserId(user));
    }
    let connected = || (0..CONNECTED_FOLLOWERS).map(UserId);
    let idle = (ELSEWHERE..).take(idle_followers as usize).map(UserId);
    let follows = connected()
        .map(|follower| (follower, KNOWN))
        .chain(connected().chain(idle).map(|follower| (follower, CELEBRITY)))
        .map(|(follower, followed)| EventKind::Follow { follower, followed });
    apply(&mut engine, &mut sink, &with_lines(follows));
    assert_eq!(engine.graph().indexed_followers(CELEBRITY).len() as u64, CONNECTED_FOLLOWERS);
    (engine, sink)
}

fn apply(engine: &mut Engine, sink: &mut CountingSink, events: &[(EventKind, BufferedLine)]) {
    for (kind, line) in events {
        let event = Event { sequence: sequence(engine.awaited()), kind: *kind };
        assert_eq!(engine.insert(&event, line.as_line()), InsertOutcome::Buffered);
        assert_eq!(engine.apply_next(sink), Progress::Applied);
    }
}

/// Idle users follow connected ones, who are told, and then no more, of which nobody is told.
fn follows_and_unfollows() -> Load {
    let mut random = Random::new(3);
    let pairs: Vec<(UserId, UserId)> = (ELSEWHERE..ELSEWHERE + EVENTS / 2)
        .map(|follower| (UserId(follower), UserId(random.below(CONNECTED))))
        .collect();
    let follows =
        pairs.iter().map(|&(follower, followed)| EventKind::Follow { follower, followed });
    let unfollows =
        pairs.iter().map(|&(follower, followed)| EventKind::Unfollow { follower, followed });
    Load { events: with_lines(follows.chain(unfollows)), deliveries: EVENTS / 2 }
}

fn private_messages() -> Load {
    let mut random = Random::new(3);
    let mut user = || UserId(random.below(CONNECTED));
    let kinds = (0..EVENTS).map(|_| EventKind::PrivateMessage { from: user(), to: user() });
    Load { events: with_lines(kinds), deliveries: EVENTS }
}

fn status_updates(from: UserId) -> Load {
    repeated(EventKind::StatusUpdate { from }, CONNECTED_FOLLOWERS)
}

fn repeated(kind: EventKind, deliveries_each: u64) -> Load {
    let events = with_lines((0..EVENTS).map(|_| kind));
    Load { events, deliveries: EVENTS * deliveries_each }
}

fn with_lines(kinds: impl Iterator<Item = EventKind>) -> Vec<(EventKind, BufferedLine)> {
    (1_000_000..)
        .zip(kinds)
        .map(|(sequence, kind)| (kind, BufferedLine::new(sequence, kind)))
        .collect()
}
