//! Shutdown: signals, exit status, and what is delivered before it.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Client, MESSAGE_BYTES, Server, Source, delivered, messages};

/// A client limit above everything that these tests send to a client that does not read.
const LARGE_QUEUES: [&str; 2] = ["--client-queue-bytes", "67108864"];

/// Starts a server with messages queued for user 7, who does not read. Returns the stream, too.
fn with_a_full_queue(flags: &[&str]) -> (Server, Client, Source, Vec<u8>) {
    let server = Server::start(&[&LARGE_QUEUES[..], flags].concat());
    let client = Client::connect_slow(&server, 7);
    let mut source = Source::connect(&server);
    let stream = messages(1..200_001, 7);
    source.sends(&stream);
    server.assert_stat_reaches("events", 200_000);
    assert!(server.stat("queued_bytes") > 0, "the kernel's buffers hold everything");
    (server, client, source, stream)
}

#[test]
fn a_stop_delivers_all_that_is_queued_and_the_exit_status_is_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let (mut server, mut client, _source, stream) = with_a_full_queue(&[]);
        server.signal(signal);
        server.logs(&["stopping"]);
        client.receives_bytes(&delivered(&stream));
        client.is_closed();
        assert_eq!(server.exit_status(), Some(0));
        let totals = server.final_totals();
        assert!(totals.contains("queued_bytes=0 clients_connected=0"), "{totals}");
    }
}

/// Reads until the server closes, and sends a byte after each read: a byte that is unread when the
/// server closes would reset the connection.
fn reads_and_chatters(client: &mut Client) -> Vec<u8> {
    let mut received = Vec::new();
    loop {
        let bytes = client.receives_some();
        if bytes.is_empty() {
            return received;
        }
        received.extend_from_slice(&bytes);
        client.sends_unless_closed(b"x");
    }
}

#[test]
fn a_client_that_sends_something_meanwhile_loses_nothing_at_a_stop() {
    let (mut server, mut client, _source, stream) = with_a_full_queue(&[]);
    client.sends("heartbeat\n".repeat(10_000));
    server.signal(Signal::TERM);
    let received = reads_and_chatters(&mut client);
    assert_eq!(received.len(), delivered(&stream).len());
    assert!(received == delivered(&stream));
    drop(client);
    assert_eq!(server.exit_status(), Some(0));
}

#[test]
fn a_client_that_sends_something_meanwhile_loses_nothing_that_was_written_when_it_is_taken_over() {
    let (server, mut client, _source, stream) = with_a_full_queue(&[]);
    client.sends("heartbeat\n".repeat(10_000));
    let written = server.stat("bytes_written");
    let newer = Client::connect(&server, 7);
    let line = server.logs(&["user 7", "taken_over"]);
    client.sends_unless_closed(b"once more");
    let received = reads_and_chatters(&mut client);
    assert!(received.len() as u64 >= written, "{line}");
    assert!(delivered(&stream).starts_with(&received));
    drop(newer);
}

#[test]
fn a_client_that_never_ends_holds_up_a_stop_for_two_seconds_at_most() {
    let mut server = Server::start(&["--drain-timeout-ms", "3600000"]);
    let mut client = Client::connect(&server, 7);
    server.wait_for_stat("clients_connected", 1);
    server.signal(Signal::TERM);
    client.is_closed();
    let status = server.exit_status();
    client.sends_unless_closed(b"still here");
    assert_eq!(status, Some(0));
}

#[test]
fn lines_read_before_a_stop_are_applied_within_the_queue_limits() {
    let mut server = Server::start(&["--client-queue-bytes", "65536"]);
    let mut client = Client::connect_slow(&server, 7);
    let mut source = Source::connect(&server);
    let stream = messages(1..400_001, 7);
    let sent = stream.clone();
    let sending = thread::spawn(move || source.sends_unless_closed(&sent));
    // A pause starts with a line that was read and did not fit.
    server.wait_until("the queue is full", || (server.stat("queued_bytes") > 32_768).then_some(()));
    let applied = server.stat("events");
    server.signal(Signal::TERM);
    let received = client.receives_until_closed();
    drop(client);
    assert_eq!(server.exit_status(), Some(0));
    assert!(delivered(&stream).starts_with(&received), "a line is missing or foreign");
    let count = received.len() as u64 / MESSAGE_BYTES;
    assert_eq!(received.len() as u64 % MESSAGE_BYTES, 0, "an incomplete line at the end");
    assert!((applied + 1..400_000).contains(&count), "{applied} applied, {count} received");
    let totals = server.final_totals();
    assert!(
        totals.contains(&format!("bytes_written={} queued_bytes=0", received.len())),
        "{totals}"
    );
    sending.join().unwrap();
}

#[test]
fn an_idle_client_is_closed_at_once_by_a_stop_while_others_drain() {
    let (mut server, mut slow, source, stream) =
        with_a_full_queue(&["--drain-timeout-ms", "3600000"]);
    let mut idle = Client::connect(&server, 8);
    let mut unknown = Client::connect_unidentified(&server);
    server.assert_stat_reaches("clients_connected", 3);
    server.signal(Signal::TERM);
    idle.is_closed();
    unknown.is_closed();
    slow.receives_bytes(&delivered(&stream));
    slow.is_closed();
    drop((idle, unknown, slow, source));
    assert_eq!(server.exit_status(), Some(0));
}

