//! The order in which events are applied, and events that do not fit it.

use std::thread;
use std::time::Duration;

use crate::support::{Client, Server, Source, raise_descriptor_limit};

fn one_user(user: u64, flags: &[&str]) -> (Server, Client, Source) {
    let server = Server::start(flags);
    let client = Client::connect(&server, user);
    let source = Source::connect(&server);
    (server, client, source)
}

#[test]
fn an_event_and_all_that_waited_right_behind_it_are_applied_in_order() {
    let (server, mut client, mut source) = one_user(7, &[]);
    source.sends_lines(&["4|B", "2|P|1|7", "5|B", "3|F|1|7"]);
    source.sends_lines(&["1|B"]);
    client.receives(&["1|B", "2|P|1|7", "3|F|1|7", "4|B", "5|B"]);
    assert_eq!(server.stat("max_buffered_events"), 5);
}

#[test]
fn an_event_behind_a_gap_waits() {
    let (server, mut client, mut source) = one_user(7, &[]);
    source.sends_lines(&["1|B", "3|B"]);
    client.receives(&["1|B"]);
    server.assert_stat_reaches("buffered_events", 1);
    source.sends_lines(&["2|B"]);
    client.receives(&["2|B", "3|B"]);
    server.assert_stat_reaches("buffered_events", 0);
}

#[test]
fn the_first_of_two_waiting_events_with_one_sequence_stays() {
    let (server, mut client, mut source) = one_user(7, &[]);
    source.sends_lines(&["2|P|1|7", "2|B", "3|B", "1|B"]);
    client.receives(&["1|B", "2|P|1|7", "3|B"]);
    assert_eq!((server.stat("duplicate"), server.stat("late")), (1, 0));
}

#[test]
fn an_event_already_applied_is_late_and_dropped_with_a_warning() {
    let (server, mut client, mut source) = one_user(7, &[]);
    source.sends_lines(&["1|B", "2|B", "1|B", "2|P|1|7", "3|B"]);
    client.receives(&["1|B", "2|B", "3|B"]);
    assert_eq!((server.stat("duplicate"), server.stat("late")), (0, 2));
    server.logs(&["WARN", "late event", "sequence 1,", "3 is awaited"]);
}

#[test]
fn a_valid_event_replaces_a_void_that_still_waits() {
    let (server, mut client, mut source) = one_user(7, &[]);
    source.sends_lines(&["2|X", "2|B", "1|B"]);
    client.receives(&["1|B", "2|B"]);
    assert_eq!((server.stat("malformed"), server.stat("void")), (1, 0));
}

#[test]
fn a_malformed_line_does_not_replace_an_event_that_waits() {
    let (server, mut client, mut source) = one_user(7, &[]);
    source.sends_lines(&["2|B", "2|X", "1|B"]);
    client.receives(&["1|B", "2|B"]);
    assert_eq!((server.stat("malformed"), server.stat("void")), (1, 0));
}

#[test]
fn a_void_whose_turn_has_come_is_final() {
    let (server, mut client, mut source) = one_user(7, &[]);
    source.sends_lines(&["1|X", "1|B", "2|B"]);
    client.receives(&["2|B"]);
    assert_eq!((server.stat("void"), server.stat("late")), (1, 1));
}

#[test]
fn the_last_event_within_the_window_waits() {
    let (server, mut client, mut source) = one_user(7, &["--reorder-window", "100"]);
    let mut lines: Vec<String> = (1..=100).map(|sequence| format!("{sequence}|B")).collect();
    lines.reverse();
    let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    source.sends_lines(&lines);
    lines.reverse();
    client.receives(&lines);
    assert_eq!(server.stat("max_buffered_events"), 100);
}

#[test]
fn a_source_a_window_ahead_is_closed_with_an_error_that_names_all_three_numbers() {
    for far in ["103|B", "103|malformed"] {
        let (server, mut client, mut source) = one_user(7, &["--reorder-window", "100"]);
        source.sends_lines(&["1|B", "2|B", "4|B", far, "3|B"]);
        source.is_closed();
        let address = source.address().to_string();
        let error =
            server.logs(&["ERROR", &address, "sequence 103", "3 is awaited", "window of 100"]);
        server.logs(&[&format!("source {address} closed: window_exceeded")]);
        assert_eq!(server.stat("sources_closed.window_exceeded"), 1, "{error}");
        // Earlier lines count, later ones are not read, and no other peer is affected.
        client.receives(&["1|B", "2|B"]);
        Source::connect(&server).sends_lines(&["5|B", "3|B"]);
        client.receives(&["3|B", "4|B", "5|B"]);
        assert_eq!(server.stat("lost"), 0);
    }
}

#[test]
fn the_awaited_event_fits_the_smallest_window() {
    let (_server, mut client, mut source) = one_user(7, &["--reorder-window", "1"]);
    source.sends_lines(&["1|B", "2|B", "3|X", "4|B"]);
    client.receives(&["1|B", "2|B", "4|B"]);
    source.sends_lines(&["6|B"]);
    source.is_closed();
}

