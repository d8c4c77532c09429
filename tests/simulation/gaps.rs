//! Gaps and resets, one step at a time.

use std::time::Duration;

use eventserver::config::{Config, OnSourceDisconnect};

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
    stage.source_ends(source);
    stage.source_sends(b"2|B\n");
    stage.serve_at(9);
    assert_eq!(stage.hub.totals().engine().lost, 1, "the event that waited before the reset");
    stage.serve_at(18);
    assert_eq!(stage.awaited(), 1, "the gap is 9 ms old");
    stage.serve_at(19);
    assert_eq!(stage.awaited(), 3);
}
