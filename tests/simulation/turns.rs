//! The order of work within a turn.

use std::time::Duration;

use eventserver::config::{Config, OnSourceDisconnect};
use eventserver::hub::{Budgets, NextTurn};

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

/// A harness whose turns flush this many clients, with `clients` registered ones.
fn harness_that_flushes(flush_writes: usize, clients: u64) -> (Harness, Vec<SocketId>) {
    let budgets = Budgets { flush_writes, ..Budgets::default() };
    let mut harness = Harness::new(Config::default()).with_budgets(budgets);
    let clients = (1..=clients).map(|user| harness.client_sends(format!("{user}\n").as_bytes()));
    let clients = clients.collect();
    harness.run_until_idle_at(0);
    // Each has received something, so that none is a newcomer.
    harness.source_sends(b"1|B\n");
    harness.run_until_idle_at(0);
    harness.take_calls();
    (harness, clients)
}

#[test]
fn a_turn_flushes_no_more_clients_than_its_budget_and_each_gets_its_turn_and_all_lines_in_order() {
    const WRITES: usize = 2;
    let (mut harness, clients) = harness_that_flushes(WRITES, 7);
    let source = harness.source_sends(b"");
    let mut served_last = vec![0; clients.len()];
    for turn in 2..100 {
        harness.send(source, format!("{turn}|B\n").as_bytes());
        harness.turn_at(turn);
        clients.iter().for_each(|&client| harness.client_reads(client));
        let written = served(&harness);
        assert_eq!(written.len(), WRITES, "in each turn");
        for client in written {
            let index = clients.iter().position(|&other| other == client).unwrap();
            served_last[index] = turn;
        }
        let longest = served_last.iter().map(|last| turn - last).max();
        assert!(
            turn < 10 || longest <= Some(4),
            "seven clients, two in each turn: {served_last:?}"
        );
    }
    harness.run_until_idle_at(100);
    let expected: String = (1..100).map(|sequence| format!("{sequence}|B\r\n")).collect();
    for &client in &clients {
        harness.client_reads(client);
        assert_eq!(harness.received(client), expected.as_bytes());
    }
}

#[test]
fn a_newcomer_is_flushed_in_the_turn_of_its_first_event_though_others_wait() {
    let (mut harness, clients) = harness_that_flushes(2, 5);
    let source = harness.source_sends(b"2|B\n");
    harness.turn_at(1);
    assert_eq!(served(&harness), [clients[4], clients[3]]);
    let newcomer = harness.client_sends(b"100\n");
    harness.send(source, b"3|B\n");
    harness.turn_at(2);
    assert_eq!(served(&harness), [newcomer, clients[2]]);
    harness.turn_at(3);
    assert_eq!(served(&harness), [clients[1], clients[0]]);
}

#[test]
fn newcomers_leave_half_of_the_writes_to_those_who_wait() {
    let (mut harness, clients) = harness_that_flushes(2, 4);
    let source = harness.source_sends(b"");
    let mut served_in_order = Vec::new();
    for turn in 2..6 {
        for newcomer in 0..2 {
            harness.client_sends(format!("{}\n", 100 * turn + newcomer).as_bytes());
        }
        harness.send(source, format!("{turn}|B\n").as_bytes());
        harness.turn_at(turn);
        let written = served(&harness).into_iter();
        served_in_order.extend(written.filter(|client| clients.contains(client)));
    }
    let expected: Vec<SocketId> = clients.iter().rev().copied().collect();
    assert_eq!(served_in_order, expected, "one in each turn");
}

#[test]
fn a_client_that_ends_its_side_while_it_waits_to_be_flushed_gets_its_lines() {
    let (mut harness, clients) = harness_that_flushes(1, 3);
    harness.source_sends(b"2|B\n");
    harness.turn_at(1);
    assert_eq!(served(&harness), [clients[2]]);
    harness.ends(clients[0]);
    harness.turn_at(2);
    harness.client_reads(clients[0]);
    assert_eq!(harness.received(clients[0]), b"1|B\r\n2|B\r\n");
}

#[test]
fn a_client_that_is_taken_over_while_it_waits_to_be_flushed_gets_its_lines() {
    let (mut harness, clients) = harness_that_flushes(1, 3);
    harness.source_sends(b"2|B\n");
    harness.turn_at(1);
    let newer = harness.client_sends(b"1\n");
    harness.run_until_idle_at(2);
    for (client, expected) in [(clients[0], &b"1|B\r\n2|B\r\n"[..]), (newer, b"")] {
        harness.client_reads(client);
        assert_eq!(harness.received(client), expected);
    }
}

