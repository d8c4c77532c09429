//! Queues take hardly more memory than the bytes they hold, however these are spread over clients.
//!
//! Each test fills the queues of clients that do not read up to the total limit, and compares the
//! peak memory of the process with that limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::support::{
    Client, MESSAGE_BYTES, Server, Source, broadcasts, messages, raise_descriptor_limit,
};

const MIB: u64 = 1 << 20;
const TOTAL_LIMIT: u64 = 64 * MIB;

/// Upper bound of the bytes queued in one turn, so that the queues stop at most this far below the
/// limit.
const LAST_STEP: u64 = MIB;

/// Starts a server with the total limit, and `client_limit` per client.
fn server_with(client_limit: u64) -> Server {
    raise_descriptor_limit();
    Server::start(&[
        "--total-queue-bytes",
        &TOTAL_LIMIT.to_string(),
        "--client-queue-bytes",
        &client_limit.to_string(),
    ])
}

fn slow_clients(server: &Server, count: u64) -> Vec<Client> {
    let clients = (0..count).map(|user| Client::connect_slow(server, user)).collect();
    server.wait_for_stat("clients_connected", count);
    clients
}

/// A source that sends rounds of private messages until it is stopped.
struct EndlessSource {
    is_stopped: Arc<AtomicBool>,
    sending: JoinHandle<()>,
}

impl EndlessSource {
    /// Sends `shares[i].1` messages to the user `shares[i].0` in each round.
    fn start(server: &Server, mut source: Source, shares: Vec<(u64, u64)>) -> EndlessSource {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let mut sequence = server.stat("awaited");
        let sending = thread::spawn({
            let is_stopped = Arc::clone(&is_stopped);
            move || {
                while !is_stopped.load(Ordering::Relaxed) {
                    for &(user, count) in &shares {
                        source.sends(messages(sequence..sequence + count, user));
                        sequence += count;
                    }
                }
            }
        });
        EndlessSource { is_stopped, sending }
    }

    /// Stops the source after disconnecting the clients that it may wait for.
    fn stops_after(self, clients: Vec<Client>) {
        self.is_stopped.store(true, Ordering::Relaxed);
        drop(clients);
        self.sending.join().unwrap();
    }
}

/// Waits until the queues are full, and asserts that the peak memory is at most a tenth and 8 MiB
/// above the limit.
#[track_caller]
fn full_queues_fit(server: &Server) {
    let is_full = || (server.stat("queued_bytes") > TOTAL_LIMIT - LAST_STEP).then_some(());
    server.wait_until("the queues are full", is_full);
    server.logs(&["paused"]);
    let peak = server.process().peak_resident_bytes();
    let allowed = TOTAL_LIMIT + TOTAL_LIMIT / 10 + 8 * MIB;
    println!("{:.1} of {:.1} MiB", peak as f64 / MIB as f64, allowed as f64 / MIB as f64);
    assert!(peak <= allowed, "{peak} bytes were resident, {allowed} are allowed");
}

#[test]
fn full_queues_of_thirty_clients_fit_and_their_memory_is_given_back() {
    let server = server_with(4 * MIB);
    let clients = slow_clients(&server, 30);
    let source = Source::connect(&server);
    let source = EndlessSource::start(&server, source, (0..30).map(|user| (user, 50)).collect());
    full_queues_fit(&server);
    source.stops_after(clients);
    server.wait_until("the memory is returned", || {
        (server.process().resident_bytes() < TOTAL_LIMIT / 4).then_some(())
    });
}

#[test]
fn a_full_queue_of_one_client_fits() {
    let server = server_with(TOTAL_LIMIT);
    let clients = slow_clients(&server, 30);
    let source = Source::connect(&server);
    let source = EndlessSource::start(&server, source, vec![(7, 1000)]);
    full_queues_fit(&server);
    source.stops_after(clients);
}

#[test]
fn uneven_queues_that_drain_in_part_and_fill_again_fit() {
    let server = server_with(TOTAL_LIMIT);
    let mut clients = slow_clients(&server, 30);
    let shares: Vec<(u64, u64)> = (0..30).map(|user| (user, 1 + user * user / 4)).collect();
    let source = EndlessSource::start(&server, Source::connect(&server), shares.clone());
    for round in 0..3 {
        full_queues_fit(&server);
        // Two in three read until the server resumes, those with the longest queues the most.
        let applied = server.stat("events");
        while server.stat("events") == applied {
            for &(user, share) in shares.iter().filter(|(user, _)| (user + round) % 3 > 0) {
                clients[user as usize].skips((share * 10 * MESSAGE_BYTES) as usize);
            }
        }
    }
    source.stops_after(clients);
}

#[test]
fn short_queues_of_thousands_fit_and_leave_room_for_a_long_one_when_they_have_shrunk() {
    const CLIENTS: u64 = 2000;
    const STEP: u64 = 100;
    let server = server_with(TOTAL_LIMIT);
    let mut clients = slow_clients(&server, CLIENTS);
    let mut source = Source::connect(&server);
    for first in (1..).step_by(STEP as usize) {
        source.sends(broadcasts(first..first + STEP));
        server.assert_stat_reaches("events", first + STEP - 1);
        if server.stat("queued_bytes") > TOTAL_LIMIT - 8 * MIB {
            break;
        }
    }
    while server.stat("queued_bytes") > 4 * MIB {
        clients.iter_mut().for_each(|client| client.skips(8192));
    }
    let source = EndlessSource::start(&server, source, vec![(7, 1000)]);
    full_queues_fit(&server);
    source.stops_after(clients);
}
