//! `loadgen soak`: it goes on as long as asked, tells how it went, and notices what is wrong.

use super::reference::{self, Plant, Ports};
use super::{loadgen, outcome, run};

#[test]
fn a_right_server_is_right_all_the_time() {
    let directory = tempfile::tempdir().unwrap();
    let (json, report) = (directory.path().join("r.json"), directory.path().join("r.html"));
    // Visitors enough for each conduct, takeovers, and sources that are replaced.
    let (right, text) = run(&format!(
        "soak --spawn --seconds 3 --every 0.5 --clients 10 --visits 100 --rate 5000 --burst 20000 \
         --json {} --report {}",
        json.display(),
        report.display()
    ));
    assert!(right);
    assert!(text.contains("ALL AS EXPECTED") && text.contains("run too short to tell"));

    let json = std::fs::read_to_string(json).unwrap();
    let result: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(result["ok"], true);
    let figures = &result["figures"];
    assert!(figures["takeovers"].as_u64().unwrap() > 0);
    let samples = figures["samples"].as_array().unwrap();
    assert!(samples.len() > 1);
    let last = samples.last().unwrap();
    assert!(last["clients"].as_u64().unwrap() >= 10);
    assert!(last["memoryBytes"].as_u64().unwrap() > 0);
    assert!(last["events"].as_u64().unwrap() > samples[0]["events"].as_u64().unwrap());
    assert!(std::fs::read_to_string(report).unwrap().contains("<svg"));
}

/// The fault is found, and what is said about it holds each of `words`.
fn must_find(plant: Plant, words: &[&str]) {
    let Ports { events, clients } = reference::start(10, None, plant);
    let (right, text) = run(&format!(
        "soak --event-port {events} --client-port {clients} --clients 10 --sources 1 --visits 0 \
         --seconds 10 --timeout 500"
    ));
    assert!(!right, "{plant:?} went unnoticed");
    assert!(text.contains("NOT AS EXPECTED"));
    for word in words {
        assert!(text.contains(word), "{plant:?}: `{word}` is missing");
    }
}

#[test]
fn events_swapped_lost_doubled_changed_or_misdirected() {
    must_find(Plant::Swap, &["user ", " got `", "instead of `", "matching bytes"]);
    must_find(Plant::Lose, &["instead of `"]);
    must_find(Plant::Double, &["got `"]);
    must_find(Plant::ChangeByte, &["/", "instead of `"]);
    must_find(Plant::WrongUser, &["got `"]);
}

#[test]
fn a_client_closed_early_and_a_server_that_falls_silent() {
    must_find(Plant::CloseClient, &["was closed (end of file) before it got "]);
    must_find(Plant::FallSilent, &["is missing"]);
}

/// The server is started with arguments that make it wrong for this load, and that is found.
fn must_find_with(server: &str, words: &str) {
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
    must_find_with("--identify-timeout-ms 60000", "was not closed though it sent no id");
    must_find_with("--max-clients 5", "was closed");
}

#[test]
fn events_that_are_not_applied() {
    must_find_with("--first-sequence 50", "instead of `");
    must_find_with("--reorder-window 1", "the event source's connection");
}

#[test]
fn minutes_and_seconds_exclude_each_other() {
    let output = loadgen("soak --spawn --minutes 1 --seconds 1").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(outcome(&output).1.contains("--minutes and --seconds"));
}
