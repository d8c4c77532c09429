//! Back-pressure: clients that read more slowly than sources send.

use std::thread;

use crate::support::{Client, MESSAGE_BYTES, Server, Source, broadcasts, delivered, messages};

const MIB: u64 = 1 << 20;

/// Limits that 16 MB exceed by far, even with the kernel's buffers.
const QUEUE_LIMIT: [&str; 2] = ["--client-queue-bytes", "1048576"];
const MESSAGES: u64 = 250_000;

/// An upper bound for a small server with these limits.
const MAX_RESIDENT_BYTES: u64 = 64 * MIB + MIB;

/// A server with a client of user 7 that does not read, and a source that sends it 250,000 messages
/// and a broadcast.
struct Flood {
    server: Server,
    slow: Client,
    stream: Vec<u8>,
    sending: thread::JoinHandle<Source>,
}

impl Flood {
    fn start(flags: &[&str]) -> Flood {
        let server = Server::start(&[&QUEUE_LIMIT, flags].concat());
        let slow = Client::connect_slow(&server, 7);
        let mut stream = messages(1..MESSAGES + 1, 7);
        stream.extend_from_slice(&broadcasts(MESSAGES + 1..MESSAGES + 2));
        let sending = Source::connect(&server).sends_in_background(stream.clone());
        Flood { server, slow, stream, sending }
    }

    /// Returns the broadcast at the end.
    fn last_line(&self) -> String {
        format!("{:020}|B", MESSAGES + 1)
    }

    /// Waits until the queue is above its low watermark.
    fn wait_for_full_queue(&self) {
        let is_full = || (self.server.stat("queued_bytes") > MIB / 2).then_some(());
        self.server.wait_until("the queue is more than half full", is_full);
    }
}

#[test]
fn a_full_queue_pauses_the_sources_and_nothing_is_lost() {
    let mut flood = Flood::start(&["--identify-timeout-ms", "50"]);
    flood.wait_for_full_queue();
    // A pause stops neither accepting, registering, timeouts nor signals.
    let server = &flood.server;
    let mut newcomer = Client::connect(server, 8);
    Client::connect_unidentified(server).is_closed();
    server.wait_for_stat("clients_connected", 2);
    for _ in 0..10 {
        assert!(server.stat("queued_bytes") <= MIB);
        assert!(server.stat("events") < MESSAGES);
    }
    assert!(server.process().peak_resident_bytes() < MAX_RESIDENT_BYTES);
    flood.slow.receives_bytes(&delivered(&flood.stream));
    newcomer.receives(&[&flood.last_line()]);
    flood.sending.join().unwrap();
}

#[test]
fn an_end_of_a_source_takes_effect_after_a_pause_when_all_that_it_sent_is_applied() {
    let mut flood = Flood::start(&["--on-source-disconnect", "reset"]);
    flood.wait_for_full_queue();
    let ending = thread::spawn(move || drop(flood.sending.join().unwrap()));
    flood.slow.receives_bytes(&delivered(&flood.stream));
    ending.join().unwrap();
    flood.server.logs(&["closed: closed_by_peer", &format!("after {} lines", MESSAGES + 1)]);
    Source::connect(&flood.server).sends_lines(&["1|B"]);
    flood.slow.receives(&["1|B"]);
    assert_eq!(flood.server.stat("lost"), 0);
}

#[test]
fn a_pause_ends_when_the_client_that_caused_it_leaves() {
    let flood = Flood::start(&[]);
    let mut observer = Client::connect(&flood.server, 8);
    flood.wait_for_full_queue();
    let last_line = flood.last_line();
    drop(flood.slow);
    observer.receives(&[&last_line]);
    flood.sending.join().unwrap();
}

#[test]
fn a_pause_ends_when_the_client_that_caused_it_is_taken_over() {
    let mut flood = Flood::start(&[]);
    flood.wait_for_full_queue();
    let mut newer = Client::connect(&flood.server, 7);
    let stream = delivered(&flood.stream);
    let written = flood.slow.receives_until_closed();
    assert!(stream.starts_with(&written));
    // Until the newer client connected, everything was for the older one: the bytes it lacks were
    // in its queue.
    let line = flood.server.logs(&["user 7", "taken_over", "bytes queued"]);
    let queued: usize = line
        .rsplit_once(" bytes queued")
        .and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok())
        .unwrap();
    newer.receives_bytes(&stream[written.len() + queued..]);
    flood.sending.join().unwrap();
}

#[test]
fn a_client_that_does_not_bring_its_queue_down_in_time_is_disconnected() {
    let flood = Flood::start(&["--stall-timeout-ms", "100"]);
    let mut observer = Client::connect(&flood.server, 8);
    observer.receives(&[&flood.last_line()]);
    let line = flood.server.logs(&["user 7", &flood.slow.address().to_string(), "stalled"]);
    assert!(line.contains(" bytes queued") && !line.contains(" 0 bytes queued"), "{line}");
    assert_eq!(
        (
            flood.server.stat("clients_closed.stalled"),
            flood.server.stat("clients_closed.queue_full")
        ),
        (1, 0)
    );
    flood.sending.join().unwrap();
}

