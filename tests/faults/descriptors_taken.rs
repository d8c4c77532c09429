//! A descriptor limit that changes while the server runs.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use crate::RESET;
use crate::scale::{report, scaled};
use crate::stream::Stream;
use crate::support::{Client, Server};
use crate::verification::passes_verification;
use crate::workload::{CHECKED_CLIENTS, CROWD};

fn limit_descriptors(server: &Server, current: Option<u64>) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: current.or(maximum), maximum };
    prlimit(Some(server.process().0), Resource::Nofile, limit).unwrap();
}

/// Returns the number of the next descriptor: all below are in use.
fn next_descriptor(server: &Server) -> u64 {
    let folder = format!("/proc/{}/fd", server.process().0.as_raw_nonzero());
    (0..).find(|number| !fs::exists(format!("{folder}/{number}")).unwrap()).unwrap()
}

#[test]
fn descriptors_that_are_taken_from_a_running_server_and_given_back() {
    const COMING: u64 = 100;
    let times = scaled(2, 10);
    let server = Server::start(&RESET);
    let mut stream = Stream::connect(&server);
    stream.round();
    let mut failures = 0;
    stream.run_during(|| {
        for time in 0..times {
            let in_use = next_descriptor(&server);
            // Only the descriptors in use, and every second time fewer.
            limit_descriptors(&server, Some(if time % 2 == 0 { in_use } else { 3 }));
            let connect = |user| Client::connect(&server, user);
            let mut coming: Vec<Client> = (CROWD..CROWD + COMING).map(connect).collect();
            server.wait_until("accepting fails again", || {
                let now = server.stat("accept_errors");
                (now > failures + 1).then(|| failures = now)
            });
            assert_eq!(server.stat("clients_connected"), CHECKED_CLIENTS);
            limit_descriptors(&server, None);
            for client in &mut coming {
                assert!(client.receives_a_byte().is_some());
            }
            assert_eq!(server.stat("clients_connected"), CHECKED_CLIENTS + COMING);
            failures = server.stat("accept_errors");
            drop(coming);
            server.wait_for_stat("clients_connected", CHECKED_CLIENTS);
        }
    });
    let figures = stream.ends(&server);
    report(format_args!(
        "{times} times, {COMING} clients waiting then, {failures} accept back-offs; {figures}"
    ));
    passes_verification(&server);
}
