//! User clients: identification, takeover, and disconnect.

use crate::support::{Client, Server, Source};

/// Starts a server, and connects a source before any client.
fn source_first(flags: &[&str]) -> (Server, Source) {
    let server = Server::start(flags);
    let source = Source::connect(&server);
    (server, source)
}

#[test]
fn an_id_line_is_a_number_and_a_terminator() {
    let (server, mut source) = source_first(&[]);
    let ids = ["7\n", "8\r\n", "0009\n", "18446744073709551615\r\n", "00000000000000000011\n"];
    let mut clients = ids.map(|id| {
        let mut client = Client::connect_unidentified(&server);
        client.sends(id);
        client
    });
    source.sends_lines(&[
        "1|P|1|7",
        "2|P|1|8",
        "3|P|1|9",
        "4|P|1|18446744073709551615",
        "5|P|1|0011",
        "6|B",
    ]);
    let own = ["1|P|1|7", "2|P|1|8", "3|P|1|9", "4|P|1|18446744073709551615", "5|P|1|0011"];
    for (client, line) in clients.iter_mut().zip(own) {
        client.receives(&[line, "6|B"]);
    }
}

#[test]
fn an_id_may_come_byte_by_byte() {
    let (server, mut source) = source_first(&[]);
    let mut client = Client::connect_unidentified(&server);
    for byte in b"1234\r\n" {
        client.sends([*byte]);
    }
    source.sends_lines(&["1|P|1|1234"]);
    client.receives(&["1|P|1|1234"]);
}

#[test]
fn a_client_that_has_not_finished_its_id_line_receives_nothing() {
    let (server, mut source) = source_first(&[]);
    let mut observer = Client::connect(&server, 1);
    let mut client = Client::connect_unidentified(&server);
    client.sends("1234");
    source.sends_lines(&["1|B"]);
    observer.receives(&["1|B"]);
    client.sends("5\n");
    source.sends_lines(&["2|P|1|1234", "3|P|1|12345"]);
    client.receives(&["3|P|1|12345"]);
}

#[test]
fn a_client_whose_id_is_no_number_is_closed_counted_and_logged() {
    let (server, _source) = source_first(&[]);
    let wrong = [
        "\n",
        "\r\n",
        "abc\n",
        "-1\n",
        "+1\n",
        "1 \n",
        " 1\n",
        "1|B\n",
        "1.5\n",
        "0x10\n",
        "7\r\r\n",
        "18446744073709551616\n",
        "000000000000000000001\n",
        "1\x002\n",
    ];
    for id in wrong {
        let mut client = Client::connect_unidentified(&server);
        client.sends(id);
        client.is_closed();
        server.logs(&["bad_id"]);
    }
    assert_eq!(server.stat("clients_closed.bad_id"), wrong.len() as u64);
    assert_eq!(server.stat("clients_connected"), 0);
}

#[test]
fn a_client_that_sends_over_64_bytes_without_an_end_is_closed() {
    let (server, _source) = source_first(&[]);
    let mut client = Client::connect_unidentified(&server);
    client.sends("1".repeat(67));
    client.is_cut_off();
    server.assert_stat_reaches("clients_closed.bad_id", 1);
}

#[test]
fn a_client_that_does_not_say_who_it_is_in_time_is_closed_and_counted() {
    let (server, mut source) = source_first(&["--identify-timeout-ms", "50"]);
    let mut known = Client::connect(&server, 1);
    let mut silent = Client::connect_unidentified(&server);
    let mut slow = Client::connect_unidentified(&server);
    slow.sends("12");
    silent.is_closed();
    slow.is_closed();
    server.assert_stat_reaches("clients_closed.identify_timeout", 2);
    source.sends_lines(&["1|B"]);
    known.receives(&["1|B"]);
}

#[test]
fn a_newer_connection_takes_over_and_the_older_keeps_what_was_queued_for_it() {
    let (server, mut source) = source_first(&[]);
    let mut older = Client::connect(&server, 7);
    source.sends_lines(&["1|F|7|8", "2|B", "3|P|1|7"]);
    server.assert_stat_reaches("events", 3);
    let mut newer = Client::connect(&server, "007");
    source.sends_lines(&["4|S|8", "5|P|1|7"]);
    newer.receives(&["4|S|8", "5|P|1|7"]);
    older.receives(&["2|B", "3|P|1|7"]);
    older.is_closed();
    server.logs(&["user 7", &older.address().to_string(), "taken_over", "0 bytes queued"]);
    assert_eq!(
        (server.stat("clients_closed.taken_over"), server.stat("clients_connected")),
        (1, 1)
    );
}

#[test]
fn the_end_of_a_replaced_connection_does_not_disturb_the_newer_one() {
    let (server, mut source) = source_first(&[]);
    let mut current = Client::connect(&server, 7);
    for round in 0..20 {
        let line = format!("{}|P|1|7", round + 1);
        source.sends_lines(&[&line]);
        current.receives(&[&line]);
        let newer = Client::connect(&server, 7);
        // The older one disconnects while it is being replaced.
        drop(std::mem::replace(&mut current, newer));
    }
    source.sends_lines(&["21|P|1|7"]);
    current.receives(&["21|P|1|7"]);
    server.wait_for_stat("clients_connected", 1);
}

