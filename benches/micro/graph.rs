//! Follow and unfollow in a large graph, and at one user with very many edges.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use eventserver::engine::{FollowerGraph, Recipient, Registration};
use eventserver::protocol::UserId;

use crate::support::{Prng, scaled};

/// A user with as many followers, or followed users, as the graph has users.
const CELEBRITY: UserId = UserId(u64::MAX);

/// Users that follow and unfollow the celebrity in each run.
const CHURN_USERS: u64 = 1_000;

/// Builds and empties a graph of random pairs with ten follows per user. It has a tenth of the
/// supported size, yet far exceeds the caches; `tests/engine_memory.rs` measures its memory.
pub(crate) fn random_follows(criterion: &mut Criterion) {
    let users = scaled(100_000, 1_000);
    let pairs = random_pairs(users, 10 * users);
    let mut group = criterion.benchmark_group("graph");
    group.throughput(Throughput::Elements(pairs.len() as u64)).sample_size(10);
    group.bench_function("follow", |bencher| {
        bencher.iter_with_large_drop(|| {
            let graph = graph_of(black_box(&pairs));
            assert!(graph.users() as u64 > users * 99 / 100);
            graph
        });
    });
    group.bench_function("unfollow", |bencher| {
        let unfollow_all = |mut graph: FollowerGraph| {
            for &(follower, followed) in &pairs {
                graph.unfollow(follower, followed);
            }
            assert_eq!(graph.users(), 0);
            graph
        };
        bencher.iter_batched(|| graph_of(&pairs), unfollow_all, BatchSize::PerIteration);
    });
    group.finish();
}

/// Measures edges of a celebrity, which must cost as much as any other on either end, and its
/// registration, which costs in proportion to its edges.
pub(crate) fn at_a_celebrity(criterion: &mut Criterion) {
    let edges = scaled(1_000_000, 10_000);
    let idle_users = (CHURN_USERS..CHURN_USERS + edges).map(UserId);
    let mut group = criterion.benchmark_group("graph at a celebrity");
    group.throughput(Throughput::Elements(2 * CHURN_USERS));

    let mut graph = graph_of(&idle_users.clone().map(|user| (user, CELEBRITY)).collect::<Vec<_>>());
    for user in churn_users() {
        graph.register(user);
    }
    group.bench_function("followed by 1,000,000", |bencher| {
        bencher.iter(|| {
            churn_users().for_each(|user| graph.follow(user, CELEBRITY));
            assert_eq!(graph.indexed_followers(CELEBRITY).len() as u64, CHURN_USERS);
            churn_users().for_each(|user| graph.unfollow(user, CELEBRITY));
            assert!(graph.indexed_followers(CELEBRITY).is_empty());
        });
    });

    let mut graph = graph_of(&idle_users.map(|user| (CELEBRITY, user)).collect::<Vec<_>>());
    let Registration { recipient: Recipient(celebrity), .. } = graph.register(CELEBRITY);
    graph.index_some(usize::MAX);
    group.bench_function("following 1,000,000", |bencher| {
        bencher.iter(|| {
            churn_users().for_each(|user| graph.follow(CELEBRITY, user));
            assert!(churn_users().all(|user| graph.indexed_followers(user) == [celebrity]));
            churn_users().for_each(|user| graph.unfollow(CELEBRITY, user));
            assert_eq!(graph.users() as u64, edges + 1);
        });
    });
    let followed = UserId(CHURN_USERS);
    group.throughput(Throughput::Elements(2 * edges));
    group.bench_function("coming and going, following 1,000,000", |bencher| {
        bencher.iter(|| {
            graph.unregister(CELEBRITY);
            graph.index_some(usize::MAX);
            assert!(graph.indexed_followers(followed).is_empty());
            let Registration { recipient: Recipient(celebrity), .. } = graph.register(CELEBRITY);
            graph.index_some(usize::MAX);
            assert_eq!(graph.indexed_followers(followed), [celebrity]);
        });
    });
    group.finish();
}

fn churn_users() -> impl Iterator<Item = UserId> {
    (0..CHURN_USERS).map(|user| black_box(UserId(user)))
}

fn random_pairs(users: u64, count: u64) -> Vec<(UserId, UserId)> {
    let mut random = Prng::new(5);
    let mut user = || UserId(random.below(users));
    (0..count).map(|_| (user(), user())).collect()
}

fn graph_of(pairs: &[(UserId, UserId)]) -> FollowerGraph {
    let mut graph = FollowerGraph::new();
    for &(follower, followed) in pairs {
        graph.follow(follower, followed);
    }
    graph
}
