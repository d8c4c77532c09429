//! Bounds of a resume: the work of a turn, and the bytes that are queued.

use std::time::Duration;

use eventserver::config::Config;
use eventserver::hub::Budgets;

use crate::harness::Harness;
use crate::sim::kernel::{Call, SocketId};

/// Returns the bytes written to a client in the calls since the last time, by others too.
fn written(calls: &[Call], client: SocketId) -> usize {
    let writes = calls.iter().map(|call| match call {
        Call::Wrote(id, bytes) if *id == client => bytes.len(),
        _ => 0,
    });
    writes.sum()
}

fn broadcasts(count: u64) -> Vec<u8> {
    (1..=count).flat_map(|sequence| format!("{sequence}|B\n").into_bytes()).collect()
}

fn harness_of(config: Config, budgets: Budgets, events: u64) -> (Harness, SocketId) {
    let mut harness = Harness::new(config).with_budgets(budgets);
    let source = harness.source_sends(&broadcasts(events));
    for _ in 0..100 {
        harness.run_until_idle_at(0);
    }
    assert_eq!(harness.awaited(), events + 1);
    harness.take_calls();
    (harness, source)
}

#[test]
fn a_turn_passes_so_many_events_and_others_are_served_in_it() {
    let budgets = Budgets { resume_steps: 50, ..Budgets::default() };
    let config = Config { resume_events: 10_000, ..Config::default() };
    let (mut harness, source) = harness_of(config, budgets, 400);
    let other = harness.client_sends(b"8\n");
    let client = harness.client_sends(b"7|0\n");
    harness.send(source, b"401|B\n");
    // 400 events are passed twice, and one that comes meanwhile.
    let mut turns = 0;
    let mut received = 0;
    let mut first_of_other = None;
    while received == 0 || harness.hub.totals().resumes().1 == 0 {
        turns += 1;
        assert!(turns < 100, "the resume does not end");
        harness.turn_at(0);
        harness.client_reads(client);
        let calls = harness.take_calls();
        let bytes = written(&calls, client);
        assert!(bytes <= 50 * "400|B\r\n".len(), "{bytes} bytes in a turn");
        received += bytes;
        if written(&calls, other) > 0 {
            first_of_other.get_or_insert(turns);
        }
    }
    assert!(turns >= 16, "{turns} turns for 801 steps");
    assert_eq!(first_of_other, Some(1), "nobody else waits");
}

#[test]
fn queued_bytes_of_clients_that_resume_stay_within_the_limits() {
    for (client_limit, total_limit) in [(200, 1_000_000), (100_000, 300), (300, 500)] {
        let config = Config {
            resume_events: 10_000,
            client_queue_bytes: client_limit,
            total_queue_bytes: total_limit,
            stall_timeout: Duration::from_secs(3600),
            ..Config::default()
        };
        let (mut harness, _) = harness_of(config, Budgets::default(), 3000);
        let clients =
            [1, 2, 3, 4].map(|user| harness.client_sends(format!("{user}|0\n").as_bytes()));
        for _ in 0..20 {
            harness.turn_at(0);
            let queues: Vec<u64> =
                harness.hub.longest_queues(10).iter().map(|client| client.queued_bytes).collect();
            assert!(queues.iter().all(|&queued| queued <= client_limit), "{queues:?}");
            assert!(queues.iter().sum::<u64>() <= total_limit, "{queues:?}");
        }
        // Everything arrives once they read.
        let expected = broadcasts(3000).len() + 3000;
        let mut received = [0; 4];
        let calls = harness.take_calls();
        for (received, &client) in received.iter_mut().zip(&clients) {
            *received += written(&calls, client);
        }
        for _ in 0..10_000 {
            clients.iter().for_each(|&client| harness.client_reads(client));
            harness.turn_at(0);
            let calls = harness.take_calls();
            for (received, &client) in received.iter_mut().zip(&clients) {
                *received += written(&calls, client);
            }
        }
        assert_eq!(received, [expected; 4], "with {client_limit} and {total_limit}");
    }
}

#[test]
fn a_client_that_resumes_and_does_not_read_pauses_nobody() {
    let config = Config { resume_events: 10_000, client_queue_bytes: 200, ..Config::default() };
    let (mut harness, source) = harness_of(config, Budgets::default(), 3000);
    harness.client_sends(b"7|0\n");
    harness.run_until_idle_at(0);
    let lines: Vec<String> = (3001..6000).map(|sequence| format!("{sequence}|B\n")).collect();
    harness.send(source, lines.concat().as_bytes());
    (0..20).for_each(|_| harness.run_until_idle_at(0));
    assert_eq!(harness.awaited(), 6000);
}

#[test]
fn a_stop_delivers_what_has_just_reached_a_client_that_was_ahead() {
    let config = Config { resume_events: 100, ..Config::default() };
    let mut harness = Harness::new(config);
    let client = harness.client_sends(b"7|1\n");
    let source = harness.source_sends(b"");
    harness.run_until_idle_at(0);
    harness.send(source, b"2|B\n3|B\n");
    harness.run_until_idle_at(0);
    // A turn has read the rest before the stop, but could not apply it.
    let mut harness = harness.with_budgets(Budgets { events: 1, ..Budgets::default() });
    harness.send(source, b"1|B\n");
    harness.turn_at(0);
    harness.take_calls();
    let mut harness = harness.with_budgets(Budgets::default());
    harness.stop_at(0);
    harness.run_until_idle_at(0);
    assert_eq!(written(&harness.take_calls(), client), "2|B\r\n3|B\r\n".len());
}

#[test]
fn nobody_is_told_of_sequences_that_are_on_their_way() {
    let identify_timeout = Duration::from_millis(10);
    let config = Config { resume_events: 100, identify_timeout, ..Config::default() };
    // One line is decoded or applied in a turn.
    let mut harness =
        Harness::new(config).with_budgets(Budgets { events: 1, ..Budgets::default() });
    let client = harness.client_sends(b"7|3\n");
    let source = harness.source_sends(b"");
    harness.run_until_idle_at(0);
    harness.send(source, b"1|B\n2|B\n3|B\n4|B\n");
    harness.take_calls();
    harness.turn_at(10);
    (0..5).for_each(|_| harness.run_until_idle_at(10));
    assert_eq!(harness.awaited(), 5);
    assert_eq!(written(&harness.take_calls(), client), "4|B\r\n".len());
}