#[test]
fn a_stop_closes_the_listeners_while_it_drains() {
    let (mut server, mut client, source, stream) = with_a_full_queue(&[]);
    server.signal(Signal::TERM);
    for address in [server.client_address, server.event_address] {
        server.wait_until("the listeners are closed", || {
            TcpStream::connect(address).is_err().then_some(())
        });
    }
    client.receives_bytes(&delivered(&stream));
    drop((client, source));
    assert_eq!(server.exit_status(), Some(0));
}

#[test]
fn a_client_that_does_not_take_its_bytes_is_closed_after_the_drain_timeout() {
    let (mut server, mut client, _source, stream) =
        with_a_full_queue(&["--drain-timeout-ms", "50"]);
    assert_eq!(server.stop(), Some(0));
    server.logs(&["user 7", &client.address().to_string(), "drain_timeout", " bytes queued"]);
    assert!(delivered(&stream).starts_with(&client.receives_until_closed()));
}

#[test]
fn a_second_signal_a_second_later_ends_at_once_and_the_exit_status_is_1() {
    let (mut server, _client, _source, _) = with_a_full_queue(&["--drain-timeout-ms", "3600000"]);
    let first = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.signal_until_exit(Signal::INT), Some(1));
    assert!(first.elapsed() >= Duration::from_secs(1), "too soon: {:?}", first.elapsed());
    assert!(server.final_totals().contains("queued_bytes="));
}

#[test]
fn signals_that_come_together_are_one_request() {
    let (mut server, mut client, source, stream) = with_a_full_queue(&[]);
    server.while_suspended(|| {
        server.signal(Signal::INT);
        server.signal(Signal::TERM);
    });
    server.logs(&["stopping"]);
    client.receives_bytes(&delivered(&stream));
    client.is_closed();
    drop((client, source));
    assert_eq!(server.exit_status(), Some(0));
}

#[test]
fn a_hangup_reloads_the_settings_and_signals_of_failed_writes_are_ignored() {
    let mut server = Server::start(&[]);
    for signal in [Signal::HUP, Signal::PIPE, Signal::XFSZ] {
        server.signal(signal);
    }
    server.logs(&["settings reloaded: nothing changed"]);
    let mut client = Client::connect(&server, 1);
    Source::connect(&server).sends_lines(&["1|B"]);
    client.receives(&["1|B"]);
    assert_eq!(server.stop_with(client), Some(0));
}

#[test]
fn a_server_without_connections_stops_at_once() {
    let mut server = Server::start(&["--drain-timeout-ms", "3600000"]);
    assert_eq!(server.stop(), Some(0));
}

/// Totals after each kind of event, error and close has happened a different number of times.
const EXPECTED_TOTALS: [&str; 6] = [
    "totals: events=9 follows=1 unfollows=1 broadcasts=3 private_messages=2 status_updates=2",
    " malformed=2 void=1 duplicate=1 late=2 lost=0 unterminated=0",
    // Lines queued: the follow to 2; two broadcasts to 1 and 2 and one to 1; one message; one status
    // update.
    " lines_queued=8 bytes_written=51 queued_bytes=0",
    " clients_connected=1 clients_accepted=3 clients_closed=2 clients_closed.closed_by_peer=1 \
     clients_closed.bad_id=1",
    " sources_connected=1 sources_accepted=1 sources_closed=0 resumes=0 resumes_completed=0 \
     resume_gaps=0 lines_replayed=0 accept_errors=0",
    " awaited=11 buffered_events=1 max_buffered_events=3 users=",
];

#[test]
fn the_totals_are_logged_on_sigusr1_and_at_the_end() {
    let mut server = Server::start(&[]);
    let mut source = Source::connect(&server);
    let mut client = Client::connect(&server, 1);
    let mut leaver = Client::connect(&server, 2);
    let mut stranger = Client::connect_unidentified(&server);
    stranger.sends("x\n");
    stranger.is_closed();
    source.sends_lines(&["3|B", "3|B", "2|B", "1|F|1|2", "4|S|2", "5|U|1|2", "6|S|2", "7|P|2|1"]);
    client.receives(&["2|B", "3|B", "4|S|2", "7|P|2|1"]);
    leaver.receives(&["1|F|1|2", "2|B", "3|B"]);
    leaver.leaves(&server);
    source.sends_lines(&["8|X", "x", "1|B", "2|B", "12|B", "9|P|1|2", "10|B"]);
    client.receives(&["10|B"]);
    let now = server.totals();
    assert_eq!(server.stop(), Some(0));
    let at_the_end = server.final_totals();
    for expected in EXPECTED_TOTALS {
        assert!(now.contains(expected), "{expected:?} is not in {now}");
    }
    for expected in
        EXPECTED_TOTALS[..3].iter().chain([" clients_connected=0 clients_accepted=3"].iter())
    {
        assert!(at_the_end.contains(expected), "{expected:?} is not in {at_the_end}");
    }
}
