//! A client whose ID line arrived before a source's bytes were read misses none of them.

use crate::support::{Client, Server, Source, raise_descriptor_limit};

fn connect_users(server: &Server, count: u64) -> Vec<Client> {
    raise_descriptor_limit();
    (0..count).map(|user| Client::connect(server, user)).collect()
}

#[track_caller]
fn all_receive(clients: &mut [Client], lines: &[&str]) {
    for client in clients {
        client.receives(lines);
    }
}

#[test]
fn five_thousand_clients_that_wrote_their_id_just_before_all_get_the_first_broadcast() {
    let server = Server::start(&[]);
    let mut source = Source::connect(&server);
    let mut clients = connect_users(&server, 5000);
    source.sends_lines(&["1|B", "2|B"]);
    all_receive(&mut clients, &["1|B", "2|B"]);
}

#[test]
fn three_thousand_clients_that_came_while_the_server_stood_still_all_get_the_first_broadcast() {
    let server = Server::start(&[]);
    let mut source = Source::connect(&server);
    let mut clients = server.while_suspended(|| {
        let clients = connect_users(&server, 3000);
        source.sends_lines(&["1|B", "2|B"]);
        clients
    });
    all_receive(&mut clients, &["1|B", "2|B"]);
}

#[test]
fn clients_and_source_may_all_have_come_while_the_server_stood_still() {
    let server = Server::start(&[]);
    let (mut clients, _source) = server.while_suspended(|| {
        let clients = connect_users(&server, 500);
        let mut source = Source::connect(&server);
        source.sends_lines(&["1|B"]);
        (clients, source)
    });
    all_receive(&mut clients, &["1|B"]);
}
