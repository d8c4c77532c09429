//! Several servers that share a stream, as real processes over a real engine: what a client receives stays right
//! whatever is killed, suspended, cut off or lost.
//!
//! The tests need `redis-server` of Redis 7 or Valkey; they are ignored by `cargo test` and fail without it:
//!
//! ```sh
//! cargo test --release --test cluster -- --ignored
//! ```
//!
//! A sleep in these tests is the pace of the faults; no test waits for a condition that way.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic on anything unexpected")]

mod engine_faults;
mod failover;
mod journals;
mod node;
mod partitions;
mod proxy;
mod redis;
mod refusals;
mod server_faults;
#[path = "../server/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests use the rest")]
mod support;
mod verification;

use std::io::Write;
use std::net::TcpStream;
use std::ops::Range;
use std::thread;
use std::time::Instant;

use crate::node::Node;
use crate::support::{DEADLINE, INTERVAL};

/// Waits until `condition` returns something.
#[track_caller]
fn wait_until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(result) = condition() {
            return result;
        }
        assert!(start.elapsed() < DEADLINE, "timed out waiting until {what}");
        thread::sleep(INTERVAL);
    }
}

/// Returns the flags of a server of the stream of these tests.
fn stream_flags(engine: &str) -> [String; 3] {
    [
        format!("--stream={engine}/0?stream=events"),
        "--stream-create".to_owned(),
        "--log-level=debug".to_owned(),
    ]
}

/// Starts servers that share the stream of an engine, and create it.
#[track_caller]
fn start_servers(count: usize, engine: &str) -> Vec<Node> {
    let flags = stream_flags(engine);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    (0..count).map(|_| Node::start(&flags)).collect()
}

/// Asserts that all servers are in the same state, after they await the same sequence.
#[track_caller]
fn are_in_one_state(nodes: &[&Node]) {
    let awaited = nodes.iter().map(|node| node.awaited()).max().unwrap();
    nodes.iter().for_each(|node| node.awaits(awaited));
    let hashes: Vec<String> = nodes.iter().map(|node| node.state_hash()).collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "at sequence {awaited}: {hashes:?}");
}

/// Sends lines to a server. The connection stays open as long as the returned stream.
#[track_caller]
fn send(node: &Node, lines: &str) -> TcpStream {
    let mut source = TcpStream::connect(node.event_address).unwrap();
    source.write_all(lines.as_bytes()).unwrap();
    source
}

/// Returns follows of these sequences. Each is another one.
fn follows(sequences: Range<u64>) -> String {
    sequences.map(|sequence| format!("{sequence}|F|{sequence}|1\n")).collect()
}

/// Returns unfollows of these sequences, which change nothing.
fn unfollows(sequences: Range<u64>) -> String {
    sequences.map(|sequence| format!("{sequence}|U|1|{sequence}\n")).collect()
}

/// Sends lines to a server, and waits until it awaits a sequence.
#[track_caller]
fn commit(node: &Node, lines: &str, awaited: u64) {
    let source = send(node, lines);
    node.awaits(awaited);
    drop(source);
}
