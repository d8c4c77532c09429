//! Servers that keep what they have read in a journal of their own.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::node::Node;
use crate::proxy::Proxy;
use crate::redis::Redis;
use crate::refusals::fails;
use crate::verification::passes_while_each_is_killed;
use crate::{
    are_in_one_state, commit, follows, start_servers, stream_flags, unfollows, wait_until,
};

const EVENTS: u64 = 4_000_000;

/// Starts a server of the stream with a journal in a directory.
#[track_caller]
fn start_with_journal(engine: &str, directory: &Path) -> Node {
    let [stream, create, level] = stream_flags(engine);
    Node::start(&[&stream, &create, &level, "--data-dir", directory.to_str().unwrap()])
}

/// Runs `eventserver journal TOOL DIRECTORY`, which has to succeed. Returns its output.
fn journal_tool(tool: &str, directory: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eventserver"));
    let output = command.args(["journal", tool]).arg(directory).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the position at which the stream ends.
fn end_of(redis: &Redis) -> u64 {
    let words = redis.command("XINFO STREAM events");
    let at = words.iter().position(|word| word == "last-generated-id").unwrap();
    words[at + 1].split('-').next().unwrap().parse().unwrap()
}

#[test]
#[ignore = "needs redis-server"]
fn a_restart_reads_from_the_stream_only_what_is_missing() {
    let redis = Redis::start_durable();
    let folder = TempDir::new().unwrap();
    let mut journaled = start_with_journal(&redis.to_string(), folder.path());
    let other = start_servers(1, &redis.to_string()).pop().unwrap();
    commit(&journaled, &follows(1..200_001), 200_001);
    other.awaits(200_001);
    journaled.kill();
    commit(&other, &follows(200_001..200_101), 200_101);
    redis.command("CONFIG RESETSTAT");
    journaled.restart();
    journaled.logs(&["stream", "sequence 200001 is awaited"]);
    are_in_one_state(&[&journaled, &other]);
    let stats = redis.command("INFO stats").concat();
    let sent = stats.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    let sent: u64 = sent.unwrap().trim().parse().unwrap();
    assert!(sent < 1_000_000, "{sent} bytes were read, though 3 MB are in the journal");
    // It goes on with all others.
    commit(&journaled, &follows(200_101..200_201), 200_201);
    are_in_one_state(&[&journaled, &other]);
}

#[test]
#[ignore = "needs redis-server"]
fn servers_with_journals_that_are_killed_and_come_back() {
    let redis = Redis::start_durable();
    let folders: Vec<TempDir> = (0..3).map(|_| TempDir::new().unwrap()).collect();
    let mut nodes: Vec<Node> = folders
        .iter()
        .map(|folder| start_with_journal(&redis.to_string(), folder.path()))
        .collect();
    passes_while_each_is_killed(&mut nodes, EVENTS, |node, _| {
        let awaited = node.awaited();
        node.kill();
        node.restart();
        assert!(node.awaited() >= awaited, "the journal has forgotten events");
    });
}

#[test]
#[ignore = "needs redis-server"]
fn an_emptied_engine_gets_everything_back_from_a_journal() {
    // More than servers keep in memory to append it again.
    const LINES: u64 = 1_500_000;
    let redis = Redis::start_durable();
    let folder = TempDir::new().unwrap();
    let mut journaled = start_with_journal(&redis.to_string(), folder.path());
    let lines: String =
        (1..=LINES).map(|it| format!("{it}|F|{:0>20}|{:0>20}\n", it % 1000, it % 7)).collect();
    assert!(lines.len() > 64 << 20);
    commit(&journaled, &lines, LINES + 1);
    let hash = journaled.state_hash();
    journaled.kill();
    redis.command("FLUSHALL");
    journaled.restart();
    journaled.logs(&["the journal ends at 1500001", "does not exist any more"]);
    wait_until("the stream is restored", || {
        let exists = redis.command("EXISTS events") == ["1"];
        (exists && end_of(&redis) == LINES + 1).then_some(())
    });
    journaled.is_ready();
    let late = start_servers(1, &redis.to_string()).pop().unwrap();
    assert_eq!((late.awaited(), late.state_hash()), (LINES + 1, hash));
    commit(&late, &follows(LINES + 1..LINES + 101), LINES + 101);
    are_in_one_state(&[&journaled, &late]);
}

#[test]
#[ignore = "needs redis-server"]
fn a_failover_that_lacks_the_tail_gets_it_from_journals_after_all_servers_were_killed() {
    let (primary, replica) = (Redis::start_durable(), Redis::start_durable());
    let engine = Proxy::to(primary.port());
    let folders: Vec<TempDir> = (0..2).map(|_| TempDir::new().unwrap()).collect();
    let mut nodes: Vec<Node> =
        folders.iter().map(|folder| start_with_journal(&engine.url(), folder.path())).collect();
    replica.follow(&primary);
    commit(&nodes[0], &follows(1..1001), 1001);
    wait_until("the replica has the stream", || {
        (replica.entries("events") == primary.entries("events")).then_some(())
    });
    replica.command("REPLICAOF NO ONE");
    commit(&nodes[1], &follows(1001..2001), 2001);
    nodes.iter().for_each(|node| node.awaits(2001));
    let hash = nodes[0].state_hash();
    nodes.iter_mut().for_each(Node::kill);
    assert!(end_of(&replica) < 2001);
    drop(primary);
    engine.lead_to(replica.port());
    nodes.iter_mut().for_each(Node::restart);
    wait_until("the replica has the tail", || (end_of(&replica) == 2001).then_some(()));
    assert_eq!((nodes[0].awaited(), nodes[0].state_hash()), (2001, hash));
    commit(&nodes[1], &follows(2001..3001), 3001);
    are_in_one_state(&nodes.iter().collect::<Vec<_>>());
}

#[test]
#[ignore = "needs redis-server"]
fn a_journal_that_is_too_far_behind_begins_again_at_the_newest_snapshot() {
    let redis = Redis::start_durable();
    let [stream, create, level] = stream_flags(&redis.to_string());
    let folder = TempDir::new().unwrap();
    let mut journaled = start_with_journal(&redis.to_string(), folder.path());
    commit(&journaled, &follows(1..1001), 1001);
    journaled.kill();
    let other = Node::start(&[&stream, &create, &level, "--stream-max-bytes", "1MiB"]);
    commit(&other, &follows(1001..100_001), 100_001);
    other.logs(&["published a snapshot"]);
    commit(&other, &follows(100_001..200_001), 200_001);
    other.logs(&["removed the entries before"]);
    journaled.restart();
    journaled.logs(&["trimmed beyond the end of the journal at sequence 1001"]);
    are_in_one_state(&[&journaled, &other]);
    commit(&journaled, &follows(200_001..200_101), 200_101);
    // What it has now is a journal like any other.
    journaled.kill();
    journaled.restart();
    assert!(journaled.awaited() >= 200_101);
    are_in_one_state(&[&journaled, &other]);
    assert_eq!(journaled.stop(), Some(0));
    let said = journal_tool("verify", folder.path());
    assert!(said.contains("200101"), "{said}");
}

#[test]
#[ignore = "needs redis-server"]
fn a_journal_that_has_diverged_is_not_continued() {
    let mut redis = Redis::start(&["appendonly no"]);
    let folder = TempDir::new().unwrap();
    let data_dir = folder.path().join("journal");
    let mut journaled = start_with_journal(&redis.to_string(), &data_dir);
    commit(&journaled, &follows(1..51), 51);
    redis.command("SAVE");
    commit(&journaled, &follows(51..301), 301);
    journaled.kill();
    redis.kill();
    redis.restart();
    // The stream goes on without what only the journal has.
    let other = start_servers(1, &redis.to_string()).pop().unwrap();
    commit(&other, &unfollows(51..401), 401);
    let [stream, create, _] = stream_flags(&redis.to_string());
    let path = data_dir.to_str().unwrap();
    let (status, log) = fails(&[&stream, &create, "--data-dir", path]);
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("diverged") && log.contains("301") && log.contains(path), "{log}");
    // As it says, moving the directory away helps, and nothing in it is lost.
    let away = folder.path().join("away");
    fs::rename(&data_dir, &away).unwrap();
    journaled.restart();
    are_in_one_state(&[&journaled, &other]);
    assert_eq!(journal_tool("dump", &away), follows(1..301));
}

