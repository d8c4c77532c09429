//! Gaps and resets, step by step.

use std::time::Duration;

use eventserver::config::{Config, OnSourceDisconnect};
use eventserver::hub::Budgets;

use crate::harness::Harness;

#[test]
fn a_gap_after_a_reset_is_as_young_as_the_reset() {
    let mut harness = Harness::new(Config {
        gap_timeout: Some(Duration::from_millis(10)),
        on_source_disconnect: OnSourceDisconnect::Reset,
        ..Config::default()
    });
    let source = harness.source_sends(b"2|B\n");
    harness.run_until_idle_at(0);
    // The end of one source and the start of the next are processed in one turn.
    harness.ends(source);
    harness.source_sends(b"2|B\n");
    harness.run_until_idle_at(9);
    assert_eq!(harness.hub.totals().engine().lost, 1, "the event that waited before the reset");
    harness.run_until_idle_at(18);
    assert_eq!(harness.awaited(), 1, "the gap is 9 ms old");
    harness.run_until_idle_at(19);
    assert_eq!(harness.awaited(), 3);
}

#[test]
fn a_gap_is_not_given_up_for_what_came_while_the_server_stood_still() {
    let mut harness =
        Harness::new(Config { gap_timeout: Some(Duration::from_millis(10)), ..Config::default() });
    let source = harness.source_sends(b"2|B\n");
    harness.run_until_idle_at(0);
    harness.send(source, b"1|B\n");
    harness.turn_with_missed_poll_at(10);
    harness.run_until_idle_at(10);
    assert_eq!((harness.awaited(), harness.hub.totals().engine().lost), (3, 0));
}

#[test]
fn half_a_line_that_nobody_has_looked_at_does_not_hold_up_a_reset() {
    let config = Config {
        gap_timeout: Some(Duration::from_millis(10)),
        on_source_disconnect: OnSourceDisconnect::Reset,
        ..Config::default()
    };
    let mut harness =
        Harness::new(config).with_budgets(Budgets { events: 3, ..Budgets::default() });
    let mut silent = vec![harness.source_sends(b"")];
    let source = harness.source_sends(b"2|B\n3|B\n4|B\n");
    silent.push(harness.source_sends(b""));
    harness.run_until_idle_at(0);
    harness.turn_at(10);
    assert_eq!(harness.awaited(), 2, "the gap is skipped, and three events are due");
    // The next turn applies them, which uses up its budget, and processes no line.
    harness.ends(source);
    silent.iter().for_each(|&id| harness.send(id, b"5|"));
    harness.turn_at(10);
    assert_eq!(harness.hub.totals().engine().applied(), 3);
    assert_eq!(harness.awaited(), 1, "the last source that has sent a line is gone");
}

#[test]
fn a_gap_is_not_skipped_while_lines_of_a_source_are_not_decoded() {
    let config = Config { gap_timeout: Some(Duration::from_millis(10)), ..Config::default() };
    let mut harness =
        Harness::new(config).with_budgets(Budgets { events: 3, ..Budgets::default() });
    let source = harness.source_sends(b"2|B\n");
    harness.run_until_idle_at(0);
    harness.send(source, b"3|B\n4|B\n5|B\n6|B\n1|B\n");
    harness.run_until_idle_at(10);
    assert_eq!((harness.awaited(), harness.hub.totals().engine().lost), (7, 0));
}
