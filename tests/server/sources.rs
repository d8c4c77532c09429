//! Sources: one order for all, disconnect, and reset.

use crate::support::{Client, Server, Source, broadcasts, delivered};

const RESET: [&str; 2] = ["--on-source-disconnect", "reset"];

#[test]
fn two_sources_feed_one_order() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server, 1);
    let [mut odd, mut even] = [Source::connect(&server), Source::connect(&server)];
    let lines = broadcasts(1..10_001);
    let of_parity = |parity| {
        let lines = lines.split_inclusive(|&byte| byte == b'\n').skip(parity).step_by(2);
        lines.collect::<Vec<_>>().concat()
    };
    let (odd_lines, even_lines) = (of_parity(0), of_parity(1));
    std::thread::scope(|scope| {
        scope.spawn(|| odd.sends_in_pieces(&odd_lines, &[997]));
        scope.spawn(|| even.sends_in_pieces(&even_lines, &[1499]));
        client.receives_bytes(&delivered(&lines));
    });
}

#[test]
fn half_lines_of_two_sources_do_not_mix() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server, 1);
    let [mut one, mut other] = [Source::connect(&server), Source::connect(&server)];
    // A broadcast before it shows when an incomplete line has been read.
    one.sends("1|B\n3|");
    client.receives(&["1|B"]);
    other.sends("2|B\n4|P|9");
    client.receives(&["2|B"]);
    one.sends("B\n5");
    client.receives(&["3|B"]);
    other.sends("|1\n");
    client.receives(&["4|P|9|1"]);
    one.sends("|B\n");
    client.receives(&["5|B"]);
    assert_eq!(server.stat("malformed"), 0);
}

#[test]
fn an_unterminated_last_line_is_discarded_counted_and_logged() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server, 1);
    let mut source = Source::connect(&server);
    source.sends("1|B\n2|P|1|10");
    let address = source.address();
    source.leaves(&server);
    server.logs(&["unterminated", &address.to_string(), "\"2|P|1|10\""]);
    assert_eq!((server.stat("unterminated"), server.stat("malformed")), (1, 0));
    Source::connect(&server).sends("2|P|1|1\n");
    client.receives(&["1|B", "2|P|1|1"]);
}

#[test]
fn a_source_that_ends_at_a_line_end_leaves_nothing_unterminated() {
    let server = Server::start(&[]);
    let mut source = Source::connect(&server);
    source.sends("1|B\n");
    source.leaves(&server);
    assert_eq!(server.stat("unterminated"), 0);
}

#[test]
fn a_source_that_has_ended_its_side_is_closed_after_all_that_it_sent_is_applied() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server, 1);
    let mut source = Source::connect(&server);
    let lines = broadcasts(1..50_001);
    source.sends(&lines);
    source.ends();
    client.receives_bytes(&delivered(&lines));
    source.is_closed();
}

#[test]
fn an_end_that_is_read_at_once_with_more_lines_than_a_turn_applies_waits_for_all_of_them() {
    const LINES: usize = 200_000;
    let server = Server::start(&[]);
    let mut client = Client::connect(&server, 1);
    let mut source = Source::connect(&server);
    server.while_suspended(|| {
        source.sends("\n".repeat(LINES) + "1|B\n");
        drop(source);
    });
    client.receives(&["1|B"]);
    server.logs(&["closed: closed_by_peer", &format!("after {} lines", LINES + 1)]);
    assert_eq!(server.stat("malformed"), LINES as u64);
}

#[test]
fn what_came_before_the_reset_of_a_connection_is_applied() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server, 1);
    let mut source = Source::connect(&server);
    let address = source.address().to_string();
    server.while_suspended(|| {
        source.sends("1|B\n2|B\n3|");
        source.resets();
    });
    client.receives(&["1|B", "2|B"]);
    server.logs(&[&address, "closed: io_error", "after 2 lines"]);
    assert_eq!(server.stat("unterminated"), 1);
}

#[test]
fn sequence_and_graph_go_on_when_a_source_comes_back() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server, 1);
    let mut first = Source::connect(&server);
    first.sends_lines(&["1|F|1|2", "2|B", "4|B"]);
    first.leaves(&server);
    Source::connect(&server).sends_lines(&["3|S|2"]);
    client.receives(&["2|B", "3|S|2", "4|B"]);
    assert_eq!(server.stat("lost"), 0);
}

#[test]
fn a_second_run_against_a_keeping_server_is_pointed_out_with_a_hint_at_reset() {
    let server = Server::start(&[]);
    let mut first = Source::connect(&server);
    first.sends_lines(&["1|B", "2|B"]);
    first.leaves(&server);
    let mut second = Source::connect(&server);
    second.sends_lines(&["1|B", "2|B"]);
    let address = second.address().to_string();
    server.logs(&[&address, "sequence 1", "3 is awaited", "--on-source-disconnect reset"]);
    server.assert_stat_reaches("late", 2);
}

