//! Every mode accepts a correct server and detects every injected bug.

use std::fmt::Write as _;

use super::faulty_server::{self, InjectedBug, Ports, ResumeBug};
use super::{CLIENTS, EVENTS, run, some_at_a_time, timeout_for, verify};

/// Asserts that `run_bug` accepts a correct server and rejects each bug.
fn assert_detects_all(mode: &str, run_bug: impl Fn(InjectedBug) -> (bool, String) + Sync) {
    let (right, text) = run_bug(InjectedBug::Nothing);
    assert!(right, "{mode}: a right server passed for a wrong one: {text}");
    let outcomes = some_at_a_time(&InjectedBug::ALL, |&bug| (bug, run_bug(bug).0));
    let passed: Vec<InjectedBug> =
        outcomes.into_iter().filter(|&(_, right)| right).map(|(bug, _)| bug).collect();
    assert!(passed.is_empty(), "{mode}: {passed:?} went unnoticed");
}

/// Runs `loadgen MODE ARGUMENTS` against a faulty server. A right one may be slow on a busy machine; what a wrong
/// one owes is not waited for long.
fn run_against(
    mode: &str,
    arguments: &str,
    clients: usize,
    events: Option<u64>,
    bug: InjectedBug,
) -> (bool, String) {
    println!("{mode}: {bug:?}");
    let Ports { events, clients } = faulty_server::start(clients, events, bug);
    let timeout = timeout_for(bug == InjectedBug::Nothing);
    run(&format!("{mode} --event-port {events} --client-port {clients} {arguments} {timeout}"))
}

#[test]
fn verify_detects_every_injected_bug() {
    assert_detects_all("verify", |bug| verify(bug, 21));
}

#[test]
fn verify_detects_every_bug_with_clients_that_come_back() {
    // Enough for several clients to come back.
    let count = 10 * EVENTS;
    let run_bug = |bug| {
        println!("{bug:?}");
        let Ports { events, clients } =
            faulty_server::start_resuming(CLIENTS, Some(count), InjectedBug::Nothing, bug);
        run(&format!(
            "verify --event-port {events} --client-port {clients} --concurrency-level {CLIENTS} \
             --total-events {count} --reconnect-every 0.001 {}",
            timeout_for(bug == ResumeBug::Nothing)
        ))
    };
    let (right, text) = run_bug(ResumeBug::Nothing);
    assert!(right && text.contains(" of clients"), "{text}");
    for bug in ResumeBug::ALL {
        let (right, text) = run_bug(bug);
        assert!(!right, "{bug:?} went unnoticed");
        // A busy machine may make another difference the first one that is told, which has the advice.
        match bug {
            ResumeBug::Gap => {
                assert!(text.contains("got `gap "), "{text}");
                let first = text.lines().find(|line| line.contains(" got ")).unwrap_or_default();
                let is_advised = text.contains("--resume-events");
                assert!(is_advised || !first.contains("got `gap "), "{text}");
            }
            _ => assert!(!text.contains("--resume-events"), "{text}"),
        }
    }
}

#[test]
fn replay_detects_every_injected_bug() {
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
    let arguments = capture.display().to_string();
    assert_detects_all("replay", |bug| {
        run_against("replay", &arguments, CLIENTS, Some(EVENTS), bug)
    });
}

#[test]
fn latency_detects_every_injected_bug() {
    // The warm-up of half a second is part of the events.
    for (kind, clients) in [("", 10), (" --broadcast", 3)] {
        let arguments = format!("--clients {clients} --rate 2000 --duration 0.25{kind}");
        assert_detects_all("latency", |bug| {
            run_against("latency", &arguments, clients, Some(1500), bug)
        });
    }
}

#[test]
fn soak_detects_every_injected_bug() {
    let arguments = "--clients 5 --sources 1 --visits 0 --rate 2000 --burst 0 --seconds 1";
    assert_detects_all("soak", |bug| run_against("soak", arguments, 5, None, bug));
}

#[test]
fn fairness_detects_every_injected_bug() {
    // The receivers, and the write-interval probe.
    let arguments = "--mix 1:1:2:2:1 --clients 4 --duration 0.2 --bound-ms 20000";
    assert_detects_all("fairness", |bug| run_against("fairness", arguments, 5, None, bug));
}

#[test]
fn idle_detects_every_injected_bug() {
    assert_detects_all("idle", |bug| run_against("idle", "--clients 20", 20, Some(1), bug));
}
