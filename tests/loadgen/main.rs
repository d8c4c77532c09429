//! Tests of the load generator: it must accept a correct server and detect each bug of a faulty
//! one.

#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first thing that is not as it should be"
)]

mod admin;
mod arguments;
mod compare;
mod fairness;
mod faulty_server;
mod injected_bugs;
mod messages;
mod replay;
mod restarts;
mod results;
mod running_server;
mod several;
mod shared_servers;
mod signals;
mod soak;

use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread;

use faulty_server::{InjectedBug, Ports};

const CLIENTS: usize = 20;
const USERS: usize = 40;
const EVENTS: u64 = 5000;

/// The time that a server has: one that is awaited may be slow on a busy machine, and what others owe does not come.
fn timeout_for(is_awaited: bool) -> &'static str {
    if is_awaited { "--timeout 30000" } else { "--timeout 1000" }
}

/// Runs `loadgen verify` against a faulty server, with a seed per test.
fn verify(bug: InjectedBug, seed: u64) -> (bool, String) {
    println!("seed {seed}");
    let Ports { events, clients } = faulty_server::start(CLIENTS, Some(EVENTS), bug);
    let arguments = [
        "verify".to_owned(),
        format!("--event-port {events}"),
        format!("--client-port {clients}"),
        format!("--total-events {EVENTS}"),
        format!("--concurrency-level {CLIENTS}"),
        format!("--number-of-users {USERS}"),
        format!("--random-seed {seed}"),
        timeout_for(bug != InjectedBug::StopDelivering).to_owned(),
        "--mix 3:1:1:3:6".to_owned(),
    ];
    run(&arguments.join(" "))
}

/// Runs what mostly waits for processes, some at a time; returns the results in order.
fn some_at_a_time<T: Sync, R: Send>(items: &[T], run: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let run_all = |items: &[T]| items.iter().map(&run).collect::<Vec<R>>();
    thread::scope(|scope| {
        let lanes: Vec<_> = items
            .chunks(items.len().div_ceil(4).max(1))
            .map(|items| scope.spawn(|| run_all(items)))
            .collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    })
}

