//! The order of work within a turn.

use std::time::Duration;

use eventserver::config::Config;
use eventserver::hub::Budgets;

use crate::harness::Harness;
use crate::sim::kernel::{Call, SocketId};

/// Returns the sockets written to or closed, in order.
fn served(harness: &Harness) -> Vec<SocketId> {
    let calls = harness.take_calls().into_iter();
    let served = calls.filter_map(|call| match call {
        Call::Wrote(id, _) | Call::Closed(id) => Some(id),
        _ => None,
    });
    served.collect()
}

#[test]
fn a_stalled_client_that_has_read_in_time_stays_though_the_server_stood_still() {
    for (reads, is_closed) in [(true, false), (false, true)] {
        let stall_timeout = Duration::from_millis(10);
        let mut harness =
            Harness::new(Config { stall_timeout, client_queue_bytes: 1000, ..Config::default() });
        let client = harness.client_sends(b"1\n");
        let lines: Vec<String> = (1..3000).map(|sequence| format!("{sequence}|B\n")).collect();
        harness.source_sends(lines.concat().as_bytes());
        harness.run_until_idle_at(0);
        assert!(harness.awaited() < 3000, "applying waits for the client");
        if reads {
            harness.client_reads(client);
        }
        harness.take_calls();
        harness.turn_with_missed_poll_at(10);
        let is_close = |call: &Call| matches!(call, Call::ShutDown(id) if *id == client);
        assert_eq!(harness.take_calls().iter().any(is_close), is_closed, "it reads: {reads}");
    }
}

#[test]
fn of_all_who_get_a_broadcast_the_newcomer_gets_it_first() {
    let mut harness = Harness::new(Config::default());
    let older = [harness.client_sends(b"1\n"), harness.client_sends(b"2\n")];
    harness.run_until_idle_at(0);
    let newcomer = harness.client_sends(b"3\n");
    harness.source_sends(b"1|B\n");
    harness.run_until_idle_at(1);
    assert_eq!(served(&harness), [newcomer, older[1], older[0]]);
}

#[test]
fn a_client_whose_time_is_over_does_not_wait_for_what_else_the_turn_does() {
    let identify_timeout = Duration::from_millis(10);
    let mut harness = Harness::new(Config { identify_timeout, ..Config::default() });
    let client = harness.client_sends(b"1\n");
    let silent = harness.client_sends(b"");
    harness.run_until_idle_at(0);
    harness.source_sends(b"1|B\n");
    harness.run_until_idle_at(10);
    assert_eq!(served(&harness), [silent, client]);
}

#[test]
fn the_second_poll_follows_the_reads_of_the_sources() {
    let mut harness = Harness::new(Config::default());
    let source = harness.source_sends(b"");
    harness.run_until_idle_at(0);
    harness.send(source, b"1|B\n");
    let is_read = |call: &Call| matches!(call, Call::Read(id, _) if *id == source);
    assert!(harness.calls_before_second_poll_at(1).iter().any(is_read));
}

#[test]
fn a_stop_without_a_drain_timeout_closes_everything_at_once() {
    let mut harness = Harness::new(Config {
        drain_timeout: Duration::ZERO,
        client_queue_bytes: 1000,
        ..Config::default()
    });
    harness.client_sends(b"1\n");
    let lines: Vec<String> = (1..3000).map(|sequence| format!("{sequence}|B\n")).collect();
    harness.source_sends(lines.concat().as_bytes());
    harness.run_until_idle_at(0);
    assert!(harness.awaited() < 3000, "applying waits for the client");
    harness.stop_at(1);
    assert!(harness.hub.is_stopped());
}

#[test]
fn a_turn_decodes_no_more_lines_than_its_budget() {
    let budgets = Budgets { events: 10, ..Budgets::default() };
    let mut harness = Harness::new(Config::default()).with_budgets(budgets);
    let lines: Vec<String> = (2..100).map(|sequence| format!("{sequence}|B\n")).collect();
    harness.source_sends(lines.concat().as_bytes());
    harness.turn_at(0);
    assert_eq!(harness.hub.totals().buffered_events(), 10);
}

#[test]
fn a_turn_applies_no_more_than_the_memory_of_its_lines_allows() {
    const BATCH_BYTES: u64 = 1000;
    let config = Config { total_queue_bytes: 64 * BATCH_BYTES, ..Config::default() };
    let budgets = Budgets { batch_bytes: BATCH_BYTES, ..Budgets::default() };
    let mut harness = Harness::new(config).with_budgets(budgets);
    harness.client_sends(b"1\n");
    let lines: Vec<String> = (1..500).map(|sequence| format!("{sequence}|B\n")).collect();
    harness.source_sends(lines.concat().as_bytes());
    harness.turn_at(0);
    let lines = harness.hub.totals().lines_queued();
    assert!((1..=BATCH_BYTES / 5).contains(&lines), "{lines} lines of at least 5 bytes");
}

#[test]
fn nothing_is_read_from_a_source_after_a_stop() {
    let mut harness = Harness::new(Config { client_queue_bytes: 1000, ..Config::default() });
    let client = harness.client_sends(b"1\n");
    let lines: Vec<String> = (1..3000).rev().map(|sequence| format!("{sequence}|B\n")).collect();
    harness.source_sends(lines.concat().as_bytes());
    let silent = harness.source_sends(b"");
    harness.run_until_idle_at(0);
    assert!((2..3000).contains(&harness.awaited()), "all is decoded, and applying is paused");
    harness.stop_at(1);
    harness.send(silent, b"3000|B\n");
    harness.take_calls();
    while !harness.hub.is_stopped() {
        harness.client_reads(client);
        harness.turn_at(1);
        harness.ends(client);
    }
    assert_eq!(harness.awaited(), 3000);
    let is_read = |call: &Call| matches!(call, Call::Read(id, _) if *id == silent);
    assert!(!harness.take_calls().iter().any(is_read));
}

#[test]
fn events_cost_more_of_the_budget_while_users_are_unindexed() {
    const USERS: u64 = 16;
    const FOLLOWS: u64 = 200;
    let mut harness = Harness::new(Config::default());
    let pairs = (1..=USERS).flat_map(|user| (0..FOLLOWS).map(move |other| (user, 100 + other)));
    let mut lines: Vec<String> = (1..)
        .zip(pairs)
        .map(|(sequence, (user, other))| format!("{sequence}|F|{user}|{other}\n"))
        .collect();
    let first = USERS * FOLLOWS + 1;
    lines.extend((first + 1..first + 50).map(|sequence| format!("{sequence}|B\n")));
    let source = harness.source_sends(lines.concat().as_bytes());
    harness.run_until_idle_at(0);
    assert_eq!(harness.awaited(), first, "broadcasts wait after a gap");
    let budgets = Budgets { events: 10, index_steps: 1, ..Budgets::default() };
    let mut harness = harness.with_budgets(budgets);
    for user in 1..=USERS {
        harness.client_sends(format!("{user}\n").as_bytes());
    }
    harness.send(source, format!("{first}|B\n").as_bytes());
    harness.turn_at(1);
    let applied = harness.awaited() - first;
    assert!((1..=5).contains(&applied), "{applied} events of two each, after one line");
}
