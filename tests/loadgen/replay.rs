//! `loadgen replay`: the contents of a capture are counted and shown, and a correct server passes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::running_server::RunningServer;
use super::{loadgen, outcome, run};

fn capture(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("stream.events");
    std::fs::write(&file, text).unwrap();
    (directory, file)
}

/// Replays `text` with `arguments`; returns whether it passed, and the output.
fn replay(text: &str, arguments: &str) -> (bool, String) {
    let (_directory, file) = capture(text);
    run(&format!("replay {} --timeout 3000 {arguments}", file.display()))
}

/// Asserts that a file is rejected with status 2 and `reason`.
fn assert_rejects(file: &Path, reason: &str) {
    let output = loadgen(&format!("replay {} --spawn", file.display())).output().unwrap();
    let (_, text) = outcome(&output);
    assert_eq!(output.status.code(), Some(2), "{}", file.display());
    assert!(text.contains(reason), "{}: `{reason}` is missing", file.display());
}

#[test]
fn malformed_void_and_repeated_lines_are_counted() {
    let text = "1|B\nnoise\n2|X\n\n3|B\n3|B\n4|X\n4|P|1|7\n5|S|";
    let (right, text) = replay(text, "--spawn");
    assert!(right);
    assert!(
        text.contains("4 events, 2 malformed, 2 void, 2 repeat a sequence, 1 cut short"),
        "{text}"
    );
}

#[test]
fn a_file_without_an_event_is_refused() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert_rejects(&root.join("Cargo.toml"), "lines is an event such as `1|B`");
    let (_directory, empty) = capture("");
    assert_rejects(&empty, "the file is empty");
    let (_directory, cut_short) = capture("1|B");
    assert_rejects(&cut_short, "its only line is not terminated");
    let (_directory, voids) = capture("1|X\n2|Y\n");
    assert_rejects(&voids, "none of its 2 lines is an event such as `1|B`");
    let (_directory, endless) = capture(&"1".repeat(2 << 20));
    assert_rejects(&endless, "not a captured stream");
    assert_rejects(Path::new("/dev/null"), "not a regular file");
    assert_rejects(root, "not a regular file");
}

#[test]
fn events_after_an_endless_gap_fail_the_replay() {
    let (right, text) = replay("1|B\n3|B\n4|S|7\n", "--spawn");
    assert!(!right, "two events never went out");
    assert!(text.contains("2 lines wait for sequence 2"), "{text}");
    assert!(!text.contains("ALL NOTIFICATIONS RECEIVED"));
    let (right, text) =
        replay("1|B\n3|B\n", "--spawn --server-arg --gap-timeout-ms --server-arg 0");
    assert!(!right && text.contains("1 line waits for sequence 2"), "{text}");
}

#[test]
fn a_capture_of_broadcasts_alone_is_checked_all_the_same() {
    let (right, text) = replay("2|B\n1|B\n", "--spawn");
    assert!(right && text.contains("deliveries  2 "), "{text}");
}

#[test]
fn a_stream_may_begin_anywhere() {
    let text = "5001|F|1|7\n5000|B\n5003|S|7\n5002|P|7|1\n";
    for arguments in [
        "--spawn",
        "--spawn --first-sequence 5000",
        "--spawn --server-arg --first-sequence --server-arg 5000",
    ] {
        let (right, text) = replay(text, arguments);
        assert!(right, "{arguments}");
        assert!(text.contains("deliveries  5 "), "{arguments}: {text}");
    }
    // Sequences before the first one are late.
    let (right, text) = replay("1|B\n5000|B\n", "--spawn --first-sequence 5000");
    assert!(right && text.contains("deliveries  1 "), "{text}");
}

#[test]
fn a_gap_that_was_given_up_is_given_up_again() {
    // A waiting void is replaced by an event of its sequence, and gaps may be adjacent.
    let text = "1|B\n2|F|1|7\n4|B\n6|X\n6|S|7\n5|P|7|1\n9|B\n10|B\n";
    let (right, text) = replay(text, "--spawn --server-arg --gap-timeout-ms --server-arg 100");
    assert!(right, "{text}");
    assert!(text.contains("3 sequences missing"), "{text}");
}

#[test]
fn a_gap_that_was_given_up_may_have_more_after_it_than_the_window_holds() {
    let mut text = String::from("1|F|1|7\n");
    for sequence in 3..400_000 {
        let _ = writeln!(text, "{sequence}|P|7|1");
    }
    let (right, _) = replay(&text, "--spawn --server-arg --gap-timeout-ms --server-arg 100");
    assert!(right);
}

#[test]
fn a_server_that_runs_already_may_give_gaps_up_or_wait() {
    let text = "5000|B\n5002|P|1|7\n";
    let server = RunningServer::start("--first-sequence 5000 --gap-timeout-ms 100");
    let (right, text_of_right) = replay(text, &server.ports);
    assert!(right, "{text_of_right}");
    let server = RunningServer::start("--first-sequence 5000");
    let (right, text_of_wrong) = replay(text, &server.ports);
    assert!(!right && text_of_wrong.contains("sequence 5001"), "{text_of_wrong}");
}

#[test]
fn a_user_that_is_listed_twice_connects_once() {
    let (directory, file) = capture("1|B\n");
    let users = directory.path().join("users");
    std::fs::write(&users, "7\n8\n7\n").unwrap();
    let (right, text) =
        run(&format!("replay {} --spawn --users {}", file.display(), users.display()));
    assert!(right && text.contains("deliveries  2 "), "{text}");
    std::fs::write(&users, "").unwrap();
    let output = loadgen(&format!("replay {} --spawn --users {}", file.display(), users.display()))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(outcome(&output).1.contains("names no user"));
}

#[test]
fn runs_that_follow_each_other_on_one_server() {
    let server = RunningServer::start("--on-source-disconnect reset");
    let ports = &server.ports;
    for run_again in [
        "fairness --clients 20 --duration 0.5 --bound-ms 20000",
        "soak --clients 5 --seconds 0.5 --visits 0",
        "fairness --clients 20 --duration 0.5 --bound-ms 20000",
        "latency --clients 5 --rate 1000 --duration 0.1",
        "fairness --clients 20 --duration 0.5 --bound-ms 20000",
        "verify --total-events 20000",
        "verify --total-events 20000",
        "idle --clients 10",
        "soak --clients 5 --sources 3 --seconds 0.5 --visits 0",
        "latency --clients 5 --rate 1000 --duration 0.1 --runs 3",
    ] {
        let (right, text) = run(&format!("{run_again} --timeout 20000 {ports}"));
        assert!(right, "{run_again}: {text}");
    }
}
