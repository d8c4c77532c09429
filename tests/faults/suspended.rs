//! Processes that are suspended and resumed.

use std::fs::{self, File};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::RESET;
use crate::client_process::ClientProcess;
use crate::scale::{report, scaled};
use crate::stream::Stream;
use crate::support::{Client, Server, Source};
use crate::verification::{Verification, passes_verification};
use crate::workload::CROWD;

/// The identify timeout, and the duration of a suspension.
const TIMEOUT: Duration = Duration::from_millis(100);

#[test]
fn a_server_that_is_suspended_and_goes_on() {
    let times = scaled(12, 60);
    let server = Server::start(&[&RESET[..], &["--identify-timeout-ms", "100"]].concat());
    let mut stream = Stream::connect(&server).in_rounds_of(1000);
    let mut identified = 0;
    stream.run_during(|| {
        for _ in 0..times {
            let leaving = Client::connect(&server, CROWD);
            let start = Instant::now();
            let mut coming = Client::connect_unidentified(&server);
            let is_in_time = server.while_suspended(|| {
                let is_in_time = start.elapsed() < TIMEOUT;
                drop(leaving);
                coming.sends(format!("{}\n", CROWD + 1));
                thread::sleep(TIMEOUT);
                is_in_time
            });
            // Its timeout had expired when the server resumed, but its ID had arrived.
            if is_in_time {
                assert!(coming.receives_a_byte().is_some());
                identified += 1;
            }
        }
    });
    let figures = stream.ends(&server);
    report(format_args!(
        "{times} times for {} ms, {identified} clients identified then; {figures}",
        TIMEOUT.as_millis()
    ));
    passes_verification(&server);
}

#[test]
fn a_server_that_is_suspended_with_readiness_in_its_hands() {
    let times = scaled(12, 60);
    let server = Server::start(&[&RESET[..], &["--identify-timeout-ms", "100"]].concat());
    let mut source = Source::connect(&server);
    let mut talker = Client::connect(&server, CROWD);
    let suspend = || {
        let mut identified = 0;
        for time in 0..times {
            let start = Instant::now();
            let mut coming = Client::connect_unidentified(&server);
            // Earlier connections are accepted by the time this one is refused.
            Client::connect(&server, "nobody").is_closed();
            let is_in_time = server.while_suspended(|| {
                let is_in_time = start.elapsed() < TIMEOUT;
                coming.sends(format!("{}\n", CROWD + 1));
                thread::sleep(TIMEOUT);
                is_in_time
            });
            source.sends_lines(&[&format!("{}|P|1|{}", time + 1, CROWD + 1)]);
            if is_in_time {
                assert!(coming.receives_a_byte().is_some(), "closed at time {time}");
                identified += 1;
            }
        }
        identified
    };
    let identified: usize = thread::scope(|scope| {
        let suspended = scope.spawn(suspend);
        // Ignored input, so that there is always readiness to report.
        while !suspended.is_finished() {
            talker.sends("x");
        }
        suspended.join().unwrap()
    });
    drop((source, talker));
    server.wait_for_stat("clients_connected", 0);
    report(format_args!("{times} times, {identified} clients identified then"));
    passes_verification(&server);
}

#[test]
fn clients_that_are_suspended_and_go_on() {
    const CLIENTS: u64 = 4;
    const QUEUED: u64 = 256 << 10;
    let times = scaled(5, 30);
    let server = Server::start(&RESET);
    let folder = tempfile::tempdir().unwrap();
    let output = |user: u64| folder.path().join(user.to_string());
    let mut stream = Stream::connect(&server).in_rounds_of(20_000);
    let users = CROWD..CROWD + CLIENTS;
    let start = |user| {
        let file = File::create(output(user)).unwrap();
        ClientProcess::start(Client::connect_slow(&server, user), file)
    };
    let clients: Vec<ClientProcess> = users.clone().map(start).collect();
    stream.run_during(|| {
        for _ in 0..times {
            clients.iter().for_each(|client| client.signal(Signal::STOP));
            let is_large = || (server.stat("queued_bytes") > CLIENTS * QUEUED).then_some(());
            server.wait_until("the queues are large", is_large);
            clients.iter().for_each(|client| client.signal(Signal::CONT));
            server.wait_for_stat("queued_bytes", 0);
        }
    });
    for user in users {
        let expected = stream.broadcasts();
        let is_whole = || {
            let written = fs::metadata(output(user)).unwrap().len();
            (written >= expected.len() as u64).then_some(())
        };
        server.wait_until("every broadcast is received", is_whole);
        assert!(fs::read(output(user)).unwrap() == expected, "user {user}");
    }
    drop(clients);
    let figures = stream.ends(&server);
    report(format_args!("{CLIENTS} clients, {times} times; {figures}"));
    passes_verification(&server);
}

#[test]
fn a_verification_whose_server_and_clients_are_suspended_in_turn() {
    const PAUSE: Duration = Duration::from_millis(7);
    let server = Server::start(&RESET);
    let events = scaled(500_000, 10_000_000);
    let mut verification = Verification::start(&server, events);
    let mut times = 0;
    while !verification.has_ended() {
        verification.signal(Signal::STOP);
        thread::sleep(PAUSE);
        verification.signal(Signal::CONT);
        thread::sleep(PAUSE);
        server.signal(Signal::STOP);
        thread::sleep(PAUSE);
        server.signal(Signal::CONT);
        times += 1;
    }
    verification.passes();
    report(format_args!("{times} times each, a verification of {events} events"));
    passes_verification(&server);
}
