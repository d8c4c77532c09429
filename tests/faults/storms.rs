//! Storms of clients that connect and disconnect.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::RESET;
use crate::scale::{report, scaled};
use crate::stream::Stream;
use crate::support::{Client, Server, Source, delivered, messages};
use crate::verification::passes_verification;
use crate::workload::{CHECKED_CLIENTS, CROWD};

/// Storms at the same time, one thread each.
const STORMS: usize = 4;

/// Connections from one address. Each occupies a port for a while after it ends, and the fewer are
/// left, the longer it takes to find one.
const CONNECTIONS_PER_ADDRESS: usize = 5000;

fn connect_from(storm: usize, number: usize, server: &Server) -> TcpStream {
    let own = Ipv4Addr::new(127, 90, storm as u8, (number / CONNECTIONS_PER_ADDRESS) as u8);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((own, 0)).into()).unwrap();
    socket.connect(&server.client_address.into()).unwrap();
    socket.into()
}

/// Connects and disconnects at once, in one of six ways.
fn connect_and_leave(storm: usize, server: &Server, number: usize) {
    let mut stream = connect_from(storm, number, server);
    let user = CROWD + (number % 100) as u64;
    match number % 6 {
        0 => {}
        1 => stream.write_all(format!("{user}\n").as_bytes()).unwrap(),
        2 => stream.write_all(b"12").unwrap(),
        3 => stream.write_all(b"nonsense\n").unwrap(),
        4 => SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
        _ => {
            stream.write_all(format!("{user}\n").as_bytes()).unwrap();
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
}

fn open_descriptors(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.process().0.as_raw_nonzero())).unwrap().count()
}

#[test]
fn clients_that_connect_and_disconnect_by_the_ten_thousand() {
    let connections = scaled(50_000, 200_000) / STORMS * STORMS;
    let server = Server::start(&RESET);
    let mut stream = Stream::connect(&server);
    stream.round();
    let descriptors = open_descriptors(&server);
    stream.run_during(|| {
        thread::scope(|scope| {
            for storm in 0..STORMS {
                let server = &server;
                scope.spawn(move || {
                    (0..connections / STORMS)
                        .for_each(|number| connect_and_leave(storm, server, number));
                });
            }
        });
        server.wait_for_stat("clients_connected", CHECKED_CLIENTS);
    });
    // A connection that is reset before it is accepted may not count for the server.
    let accepted = server.stat("clients_accepted");
    assert!(accepted <= connections as u64 + CHECKED_CLIENTS, "{accepted} clients accepted");
    assert_eq!(open_descriptors(&server), descriptors);
    let memory = server.process().resident_bytes() >> 20;
    let figures = stream.ends(&server);
    report(format_args!("{connections} clients, {memory} MB resident afterwards; {figures}"));
    passes_verification(&server);
}

#[test]
fn takeovers_of_one_id_by_the_thousand() {
    const USER: u64 = 7;
    const AT_ONCE: u64 = 10;
    const MESSAGES: u64 = 5;
    let rounds = scaled(100, 1000) as u64;
    let server = Server::start(&RESET);
    let mut source = Source::connect(&server);
    let mut newest = Client::connect(&server, USER);
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut older = Vec::new();
        for number in round * AT_ONCE..(round + 1) * AT_ONCE {
            let lines = messages(number * MESSAGES + 1..(number + 1) * MESSAGES + 1, USER);
            source.sends(&lines);
            sent.extend(lines);
            older.push(std::mem::replace(&mut newest, Client::connect(&server, USER)));
        }
        for mut client in older {
            received.extend(client.receives_until_closed());
        }
    }
    // Every line was delivered to the newest client at that time: together they have all of them.
    let takeovers = rounds * AT_ONCE;
    let last = messages(takeovers * MESSAGES + 1..takeovers * MESSAGES + 2, USER);
    source.sends(&last);
    sent.extend(&last);
    let rest = delivered(&sent).split_off(received.len());
    assert!(delivered(&sent).starts_with(&received));
    newest.receives_bytes(&rest);
    server.assert_stat_reaches("clients_closed.taken_over", takeovers);
    drop((source, newest));
    server.wait_for_stat("clients_connected", 0);
    report(format_args!(
        "{takeovers} takeovers, {AT_ONCE} at once; {} messages, none lost, none twice",
        takeovers * MESSAGES + 1
    ));
    passes_verification(&server);
}
