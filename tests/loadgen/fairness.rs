//! `loadgen fairness`: it floods, reports waiting times, and detects clients that are not served.

use super::faulty_server::{self, Ports};
use super::{loadgen, outcome, run};

/// With one receiver there are ten users, and one write-interval probe.
const FIRST_NEW_CLIENT: u64 = 12;

/// The output of a passing run. The bound is wide, because other tests run in parallel.
#[test]
fn everybody_is_served_while_a_source_floods() {
    let directory = tempfile::tempdir().unwrap();
    let (json, report) = (directory.path().join("r.json"), directory.path().join("r.html"));
    let arguments = format!(
        "fairness --spawn --clients 10 --duration 0.5 --bound-ms 10000 --json {} --report {}",
        json.display(),
        report.display()
    );
    let output = loadgen(&arguments).output().unwrap();
    let (_, text) = outcome(&output);
    // On a busy machine, the load generator may be too slow for a flood: inconclusive.
    let words = match output.status.code() {
        Some(0) => "ALL WAITS WITHIN 10000 ms",
        Some(3) => "INCONCLUSIVE: No wait exceeded",
        status => panic!("{status:?}"),
    };
    assert!(text.contains(words), "{text}");

    let json = std::fs::read_to_string(json).unwrap();
    let result: serde_json::Value = serde_json::from_str(&json).unwrap();
    let figures = &result["figures"];
    assert!(figures["eventsPerSecond"].as_f64().unwrap() > 0.0);
    for wait in ["firstEventFromConnecting", "timeoutLateBy", "signal", "turn"] {
        let (count, times) = (&figures[wait]["count"], &figures[wait]["waitUs"]);
        assert!(count.as_u64().unwrap() > 0, "{wait}");
        assert!(times["p50"].as_f64().unwrap() <= times["max"].as_f64().unwrap(), "{wait}");
    }
    assert!(std::fs::read_to_string(report).unwrap().contains("<svg"));
}

#[test]
fn a_bound_that_nothing_keeps_is_broken() {
    let arguments = "fairness --spawn --mix broadcast --clients 2 --duration 0.1 --bound-ms 0.001";
    let output = loadgen(arguments).output().unwrap();
    let (_, text) = outcome(&output);
    // A machine that is too busy judges no bound.
    let words = match output.status.code() {
        Some(1) => "A WAIT EXCEEDED 0.001 ms",
        Some(3) => "INCONCLUSIVE: The longest wait was ",
        status => panic!("{status:?}"),
    };
    assert!(text.contains(words), "{text}");
}

#[test]
fn new_clients_that_get_nothing() {
    let Ports { events, clients } = faulty_server::start_answering("", FIRST_NEW_CLIENT);
    let (kept, text) = run(&format!(
        "fairness --event-port {events} --client-port {clients} --clients 1 --timeout 300"
    ));
    assert!(!kept);
    assert!(text.contains("a new client got no event within 300ms"));
}

#[test]
fn new_clients_that_get_what_is_not_theirs() {
    for line in ["1|P|1|2\r\n", "9999999999|B\r\n", "1|B\n"] {
        let Ports { events, clients } = faulty_server::start_answering(line, FIRST_NEW_CLIENT);
        let (kept, text) =
            run(&format!("fairness --event-port {events} --client-port {clients} --clients 1"));
        assert!(!kept);
        let named = format!("a new client got `{}` first", line.escape_default());
        assert!(text.contains(&named), "{named}");
    }
}

#[test]
fn silent_clients_that_are_not_closed() {
    let Ports { events, clients } = faulty_server::start_answering("1|B\r\n", FIRST_NEW_CLIENT);
    let (kept, text) = run(&format!(
        "fairness --event-port {events} --client-port {clients} --clients 1 --timeout 300 \
         --identify-timeout-ms 10"
    ));
    assert!(!kept);
    assert!(text.contains("an unidentified client was not closed within 300ms"));
}

#[test]
fn a_mix_without_broadcasts_is_refused() {
    let output = loadgen("fairness --mix private").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(outcome(&output).1.contains("--mix"));
}
