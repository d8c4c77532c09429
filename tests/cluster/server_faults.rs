//! Servers that are killed, suspended, or late.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::node::Node;
use crate::redis::Redis;
use crate::support::{activation, listener};
use crate::verification::{Verification, passes_while_each_is_killed};
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
    passes_while_each_is_killed(&mut nodes, EVENTS, |node, kills| {
        node.kill();
        // Its clients go to another server, or wait for it.
        thread::sleep(Duration::from_millis(if kills.is_multiple_of(2) { 0 } else { 100 }));
        node.restart();
    });
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

/// Suspends a server until the stream is trimmed beyond it, and lets it go on. `already` is how often the stream
/// was trimmed of what it has read. Returns the end of the stream.
#[track_caller]
fn outrun(busy: &Node, late: &Node, start: u64, already: usize) -> u64 {
    late.suspend();
    let (middle, end) = (start + 100_000, start + 200_000);
    let published = || busy.log().matches("published a snapshot").count();
    let removed = || busy.log().matches("removed the entries before").count();
    let (published_before, removed_before) = (published(), removed());
    commit(busy, &follows(start..middle), middle);
    crate::wait_until("a snapshot is published", || (published() > published_before).then_some(()));
    commit(busy, &follows(middle..end), end);
    crate::wait_until("entries are removed", || {
        (removed() > removed_before.max(already)).then_some(())
    });
    late.signal(Signal::CONT);
    end
}

#[test]
#[ignore = "needs redis-server"]
fn a_server_beyond_which_the_stream_was_trimmed_starts_again_by_itself() {
    let redis = Redis::start_durable();
    let [stream, create, level] = stream_flags(&redis.to_string());
    let folder = tempfile::tempdir().unwrap();
    let journal = ["--data-dir", folder.path().to_str().unwrap()];
    let common = [&*stream, &*create, &*level, "--stream-max-bytes", "1MiB"];
    for own in [&[][..], &journal] {
        let first = redis.command("EXISTS events") == ["0"];
        let busy = Node::start(&common);
        let start = if first { 1 } else { busy.awaited() };
        let mut late = Node::start(&[&[&*stream, &*level], own].concat());
        // With addresses that it has to take again.
        late.kill();
        late.restart();
        late.awaits(start);
        let mut client = TcpStream::connect(late.client_address).unwrap();
        client.write_all(b"1\n").unwrap();
        crate::wait_until("the client is registered", || {
            (late.status("/clients/connected") == 1).then_some(())
        });
        let end = outrun(&busy, &late, start, usize::from(!first));
        late.logs(&["starting again", "too far behind"]);
        // Its client is not left without what is missing: it is closed.
        client.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert!(received.is_empty() || received.ends_with(b"\r\n"));
        crate::wait_until("it serves again", || {
            TcpStream::connect(late.client_address).is_ok().then_some(())
        });
        late.awaits(end);
        are_in_one_state(&[&busy, &late]);
        commit(&late, &follows(end..end + 100), end + 100);
        are_in_one_state(&[&busy, &late]);
        assert_eq!(late.stop(), Some(0));
    }
}

#[test]
#[ignore = "needs redis-server"]
fn a_server_on_sockets_of_a_service_manager_leaves_the_new_start_to_it() {
    let redis = Redis::start_durable();
    let [stream, create, level] = stream_flags(&redis.to_string());
    let busy = Node::start(&[&stream, &create, &level, "--stream-max-bytes", "1MiB"]);
    let (events, clients) = (listener(), listener());
    let start = || {
        let command = || {
            let mut shell = activation(&[&events, &clients], "events:clients", "$$");
            shell.arg(env!("CARGO_BIN_EXE_eventserver"));
            shell
        };
        Node::start_at("127.0.0.1", command, &[&stream, &level])
    };
    let mut late = start();
    assert_eq!(late.client_address, clients.local_addr().unwrap());
    late.awaits(1);
    let end = outrun(&busy, &late, 1, 0);
    // A manager with Restart=on-failure starts it again.
    assert_eq!(late.exit_status(), Some(1));
    late.logs(&["too far behind"]);
    late.logs(&[
        "eventserver: only a new start",
        "the service manager is left to pass its sockets",
    ]);
    // Nobody is refused meanwhile.
    let mut client = TcpStream::connect(late.client_address).unwrap();
    client.write_all(b"1\n").unwrap();
    let next = start();
    are_in_one_state(&[&busy, &next]);
    crate::wait_until("the client is registered", || {
        (next.status("/clients/connected") == 1).then_some(())
    });
    commit(&busy, &format!("{end}|B\n"), end + 1);
    client.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
    let mut received = vec![0; format!("{end}|B\r\n").len()];
    client.read_exact(&mut received).unwrap();
    assert_eq!(received, format!("{end}|B\r\n").into_bytes());
}