#[test]
fn with_reset_the_end_of_the_last_source_starts_order_and_graph_anew_and_clients_stay() {
    let server = Server::start(&RESET);
    let mut client = Client::connect(&server, 1);
    let mut first = Source::connect(&server);
    first.sends_lines(&["1|F|1|2", "2|S|2", "4|B", "5|B"]);
    client.receives(&["2|S|2"]);
    first.leaves(&server);
    server.logs(&["lost 2 buffered events", "missing sequence 3"]);
    let mut second = Source::connect(&server);
    second.sends_lines(&["1|S|2", "2|B", "3|B"]);
    client.receives(&["2|B", "3|B"]);
    assert_eq!((server.stat("lost"), server.stat("late")), (2, 0));
}

#[test]
fn with_reset_nothing_starts_anew_while_a_source_that_has_sent_something_is_left() {
    let server = Server::start(&RESET);
    let mut client = Client::connect(&server, 1);
    let [mut first, mut second] = [Source::connect(&server), Source::connect(&server)];
    first.sends_lines(&["1|B"]);
    client.receives(&["1|B"]);
    second.sends_lines(&["2|B"]);
    client.receives(&["2|B"]);
    first.leaves(&server);
    second.sends_lines(&["3|B"]);
    client.receives(&["3|B"]);
    second.leaves(&server);
    Source::connect(&server).sends_lines(&["1|B"]);
    client.receives(&["1|B"]);
}

#[test]
fn with_reset_a_source_that_has_sent_nothing_neither_hinders_nor_causes_it() {
    let server = Server::start(&RESET);
    let mut client = Client::connect(&server, 1);
    let mut silent = Source::connect(&server);
    let mut first = Source::connect(&server);
    first.sends_lines(&["1|B"]);
    client.receives(&["1|B"]);
    Source::connect(&server).leaves(&server);
    first.sends_lines(&["2|B"]);
    client.receives(&["2|B"]);
    first.leaves(&server);
    silent.sends_lines(&["1|B"]);
    client.receives(&["1|B"]);
}

#[test]
fn with_reset_a_source_closed_by_the_server_counts_as_ended() {
    let server = Server::start(&[&RESET[..], &["--reorder-window", "10"]].concat());
    let mut client = Client::connect(&server, 1);
    let mut source = Source::connect(&server);
    source.sends_lines(&["1|B", "12|B"]);
    source.is_closed();
    server.logs(&["closed: window_exceeded"]);
    Source::connect(&server).sends_lines(&["1|B"]);
    client.receives(&["1|B", "1|B"]);
}

#[test]
fn a_source_past_the_limit_is_closed_at_once_and_counted() {
    let server = Server::start(&["--max-sources", "2"]);
    let mut client = Client::connect(&server, 1);
    let [mut first, mut second] = [Source::connect(&server), Source::connect(&server)];
    let mut third = Source::connect(&server);
    third.is_closed();
    server.logs(&[&third.address().to_string(), "too_many_sources"]);
    assert_eq!(server.stat("sources_closed.too_many_sources"), 1);
    first.sends_lines(&["1|B"]);
    second.sends_lines(&["2|B"]);
    client.receives(&["1|B", "2|B"]);
    first.leaves(&server);
    Source::connect(&server).sends_lines(&["3|B"]);
    client.receives(&["3|B"]);
}

#[test]
fn nothing_is_ever_sent_to_a_source() {
    let mut server = Server::start(&[]);
    let mut source = Source::connect(&server);
    source.sends_lines(&["1|B", "1|B", "abc", "2|X", "5|B"]);
    server.assert_stat_reaches("buffered_events", 1);
    assert_eq!(server.stop(), Some(0));
    source.is_closed();
}

#[test]
fn with_reset_a_run_that_follows_at_once_on_another_is_one_of_its_own() {
    let server = Server::start(&["--on-source-disconnect", "reset"]);
    let mut first = Source::connect(&server);
    let mut client = Client::connect(&server, 1);
    first.sends_lines(&["1|B"]);
    client.receives(&["1|B"]);
    // The server finds the end of one and the start of the other in the same turn.
    let _second = server.while_suspended(|| {
        drop(first);
        let mut second = Source::connect(&server);
        second.sends_lines(&["2|P|3|1", "1|B"]);
        second
    });
    client.receives(&["1|B", "2|P|3|1"]);
    assert_eq!(server.stat("late"), 0);
}
