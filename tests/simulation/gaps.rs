//! Gaps and resets, one step at a time.

use std::time::Duration;

use eventserver::config::{Config, OnSourceDisconnect};
use eventserver::hub::Budgets;

use crate::stage::Stage;

#[test]
fn a_gap_after_a_reset_is_as_young_as_the_reset() {
    let mut stage = Stage::new(Config {
        gap_timeout: Some(Duration::from_millis(10)),
        on_source_disconnect: OnSourceDisconnect::Reset,
        ..Config::default()
    });
    let source = stage.source_sends(b"2|B\n");
    stage.serve_at(0);
    // The one ends and the next begins before anything else is looked at.
    stage.ends(source);
    stage.source_sends(b"2|B\n");
    stage.serve_at(9);
    assert_eq!(stage.hub.totals().engine().lost, 1, "the event that waited before the reset");
    stage.serve_at(18);
    assert_eq!(stage.awaited(), 1, "the gap is 9 ms old");
    stage.serve_at(19);
    assert_eq!(stage.awaited(), 3);
}

#[test]
fn a_gap_is_not_given_up_for_what_came_while_the_server_stood_still() {
    let mut stage =
        Stage::new(Config { gap_timeout: Some(Duration::from_millis(10)), ..Config::default() });
    let source = stage.source_sends(b"2|B\n");
    stage.serve_at(0);
    stage.send(source, b"1|B\n");
    stage.wake_at(10);
    stage.serve_at(10);
    assert_eq!((stage.awaited(), stage.hub.totals().engine().lost), (3, 0));
}

#[test]
fn half_a_line_that_nobody_has_looked_at_does_not_hold_up_a_reset() {
    let config = Config {
        gap_timeout: Some(Duration::from_millis(10)),
        on_source_disconnect: OnSourceDisconnect::Reset,
        ..Config::default()
    };
    let mut stage = Stage::new(config).within(Budgets { events: 3, ..Budgets::default() });
    let mut silent = vec![stage.source_sends(b"")];
    let source = stage.source_sends(b"2|B\n3|B\n4|B\n");
    silent.push(stage.source_sends(b""));
    stage.serve_at(0);
    stage.turn_at(10);
    assert_eq!(stage.awaited(), 2, "the gap is given up, and three events are due");
    // The next turn applies them, which is all that it may, and looks at no line.
    stage.ends(source);
    silent.iter().for_each(|&id| stage.send(id, b"5|"));
    stage.turn_at(10);
    assert_eq!(stage.hub.totals().engine().applied(), 3);
    assert_eq!(stage.awaited(), 1, "the last source that has sent a line is gone");
}
