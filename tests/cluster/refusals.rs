//! Streams that cannot be used, and what must not be said.

use std::process::Command;

use crate::node::Node;
use crate::redis::{Redis, free_port};
use crate::support::run_to_exit;
use crate::{commit, follows, send, start_servers, stream_flags};

const PASSWORD: &str = "correct-horse-battery";

/// Runs a server that has to fail. Returns its exit status and its log.
#[track_caller]
pub(crate) fn fails(flags: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eventserver"));
    command.args(["--event-listen", "0", "--client-listen", "0"]).args(flags);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    command.stderr(std::process::Stdio::piped());
    run_to_exit(command)
}

#[test]
#[ignore = "needs redis-server"]
fn a_missing_stream_is_not_created_by_mistake() {
    let redis = Redis::start_durable();
    let [stream, create, _] = stream_flags(&redis.to_string());
    let (status, log) = fails(&[&stream]);
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("stream=events") && log.contains("--stream-create"), "{log}");
    assert_eq!(redis.command("EXISTS events"), ["0"]);
    let node = Node::start(&[&stream, &create]);
    commit(&node, &follows(1..11), 11);
    drop(node);
    assert_eq!(Node::start(&[&stream]).awaited(), 11);
}

#[test]
#[ignore = "needs redis-server"]
fn a_stream_of_another_kind_is_named() {
    let redis = Redis::start_durable();
    let [stream, create, _] = stream_flags(&redis.to_string());
    redis.command("XADD events * name value");
    let (status, log) = fails(&[&stream, &create]);
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("stream=events"), "{log}");
    redis.command("DEL events");
    redis.command("SET events text");
    let (status, log) = fails(&[&stream, &create]);
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("WRONGTYPE"), "{log}");
}

#[test]
#[ignore = "needs redis-server"]
fn an_emptied_engine_is_noticed() {
    let redis = Redis::start_durable();
    let [stream, create, level] = stream_flags(&redis.to_string());
    let flags = [&*stream, &*create, &*level, "--stream-max-bytes", "1MiB"];
    let mut node = Node::start(&flags);
    commit(&node, &follows(1..100_001), 100_001);
    node.logs(&["published a snapshot"]);
    // A server that starts from the snapshot does not have what was before it.
    node.kill();
    node.restart();
    redis.command("FLUSHALL");
    let source = send(&node, "100001|B\n");
    node.is_unready_because_of("the stream is gone");
    assert_eq!(node.awaited(), 100_001);
    drop(source);
}

#[test]
#[ignore = "needs redis-server"]
fn a_start_waits_for_an_engine_that_is_not_there() {
    let port = free_port();
    let engine = format!("redis://127.0.0.1:{port}");
    let flags = stream_flags(&engine);
    let flags = flags.each_ref().map(String::as_str);
    let mut node = Node::start_without_waiting(&flags);
    node.is_unready_because_of("stream unreachable");
    node.logs(&["WARN", &format!("127.0.0.1:{port}"), "refused", "trying again"]);
    // A stop does not wait.
    assert_eq!(node.stop(), Some(0));
    let mut node = Node::start_without_waiting(&flags);
    node.is_unready_because_of("stream unreachable");
    let _redis = Redis::start_at(port, &["appendonly no"]);
    node.wait_for_ready_line();
    node.is_ready();
    commit(&node, &follows(1..11), 11);
}

#[test]
#[ignore = "needs redis-server"]
fn a_start_waits_for_an_engine_that_loads_its_data() {
    let mut redis = Redis::start_durable();
    let mut node = start_servers(1, &redis.to_string()).pop().unwrap();
    commit(&node, &follows(1..11), 11);
    node.kill();
    redis.kill();
    redis.spawn_again();
    node.restart();
    assert_eq!(node.awaited(), 11);
}

#[test]
#[ignore = "needs redis-server"]
fn passwords_are_not_logged() {
    let mut redis = Redis::start(&["appendonly yes", &format!("requirepass {PASSWORD}")]);
    let url = |password: &str| {
        let engine = format!("redis://default:{password}@127.0.0.1:{}", redis.port());
        stream_flags(&engine)[0].clone()
    };
    let flags =
        |password| [url(password), "--stream-create".to_owned(), "--log-level=trace".to_owned()];
    // A wrong one is a secret too: it may be right elsewhere.
    let wrong = flags("tr0ub4dor");
    let (status, log) = fails(&wrong.each_ref().map(String::as_str));
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("password") && !log.contains("tr0ub4dor"), "{log}");
    let (_, log) = fails(&["--check-config", &url("tr0ub4dor")]);
    assert!(!log.contains("tr0ub4dor"), "{log}");
    let right = flags(PASSWORD);
    let node = Node::start(&right.each_ref().map(String::as_str));
    commit(&node, &follows(1..11), 11);
    redis.kill();
    let source = send(&node, "11|B\n");
    node.is_unready_because_of("unreachable");
    redis.restart();
    node.awaits(12);
    drop(source);
    assert!(node.log().contains("stream"), "{}", node.log());
    assert!(!node.log().contains(PASSWORD), "{}", node.log());
    let status = node.status("").to_string();
    assert!(!status.contains(PASSWORD), "{status}");
}

#[test]
#[ignore = "needs redis-server"]
fn a_server_that_starts_anew_reads_all() {
    let redis = Redis::start_durable();
    let mut nodes = start_servers(1, &redis.to_string());
    commit(&nodes[0], &follows(1..101), 101);
    let hash = nodes[0].state_hash();
    nodes[0].kill();
    nodes[0].restart();
    assert_eq!((nodes[0].awaited(), nodes[0].state_hash()), (101, hash));
}