#[test]
fn a_client_that_trickles_is_disconnected_too() {
    let mut flood = Flood::start(&["--stall-timeout-ms", "300"]);
    flood.wait_for_full_queue();
    flood.server.wait_until("the client is stalled", || {
        flood.slow.receives_a_byte();
        (flood.server.stat("clients_closed.stalled") == 1).then_some(())
    });
    flood.sending.join().unwrap();
}

#[test]
fn a_client_over_its_limit_is_disconnected_at_once_where_that_is_wanted() {
    let mut flood = Flood::start(&["--slow-client", "disconnect"]);
    let mut observer = Client::connect(&flood.server, 8);
    observer.receives(&[&flood.last_line()]);
    flood.sending.join().unwrap();
    let line = flood.server.logs(&["user 7", &flood.slow.address().to_string(), "queue_full"]);
    assert!(line.contains(" bytes queued") && !line.contains(" 0 bytes queued"), "{line}");
    assert_eq!(
        (
            flood.server.stat("clients_closed.stalled"),
            flood.server.stat("clients_closed.queue_full")
        ),
        (0, 1)
    );
    assert!(flood.server.process().peak_resident_bytes() < MAX_RESIDENT_BYTES);
    assert!(delivered(&flood.stream).starts_with(&flood.slow.receives_until_closed()));
}

#[test]
fn a_client_that_reads_is_never_disconnected_for_its_queue_however_small() {
    let count = 100_000;
    let server = Server::start(&["--client-queue-bytes", "4096", "--total-queue-bytes", "4096"]);
    let mut client = Client::connect_slow(&server, 7);
    let stream = messages(1..count + 1, 7);
    let sending = Source::connect(&server).sends_in_background(stream.clone());
    client.receives_bytes(&delivered(&stream));
    sending.join().unwrap();
    assert_eq!(server.stat("bytes_written"), count * MESSAGE_BYTES);
}

/// A server with eight clients that do not read, and a source whose broadcasts to them exceed the
/// total limit by far before any client's own limit.
fn flood_for_eight(
    flags: &[&str],
    events: u64,
) -> (Server, Vec<Client>, Vec<u8>, thread::JoinHandle<Source>) {
    let limits = ["--client-queue-bytes", "4194304", "--total-queue-bytes", "4194304"];
    let server = Server::start(&[&limits, flags].concat());
    let clients = (0..8).map(|user| Client::connect_slow(&server, user)).collect();
    let stream = broadcasts(1..events + 1);
    let sending = Source::connect(&server).sends_in_background(stream.clone());
    (server, clients, stream, sending)
}

#[test]
fn the_total_limit_pauses_and_nothing_is_lost() {
    let (server, clients, stream, sending) = flood_for_eight(&["--slow-client", "pause"], 400_000);
    let is_full = || (server.stat("queued_bytes") > 2 * MIB).then_some(());
    server.wait_until("the queues are more than half full", is_full);
    for _ in 0..10 {
        assert!(server.stat("queued_bytes") <= 4 * MIB);
        assert!(server.stat("events") < 400_000);
    }
    assert!(server.process().peak_resident_bytes() < 64 * MIB + 4 * MIB);
    let expected = delivered(&stream);
    thread::scope(|scope| {
        for mut client in clients {
            let expected = &expected;
            scope.spawn(move || client.receives_bytes(expected));
        }
    });
    sending.join().unwrap();
    assert_eq!(
        (server.stat("clients_closed.queue_full"), server.stat("clients_closed.stalled")),
        (0, 0)
    );
}

#[test]
fn while_the_total_limit_pauses_the_stall_timeout_applies() {
    let flags = ["--slow-client", "pause", "--stall-timeout-ms", "500"];
    let (server, clients, stream, sending) = flood_for_eight(&flags, 400_000);
    server.assert_stat_reaches("clients_closed.stalled", clients.len() as u64);
    sending.join().unwrap();
    server.assert_stat_reaches("events", 400_000);
    let expected = delivered(&stream);
    for mut client in clients {
        assert!(expected.starts_with(&client.receives_until_closed()));
    }
}

#[test]
fn where_slow_clients_are_disconnected_a_full_total_ends_those_with_the_longest_queues() {
    // Two queues fit, three do not.
    let flags = ["--slow-client", "disconnect"];
    let (server, clients, stream, sending) = flood_for_eight(&flags, 200_000);
    let mut observer = Client::connect(&server, 100);
    let last = stream.rsplit(|&byte| byte == b'\n').nth(1).unwrap();
    let received = observer.receives_up_to(last);
    assert!(delivered(&stream).ends_with(&received), "a client that reads receives everything");
    sending.join().unwrap();
    let ended = server.stat("clients_closed.queue_full");
    assert!((1..8).contains(&ended), "{ended} clients were disconnected");
    assert!(server.stat("queued_bytes") <= 4 * MIB);
    let expected = delivered(&stream);
    drop(server);
    for mut client in clients {
        assert!(expected.starts_with(&client.receives_until_closed()));
    }
}
