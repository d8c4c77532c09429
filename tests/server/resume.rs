//! Clients that come back with `ID|SEQUENCE`.

use rustix::process::Signal;

use crate::support::{Client, Server, Source, broadcasts, delivered};

const KEEP: [&str; 2] = ["--resume-events", "1000"];

/// Waits until the server has applied all events before a sequence.
fn wait_for_awaited(server: &Server, sequence: u64) {
    server.wait_for_stat("awaited", sequence);
}

#[test]
fn what_a_client_has_missed_precedes_what_comes() {
    let server = Server::start(&KEEP);
    let mut source = Source::connect(&server);
    source.sends_lines(&["1|S|9", "2|F|7|9", "3|S|9", "4|P|9|7", "5|P|9|8", "6|U|7|9", "7|S|9"]);
    wait_for_awaited(&server, 8);
    let mut client = Client::connect(&server, "7|2");
    client.receives(&["3|S|9", "4|P|9|7"]);
    source.sends_lines(&["8|B"]);
    client.receives(&["8|B"]);
    Client::connect(&server, "9|0").receives(&["2|F|7|9", "8|B"]);
    let [resumes, completed] = ["resumes", "resumes_completed"].map(|name| server.stat(name));
    assert_eq!((resumes, completed, server.stat("resume_gaps")), (2, 2, 0));
}

#[test]
fn a_sequence_is_a_bad_id_unless_clients_may_resume() {
    let server = Server::start(&[]);
    Client::connect(&server, "7|2").is_closed();
    server.logs(&["bad_id", "7|2", "clients may not resume", "--resume-events"]);
    let server = Server::start(&KEEP);
    for id in ["7|", "7|2|3", "7|x", "7|18446744073709551615"] {
        Client::connect(&server, id).is_closed();
        server.logs(&["bad_id", id, "not a sequence"]);
    }
    Client::connect(&server, "|2").is_closed();
    server.logs(&["bad_id", "|2", "the user ID is not"]);
    assert_eq!(server.stat("clients_closed.bad_id"), 5);
}

#[test]
fn a_client_is_told_what_the_server_does_not_have_any_more() {
    let server = Server::start(&["--resume-events", "16"]);
    let mut source = Source::connect(&server);
    source.sends(broadcasts(1..101));
    wait_for_awaited(&server, 101);
    let kept = delivered(&broadcasts(85..101));
    let mut client = Client::connect(&server, "7|10");
    client.receives(&["gap 11 84"]);
    client.receives_bytes(&kept);
    Client::connect(&server, "8|84").receives_bytes(&kept);
    assert_eq!(server.stat("resume_gaps"), 1);
    server.logs(&["user 7 resumes with a gap: sequences 11 to 84 may be missing"]);
}

#[test]
fn a_client_that_is_ahead_waits_until_the_server_is_there() {
    let server = Server::start(&KEEP);
    let mut client = Client::connect(&server, "7|3");
    let mut source = Source::connect(&server);
    source.sends_lines(&["1|B", "2|B", "3|B", "4|B", "5|B"]);
    client.receives(&["4|B", "5|B"]);
}

#[test]
fn a_client_that_waits_in_vain_is_told() {
    let server = Server::start(&["--resume-events", "9", "--identify-timeout-ms", "50"]);
    let mut source = Source::connect(&server);
    source.sends_lines(&["1|B"]);
    wait_for_awaited(&server, 2);
    let mut client = Client::connect(&server, "7|9");
    client.receives(&["gap 2 9"]);
    source.sends_lines(&["2|B", "3|B"]);
    client.receives(&["2|B", "3|B"]);
}