/// Returns whether the command succeeded, and its output.
fn run(arguments: &str) -> (bool, String) {
    outcome(&loadgen(arguments).output().unwrap())
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
fn accepts_a_correct_server() {
    for seed in [1, 666] {
        let (right, text) = verify(InjectedBug::Nothing, seed);
        assert!(right);
        assert!(text.contains("ALL NOTIFICATIONS RECEIVED"));
    }
}

/// Asserts that the bug is detected, and that the output contains each of `words`.
fn assert_detects(bug: InjectedBug, words: &[&str]) {
    let (right, text) = verify(bug, 7);
    assert!(!right, "{bug:?} went unnoticed");
    assert!(!text.contains("ALL NOTIFICATIONS RECEIVED"));
    for word in words {
        assert!(text.contains(word), "{bug:?}: `{word}` is missing");
    }
}

#[test]
fn two_events_swapped() {
    assert_detects(
        InjectedBug::Swap,
        &["user ", " got `", "instead of `", "of this client", "matching bytes"],
    );
}

#[test]
fn one_event_lost() {
    assert_detects(InjectedBug::Lose, &["instead of `"]);
}

#[test]
fn one_event_doubled() {
    assert_detects(InjectedBug::Double, &["instead of `"]);
}

#[test]
fn one_byte_changed() {
    assert_detects(InjectedBug::ChangeByte, &["/", "instead of `"]);
}

#[test]
fn one_event_for_the_wrong_user() {
    let (right, text) = verify(InjectedBug::WrongUser, 7);
    assert!(!right && text.contains("instead of `"));
    assert_eq!(
        text.matches("\n  user ").count(),
        2,
        "the one that got it and the one that did not"
    );
}

#[test]
fn extra_bytes_at_the_end() {
    assert_detects(InjectedBug::ExtraAtEnd, &["got `1|B\\r\\n` after the last expected event"]);
}

#[test]
fn a_client_closed_early() {
    assert_detects(InjectedBug::CloseClient, &["was closed (end of file) before it got `"]);
}

#[test]
fn the_source_closed_early() {
    assert_detects(InjectedBug::CloseSource, &["the event source's connection"]);
}

#[test]
fn a_server_that_stops_reading() {
    // The kernel accepts connections up to the backlog.
    let sources = TcpListener::bind("127.0.0.1:0").unwrap();
    let users = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    // There are no follows, so no client expects anything. The stream is larger than the kernel's
    // buffers.
    let (right, text) = run(&format!(
        "verify --event-port {} --client-port {} --mix 0:0:0:0:1 --total-events 1500000 \
         --concurrency-level 2 --timeout 300",
        port(&sources),
        port(&users)
    ));
    assert!(!right);
    assert!(text.contains("the server stopped reading"));
}

#[test]
fn a_stream_of_more_than_one_slice() {
    let (right, text) =
        run("verify --spawn --mix private --total-events 2100000 --timeout 10000 --random-seed 3");
    assert!(right && text.contains("ALL NOTIFICATIONS RECEIVED"));
    assert!(text.contains("2100000"));
}

#[test]
fn a_server_that_stops_delivering() {
    assert_detects(
        InjectedBug::StopDelivering,
        &["is missing", "15 more users differ", "(--timeout)"],
    );
}

#[test]
fn the_environment_of_the_original() {
    let Ports { events, clients } =
        faulty_server::start(CLIENTS, Some(EVENTS), InjectedBug::Nothing);
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
fn invalid_arguments_are_named_with_status_2() {
    for (arguments, named) in [
        ("verify --mix best", "best"),
        ("verify --concurrency-level 0", "concurrency-level"),
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
    // Port 1 of the loopback interface has no listener.
    let output = loadgen("verify --event-port 1 --total-events 10").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        outcome(&output)
            .1
            .contains("no server at 127.0.0.1:1, to which the event source connects: start it")
    );
}

#[test]
fn the_baseline_delivers_the_same_bytes_in_every_mix() {
    for mix in ["verification", "dense", "even", "private", "broadcast", "feed"] {
        let arguments =
            format!("limit --mix {mix} --total-events 30000 --concurrency-level 20 --timeout 5000");
        let (right, text) = run(&arguments);
        assert!(right, "{mix}");
        assert!(text.contains("ALL NOTIFICATIONS RECEIVED"), "{mix}");
    }
}

#[test]
fn a_server_of_its_own_in_every_mix() {
    for mix in ["verification", "dense", "even", "private", "broadcast", "feed"] {
        let directory = tempfile::tempdir().unwrap();
        let (json, report) = (directory.path().join("r.json"), directory.path().join("r.html"));
        let arguments = format!(
            "verify --spawn --mix {mix} --total-events 50000 --concurrency-level 20 --timeout 5000 \
             --json {} --report {}",
            json.display(),
            report.display()
        );
        let (right, text) = run(&arguments);
        assert!(right, "{mix}");
        assert!(text.contains("ALL NOTIFICATIONS RECEIVED"), "{mix}");

        let json = std::fs::read_to_string(json).unwrap();
        let result: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(result["ok"], true);
        assert_eq!(result["settings"]["mix"], mix);
        assert_eq!(result["figures"]["events"], 50_000);
        assert!(result["figures"]["serverPeakBytes"].as_u64().unwrap() > 0);
        let page = std::fs::read_to_string(report).unwrap();
        assert!(page.contains("Every byte received by every client matched."), "{mix}");
    }
}

#[test]
fn replay_verifies_a_capture() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let capture = format!("{data}/verification-20k.events.gz");
    for choice in [format!("--users {data}/verification-20k.expected"), "--users 30".to_owned()] {
        let (right, text) = run(&format!("replay {capture} --spawn --timeout 5000 {choice}"));
        assert!(right && text.contains("ALL NOTIFICATIONS RECEIVED"));
    }
    let (right, text) = run(&format!("replay {capture} --spawn --no-verify"));
    assert!(right && text.contains("NOT CHECKED"));
}

#[test]
fn a_capture_is_sent_at_the_pace_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("few.events");
    std::fs::write(&capture, "2|P|1|7\n1|B\nnoise\n3|X\n4|P|1|7\n").unwrap();
    std::fs::write(directory.path().join("few.events.times"), "0 8\n600000 33\n").unwrap();
    for pace in ["--rate 20", "--speed 3"] {
        let arguments = format!("replay {} --spawn --timeout 5000 {pace}", capture.display());
        let (right, text) = run(&arguments);
        assert!(right, "{pace}");
        let time = text.lines().find_map(|line| line.trim().strip_prefix("time")).unwrap();
        let (seconds, _) = time.trim().split_once(" s, from the first byte sent").unwrap();
        let seconds: f64 = seconds.parse().unwrap();
        assert!(seconds >= 0.19, "{pace}: {seconds}");
        assert!(text.contains("deliveries  4 "), "{pace}");
    }
}

#[test]
fn latencies_of_server_and_relay() {
    for what in ["", " --broadcast --busy --busy-relay"] {
        let directory = tempfile::tempdir().unwrap();
        let hgrm = directory.path().join("l.hgrm");
        let (right, text) = run(&format!(
            "latency --spawn --relay --clients 10 --rate 2000 --duration 0.2 --timeout 5000 \
             --hgrm {}{what}",
            hgrm.display()
        ));
        assert!(right);
        for row in ["from due time", "from sending", "relay, due time", "ratio, due time"] {
            assert!(text.contains(row), "{row}");
        }
        let distribution = std::fs::read_to_string(hgrm).unwrap();
        assert!(distribution.contains("#[Max"));
    }
}

#[test]
fn the_relay_alone_and_the_knee() {
    let (right, text) =
        run("limit --relay --concurrency-level 5 --rate 500 --duration 0.2 --timeout 5000");
    assert!(right && text.contains("from due time"));
    // A bound that every rate exceeds ends the search at once.
    let arguments =
        "latency --spawn --find-knee --p99-us 0.001 --clients 5 --duration 0.1 --timeout 5000";
    let output = loadgen(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(outcome(&output).1.contains("INCONCLUSIVE: At "));
}

#[test]
fn a_lost_message_fails_a_latency_run() {
    // The faulty server serves one run of this length, and loses one event.
    let Ports { events, clients } = faulty_server::start(10, Some(3000), InjectedBug::Lose);
    let (right, text) = run(&format!(
        "latency --event-port {events} --client-port {clients} --clients 10 --rate 2000 \
         --duration 0.5 --timeout 500"
    ));
    assert!(!right);
    assert!(text.contains("which is unexpected"), "{text}");
}

#[test]
fn idle_command() {
    let (right, text) = run("idle --spawn --relay --clients 300 --timeout 5000");
    assert!(right);
    assert!(text.contains("bytes each") && text.contains("to the last client"));
}
