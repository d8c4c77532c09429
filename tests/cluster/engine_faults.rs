//! An engine that is killed, suspended, or refuses.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::node::Node;
use crate::redis::Redis;
use crate::verification::Verification;
use crate::{are_in_one_state, commit, follows, send, start_servers};

const EVENTS: u64 = 4_000_000;

#[test]
#[ignore = "needs redis-server"]
fn an_engine_with_an_append_only_file_that_is_killed() {
    for sync in ["always", "everysec"] {
        let mut redis = Redis::start(&["appendonly yes", &format!("appendfsync {sync}")]);
        let nodes = start_servers(3, &redis.to_string());
        let nodes: Vec<&Node> = nodes.iter().collect();
        let mut verification = Verification::start(&nodes, EVENTS);
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(300));
            assert!(verification.is_running());
            redis.kill();
            thread::sleep(Duration::from_millis(200));
            redis.restart();
        }
        verification.passes();
        are_in_one_state(&nodes);
    }
}

#[test]
#[ignore = "needs redis-server"]
fn an_engine_without_an_append_only_file_gets_its_tail_from_a_server_that_has_it() {
    let mut redis = Redis::start(&["appendonly no"]);
    let nodes = start_servers(3, &redis.to_string());
    let nodes: Vec<&Node> = nodes.iter().collect();
    let mut verification = Verification::start(&nodes, EVENTS);
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(200));
        redis.command("SAVE");
        thread::sleep(Duration::from_millis(200));
        assert!(verification.is_running());
        redis.kill();
        redis.restart();
    }
    verification.passes();
    are_in_one_state(&nodes);
    // And the engine has all of it.
    let awaited = nodes[0].awaited();
    let late = start_servers(1, &redis.to_string());
    assert_eq!(late[0].awaited(), awaited);
    are_in_one_state(&[nodes[0], &late[0]]);
}

#[test]
#[ignore = "needs redis-server"]
fn an_engine_that_is_suspended_for_seconds() {
    let redis = Redis::start_durable();
    let nodes = start_servers(3, &redis.to_string());
    let nodes: Vec<&Node> = nodes.iter().collect();
    let mut verification = Verification::start(&nodes, EVENTS);
    for seconds in [1, 5] {
        thread::sleep(Duration::from_millis(300));
        assert!(verification.is_running());
        redis.signal(Signal::STOP);
        thread::sleep(Duration::from_secs(seconds));
        redis.signal(Signal::CONT);
    }
    verification.passes();
    are_in_one_state(&nodes);
}

/// Nothing is lost while an engine refuses, and all goes on when it does not any more.
#[track_caller]
fn pauses_and_goes_on(redis: &Redis, refuse: &str, accept: &str, reason: &str) {
    let nodes = start_servers(2, &redis.to_string());
    commit(&nodes[0], &follows(1..101), 101);
    redis.command(refuse);
    let source = send(&nodes[0], &follows(101..201));
    nodes[0].is_unready_because_of(reason);
    assert_eq!(nodes[0].awaited(), 101);
    redis.command(accept);
    nodes[0].awaits(201);
    nodes[0].is_ready();
    drop(source);
    are_in_one_state(&nodes.iter().collect::<Vec<_>>());
    commit(&nodes[1], &follows(201..301), 301);
}

#[test]
#[ignore = "needs redis-server"]
fn an_engine_without_enough_replicas() {
    let redis = Redis::start_durable();
    pauses_and_goes_on(
        &redis,
        "CONFIG SET min-replicas-to-write 1",
        "CONFIG SET min-replicas-to-write 0",
        "NOREPLICAS",
    );
}

#[test]
#[ignore = "needs redis-server"]
fn an_engine_without_memory() {
    let redis = Redis::start_durable();
    pauses_and_goes_on(&redis, "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OOM");
}

#[test]
#[ignore = "needs redis-server"]
fn an_engine_that_is_a_replica() {
    let redis = Redis::start_durable();
    // Of nobody: it keeps what it has.
    pauses_and_goes_on(&redis, "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "read only replica");
}

#[test]
#[ignore = "needs redis-server"]
fn clients_stay_connected_while_the_engine_is_gone() {
    let mut redis = Redis::start_durable();
    let nodes = start_servers(1, &redis.to_string());
    let client = std::net::TcpStream::connect(nodes[0].client_address).unwrap();
    let mut client = crate::support::Client::from(client);
    client.sends("1\n");
    commit(&nodes[0], &follows(1..2), 2);
    client.receives(&["1|F|1|1"]);
    redis.kill();
    let source = send(&nodes[0], "2|B\n");
    nodes[0].is_unready_because_of("stream unreachable");
    redis.restart();
    client.receives(&["2|B"]);
    nodes[0].is_ready();
    drop(source);
}