#[test]
fn a_client_that_comes_back_takes_over_from_itself() {
    let server = Server::start(&KEEP);
    let mut source = Source::connect(&server);
    let mut first = Client::connect(&server, 7);
    source.sends_lines(&["1|B"]);
    first.receives(&["1|B"]);
    let mut second = Client::connect(&server, "7|1");
    first.is_closed();
    // One that is ahead is taken over too.
    let mut third = Client::connect(&server, "7|100");
    second.is_closed();
    let mut fourth = Client::connect(&server, "7|0");
    third.is_closed();
    fourth.receives(&["1|B"]);
    source.sends_lines(&["2|B"]);
    fourth.receives(&["2|B"]);
    assert_eq!(server.stat("clients_closed.taken_over"), 3);
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody_and_gets_everything() {
    const EVENTS: u64 = 400_000;
    let server = Server::start(&["--resume-events", "1000000", "--client-queue-bytes", "100KiB"]);
    let mut source = Source::connect(&server);
    source.sends(broadcasts(1..EVENTS));
    wait_for_awaited(&server, EVENTS);
    let mut slow = Client::connect_slow(&server, "7|0");
    let mut other = Client::connect(&server, "8|300000");
    other.receives_bytes(&delivered(&broadcasts(300_001..EVENTS)));
    source.sends_lines(&[&format!("{EVENTS}|B")]);
    other.receives(&[&format!("{EVENTS}|B")]);
    let queued = server.stat("queued_bytes");
    assert!((1..=64 << 10).contains(&queued), "{queued} bytes are queued");
    assert_eq!(server.stat("resumes_completed"), 1);
    slow.receives_bytes(&delivered(&broadcasts(1..EVENTS)));
    slow.receives(&[&format!("{EVENTS}|B")]);
    server.wait_for_stat("resumes_completed", 2);
}

#[test]
fn a_stop_delivers_what_was_missed_first() {
    const EVENTS: u64 = 300_000;
    let mut server = Server::start(&["--resume-events", "1000000", "--drain-timeout-ms", "60000"]);
    let mut source = Source::connect(&server);
    source.sends(broadcasts(1..EVENTS));
    wait_for_awaited(&server, EVENTS);
    let mut client = Client::connect_slow(&server, "7|0");
    let mut ahead = Client::connect(&server, "8|9999999");
    server.wait_for_stat("resumes", 2);
    server.signal(Signal::TERM);
    ahead.is_closed();
    assert!(client.receives_until_closed() == delivered(&broadcasts(1..EVENTS)));
    drop((source, ahead, client));
    assert_eq!(server.exit_status(), Some(0));
}

#[test]
fn a_reset_ends_what_can_be_missed() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().to_str().unwrap();
    let reset = ["--on-source-disconnect", "reset", "--data-dir", directory];
    let flags = [&KEEP[..], &reset].concat();
    let mut server = Server::start(&flags);
    let mut source = Source::connect(&server);
    source.sends_lines(&["1|F|7|9", "2|B", "3|B"]);
    wait_for_awaited(&server, 4);
    source.leaves(&server);
    wait_for_awaited(&server, 1);
    let mut source = Source::connect(&server);
    source.sends_lines(&["1|S|9", "2|P|1|7"]);
    wait_for_awaited(&server, 3);
    Client::connect(&server, "7|0").receives(&["2|P|1|7"]);
    // The journal tells the same.
    assert_eq!(server.signal_until_exit(Signal::KILL), None);
    let server = Server::start(&flags);
    Client::connect(&server, "7|0").receives(&["2|P|1|7"]);
    assert_eq!(server.stat("resume_gaps"), 0);
}

#[test]
fn a_killed_server_comes_back_with_what_clients_have_missed() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [&KEEP[..], &["--data-dir", folder.path().to_str().unwrap()]].concat();
    let mut server = Server::start(&flags);
    let mut source = Source::connect(&server);
    source.sends_lines(&["1|F|7|9", "2|S|9", "3|F|7|9", "4|U|7|9", "5|S|9", "6|B"]);
    wait_for_awaited(&server, 7);
    assert_eq!(server.signal_until_exit(Signal::KILL), None);
    let server = Server::start(&flags);
    let mut client = Client::connect(&server, "7|1");
    client.receives(&["2|S|9", "6|B"]);
    let mut source = Source::connect(&server);
    source.sends_lines(&["7|P|1|7"]);
    client.receives(&["7|P|1|7"]);
}
