//! Connection limits: connections that have ended do not count against them.

use crate::support::{Client, Server, Source};

/// Sends each line from a source of its own that connects, sends it and closes.
fn one_line_each(server: &Server, lines: impl IntoIterator<Item = String>) {
    for line in lines {
        Source::connect(server).sends(format!("{line}\n"));
    }
}

#[test]
fn sources_that_come_one_after_the_other_are_all_heard_though_the_server_stood_still() {
    let server = Server::start(&["--max-sources", "4"]);
    let mut client = Client::connect(&server, 7);
    server.wait_for_stat("clients_connected", 1);
    let lines: Vec<String> = (1..=300).map(|sequence| format!("{sequence}|P|1|7")).collect();
    server.while_suspended(|| one_line_each(&server, lines.clone()));
    client.receives(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(server.stat("sources_closed.too_many_sources"), 0);
}

#[test]
fn whole_streams_that_come_one_after_the_other_are_all_heard_where_the_end_resets() {
    let server = Server::start(&["--on-source-disconnect", "reset", "--max-sources", "2"]);
    let mut client = Client::connect(&server, 7);
    server.wait_for_stat("clients_connected", 1);
    let streams: Vec<String> = (0..200).map(|stream| format!("2|P|{stream}|7\n1|B")).collect();
    server.while_suspended(|| one_line_each(&server, streams));
    for stream in 0..200 {
        client.receives(&["1|B", &format!("2|P|{stream}|7")]);
    }
    assert_eq!(server.stat("sources_closed.too_many_sources"), 0);
}

#[test]
fn sources_beyond_the_limit_that_are_alive_are_turned_away() {
    let server = Server::start(&["--max-sources", "2"]);
    let mut sources = [(); 2].map(|()| Source::connect(&server));
    server.wait_for_stat("sources_connected", 2);
    Source::connect(&server).is_closed();
    assert_eq!(server.stat("sources_closed.too_many_sources"), 1);
    let mut client = Client::connect(&server, 7);
    sources[0].sends_lines(&["1|B"]);
    client.receives(&["1|B"]);
    sources[1].sends_lines(&["2|B"]);
    client.receives(&["2|B"]);
}

/// Connects clients one after the other, each as soon as the one before has closed.
fn each_client_is_served(limit: &str) {
    let server = Server::start(&[limit, "1"]);
    let mut source = Source::connect(&server);
    for number in 1..=300 {
        let mut client = Client::connect(&server, number);
        let line = format!("{number}|P|1|{number}");
        source.sends_lines(&[&line]);
        client.receives(&[&line]);
        client.ends();
    }
    assert_eq!(
        server.stat("clients_closed.too_many_clients")
            + server.stat("clients_closed.too_many_from_address"),
        0
    );
}

#[test]
fn a_client_that_comes_when_another_has_closed_has_its_place() {
    each_client_is_served("--max-clients");
}

#[test]
fn a_client_that_comes_when_another_has_closed_has_its_place_at_their_address() {
    each_client_is_served("--max-clients-per-address");
}

#[test]
fn an_end_behind_bytes_that_nobody_reads_makes_room_too() {
    let server = Server::start(&["--max-clients", "1"]);
    let mut source = Source::connect(&server);
    let mut first = Client::connect(&server, 1);
    source.sends_lines(&["1|B"]);
    first.receives(&["1|B"]);
    let mut second = server.while_suspended(|| {
        // More than one turn reads from a client, and less than the kernel buffers.
        first.sends(vec![b'x'; 50 << 10]);
        drop(first);
        Client::connect(&server, 2)
    });
    source.sends_lines(&["2|B"]);
    second.receives(&["2|B"]);
}

#[test]
fn in_a_full_house_a_user_can_take_over_from_itself_and_nobody_else_is_registered() {
    let server = Server::start(&["--max-clients", "2"]);
    let mut source = Source::connect(&server);
    let mut clients = [1, 2].map(|user| Client::connect(&server, user));
    let mut stranger = Client::connect(&server, 3);
    let mut newer = Client::connect(&server, 2);
    source.sends_lines(&["1|B"]);
    clients[0].receives(&["1|B"]);
    newer.receives(&["1|B"]);
    clients[1].is_closed();
    stranger.is_closed();
    assert_eq!(
        (server.stat("clients_closed.too_many_clients"), server.stat("clients_closed.taken_over")),
        (1, 1)
    );
}
