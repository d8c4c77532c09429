//! The judge, judged: it must accept a right server and find each fault of a wrong one.

#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first thing that is not as it should be"
)]

mod reference;

use std::process::{Command, Output};

use reference::{Plant, Ports};

const CLIENTS: usize = 20;
const USERS: usize = 40;
const EVENTS: u64 = 5000;

/// Runs `loadgen verify` against the reference server; every test has a stream of its own.
fn verify(plant: Plant, seed: u64) -> (bool, String) {
    println!("seed {seed}");
    let Ports { events, clients } = reference::start(CLIENTS, EVENTS, plant);
    let arguments = [
        "verify".to_owned(),
        format!("--event-port {events}"),
        format!("--client-port {clients}"),
        format!("--total-events {EVENTS}"),
        format!("--concurrency-level {CLIENTS}"),
        format!("--number-of-users {USERS}"),
        format!("--random-seed {seed}"),
        "--timeout 1000".to_owned(),
        "--mix 3:1:1:3:6".to_owned(),
    ];
    outcome(&loadgen(&arguments.join(" ")).output().unwrap())
}

fn loadgen(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(arguments.split(' ')).env_clear();
    command
}

fn outcome(output: &Output) -> (bool, String) {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    print!("{text}");
    (output.status.success(), text)
}

#[test]
fn a_right_server_is_right() {
    for seed in [1, 666] {
        let (right, text) = verify(Plant::Nothing, seed);
        assert!(right);
        assert!(text.contains("ALL NOTIFICATIONS RECEIVED"));
    }
}

/// The fault is found, and what is said about it holds each of `words`.
fn must_find(plant: Plant, words: &[&str]) {
    let (right, text) = verify(plant, 7);
    assert!(!right, "{plant:?} went unnoticed");
    assert!(!text.contains("ALL NOTIFICATIONS RECEIVED"));
    for word in words {
        assert!(text.contains(word), "{plant:?}: `{word}` is missing");
    }
}

#[test]
fn two_events_swapped() {
    must_find(Plant::Swap, &["user ", " got `", "instead of `", "its event ", "right bytes"]);
}

#[test]
fn one_event_lost() {
    must_find(Plant::Lose, &["instead of `"]);
}

#[test]
fn one_event_doubled() {
    must_find(Plant::Double, &["instead of `"]);
}

#[test]
fn one_byte_changed() {
    must_find(Plant::ChangeByte, &["/", "instead of `"]);
}

#[test]
fn one_event_for_the_wrong_user() {
    must_find(Plant::WrongUser, &["instead of `", "1 other users differ"]);
}

#[test]
fn extra_bytes_at_the_end() {
    must_find(Plant::ExtraAtEnd, &["got `1|B\\r\\n` where nothing more was due"]);
}

#[test]
fn a_client_closed_early() {
    must_find(Plant::CloseClient, &["was closed (end of file) before it got `"]);
}

#[test]
fn the_source_closed_early() {
    must_find(Plant::CloseSource, &["the event source's connection"]);
}

#[test]
fn a_server_that_falls_silent() {
    must_find(Plant::FallSilent, &["still misses", "19 other users differ"]);
}

#[test]
fn the_environment_of_the_original() {
    let Ports { events, clients } = reference::start(CLIENTS, EVENTS, Plant::Nothing);
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .env_clear()
        .env("eventListenerPort", events.to_string())
        .env("clientListenerPort", clients.to_string())
        .env("totalEvents", EVENTS.to_string())
        .env("concurrencyLevel", CLIENTS.to_string())
        .env("numberOfUsers", USERS.to_string())
        .env("randomSeed", "-7")
        .env("timeout", "1000")
        .env("maxEventSourceBatchSize", "17")
        .env("logInterval", "1")
        .env("logLevel", "info")
        .output()
        .unwrap();
    let (right, text) = outcome(&output);
    assert!(right);
    assert!(text.contains("in batches of up to 17, 20 of 40 users connected"));
}

#[test]
fn what_cannot_be_used_is_named_and_is_status_2() {
    for (arguments, named) in [
        ("verify --mix best", "best"),
        ("verify --concurrency-level 0", "concurrencyLevel"),
        ("verify --total-events x", "total-events"),
        ("frobnicate", "frobnicate"),
    ] {
        let output = loadgen(arguments).output().unwrap();
        let (_, text) = outcome(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert!(text.contains(named), "{arguments}");
    }
}

#[test]
fn no_server_is_status_1() {
    // Nobody listens on port 1 of the loopback interface.
    let output = loadgen("verify --event-port 1 --total-events 10").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(outcome(&output).1.contains("the event source to 127.0.0.1:1"));
}

#[test]
fn the_limit_delivers_the_same_bytes_in_every_mix() {
    for mix in ["verification", "even", "private", "broadcast", "feed"] {
        let arguments =
            format!("limit --mix {mix} --total-events 30000 --concurrency-level 20 --timeout 5000");
        let (right, text) = outcome(&loadgen(&arguments).output().unwrap());
        assert!(right, "{mix}");
        assert!(text.contains("ALL NOTIFICATIONS RECEIVED"), "{mix}");
    }
}
