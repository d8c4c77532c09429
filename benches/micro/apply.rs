//! The cost of applying an event, by type: finding its recipients, and updating the graph.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use eventserver::engine::{Engine, InsertOutcome, Progress};
use eventserver::protocol::{Event, EventKind, Line, PADDED_LINE_BYTES, UserId};

use crate::support::{CONNECTED, CountingSink, Prng, line, scaled, sequence};

/// Events per run, enough to make the check after them negligible.
const EVENTS: u64 = 1_000;

/// Number of a user's connected followers.
const CONNECTED_FOLLOWERS: u64 = 10;

/// A user whose followers are all connected.
const KNOWN: UserId = UserId(1_000_000_000);

/// A user with the same followers, and a million that are not connected.
const CELEBRITY: UserId = UserId(1_000_000_001);

/// The first user that is not connected.
const ELSEWHERE: u64 = 1_000;

/// Events with their lines that leave the graph unchanged.
struct Batch {
    events: Vec<(EventKind, BufferedLine)>,
    deliveries: u64,
}

/// A line followed by others, as in a read buffer.
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

/// Applies a thousand events of one type per run, in order. The status updates of a celebrity must
/// cost about as much as those of a user without idle followers.
pub(crate) fn each_type(criterion: &mut Criterion) {
    let idle_followers = scaled(1_000_000, 10_000) - CONNECTED_FOLLOWERS;
    let (mut engine, mut sink) = server_with(idle_followers);
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(EVENTS));
    for (name, batch) in [
        ("follow, unfollow", follows_and_unfollows()),
        ("broadcast", repeated(EventKind::Broadcast, CONNECTED)),
        ("private", private_messages()),
        ("status, 10 of 10 followers connected", status_updates(KNOWN)),
        ("status, 10 of 1,000,000 followers connected", status_updates(CELEBRITY)),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let before = sink.deliveries();
                apply(&mut engine, &mut sink, black_box(&batch.events));
                assert_eq!(sink.deliveries() - before, batch.deliveries);
            });
        });
    }
    group.finish();
}

/// Creates an engine with users 0 to 99 connected, the first ten of which follow two others.
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

/// Creates follows of connected users by idle ones, each with a delivery, and unfollows without
/// any.
fn follows_and_unfollows() -> Batch {
    let mut random = Prng::new(3);
    let pairs: Vec<(UserId, UserId)> = (ELSEWHERE..ELSEWHERE + EVENTS / 2)
        .map(|follower| (UserId(follower), UserId(random.below(CONNECTED))))
        .collect();
    let follows =
        pairs.iter().map(|&(follower, followed)| EventKind::Follow { follower, followed });
    let unfollows =
        pairs.iter().map(|&(follower, followed)| EventKind::Unfollow { follower, followed });
    Batch { events: with_lines(follows.chain(unfollows)), deliveries: EVENTS / 2 }
}

fn private_messages() -> Batch {
    let mut random = Prng::new(3);
    let mut user = || UserId(random.below(CONNECTED));
    let kinds = (0..EVENTS).map(|_| EventKind::PrivateMessage { from: user(), to: user() });
    Batch { events: with_lines(kinds), deliveries: EVENTS }
}

fn status_updates(from: UserId) -> Batch {
    repeated(EventKind::StatusUpdate { from }, CONNECTED_FOLLOWERS)
}

fn repeated(kind: EventKind, deliveries_each: u64) -> Batch {
    let events = with_lines((0..EVENTS).map(|_| kind));
    Batch { events, deliveries: EVENTS * deliveries_each }
}

fn with_lines(kinds: impl Iterator<Item = EventKind>) -> Vec<(EventKind, BufferedLine)> {
    (1_000_000..)
        .zip(kinds)
        .map(|(sequence, kind)| (kind, BufferedLine::new(sequence, kind)))
        .collect()
}