#[test]
#[ignore = "needs redis-server"]
fn a_journal_of_something_else_is_refused() {
    let redis = Redis::start_durable();
    let [stream, create, _] = stream_flags(&redis.to_string());
    let folder = TempDir::new().unwrap();
    let data_dir = folder.path().join("of-stream");
    let path = data_dir.to_str().unwrap();
    let mut journaled = start_with_journal(&redis.to_string(), &data_dir);
    commit(&journaled, &follows(1..51), 51);
    assert_eq!(journaled.stop(), Some(0));
    // Another stream in the same engine, which is longer and shorter.
    for events in [11, 101] {
        redis.command("DEL other");
        let other = format!("--stream={redis}/0?stream=other");
        let node = Node::start(&[&other, &create]);
        commit(&node, &follows(1..events), events);
        let (status, log) = fails(&[&other, "--data-dir", path]);
        assert_eq!(status, Some(1), "{log}");
        assert!(log.contains("another stream") && log.contains(path), "{log}");
    }
    // No stream.
    let (status, log) = fails(&["--data-dir", path]);
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("--stream") && log.contains(path), "{log}");
    // A journal of a server alone.
    let alone = folder.path().join("alone");
    let alone = alone.to_str().unwrap();
    let mut node = Node::start(&["--data-dir", alone]);
    commit(&node, &follows(1..51), 51);
    assert_eq!(node.stop(), Some(0));
    let (status, log) = fails(&[&stream, "--data-dir", alone]);
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("without --stream") && log.contains(alone), "{log}");
    // None of these attempts has changed anything.
    journaled.restart();
    assert_eq!(journaled.awaited(), 51);
}
