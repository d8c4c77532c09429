//! Memory stays bounded under any input.

use crate::support::{Client, Prng, Server, Source, messages};

const MIB: u64 = 1 << 20;
const CHUNK: usize = MIB as usize;
/// 100 MB, in chunks.
const CHUNKS: usize = 100;

/// Memory that the server may need besides the queue limits.
const MAX_RESIDENT_BYTES: u64 = 64 * MIB;
const QUEUE_LIMITS: [&str; 4] =
    ["--client-queue-bytes", "4194304", "--total-queue-bytes", "16777216"];
const TOTAL_QUEUE_LIMIT: u64 = 16 * MIB;

#[track_caller]
fn assert_peak_below(server: &Server, bytes: u64) {
    let peak = server.process().peak_resident_bytes();
    assert!(peak < bytes, "{peak} bytes were resident, {bytes} are allowed");
}

/// Asserts that the server still orders and delivers events.
#[track_caller]
fn still_serves(server: &Server, client: &mut Client) {
    let line = format!("{}|B", server.stat("awaited"));
    Source::connect(server).sends_lines(&[&line]);
    client.receives(&[&line]);
}

#[test]
fn an_idle_server_is_small() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server, 1);
    still_serves(&server, &mut client);
    let resident = server.process().resident_bytes();
    assert!(resident < 5_000_000, "{resident} bytes are resident");
}

#[test]
fn a_line_of_100_mb_is_discarded_as_it_comes() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server, 1);
    let mut source = Source::connect(&server);
    source.sends("1|S|");
    for _ in 0..CHUNKS {
        source.sends(vec![b'1'; CHUNK]);
    }
    source.sends("\n2|B\n");
    client.receives(&["2|B"]);
    assert_peak_below(&server, MAX_RESIDENT_BYTES);
}

#[test]
fn a_line_of_100_mb_without_an_end_leaves_nothing_behind() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server, 1);
    let mut source = Source::connect(&server);
    for _ in 0..CHUNKS {
        source.sends(vec![b'x'; CHUNK]);
    }
    source.leaves(&server);
    assert_eq!(server.stat("unterminated"), 1);
    still_serves(&server, &mut client);
    assert_peak_below(&server, MAX_RESIDENT_BYTES);
}

#[test]
fn random_bytes_from_sources_are_survived() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server, 1);
    let mut random = Prng::announced(0x5eed_0001);
    let mut source = Source::connect(&server);
    let mut chunk = vec![0; CHUNK];
    for _ in 0..CHUNKS {
        random.fill(&mut chunk);
        if !source.sends_unless_closed(&chunk) {
            source = Source::connect(&server);
        }
    }
    source.leaves(&server);
    still_serves(&server, &mut client);
    assert_peak_below(&server, MAX_RESIDENT_BYTES);
}

#[test]
fn random_bytes_from_clients_are_survived() {
    let server = Server::start(&[]);
    let mut observer = Client::connect(&server, 1);
    let mut known = Client::connect(&server, 2);
    let mut random = Prng::announced(0x5eed_0002);
    let mut chunk = vec![0; CHUNK];
    for _ in 0..CHUNKS {
        random.fill(&mut chunk);
        known.sends(&chunk);
        Client::connect_unidentified(&server).sends_unless_closed(&chunk);
    }
    still_serves(&server, &mut observer);
    known.receives(&["1|B"]);
    assert_peak_below(&server, MAX_RESIDENT_BYTES);
}

/// Sends 200 MB to a client that never reads, and asserts that another client is still served.
fn survives_flood(flags: &[&str]) {
    const COUNT: u64 = 200_000_000 / 65;
    const PART: u64 = 100_000;
    let server = Server::start(&[&QUEUE_LIMITS, flags].concat());
    let _slow = Client::connect_slow(&server, 7);
    let mut observer = Client::connect(&server, 1);
    let mut source = Source::connect(&server);
    for first in (1..COUNT).step_by(PART as usize) {
        source.sends(messages(first..(first + PART).min(COUNT), 7));
    }
    let last = format!("{COUNT}|B");
    source.sends_lines(&[&last]);
    observer.receives(&[&last]);
    assert_peak_below(&server, MAX_RESIDENT_BYTES + TOTAL_QUEUE_LIMIT);
}

#[test]
fn a_flood_for_a_client_that_never_reads_is_survived_by_pausing() {
    survives_flood(&["--slow-client", "pause", "--stall-timeout-ms", "200"]);
}

#[test]
fn a_flood_for_a_client_that_never_reads_is_survived_by_disconnecting_it() {
    survives_flood(&["--slow-client", "disconnect"]);
}
