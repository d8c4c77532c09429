//! Servers that are killed, suspended, or late.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::node::Node;
use crate::redis::Redis;
use crate::verification::Verification;
use crate::{are_in_one_state, commit, follows, start_servers, stream_flags};

/// Events of a verification with faults: several seconds.
const EVENTS: u64 = 4_000_000;

#[test]
#[ignore = "needs redis-server"]
fn three_servers_serve_one_stream() {
    let redis = Redis::start_durable();
    let nodes = start_servers(3, &redis.to_string());
    let nodes: Vec<&Node> = nodes.iter().collect();
    Verification::start(&nodes, 500_000).passes();
    are_in_one_state(&nodes);
}

#[test]
#[ignore = "needs redis-server"]
fn sources_at_several_servers_share_the_sequence() {
    let redis = Redis::start_durable();
    let nodes = start_servers(3, &redis.to_string());
    let mut loadgen = std::process::Command::new(env!("CARGO_BIN_EXE_loadgen"));
    loadgen.args(["soak", "--seconds", "5", "--every", "1", "--sources", "6", "--visits", "50"]);
    nodes.iter().for_each(|node| {
        loadgen.args(["--target", &node.target()]);
    });
    let output = loadgen.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("ALL AS EXPECTED"), "{said}");
}

#[test]
#[ignore = "needs redis-server"]
fn servers_that_are_killed_and_come_back() {
    let redis = Redis::start_durable();
    let mut nodes = start_servers(3, &redis.to_string());
    let mut verification = Verification::start(&nodes.iter().collect::<Vec<_>>(), EVENTS);
    let mut kills = 0;
    while verification.is_running() {
        thread::sleep(Duration::from_millis(300));
        let node = &mut nodes[kills % 3];
        node.kill();
        // Its clients go to another server, or wait for it.
        thread::sleep(Duration::from_millis(if kills.is_multiple_of(2) { 0 } else { 100 }));
        node.restart();
        kills += 1;
    }
    verification.passes();
    assert!(kills >= 3, "only {kills} kills");
    are_in_one_state(&nodes.iter().collect::<Vec<_>>());
}

#[test]
#[ignore = "needs redis-server"]
fn servers_that_are_suspended_for_seconds() {
    let redis = Redis::start_durable();
    let nodes = start_servers(3, &redis.to_string());
    let nodes: Vec<&Node> = nodes.iter().collect();
    let mut verification = Verification::start(&nodes, EVENTS);
    for node in &nodes {
        thread::sleep(Duration::from_millis(200));
        assert!(verification.is_running());
        node.suspend();
        thread::sleep(Duration::from_secs(2));
        node.signal(Signal::CONT);
    }
    verification.passes();
    are_in_one_state(&nodes);
}

#[test]
#[ignore = "needs redis-server"]
fn a_server_that_comes_late_reads_on_from_the_newest_snapshot() {
    let redis = Redis::start_durable();
    let [stream, create, level] = stream_flags(&redis.to_string());
    let flags = [&*stream, &*create, &*level, "--stream-max-bytes", "1MiB"];
    let mut nodes = vec![Node::start(&flags), Node::start(&flags)];
    // What was before the last snapshot is removed with the next one. Sizes are looked at once a second.
    let is_logged = |nodes: &[Node], text: &str| {
        crate::wait_until(text, || {
            nodes.iter().any(|node| node.log().contains(text)).then_some(())
        });
    };
    commit(&nodes[0], &follows(1..100_001), 100_001);
    is_logged(&nodes, "published a snapshot");
    commit(&nodes[1], &follows(100_001..200_001), 200_001);
    is_logged(&nodes, "removed the entries before");
    nodes.push(Node::start(&[&stream, &level]));
    nodes[2].logs(&["loaded the snapshot at sequence"]);
    are_in_one_state(&nodes.iter().collect::<Vec<_>>());
    // It goes on with all others.
    let next = nodes[2].awaited();
    commit(&nodes[2], &follows(next..next + 100), next + 100);
    are_in_one_state(&nodes.iter().collect::<Vec<_>>());
}

#[test]
#[ignore = "needs redis-server"]
fn a_server_that_stops_has_committed_what_it_has_read() {
    let redis = Redis::start_durable();
    let mut nodes = start_servers(2, &redis.to_string());
    commit(&nodes[0], &follows(1..1001), 1001);
    assert_eq!(nodes[0].stop(), Some(0));
    nodes[1].awaits(1001);
    nodes[0].restart();
    are_in_one_state(&nodes.iter().collect::<Vec<_>>());
}