#[test]
fn a_turn_accepts_no_more_clients_than_its_budget_and_nothing_is_applied_before_all_are_accepted() {
    let budgets = Budgets { accepts: 2, ..Budgets::default() };
    let mut harness = Harness::new(Config::default()).with_budgets(budgets);
    let source = harness.source_sends(b"");
    harness.run_until_idle_at(0);
    let clients: Vec<SocketId> =
        (1..=5).map(|user| harness.client_sends(format!("{user}\n").as_bytes())).collect();
    harness.send(source, b"1|B\n");
    for accepted in [2, 4] {
        harness.turn_at(1);
        assert_eq!(harness.hub.totals().clients_connected(), accepted);
        assert_eq!(harness.awaited(), 1, "clients wait to be accepted");
    }
    harness.turn_at(1);
    assert_eq!(harness.awaited(), 2);
    harness.run_until_idle_at(1);
    for client in clients {
        harness.client_reads(client);
        assert_eq!(harness.received(client), b"1|B\r\n");
    }
}

/// Returns a harness that reads so many ID lines a turn, with connected clients that have sent nothing.
fn harness_that_identifies(
    identifies: usize,
    clients: usize,
    config: Config,
) -> (Harness, Vec<SocketId>) {
    let budgets = Budgets { identifies, ..Budgets::default() };
    let mut harness = Harness::new(config).with_budgets(budgets);
    let clients = (0..clients).map(|_| {
        let client = harness.client_sends(b"");
        harness.run_until_idle_at(0);
        client
    });
    let clients = clients.collect();
    harness.take_calls();
    (harness, clients)
}

fn registered(calls: &[Call]) -> Vec<SocketId> {
    let registered = calls.iter().filter_map(|call| match call {
        Call::Registered(id, _) => Some(*id),
        _ => None,
    });
    registered.collect()
}

#[test]
fn a_turn_reads_no_more_id_lines_than_its_budget_and_nothing_is_read_or_applied_before_all_are_read()
 {
    let (mut harness, clients) = harness_that_identifies(2, 5, Config::default());
    let source = harness.source_sends(b"1|B\n");
    for (&client, user) in clients.iter().zip(1..) {
        harness.send(client, format!("{user}\n").as_bytes());
    }
    let mut all = Vec::new();
    for (turn, count, awaited) in [(0, 2, 1), (1, 2, 1), (2, 1, 2), (3, 0, 3)] {
        harness.turn_at(1);
        let calls = harness.take_calls();
        let now = registered(&calls);
        assert_eq!((now.len(), harness.awaited()), (count, awaited), "in turn {turn}");
        all.extend(now);
        let is_read = |call: &Call| matches!(call, Call::Read(id, _) if *id == source);
        let may_be_read = turn == 0 || turn == 3;
        assert_eq!(calls.iter().any(is_read), may_be_read, "in turn {turn}");
        if turn == 0 {
            harness.send(source, b"2|B\n");
        }
    }
    all.sort_unstable();
    assert_eq!(all, clients);
    harness.run_until_idle_at(1);
    for client in clients {
        harness.client_reads(client);
        assert_eq!(harness.received(client), b"1|B\r\n2|B\r\n");
    }
}

#[test]
fn clients_that_send_their_id_lines_byte_by_byte_do_not_stop_the_stream() {
    const CLIENTS: usize = 4;
    let (mut harness, clients) = harness_that_identifies(1, CLIENTS, Config::default());
    let source = harness.source_sends(b"");
    for turn in 1..=40 {
        for &client in &clients {
            harness.send(client, b"0");
        }
        harness.send(source, format!("{turn}|B\n").as_bytes());
        harness.turn_at(1);
        // Each drain reads the ID lines of all clients once.
        let least = (turn / CLIENTS as u64).saturating_sub(1) * CLIENTS as u64;
        assert!(harness.awaited() >= least, "{} is awaited in turn {turn}", harness.awaited());
    }
}

#[test]
fn an_id_line_that_arrives_in_time_is_read_in_time_whatever_the_budget() {
    let identify_timeout = Duration::from_millis(10);
    let config = Config { identify_timeout, ..Config::default() };
    let (mut harness, clients) = harness_that_identifies(1, 5, config);
    for (&client, user) in clients[..4].iter().zip(1..) {
        harness.send(client, format!("{user}\n").as_bytes());
    }
    harness.turn_at(9);
    assert_eq!(harness.hub.totals().clients_connected(), 5);
    harness.turn_at(10);
    assert_eq!(harness.hub.totals().clients_connected(), 4);
    let calls = harness.take_calls();
    let mut all = registered(&calls);
    all.sort_unstable();
    assert_eq!(all, clients[..4]);
    assert!(calls.iter().any(|call| matches!(call, Call::Closed(id) if *id == clients[4])));
}

#[test]
fn ends_make_room_though_the_id_lines_before_them_are_put_off() {
    // All that may be open at once.
    let (mut harness, clients) = harness_that_identifies(1, 32, Config::default());
    clients[10..13].iter().for_each(|&client| harness.ends(client));
    for (&client, user) in clients[..5].iter().zip(1..) {
        harness.send(client, format!("{user}\n").as_bytes());
    }
    let newcomers = [(); 3].map(|()| harness.client_sends(b""));
    harness.run_until_idle_at(1);
    let calls = harness.take_calls();
    let is_closed =
        |id: &SocketId| calls.iter().any(|call| matches!(call, Call::Closed(it) if it == id));
    assert!(!newcomers.iter().any(is_closed), "nobody is rejected");
    assert_eq!(harness.hub.totals().clients_connected(), 32);
    assert_eq!(registered(&calls).len(), 5);
}

