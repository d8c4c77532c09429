//! Clients that do not identify themselves.

use std::thread;
use std::time::{Duration, Instant};

use crate::RESET;
use crate::scale::{ConnectionQuota, report, scaled};
use crate::stream::Stream;
use crate::support::{Client, Server};
use crate::verification::passes_verification;
use crate::workload::CROWD;

fn start(identify_timeout: Duration) -> Server {
    let millis = identify_timeout.as_millis().to_string();
    Server::start(&[&RESET[..], &["--identify-timeout-ms", &millis]].concat())
}

#[test]
fn clients_that_never_say_who_they_are_by_the_ten_thousand() {
    let quota = ConnectionQuota::for_connections(scaled(10_000, 19_000));
    let timeout = Duration::from_secs(scaled(2, 5) as u64);
    let server = start(timeout);
    let mut stream = Stream::connect(&server);
    let at_once = stream.run_during(|| {
        let start = Instant::now();
        let connect = |_| Client::connect_unidentified(&server);
        let mut crowd: Vec<Client> = (0..quota.connections).map(connect).collect();
        let at_once = server.stat("clients_connected");
        crowd[0].is_closed();
        assert!(start.elapsed() >= timeout, "closed after {:?}", start.elapsed());
        crowd[1..].iter_mut().for_each(Client::is_closed);
        server.assert_stat_reaches("clients_closed.identify_timeout", quota.connections as u64);
        at_once
    });
    let figures = stream.ends(&server);
    report(format_args!("{quota}, {at_once} with the others at once; {figures}"));
    passes_verification(&server);
}

/// Time between two bytes of an ID line: too long for the 64 bytes that end it, too short for the
/// timeout to expire between two.
const BETWEEN_BYTES: Duration = Duration::from_millis(40);

#[test]
fn id_lines_that_come_a_byte_at_a_time_and_never_end() {
    let quota = ConnectionQuota::for_connections(scaled(1000, 10_000));
    let timeout = Duration::from_secs(1);
    let server = start(timeout);
    let mut stream = Stream::connect(&server);
    stream.run_during(|| {
        let start = Instant::now();
        let connect = |_| Client::connect_unidentified(&server);
        let mut crowd: Vec<Client> = (0..quota.connections).map(connect).collect();
        // A slow client among them that completes its ID line.
        let mut slow = Client::connect_unidentified(&server);
        let mut rest = format!("{CROWD}\n").into_bytes().into_iter();
        while !crowd.is_empty() {
            slow.sends(rest.next().as_slice());
            crowd.retain_mut(|client| client.sends_unless_closed(b"0"));
            let is_complete = crowd.len() == quota.connections;
            assert!(is_complete || start.elapsed() >= timeout, "after {:?}", start.elapsed());
            thread::sleep(BETWEEN_BYTES);
        }
        assert!(slow.receives_a_byte().is_some());
    });
    server.assert_stat_reaches("clients_closed.identify_timeout", quota.connections as u64);
    assert_eq!(server.stat("clients_closed.bad_id"), 0);
    let figures = stream.ends(&server);
    report(format_args!("{quota}; {figures}"));
    passes_verification(&server);
}
