//! The captured stream of the original verification program: each of its 100 users receives exactly
//! its bytes, in every chunking of the stream.

use std::io::Read;

use flate2::read::GzDecoder;
use rustix::process::Signal;
use sha2::{Digest, Sha256};

use crate::support::{Client, Server, Source, delivered};

const EVENTS: &[u8] = include_bytes!("../data/verification-20k.events.gz");
const EXPECTED: &str = include_str!("../data/verification-20k.expected");

pub(crate) fn captured_stream() -> Vec<u8> {
    let mut stream = Vec::new();
    GzDecoder::new(EVENTS).read_to_end(&mut stream).unwrap();
    stream
}

/// Returns the users that were connected.
pub(crate) fn captured_users() -> impl Iterator<Item = &'static str> {
    EXPECTED.lines().filter_map(|line| line.split('\t').next())
}

/// Returns the user, the number of its events, and their digest, as a line of the file of
/// expectations.
fn summary(user: &str, received: &[u8]) -> String {
    let count = received.iter().filter(|&&byte| byte == b'\n').count();
    let digest: String =
        Sha256::digest(received).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{user}\t{count}\t{digest}")
}

/// Lets `send` send the 20,000 events, and compares what each user received after the server has
/// drained.
fn every_user_receives_exactly_its_bytes(flags: &[&str], send: impl FnOnce(&mut Source)) {
    let mut server = Server::start(flags);
    let mut source = Source::connect(&server);
    let mut clients: Vec<(&str, Client)> =
        captured_users().map(|user| (user, Client::connect(&server, user))).collect();
    assert_eq!(clients.len(), 100);
    send(&mut source);
    server.assert_stat_reaches("events", 20_000);
    server.signal(Signal::TERM);
    for ((user, client), expected) in clients.iter_mut().zip(EXPECTED.lines()) {
        assert_eq!(summary(user, &client.receives_until_closed()), expected);
    }
    drop((source, clients));
    assert_eq!(server.exit_status(), Some(0));
    let totals = server.final_totals();
    assert!(totals.contains("malformed=0 void=0 duplicate=0 late=0 lost=0"), "{totals}");
}

#[test]
fn in_one_piece() {
    every_user_receives_exactly_its_bytes(&[], |source| source.sends(captured_stream()));
}

#[test]
fn byte_by_byte_at_first() {
    every_user_receives_exactly_its_bytes(&[], |source| {
        let stream = captured_stream();
        let (prefix, rest) = stream.split_at(2000);
        source.sends_in_pieces(prefix, &[1]);
        source.sends(rest);
    });
}

#[test]
fn in_pieces_of_odd_sizes() {
    every_user_receives_exactly_its_bytes(&[], |source| {
        source.sends_in_pieces(&captured_stream(), &[1, 997, 3, 1021, 7, 4099, 13, 65_537, 97]);
    });
}

#[test]
fn with_crlf_instead_of_lf() {
    every_user_receives_exactly_its_bytes(&[], |source| {
        source.sends(delivered(&captured_stream()));
    });
}

#[test]
fn by_a_server_that_never_sleeps() {
    every_user_receives_exactly_its_bytes(&["--busy-poll"], |source| {
        source.sends_in_pieces(&captured_stream(), &[10_007]);
    });
}

#[test]
fn through_the_smallest_queues_and_window_that_the_stream_allows() {
    let flags =
        ["--client-queue-bytes", "4096", "--total-queue-bytes", "4096", "--reorder-window", "100"];
    every_user_receives_exactly_its_bytes(&flags, |source| source.sends(captured_stream()));
}