#[test]
fn a_stop_closes_clients_whose_id_lines_are_put_off() {
    let (mut harness, clients) = harness_that_identifies(1, 5, Config::default());
    for (&client, user) in clients.iter().zip(1..) {
        harness.send(client, format!("{user}\n").as_bytes());
    }
    harness.turn_at(1);
    harness.stop_at(1);
    clients.iter().for_each(|&client| harness.ends(client));
    harness.run_until_idle_at(1);
    assert!(harness.hub.is_stopped());
    assert_eq!(registered(&harness.take_calls()).len(), 1);
}

#[test]
fn a_reset_frees_a_long_ring_a_few_bytes_a_turn_and_the_stream_goes_on_meanwhile() {
    const SLOTS: u64 = 1 << 18;
    const FREED_BYTES: usize = 1 << 20;
    let config = Config {
        on_source_disconnect: OnSourceDisconnect::Reset,
        reorder_window: SLOTS as u32,
        ..Config::default()
    };
    let budgets = Budgets { freed_bytes: FREED_BYTES, ..Budgets::default() };
    let mut harness = Harness::new(config).with_budgets(budgets);
    let client = harness.client_sends(b"1\n");
    let source = harness.source_sends(format!("{SLOTS}|B\n").as_bytes());
    harness.run_until_idle_at(0);
    harness.ends(source);
    harness.turn_at(1);
    assert_eq!(harness.hub.totals().buffered_events(), 0);
    harness.source_sends(b"1|B\n");
    let mut turns = 0;
    while harness.hub.next_turn() == NextTurn::Now {
        harness.turn_at(1);
        turns += 1;
    }
    let expected = (SLOTS as usize * 40).div_ceil(FREED_BYTES);
    assert!((expected..expected + 3).contains(&turns), "{turns} turns, {expected} for the slots");
    harness.client_reads(client);
    assert_eq!(harness.received(client), b"1|B\r\n");
}

/// Returns a harness that closes so many connections a turn, with registered clients of the users 1 to `clients`.
fn harness_that_closes(closes: usize, clients: u64, config: Config) -> (Harness, Vec<SocketId>) {
    let budgets = Budgets { closes, ..Budgets::default() };
    let mut harness = Harness::new(config).with_budgets(budgets);
    let ids =
        (1..=clients).map(|user| harness.client_sends(format!("{user}\n").as_bytes())).collect();
    harness.run_until_idle_at(0);
    harness.take_calls();
    (harness, ids)
}

fn closed(harness: &Harness) -> Vec<SocketId> {
    let calls = harness.take_calls().into_iter();
    calls.filter_map(|call| if let Call::Closed(id) = call { Some(id) } else { None }).collect()
}

#[test]
fn a_turn_closes_no_more_connections_than_its_budget_and_all_that_ended_count_as_closed_at_once() {
    let (mut harness, clients) = harness_that_closes(2, 5, Config::default());
    for &client in &clients {
        harness.ends(client);
    }
    let mut all = Vec::new();
    for count in [2, 2, 1, 0] {
        harness.turn_at(1);
        assert_eq!(harness.hub.totals().clients_connected(), 0);
        let now = closed(&harness);
        assert_eq!(now.len(), count);
        all.extend(now);
    }
    all.sort_unstable();
    assert_eq!(all, clients);
}

#[test]
fn a_connection_that_is_still_to_be_closed_takes_nobodys_place() {
    let config = Config { max_clients: Some(6), ..Config::default() };
    let (mut harness, clients) = harness_that_closes(1, 6, config);
    for &client in &clients {
        harness.ends(client);
    }
    harness.turn_at(1);
    let newcomers: Vec<SocketId> =
        (11..=16).map(|user| harness.client_sends(format!("{user}\n").as_bytes())).collect();
    harness.turn_at(1);
    assert_eq!(harness.hub.totals().clients_connected(), 6);
    harness.source_sends(b"1|B\n");
    harness.run_until_idle_at(1);
    for client in newcomers {
        harness.client_reads(client);
        assert_eq!(harness.received(client), b"1|B\r\n");
    }
}

#[test]
fn between_two_turns_of_a_flush_timeouts_expire_and_a_stop_begins() {
    let identify_timeout = Duration::from_millis(10);
    let budgets = Budgets { flush_writes: 1, ..Budgets::default() };
    let mut harness =
        Harness::new(Config { identify_timeout, ..Config::default() }).with_budgets(budgets);
    let clients = [1, 2, 3, 4].map(|user| harness.client_sends(format!("{user}\n").as_bytes()));
    let silent = harness.client_sends(b"");
    harness.run_until_idle_at(0);
    harness.source_sends(b"1|B\n");
    harness.turn_at(9);
    assert_eq!(served(&harness).len(), 1);
    harness.turn_at(10);
    assert_eq!(served(&harness)[0], silent);
    harness.stop_at(11);
    harness.run_until_idle_at(11);
    for client in clients {
        harness.client_reads(client);
        assert_eq!(harness.received(client), b"1|B\r\n");
    }
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
