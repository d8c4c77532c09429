//! Limits at moments that a run of random peers does not reach: what arrives between a poll and the
//! accept that follows it.

use std::time::Duration;

use eventserver::config::Config;
use eventserver::hub::{CLIENT_LISTENER, EVENT_LISTENER};

use crate::stage::Stage;
use crate::world::kernel::{Call, SocketId};

fn is_closed(stage: &Stage, id: SocketId) -> bool {
    let is_close = |call: &Call| matches!(call, Call::Closed(closed) if *closed == id);
    stage.take_calls().iter().any(is_close)
}

#[test]
fn a_client_takes_the_place_of_one_that_ended_after_the_poll() {
    let mut stage = Stage::new(Config { max_clients_per_address: Some(1), ..Config::default() });
    // Every third one has the same address.
    let clients = [b"1\n", b"2\n", b"3\n"].map(|id_line| stage.client_sends(id_line));
    stage.serve_at(0);
    stage.ends(clients[0]);
    let newcomer = stage.client_sends(b"4\n");
    stage.take_calls();
    stage.accept_at(1, CLIENT_LISTENER);
    assert!(!is_closed(&stage, newcomer));
}

#[test]
fn a_source_takes_the_place_of_one_that_ended_after_the_poll() {
    let mut stage = Stage::new(Config { max_sources: 1, ..Config::default() });
    let older = stage.source_sends(b"1|B\n");
    stage.serve_at(0);
    stage.send(older, b"2|B\n");
    stage.ends(older);
    let newcomer = stage.source_sends(b"3|B\n");
    stage.take_calls();
    stage.accept_at(1, EVENT_LISTENER);
    assert!(!is_closed(&stage, newcomer));
    stage.serve_at(2);
    assert_eq!(stage.awaited(), 4);
}

#[test]
fn a_stop_ends_a_source_that_waits_for_the_place_of_one_whose_lines_wait() {
    let drain_timeout = Duration::from_millis(10);
    let mut stage = Stage::new(Config {
        max_sources: 1,
        client_queue_bytes: 1000,
        drain_timeout,
        ..Config::default()
    });
    stage.client_sends(b"1\n");
    let older = stage.source_sends(b"");
    let mut sequence = 0;
    while stage.awaited() > sequence {
        sequence += 1;
        stage.send(older, format!("{sequence}|B\n").as_bytes());
        stage.serve_at(0);
    }
    stage.ends(older);
    let newcomer = stage.source_sends(b"1|B\n");
    stage.serve_at(1);
    assert!(!is_closed(&stage, newcomer), "it waits");
    stage.stop_at(2);
    stage.serve_at(12);
    assert!(stage.hub.is_stopped());
}
