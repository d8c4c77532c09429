//! Engines that fail over to a replica, and histories that part.

use rustix::process::Signal;

use crate::proxy::Proxy;
use crate::redis::Redis;
use crate::{are_in_one_state, commit, follows, send, start_servers, unfollows};

#[test]
#[ignore = "needs redis-server"]
fn a_replica_that_lacks_the_tail_gets_it_from_the_servers() {
    let (primary, replica) = (Redis::start_durable(), Redis::start_durable());
    let engine = Proxy::to(primary.port());
    let mut nodes = start_servers(3, &engine.url());
    replica.follow(&primary);
    commit(&nodes[0], &follows(1..1001), 1001);
    crate::wait_until("the replica has the stream", || {
        (replica.entries("events") == primary.entries("events")).then_some(())
    });
    replica.command("REPLICAOF NO ONE");
    commit(&nodes[1], &follows(1001..2001), 2001);
    nodes.iter().for_each(|node| node.awaits(2001));
    let lost = primary.entries("events") - replica.entries("events");
    assert!(lost > 0);
    drop(primary);
    engine.lead_to(replica.port());
    // Without anything new.
    crate::wait_until("the replica has the tail", || {
        let late = replica.command("XINFO STREAM events").join(" ");
        late.contains("last-generated-id 2001-").then_some(())
    });
    nodes.extend(start_servers(1, &engine.url()));
    assert_eq!(nodes[3].awaited(), 2001);
    commit(&nodes[2], &follows(2001..3001), 3001);
    are_in_one_state(&nodes.iter().collect::<Vec<_>>());
}

#[test]
#[ignore = "needs redis-server"]
fn a_stream_that_goes_on_differently_is_said_to_have_diverged() {
    let mut redis = Redis::start(&["appendonly no"]);
    let mut nodes = start_servers(2, &redis.to_string());
    commit(&nodes[0], &follows(1..51), 51);
    nodes[1].awaits(51);
    redis.command("SAVE");
    commit(&nodes[0], &follows(51..301), 301);
    nodes[1].awaits(301);
    // The one that remembers sleeps while the other one, which does not, goes on.
    nodes[1].suspend();
    nodes[0].kill();
    redis.kill();
    redis.restart();
    nodes[0].restart();
    assert_eq!(nodes[0].awaited(), 51);
    commit(&nodes[0], &unfollows(51..401), 401);
    nodes[1].signal(Signal::CONT);
    nodes[1].is_unready_because_of("diverged");
    nodes[1].logs(&["diverged"]);
    // It applies nothing of the other history, and takes no sources' lines.
    let source = send(&nodes[1], &follows(301..501));
    commit(&nodes[0], &unfollows(401..451), 451);
    nodes[1].is_unready_because_of("diverged");
    assert_eq!(nodes[1].awaited(), 301);
    drop(source);
    // A restart follows the stream as it is.
    nodes[1].kill();
    nodes[1].restart();
    are_in_one_state(&nodes.iter().collect::<Vec<_>>());
}
