//! HTTP requests of web pages: no line of them is taken for an event.

use crate::support::{Client, Server, Source};

/// Starts a server with a client that would receive a broadcast.
fn server_with_client() -> (Server, Client) {
    let server = Server::start(&[]);
    let observer = Client::connect(&server, 7);
    server.wait_for_stat("clients_connected", 1);
    (server, observer)
}

fn is_refused(request: &str) {
    let (server, mut observer) = server_with_client();
    let mut page = Source::connect(&server);
    page.sends_unless_closed(request.as_bytes());
    page.is_closed();
    let line = server.logs(&[&page.address().to_string(), "http_request"]);
    assert!(line.contains("[WARN]"), "{line}");
    Source::connect(&server).sends_lines(&["1|P|1|7"]);
    observer.receives(&["1|P|1|7"]);
}

#[test]
fn the_body_of_a_post_is_not_taken_for_events() {
    is_refused("POST / HTTP/1.1\r\nHost: localhost:9090\r\nContent-Length: 8\r\n\r\n1|B\n2|B\n");
}

#[test]
fn a_target_too_long_for_a_line_makes_no_difference() {
    let target = "a".repeat(5000);
    is_refused(&format!("POST /{target} HTTP/1.1\r\nContent-Length: 8\r\n\r\n1|B\n2|B\n"));
}

#[test]
fn a_host_field_ends_a_source_whatever_came_before_it() {
    is_refused("x\r\nhost: localhost:9090\r\n1|B\n2|B\n");
}

#[test]
fn a_request_line_after_the_first_line_is_malformed_like_any_other() {
    let (server, mut observer) = server_with_client();
    let mut source = Source::connect(&server);
    source.sends("x\nGET / HTTP/1.1\n1|P|1|7\n");
    observer.receives(&["1|P|1|7"]);
}

#[test]
fn a_request_to_the_client_port_is_told_from_a_bad_id() {
    let (server, _observer) = server_with_client();
    for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", &format!("GET /{:0>200}", 1)] {
        let mut page = Client::connect_unidentified(&server);
        page.sends(request);
        page.is_cut_off();
        server.logs(&[&page.address().to_string(), "http_request"]);
    }
    assert_eq!(
        (server.stat("clients_closed.http_request"), server.stat("clients_closed.bad_id")),
        (2, 0)
    );
}
