//! What the system does not give, and what the log leaves out.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Client, Server, Source, command, run_to_the_end};

#[test]
fn out_of_descriptors_accepting_rests_without_spinning_and_goes_on_by_itself() {
    let server = Server::start_with_descriptors(64, &["--max-clients", "1000"]);
    let mut source = Source::connect(&server);
    let mut served = Client::connect(&server, 1000);
    source.sends_lines(&["1|B"]);
    served.receives(&["1|B"]);
    let (start, ticks) = (Instant::now(), server.process().ticks());
    let mut crowd: Vec<Client> = (0..80).map(|user| Client::connect(&server, user)).collect();

    // Between four failures there are three rests of half a second.
    server.logs_times("cannot accept another client", 4);
    let (elapsed, used) = (start.elapsed(), server.process().ticks() - ticks);
    assert!(elapsed >= Duration::from_millis(1500), "tried again too soon: {elapsed:?}");
    assert!(used < 30, "{used} hundredths of a second of processor time in {elapsed:?}");

    source.sends_lines(&["2|B"]);
    served.receives(&["2|B"]);
    let accepted = server.total("clients now") as usize - 1;
    assert!((40..80).contains(&accepted), "{accepted} of the crowd were accepted");

    let mut waiting = crowd.split_off(accepted);
    drop(crowd);
    server.comes_to_count("clients now", 1 + waiting.len() as u64);
    source.sends_lines(&["3|B"]);
    for client in waiting.iter_mut().chain([&mut served]) {
        client.receives(&["3|B"]);
    }
}

#[test]
fn without_max_clients_the_descriptor_limit_decides_and_is_never_reached() {
    let server = Server::start_with_descriptors(64, &[]);
    let mut source = Source::connect(&server);
    let mut crowd: Vec<Client> = (0..48).map(|user| Client::connect(&server, user)).collect();
    let mut one_too_many = Client::connect_unknown(&server);
    one_too_many.is_closed();
    source.sends_lines(&["1|B"]);
    for client in &mut crowd {
        client.receives(&["1|B"]);
    }
    server.logs(&["descriptor limit 64", "at most 48 clients"]);
    assert_eq!((server.total("accept failures"), server.total("too_many_clients")), (0, 1));
}

#[test]
fn a_kind_of_log_line_appears_ten_times_a_second_and_then_as_a_count() {
    let server = Server::start(&[]);
    let mut source = Source::connect(&server);
    source.sends("x\n".repeat(5000));
    let (mut shown, mut reports) = (0, 0);
    server.until("every malformed line is logged or counted", || {
        let lines = server.log_lines();
        let left_out = lines.iter().filter_map(|line| {
            let count = line.split_once("left out ")?.1.split_once(" more log lines")?.0;
            count.parse::<usize>().ok()
        });
        shown = lines.iter().filter(|line| line.contains("malformed line from source")).count();
        reports = left_out.clone().count();
        (shown + left_out.sum::<usize>() == 5000).then_some(())
    });
    assert!(shown <= 10 * (reports + 1), "{shown} lines and {reports} reports");
}

#[test]
fn a_port_in_use_is_named_and_the_exit_status_is_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, other) in
        [("--event-listen", "--client-listen"), ("--client-listen", "--event-listen")]
    {
        let (status, said) = run_to_the_end(command(&[flag, &address, other, "0"]));
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(&address), "{said}");
    }
}

/// Starts a server that cannot tell its ports, at an address of the loopback net that no other
/// test run uses.
fn start_unheard(command: &mut Command, port: u16) -> Server {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let address = |port| SocketAddr::from(([127, 64 + high % 64, middle, low], port));
    let (events, clients) = (address(port), address(port + 1));
    let child = command
        .args(["--event-listen", &events.to_string(), "--client-listen", &clients.to_string()])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server::adopt(child, events, clients);
    server.until("it listens", || TcpStream::connect(clients).ok());
    server
}

#[track_caller]
fn serves_although_it_cannot_say_so(mut server: Server) {
    let mut source = Source::connect(&server);
    let mut client = Client::connect(&server, 1);
    for round in 0..20 {
        let line = format!("{}|B", round + 1);
        source.sends("malformed\n".repeat(100) + &line + "\n");
        client.receives(&[&line]);
        server.signal(Signal::USR1);
    }
    assert_eq!(server.stop(), Some(0));
    client.is_closed();
}

#[test]
fn outputs_that_nobody_reads_are_no_reason_to_die() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = command(&[]);
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    drop(reader);
    let server = start_unheard(&mut command, 9090);
    // The command keeps the other end of the pipe as long as it lives.
    drop(command);
    serves_although_it_cannot_say_so(server);
}

#[test]
fn closed_outputs_are_no_reason_to_die() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" >&- 2>&-", env!("CARGO_BIN_EXE_eventserver")]);
    serves_although_it_cannot_say_so(start_unheard(&mut shell, 9190));
}
