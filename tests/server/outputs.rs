//! Standard output and error that are closed, full, or limited in size.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::{Client, Log, Server, Source, command, full_pipe, run_to_exit};

/// Starts a server that cannot print its ports, at an address of the loopback network that no other
/// test run uses.
fn start_without_ready_line(command: &mut Command, port: u16) -> Server {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let address = |port| SocketAddr::from(([127, 64 + high % 64, middle, low], port));
    let (events, clients) = (address(port), address(port + 1));
    let child = command
        .args(["--event-listen", &events.to_string(), "--client-listen", &clients.to_string()])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server::from_child(child, events, clients);
    server.wait_until("it listens", || TcpStream::connect(clients).ok());
    server
}

#[track_caller]
fn serves_without_ready_line(mut server: Server) {
    let mut source = Source::connect(&server);
    let mut client = Client::connect(&server, 1);
    for round in 0..20 {
        let line = format!("{}|B", round + 1);
        source.sends("malformed\n".repeat(100) + &line + "\n");
        client.receives(&[&line]);
        server.signal(Signal::USR1);
    }
    server.signal(Signal::TERM);
    client.is_closed();
    drop((source, client));
    assert_eq!(server.exit_status(), Some(0));
}

#[test]
fn outputs_that_nobody_reads_are_no_reason_to_die() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = command(&[]);
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    drop(reader);
    let server = start_without_ready_line(&mut command, 9090);
    // The command keeps the other end of the pipe open for as long as it lives.
    drop(command);
    serves_without_ready_line(server);
}

#[test]
fn closed_outputs_are_no_reason_to_die() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" >&- 2>&-", env!("CARGO_BIN_EXE_eventserver")]);
    serves_without_ready_line(start_without_ready_line(&mut shell, 9190));
}

#[test]
fn a_full_standard_output_does_not_hold_the_server_up() {
    let (reader, writer) = full_pipe();
    let mut command = command(&[]);
    command.stdout(writer).stderr(Stdio::null());
    let server = start_without_ready_line(&mut command, 9290);
    drop(command);
    // The line arrives once the pipe is read.
    Log::of(reader).wait_for("the server is ready", |lines| {
        lines.iter().any(|line| line.starts_with("eventserver ready: ")).then_some(())
    });
    serves_without_ready_line(server);
}

#[test]
fn a_full_standard_output_does_not_hold_the_end_up() {
    let (_reader, writer) = full_pipe();
    let mut command = command(&[]);
    command.stdout(writer).stderr(Stdio::null());
    let server = start_without_ready_line(&mut command, 9390);
    drop(command);
    serves_without_ready_line(server);
}

#[test]
fn a_full_standard_error_does_not_hold_an_error_up() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let in_use = ["--event-listen", &address, "--client-listen", "0"];
    for (flags, expected) in [(&in_use[..], 1), (&["--no-such-flag"], 2)] {
        let (_reader, writer) = full_pipe();
        let mut command = command(flags);
        command.stderr(writer);
        let (status, _) = run_to_exit(command);
        assert_eq!(status, Some(expected));
    }
}

/// Returns the program under a limit of one or two kilobytes per written file.
fn with_file_size_limit(redirection: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -f 2 && exec \"$0\" \"$@\" {redirection}")]);
    shell
}

#[test]
fn a_capture_that_reaches_the_limit_of_file_sizes_ends_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stream.events");
    let flags = ["--capture", file.to_str().unwrap()];
    let mut server = Server::start_under(with_file_size_limit(""), &flags);
    let (mut source, mut client) = (Source::connect(&server), Client::connect(&server, 1));
    for sequence in 1..=100 {
        let line = format!("{sequence:020}|B");
        source.sends_lines(&[&line]);
        client.receives(&[&line]);
    }
    server.logs(&["ERROR", "capture to", "stopped", "File too large"]);
    assert_eq!(server.stop_with((source, client)), Some(0));
}

#[test]
fn a_log_that_reaches_the_limit_of_file_sizes_is_no_reason_to_die() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let mut server =
        Server::start_under(with_file_size_limit(&format!("2>{}", file.display())), &[]);
    let (mut source, mut client) = (Source::connect(&server), Client::connect(&server, 1));
    for sequence in 1..=20 {
        let line = format!("{sequence:020}|B");
        server.signal(Signal::USR1);
        source.sends_lines(&[&line]);
        client.receives(&[&line]);
    }
    assert_eq!(server.stop_with((source, client)), Some(0));
    let logged = std::fs::metadata(file).unwrap().len();
    assert!((1000..=2048).contains(&logged), "{logged} bytes are logged");
}
