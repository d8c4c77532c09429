//! Every mode accepts the right server and finds every planted fault.

use std::fmt::Write as _;

use super::reference::{self, Plant, Ports};
use super::{CLIENTS, EVENTS, run, verify};

/// The right server is right, and each fault is found in the mode that `judge` runs.
fn must_find_all(mode: &str, judge: impl Fn(Plant) -> (bool, String)) {
    let (right, text) = judge(Plant::Nothing);
    assert!(right, "{mode}: a right server passed for a wrong one: {text}");
    let passed: Vec<Plant> = Plant::FAULTS.into_iter().filter(|&plant| judge(plant).0).collect();
    assert!(passed.is_empty(), "{mode}: {passed:?} went unnoticed");
}

/// Runs `loadgen MODE ARGUMENTS` against a reference server.
fn judge(
    mode: &str,
    arguments: &str,
    clients: usize,
    events: Option<u64>,
    plant: Plant,
) -> (bool, String) {
    println!("{mode}: {plant:?}");
    let Ports { events, clients } = reference::start(clients, events, plant);
    run(&format!("{mode} --event-port {events} --client-port {clients} {arguments}"))
}

#[test]
fn verify_finds_every_planted_fault() {
    must_find_all("verify", |plant| verify(plant, 21));
}

#[test]
fn replay_finds_every_planted_fault() {
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("stream.events");
    let mut lines = String::new();
    for sequence in 1..=EVENTS {
        let (a, b) = (sequence % CLIENTS as u64, sequence * 7 / 3 % CLIENTS as u64);
        let _ = match sequence % 5 {
            0 => writeln!(lines, "{sequence}|B"),
            1 => writeln!(lines, "{sequence}|U|{a}|{b}"),
            2 | 3 => writeln!(lines, "{sequence}|F|{a}|{b}"),
            _ => writeln!(lines, "{sequence}|S|{b}"),
        };
    }
    std::fs::write(&capture, lines).unwrap();
    let arguments = format!("{} --timeout 1000", capture.display());
    must_find_all("replay", |plant| judge("replay", &arguments, CLIENTS, Some(EVENTS), plant));
}

#[test]
fn latency_finds_every_planted_fault() {
    // Half a second of warm-up comes first.
    for (kind, clients) in [("", 10), (" --broadcast", 3)] {
        let arguments =
            format!("--clients {clients} --rate 2000 --duration 0.25 --timeout 1000{kind}");
        must_find_all("latency", |plant| judge("latency", &arguments, clients, Some(1500), plant));
    }
}

#[test]
fn soak_finds_every_planted_fault() {
    let arguments = "--clients 5 --sources 1 --visits 0 --rate 2000 --burst 0 --seconds 1 \
                     --timeout 1000";
    must_find_all("soak", |plant| judge("soak", arguments, 5, None, plant));
}

#[test]
fn fairness_finds_every_planted_fault() {
    // The crowd, and the client that watches the server's writes.
    let arguments = "--mix 1:1:2:2:1 --clients 4 --duration 0.2 --bound-ms 20000 --timeout 2000";
    must_find_all("fairness", |plant| judge("fairness", arguments, 5, None, plant));
}

#[test]
fn idle_finds_every_planted_fault() {
    must_find_all("idle", |plant| judge("idle", "--clients 20 --timeout 500", 20, Some(1), plant));
}
