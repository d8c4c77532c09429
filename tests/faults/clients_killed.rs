//! Clients that are killed while large queues are written to them.

use std::process::Stdio;

use rustix::process::Signal;

use crate::RESET;
use crate::client_process::ClientProcess;
use crate::scale::{report, scaled};
use crate::stream::Stream;
use crate::support::{Client, Server};
use crate::verification::passes_verification;
use crate::workload::{CHECKED_CLIENTS, CROWD};

/// Killed clients per kind and round.
const VICTIMS: u64 = 5;

/// Bytes queued before the kills start, per client that does not read.
const QUEUED: u64 = 512 << 10;

#[test]
fn clients_killed_while_large_queues_are_written_to_them() {
    let rounds = scaled(3, 30);
    let server = Server::start(&RESET);
    let mut stream = Stream::connect(&server).in_rounds_of(5000);
    let mut queued = 0;
    for _ in 0..rounds {
        stream.run_during(|| {
            let users = |kind| (0..VICTIMS).map(move |number| CROWD + kind * VICTIMS + number);
            let connect = |user| Client::connect_slow(&server, user);
            let process = |user| ClientProcess::start(connect(user), Stdio::null());
            let busy: Vec<ClientProcess> = users(0).map(process).collect();
            let stopped: Vec<ClientProcess> = users(1).map(process).collect();
            stopped.iter().for_each(|victim| victim.signal(Signal::STOP));
            let deaf: Vec<Client> = users(2).map(connect).collect();
            queued += server.wait_until("the queues are large", || {
                Some(server.stat("queued_bytes")).filter(|&queued| queued > 2 * VICTIMS * QUEUED)
            });
            for ((busy, stopped), deaf) in busy.into_iter().zip(stopped).zip(deaf) {
                drop(stopped);
                deaf.resets();
                drop(busy);
            }
            server.wait_for_stat("clients_connected", CHECKED_CLIENTS);
        });
        assert_eq!(server.stat("queued_bytes"), 0);
    }
    let figures = stream.ends(&server);
    report(format_args!(
        "{} clients, {} MB queued for them; {figures}",
        rounds as u64 * 3 * VICTIMS,
        queued >> 20
    ));
    passes_verification(&server);
}
