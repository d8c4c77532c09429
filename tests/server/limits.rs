//! Limits of the operating system: descriptors and ports.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::{Client, Server, Source, command, run_to_exit};

#[test]
fn out_of_descriptors_accepting_rests_without_spinning_and_goes_on_by_itself() {
    let server = Server::start_with_descriptors(64, &["--max-clients", "1000"]);
    let mut source = Source::connect(&server);
    let mut served = Client::connect(&server, 1000);
    source.sends_lines(&["1|B"]);
    served.receives(&["1|B"]);
    let (start, ticks) = (Instant::now(), server.process().ticks());
    let mut crowd: Vec<Client> = (0..80).map(|user| Client::connect(&server, user)).collect();

    // Between four failures there are three back-offs of half a second.
    server.wait_for_log_lines("cannot accept another client", 4);
    let (elapsed, used) = (start.elapsed(), server.process().ticks() - ticks);
    assert!(elapsed >= Duration::from_millis(1500), "retried too soon: {elapsed:?}");
    assert!(used < 30, "{used} hundredths of a second of CPU time in {elapsed:?}");

    source.sends_lines(&["2|B"]);
    served.receives(&["2|B"]);
    let accepted = server.stat("clients_connected") as usize - 1;
    assert!((40..80).contains(&accepted), "{accepted} clients were accepted");

    let mut waiting = crowd.split_off(accepted);
    drop(crowd);
    server.wait_for_stat("clients_connected", 1 + waiting.len() as u64);
    source.sends_lines(&["3|B"]);
    for client in waiting.iter_mut().chain([&mut served]) {
        client.receives(&["3|B"]);
    }
}

/// Asserts that each client receives this line or is closed. Returns the number of receivers.
fn served(crowd: &mut [Client], line: &str) -> usize {
    let expected = format!("{line}\r\n");
    let is_served = |client: &mut Client| {
        let received: String =
            (0..expected.len()).map_while(|_| client.receives_a_byte().map(char::from)).collect();
        assert!(received.is_empty() || received == expected, "{received:?}");
        !received.is_empty()
    };
    crowd.iter_mut().map(is_served).filter(|&is_served| is_served).count()
}

#[test]
fn without_max_clients_the_descriptor_limit_decides_and_is_never_reached() {
    let server = Server::start_with_descriptors(200, &["--max-sources", "20"]);
    let mut crowd: Vec<Client> = (0..150).map(|user| Client::connect(&server, user)).collect();
    server.wait_for_stat("clients_accepted", 150);
    let mut sources: Vec<Source> = (0..20).map(|_| Source::connect(&server)).collect();
    for (sequence, source) in (1..).zip(&mut sources) {
        source.sends_lines(&[&format!("{sequence}|S|1000")]);
    }
    sources[0].sends_lines(&["21|B"]);
    let served = served(&mut crowd, "21|B");
    // Of 200 descriptors 20 are for sources, 16 in reserve, a quarter of the rest for clients
    // awaiting their ID, and some open already.
    assert!((100..123).contains(&served), "{served} clients are served");
    server.logs(&["descriptor limit 200", "20 sources", &format!("{served} clients")]);
    assert_eq!(server.stat("accept_errors"), 0);
    assert_eq!(server.stat("clients_closed.too_many_clients"), 150 - served as u64);
}

#[test]
fn under_a_low_descriptor_limit_sources_get_in_and_no_client_hangs() {
    let server = Server::start_with_descriptors(100, &[]);
    let mut crowd: Vec<Client> = (0..84).map(|user| Client::connect(&server, user)).collect();
    let mut sources: Vec<Source> = (0..10).map(|_| Source::connect(&server)).collect();
    for (sequence, source) in (1..).zip(&mut sources) {
        source.sends_lines(&[&format!("{sequence}|S|1000")]);
    }
    sources[0].sends_lines(&["11|B"]);
    let served = served(&mut crowd, "11|B");
    assert!(served >= 3, "{served} clients are served");
    Client::connect_unidentified(&server).is_cut_off();
    server.assert_stat_reaches("sources_connected", 10);
    assert_eq!(server.stat("accept_errors"), 0);
}

#[test]
fn sources_that_do_not_fit_the_descriptor_limit_are_not_promised() {
    let server = Server::start_with_descriptors(64, &[]);
    server.logs(&["WARN", "--max-sources lowered from 64 to"]);
    let _sources: Vec<Source> = (0..64).map(|_| Source::connect(&server)).collect();
    let mut client = Client::connect(&server, 1);
    server.wait_for_stat("sources_accepted", 64);
    server.wait_for_stat("clients_connected", 1);
    assert!(server.stat("sources_closed.too_many_sources") > 0);
    assert_eq!(server.stat("accept_errors"), 0);
    drop(server);
    client.is_cut_off();
}

#[test]
fn a_port_in_use_is_named_and_the_exit_status_is_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, other) in
        [("--event-listen", "--client-listen"), ("--client-listen", "--event-listen")]
    {
        let (status, said) = run_to_exit(command(&[flag, &address, other, "0"]));
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(&address), "{said}");
    }
}
