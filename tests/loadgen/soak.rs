//! `loadgen soak`: it runs for the given time, prints samples, and detects failures.

use super::faulty_server::{self, InjectedBug, Ports};
use super::{loadgen, outcome, run};

#[test]
fn soak_accepts_a_correct_server() {
    let directory = tempfile::tempdir().unwrap();
    let (json, report) = (directory.path().join("r.json"), directory.path().join("r.html"));
    // Enough churn clients for every behaviour, takeovers and replaced sources.
    let (right, text) = run(&format!(
        "soak --spawn --seconds 3 --every 0.5 --clients 10 --visits 100 --rate 5000 --burst 20000 \
         --json {} --report {}",
        json.display(),
        report.display()
    ));
    assert!(right);
    assert!(text.contains("ALL AS EXPECTED") && text.contains("too short to judge growth"));

    let json = std::fs::read_to_string(json).unwrap();
    let result: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(result["ok"], true);
    let figures = &result["figures"];
    assert!(figures["takeovers"].as_u64().unwrap() > 0);
    let samples = result["series"].as_array().unwrap();
    assert!(samples.len() > 1);
    let last = samples.last().unwrap();
    assert!(last["clients"].as_u64().unwrap() >= 10);
    assert!(last["memoryBytes"].as_u64().unwrap() > 0);
    assert!(last["events"].as_u64().unwrap() > samples[0]["events"].as_u64().unwrap());
    assert!(std::fs::read_to_string(report).unwrap().contains("<svg"));
}

/// Asserts that the bug is detected, and that the output contains each of `words`.
fn assert_detects(bug: InjectedBug, words: &[&str]) {
    let Ports { events, clients } = faulty_server::start(10, None, bug);
    let (right, text) = run(&format!(
        "soak --event-port {events} --client-port {clients} --clients 10 --sources 1 --visits 0 \
         --seconds 10 --timeout 500"
    ));
    assert!(!right, "{bug:?} went unnoticed");
    assert!(text.contains("NOT AS EXPECTED"));
    for word in words {
        assert!(text.contains(word), "{bug:?}: `{word}` is missing");
    }
}

#[test]
fn events_swapped_lost_doubled_changed_or_misdirected() {
    assert_detects(InjectedBug::Swap, &["user ", " got `", "instead of `", "matching bytes"]);
    assert_detects(InjectedBug::Lose, &["instead of `"]);
    assert_detects(InjectedBug::Double, &["got `"]);
    assert_detects(InjectedBug::ChangeByte, &["/", "instead of `"]);
    assert_detects(InjectedBug::WrongUser, &["got `"]);
}

#[test]
fn a_client_closed_early_and_a_server_that_stops_delivering() {
    assert_detects(InjectedBug::CloseClient, &["was closed (end of file) before it got "]);
    assert_detects(InjectedBug::StopDelivering, &["is missing"]);
}

/// Asserts that a server with arguments that are wrong for this load fails the run with `words`.
fn assert_detects_with(server: &str, words: &str) {
    let arguments = server.split(' ').map(|argument| format!(" --server-arg {argument}"));
    let (right, text) = run(&format!(
        "soak --spawn --seconds 10 --clients 5 --visits 100 --timeout 1000{}",
        arguments.collect::<String>()
    ));
    assert!(!right, "{server} went unnoticed");
    assert!(text.contains("NOT AS EXPECTED") && text.contains(words), "{server}");
}

#[test]
fn visitors_that_are_not_closed_and_visitors_that_are() {
    assert_detects_with("--identify-timeout-ms 60000", "was not closed though it sent no id");
    assert_detects_with("--max-clients 5", "was closed");
}

#[test]
fn events_that_are_not_applied() {
    assert_detects_with("--first-sequence 50", "instead of `");
    assert_detects_with("--reorder-window 1", "the event source's connection");
}

#[test]
fn minutes_and_seconds_exclude_each_other() {
    let output = loadgen("soak --spawn --minutes 1 --seconds 1").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(outcome(&output).1.contains("--minutes has no effect with --seconds"));
}