#[test]
fn bytes_behind_the_id_line_are_ignored() {
    let (server, mut source) = source_first(&[]);
    let mut client = Client::connect_unidentified(&server);
    client.sends("7\n8\nabc\r\n1|B\n");
    client.sends(vec![b'x'; 1 << 20]);
    source.sends_lines(&["1|P|1|8", "2|P|1|7"]);
    client.receives(&["2|P|1|7"]);
    client.sends("9\n");
    source.sends_lines(&["3|P|1|9", "4|P|1|7"]);
    client.receives(&["4|P|1|7"]);
}

#[test]
fn a_client_that_leaves_is_gone_and_its_follows_stay() {
    let (server, mut source) = source_first(&[]);
    let client = Client::connect(&server, 7);
    source.sends_lines(&["1|F|7|8"]);
    server.assert_stat_reaches("events", 1);
    client.leaves(&server);
    source.sends_lines(&["2|S|8", "3|P|1|7"]);
    server.assert_stat_reaches("events", 3);
    assert_eq!(server.stat("lines_queued"), 0);
    let mut again = Client::connect(&server, 7);
    source.sends_lines(&["4|S|8"]);
    again.receives(&["4|S|8"]);
}

#[test]
fn a_half_close_is_the_end_of_a_client() {
    let (server, mut source) = source_first(&[]);
    let mut client = Client::connect(&server, 7);
    let mut observer = Client::connect(&server, 8);
    source.sends_lines(&["1|B"]);
    client.receives(&["1|B"]);
    client.half_closes();
    client.is_closed();
    source.sends_lines(&["2|B"]);
    observer.receives(&["1|B", "2|B"]);
    server.logs(&["user 7", &client.address().to_string(), "closed_by_peer"]);
}

#[test]
fn a_client_that_is_reset_is_gone() {
    let (server, mut source) = source_first(&[]);
    let mut client = Client::connect(&server, 7);
    source.sends_lines(&["1|B"]);
    client.receives(&["1|B"]);
    let address = client.address().to_string();
    client.resets();
    server.logs(&["user 7", &address, "io_error", "0 bytes queued"]);
    assert_eq!(server.stat("clients_connected"), 0);
}

#[test]
fn a_client_that_leaves_before_it_is_known_is_forgotten() {
    let (server, _source) = source_first(&[]);
    let mut client = Client::connect_unidentified(&server);
    client.sends("12");
    client.half_closes();
    client.is_closed();
    server.logs(&[&client.address().to_string(), "before identifying", "closed_by_peer"]);
    assert_eq!(server.stat("clients_connected"), 0);
}

#[test]
fn a_connection_that_is_reset_before_it_has_sent_anything_is_no_reason_to_warn() {
    let (server, _source) = source_first(&[]);
    let client = Client::connect_unidentified(&server);
    let source = Source::connect(&server);
    server.wait_for_stat("sources_connected", 2);
    server.wait_for_stat("clients_connected", 1);
    let addresses = [client.address(), source.address()].map(|address| address.to_string());
    client.resets();
    source.resets();
    for address in addresses {
        let line = server.logs(&[&address, "io_error"]);
        assert!(line.contains("[INFO]"), "{line}");
    }
}

#[test]
fn a_user_that_no_event_names_receives_broadcasts() {
    let (server, mut source) = source_first(&[]);
    let mut client = Client::connect(&server, 123_456_789);
    source.sends_lines(&["1|F|1|2", "2|S|2", "3|P|2|1", "4|B"]);
    client.receives(&["4|B"]);
}

#[test]
fn a_client_receives_what_is_applied_after_it_registered() {
    let (server, mut source) = source_first(&[]);
    source.sends_lines(&["1|B", "3|B"]);
    server.assert_stat_reaches("events", 1);
    let mut client = Client::connect(&server, 1);
    source.sends_lines(&["2|B"]);
    client.receives(&["2|B", "3|B"]);
}

#[test]
fn a_client_past_the_limit_is_closed_at_once_and_counted() {
    let (server, mut source) = source_first(&["--max-clients", "3"]);
    let mut clients = [1, 2, 3].map(|user| Client::connect(&server, user));
    let mut fourth = Client::connect(&server, 4);
    fourth.is_closed();
    server.logs(&[&fourth.address().to_string(), "too_many_clients"]);
    assert_eq!(server.stat("clients_closed.too_many_clients"), 1);
    source.sends_lines(&["1|B"]);
    for client in &mut clients {
        client.receives(&["1|B"]);
    }
    let [first, ..] = clients;
    first.leaves(&server);
    let mut fifth = Client::connect(&server, 5);
    source.sends_lines(&["2|B"]);
    fifth.receives(&["2|B"]);
}

#[test]
fn a_client_past_the_limit_of_its_address_is_closed_at_once_and_counted() {
    let (server, mut source) = source_first(&["--max-clients-per-address", "2"]);
    let [first, mut second] = [1, 2].map(|user| Client::connect(&server, user));
    let mut third = Client::connect_unidentified(&server);
    third.is_closed();
    server.logs(&[&third.address().to_string(), "too_many_from_address"]);
    assert_eq!(server.stat("clients_closed.too_many_from_address"), 1);
    first.leaves(&server);
    let mut fourth = Client::connect(&server, 4);
    source.sends_lines(&["1|B"]);
    second.receives(&["1|B"]);
    fourth.receives(&["1|B"]);
}
