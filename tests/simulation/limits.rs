//! Limits at moments that a run of random peers does not reach: what arrives between a poll and the
//! accept that follows it.

use std::time::Duration;

use eventserver::config::Config;
use eventserver::hub::{Budgets, CLIENT_LISTENER, EVENT_LISTENER, NextTurn};

use crate::harness::Harness;
use crate::sim::kernel::{Call, SocketId};

fn is_closed(harness: &Harness, id: SocketId) -> bool {
    let is_close = |call: &Call| matches!(call, Call::Closed(closed) if *closed == id);
    harness.take_calls().iter().any(is_close)
}

#[test]
fn a_client_takes_the_place_of_one_that_ended_after_the_poll() {
    let mut harness =
        Harness::new(Config { max_clients_per_address: Some(1), ..Config::default() });
    // Every third one has the same address.
    let clients = [b"1\n", b"2\n", b"3\n"].map(|id_line| harness.client_sends(id_line));
    harness.run_until_idle_at(0);
    harness.ends(clients[0]);
    let newcomer = harness.client_sends(b"4\n");
    harness.take_calls();
    harness.accept_at(1, CLIENT_LISTENER);
    assert!(!is_closed(&harness, newcomer));
}

#[test]
fn a_source_takes_the_place_of_one_that_ended_after_the_poll() {
    let mut harness = Harness::new(Config { max_sources: 1, ..Config::default() });
    let older = harness.source_sends(b"1|B\n");
    harness.run_until_idle_at(0);
    harness.send(older, b"2|B\n");
    harness.ends(older);
    let newcomer = harness.source_sends(b"3|B\n");
    harness.take_calls();
    harness.accept_at(1, EVENT_LISTENER);
    assert!(!is_closed(&harness, newcomer));
    harness.run_until_idle_at(2);
    assert_eq!(harness.awaited(), 4);
}

#[test]
fn a_stop_ends_a_source_that_waits_for_the_place_of_one_whose_lines_wait() {
    let drain_timeout = Duration::from_millis(10);
    let mut harness = Harness::new(Config {
        max_sources: 1,
        client_queue_bytes: 1000,
        drain_timeout,
        ..Config::default()
    });
    harness.client_sends(b"1\n");
    let older = harness.source_sends(b"");
    let mut sequence = 0;
    while harness.awaited() > sequence {
        sequence += 1;
        harness.send(older, format!("{sequence}|B\n").as_bytes());
        harness.run_until_idle_at(0);
    }
    harness.ends(older);
    let newcomer = harness.source_sends(b"1|B\n");
    harness.run_until_idle_at(1);
    assert!(!is_closed(&harness, newcomer), "it waits");
    harness.stop_at(2);
    harness.run_until_idle_at(12);
    assert!(harness.hub.is_stopped());
}

#[test]
fn a_client_that_follows_many_is_indexed_over_many_turns_and_reached_from_the_first_one_on() {
    const FOLLOWS: u64 = 1000;
    const STEPS: usize = 10;
    let budgets = Budgets { index_steps: STEPS, ..Budgets::default() };
    let mut harness = Harness::new(Config::default()).with_budgets(budgets);
    let follows: Vec<String> =
        (1..=FOLLOWS).map(|sequence| format!("{sequence}|F|7|{}\n", 100 + sequence)).collect();
    let source = harness.source_sends(follows.concat().as_bytes());
    harness.run_until_idle_at(0);
    let client = harness.client_sends(b"7\n");
    harness.send(source, format!("{}|S|{}\n", FOLLOWS + 1, 100 + FOLLOWS).as_bytes());
    harness.take_calls();
    let mut turns = 0;
    let mut reached_in = None;
    while turns == 0 || harness.hub.next_turn() == NextTurn::Now {
        turns += 1;
        harness.turn_at(1);
        let is_write = |call: &Call| matches!(call, Call::Wrote(id, _) if *id == client);
        if harness.take_calls().iter().any(is_write) {
            reached_in.get_or_insert(turns);
        }
    }
    // A turn visits no more than its steps, and up to 64 users at once where follows are kept as bits.
    assert!(turns >= FOLLOWS as usize / 64, "{turns} turns for {FOLLOWS} follows");
    assert!(reached_in.is_some_and(|turn| turn < 10), "reached in turn {reached_in:?}");
}
