//! Who is served first in a turn.

use std::time::Duration;

use eventserver::config::Config;

use crate::stage::Stage;
use crate::world::kernel::{Call, SocketId};

/// Who was written to or closed, in order.
fn served(stage: &Stage) -> Vec<SocketId> {
    let calls = stage.take_calls().into_iter();
    let served = calls.filter_map(|call| match call {
        Call::Wrote(id, _) | Call::Closed(id) => Some(id),
        _ => None,
    });
    served.collect()
}

#[test]
fn of_all_who_get_a_broadcast_the_newcomer_gets_it_first() {
    let mut stage = Stage::new(Config::default());
    let older = [stage.client_sends(b"1\n"), stage.client_sends(b"2\n")];
    stage.serve_at(0);
    let newcomer = stage.client_sends(b"3\n");
    stage.source_sends(b"1|B\n");
    stage.serve_at(1);
    assert_eq!(served(&stage), [newcomer, older[1], older[0]]);
}

#[test]
fn a_client_whose_time_is_over_does_not_wait_for_what_else_the_turn_does() {
    let identify_timeout = Duration::from_millis(10);
    let mut stage = Stage::new(Config { identify_timeout, ..Config::default() });
    let client = stage.client_sends(b"1\n");
    let silent = stage.client_sends(b"");
    stage.serve_at(0);
    stage.source_sends(b"1|B\n");
    stage.serve_at(10);
    assert_eq!(served(&stage), [silent, client]);
}
