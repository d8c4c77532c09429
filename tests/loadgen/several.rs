//! Several servers that share a stream.

use super::shared_servers::{self, EVENTS, SharedBug};
use super::{loadgen, outcome, run};

const MIX: &str = "--mix 3:1:1:3:6 --number-of-users 60";

/// Runs a verification against three servers.
fn verify(bug: SharedBug, seed: u64) -> (bool, String) {
    println!("{bug:?}, seed {seed}");
    let targets = shared_servers::start(3, bug);
    run(&format!(
        "verify {targets} {MIX} --concurrency-level 20 --total-events {EVENTS} --random-seed {seed} \
         --move-every 30ms --timeout 2000"
    ))
}

/// Returns the number before a word of the output.
fn number_before(text: &str, word: &str) -> u64 {
    let (before, _) = text.split_once(word).unwrap();
    before.split_whitespace().last().unwrap().parse().unwrap()
}

#[test]
fn clients_everywhere_and_a_source_that_moves() {
    for seed in [1, 666] {
        let (right, text) = verify(SharedBug::Nothing, seed);
        assert!(right && text.contains("ALL NOTIFICATIONS RECEIVED"));
        assert!(number_before(&text, " moves") > 0, "{text}");
        assert_eq!(number_before(&text, " reconnects"), 0);
        // With the broadcast at the end.
        let hash = format!("{:032x} at all servers", 7 * (EVENTS + 2));
        assert!(text.contains(&hash), "{text}");
    }
}

#[test]
fn connections_that_are_lost() {
    let (right, text) = verify(SharedBug::CutConnections, 3);
    assert!(right && text.contains("ALL NOTIFICATIONS RECEIVED"));
    assert!(number_before(&text, " reconnects") > 0, "{text}");
}

#[test]
fn a_server_that_comes_back_when_the_states_are_compared() {
    let (right, text) = verify(SharedBug::ComeBackAtEnd, 3);
    assert!(right && text.contains(" at all servers"), "{text}");
}

#[test]
fn what_one_of_the_servers_does_wrong() {
    for (bug, words) in [
        (SharedBug::LoseFirstLine, "instead of `"),
        (SharedBug::RepeatFirstLine, "instead of `"),
        (SharedBug::LoseLine, "instead of `"),
        (SharedBug::DoubleLine, "instead of `"),
        (SharedBug::OtherEvent, "instead of `"),
        (SharedBug::StopApplying, "is missing"),
        (SharedBug::AwaitTooMuch, "awaits sequence 1"),
        (SharedBug::OtherHash, "the servers differ at sequence"),
        (SharedBug::NoHash, "shows no state_hash"),
        (SharedBug::ExtraAtEnd, "after the last expected event"),
    ] {
        let (right, text) = verify(bug, 7);
        assert!(!right && text.contains(words), "{bug:?}: {text}");
        assert!(!text.contains("ALL NOTIFICATIONS RECEIVED"), "{bug:?}");
    }
}

#[test]
fn a_source_goes_on_where_commits_are_told() {
    let (right, _) = verify(SharedBug::CommitNothing, 7);
    assert!(right);
}

#[test]
fn a_stream_that_has_events_already() {
    let targets = shared_servers::start(2, SharedBug::Nothing);
    let verify =
        format!("verify {targets} --total-events 100 --concurrency-level 5 --timeout 2000");
    assert!(run(&verify).0);
    let (right, text) = run(&verify);
    assert!(
        !right && text.contains("awaits sequence 102") && text.contains("use a new stream"),
        "{text}"
    );
}

#[test]
fn results_name_the_servers() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("result.json");
    let targets = shared_servers::start(2, SharedBug::Nothing);
    let (right, _) = run(&format!(
        "verify {targets} --total-events 1000 --concurrency-level 5 --json {}",
        json.display()
    ));
    assert!(right);
    let result: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(result["kind"], "verify-shared");
    assert_eq!(result["settings"]["server"].as_array().unwrap().len(), 2);
    assert_eq!(result["settings"]["sync"], true);
    assert_eq!(result["figures"]["servers"], 2);
    assert_eq!(result["figures"]["events"], 1001);
}

#[test]
fn latency_at_several_servers() {
    let targets = shared_servers::start(3, SharedBug::Nothing);
    let (right, text) =
        run(&format!("latency {targets} --clients 10 --rate 2000 --duration 0.2 --timeout 5000"));
    assert!(right && text.contains("from due time"));
    let targets = shared_servers::start(3, SharedBug::LoseLine);
    let (right, text) =
        run(&format!("latency {targets} --clients 10 --rate 50k --duration 1 --timeout 500"));
    assert!(!right && text.contains("which is unexpected"), "{text}");
}

#[test]
fn a_soak_of_several_servers() {
    let soak = "--clients 6 --sources 3 --visits 0 --rate 40000 --burst 0 --seconds 1 --every 1 --timeout 2000";
    let targets = shared_servers::start(3, SharedBug::Nothing);
    let (right, text) = run(&format!("soak {targets} {soak}"));
    assert!(right && text.contains("ALL AS EXPECTED"));
    for (bug, words) in [
        (SharedBug::LoseLine, "instead of `"),
        (SharedBug::OtherHash, "the servers differ at sequence"),
    ] {
        let targets = shared_servers::start(3, bug);
        let (right, text) = run(&format!("soak {targets} {soak}"));
        assert!(!right && text.contains(words), "{bug:?}: {text}");
    }
}

#[test]
fn servers_that_cannot_be_meant() {
    let two = "--target 127.0.0.1:1:2 --target 127.0.0.1:3:4";
    for (arguments, words) in [
        (format!("verify {two} --spawn"), "--spawn has no effect with --target"),
        (format!("verify {two} --event-port 5"), "--event-port has no effect with --target"),
        (format!("soak {two} --admin 5"), "--admin has no effect with --target"),
        (format!("latency {two} --runs 2"), "--runs has no effect with --target"),
        ("verify --move-every 1".to_owned(), "--move-every has no effect without --target"),
        (
            "verify --target 127.0.0.1:1:2 --move-every 1".to_owned(),
            "--move-every has no effect with one --target",
        ),
        (
            format!("verify {two} --reconnect-every 1"),
            "--reconnect-every has no effect with several",
        ),
        (format!("verify {two} --target 127.0.0.1:1:2"), "is given twice"),
        (format!("soak {two} --target 127.0.0.1:5:6:7"), "either each --target has an ADMIN port"),
        ("verify --target 127.0.0.1:1".to_owned(), "expected HOST:EVENT:CLIENT"),
        ("verify --target 127.0.0.1:1:2:3:4".to_owned(), "expected HOST:EVENT:CLIENT"),
        ("verify --target :1:2".to_owned(), "a host is missing"),
        ("replay x --target 127.0.0.1:1:2".to_owned(), "--target"),
    ] {
        let output = loadgen(&arguments).output().unwrap();
        let text = outcome(&output).1;
        assert_eq!(output.status.code(), Some(2), "{arguments}: {text}");
        assert!(text.contains(words), "{arguments}: {text}");
    }
    let (right, text) = run(&format!("verify {two} --total-events 10"));
    assert!(!right && text.contains("no server at 127.0.0.1:"), "{text}");
}