#[test]
fn sequences_start_where_they_are_told_to() {
    let (server, mut client, mut source) = one_user(7, &["--first-sequence", "0"]);
    source.sends_lines(&["1|B", "0|B"]);
    client.receives(&["0|B", "1|B"]);
    assert_eq!(server.stat("awaited"), 2);
}

#[test]
fn the_last_sequence_is_delivered_and_nothing_after_it() {
    let last = u64::MAX - 1;
    let (server, mut client, mut source) = one_user(7, &["--first-sequence", &last.to_string()]);
    let line = format!("{last}|B");
    source.sends_lines(&[&format!("{}|B", u64::MAX), &line, &line]);
    client.receives(&[&line]);
    server.assert_stat_reaches("late", 1);
    assert_eq!((server.stat("malformed"), server.stat("void")), (1, 0));
}

#[test]
fn a_gap_shows_in_the_log_with_its_sequence_and_age_and_is_waited_for() {
    let (server, mut client, mut source) = one_user(7, &[]);
    source.sends_lines(&["1|B", "3|B", "4|B"]);
    let line = server.logs(&["sequence 2 has been missing for ", "2 buffered after it"]);
    assert!(line.contains(" s;"), "{line}");
    assert_eq!(server.stat("lost"), 0);
    source.sends_lines(&["2|B"]);
    client.receives(&["1|B", "2|B", "3|B", "4|B"]);
}

#[test]
fn missing_sequences_are_skipped_after_the_gap_timeout_counted_and_logged() {
    let (server, mut client, mut source) = one_user(7, &["--gap-timeout-ms", "50"]);
    source.sends_lines(&["1|B", "5|B", "7|B", "8|B"]);
    client.receives(&["1|B", "5|B", "7|B", "8|B"]);
    server.logs(&["skipped missing sequences 2..=4", "3 lost"]);
    server.logs(&["skipped missing sequences 6..=6", "1 lost"]);
    source.sends_lines(&["3|B", "9|B"]);
    client.receives(&["9|B"]);
    assert_eq!((server.stat("lost"), server.stat("late")), (4, 1));
}

#[test]
fn a_void_behind_a_gap_counts_as_arrived_when_the_gap_is_skipped() {
    let (server, mut client, mut source) = one_user(7, &["--gap-timeout-ms", "50"]);
    source.sends_lines(&["1|B", "4|X"]);
    client.receives(&["1|B"]);
    server.assert_stat_reaches("awaited", 5);
    assert_eq!((server.stat("lost"), server.stat("void")), (2, 1));
    source.sends_lines(&["5|B"]);
    client.receives(&["5|B"]);
}

#[test]
fn an_order_with_nothing_behind_it_has_no_gap_however_long_it_rests() {
    let (server, mut client, mut source) = one_user(7, &["--gap-timeout-ms", "10"]);
    source.sends_lines(&["1|B", "3|B"]);
    client.receives(&["1|B", "3|B"]);
    // The log proves that time passes: another gap opens and closes.
    source.sends_lines(&["5|B"]);
    server.logs(&["skipped missing sequences 4..=4"]);
    source.sends_lines(&["6|B"]);
    client.receives(&["5|B", "6|B"]);
    assert_eq!(server.stat("lost"), 2);
}

/// Suspends the server past a gap's timeout while the missing event is in the source's socket, and
/// input is in those of `crowd` clients, which became ready before.
fn a_gap_does_not_expire_while_a_source_holds_something_unread(crowd: u64) {
    let timeout = Duration::from_secs(2);
    let (server, mut client, mut source) =
        one_user(7, &["--gap-timeout-ms", &timeout.as_millis().to_string()]);
    let mut crowd: Vec<Client> =
        (0..crowd).map(|number| Client::connect(&server, 1000 + number)).collect();
    source.sends_lines(&["1|B"]);
    for client in crowd.iter_mut().chain([&mut client]) {
        client.receives(&["1|B"]);
    }
    source.sends_lines(&["3|P|1|7"]);
    server.assert_stat_reaches("buffered_events", 1);
    server.while_suspended(|| {
        crowd.iter_mut().for_each(|client| client.sends("x"));
        source.sends_lines(&["2|P|1|7"]);
        // The timeout itself has to pass.
        thread::sleep(timeout);
    });
    client.receives(&["2|P|1|7", "3|P|1|7"]);
    assert_eq!(server.stat("lost"), 0);
}

#[test]
fn a_gap_does_not_expire_before_what_came_during_a_suspension_is_read() {
    a_gap_does_not_expire_while_a_source_holds_something_unread(0);
}

#[test]
fn a_gap_does_not_expire_while_a_source_stands_behind_a_crowd_of_ready_clients() {
    raise_descriptor_limit();
    a_gap_does_not_expire_while_a_source_holds_something_unread(2500);
}
