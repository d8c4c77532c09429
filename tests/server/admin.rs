//! Operators' HTTP: its answers, its limits, and that it neither disturbs the stream nor is disturbed by it.

use std::net::TcpListener;
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Client, Http, Prng, Server, Source, broadcasts, command, delivered, messages, run_to_exit,
};

const ADMIN: [&str; 2] = ["--admin-listen", "0"];
const MAX_CONNECTIONS: usize = 32;

fn start(flags: &[&str]) -> Server {
    Server::start(&[&ADMIN, flags].concat())
}

/// Sends a request on a connection of its own. Returns the status code, and asserts that the connection is
/// closed if it must be.
fn status_of(server: &Server, request: &str, closes: bool) -> u16 {
    let mut http = Http::connect(server);
    http.sends(request);
    let response = http.receives(!request.starts_with("HEAD"));
    assert_eq!(response.field("Connection") == Some("close"), closes, "{request:?}: {response:?}");
    if closes {
        http.is_closed();
    }
    response.status
}

#[test]
fn every_path_is_answered() {
    let server = start(&[]);
    let mut http = Http::connect(&server);
    for (path, status, content_type, part) in [
        ("/", 200, "text/html; charset=utf-8", "<!doctype html>"),
        ("/status", 200, "application/json", r#""state":"running""#),
        ("/metrics", 200, "text/plain; version=0.0.4; charset=utf-8", "eventserver_clients 0\n"),
        ("/history", 200, "application/json", r#""lines_queued":["#),
        ("/healthz", 200, "text/plain; charset=utf-8", "ok\n"),
        ("/readyz", 200, "text/plain; charset=utf-8", "ready\n"),
        ("/healthz?verbose", 200, "text/plain; charset=utf-8", "ok\n"),
        ("/favicon.ico", 404, "text/plain; charset=utf-8", "/metrics"),
    ] {
        let response = http.gets(path);
        assert_eq!(response.status, status, "{path}");
        assert_eq!(response.field("Content-Type"), Some(content_type), "{path}");
        assert!(response.body.contains(part), "{path}: {}", response.body);
        http.sends(format!("HEAD {path} HTTP/1.1\r\nHost: a.localhost:1\r\n\r\n"));
        let head = http.receives(false);
        assert_eq!((head.status, head.field("Content-Type")), (status, Some(content_type)));
        assert!(head.field("Date").is_some_and(|date| date.ends_with(" GMT")), "{head:?}");
    }
}

#[test]
fn what_is_no_such_request_is_told_why() {
    let server = start(&[]);
    let long = "x".repeat(9000);
    for (request, status) in [
        ("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n", 413),
        ("PRI * HTTP/2.0\r\n\r\n", 505),
        ("1|F|60|50\n", 400),
        (&format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"), 431),
    ] {
        assert_eq!(status_of(&server, request, true), status, "{request:?}");
    }
    let mut http = Http::connect(&server);
    http.sends("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(http.receives(true).field("Allow"), Some("GET, HEAD"));
}

/// A web page may make its own name resolve to 127.0.0.1, but cannot choose what it is called.
#[test]
fn a_web_page_cannot_read_a_loopback_server_under_its_own_name() {
    let server = start(&[]);
    let get = |host: &str| format!("GET /status HTTP/1.1\r\nHost: {host}\r\n\r\n");
    assert_eq!(status_of(&server, &get("evil.example:9091"), false), 421);
    for host in ["127.0.0.1:9091", "localhost", "[::1]:1"] {
        assert_eq!(status_of(&server, &get(host), false), 200, "{host}");
    }
    let server = Server::start(&["--admin-listen", "0.0.0.0:0"]);
    server.logs(&["[WARN]", "open to other machines", &server.admin_address().to_string()]);
    let mut http = Http::connect_to(([127, 0, 0, 1], server.admin_address().port()).into());
    http.sends(get("metrics.example"));
    assert_eq!(http.receives(true).status, 200);
}

#[test]
fn connections_close_when_a_peer_asks_pipelines_or_ends() {
    let server = start(&[]);
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(
        status_of(&server, &request.replace("Host", "Connection: close\r\nHost"), true),
        200
    );
    assert_eq!(status_of(&server, "GET /healthz HTTP/1.0\r\n\r\n", true), 200);
    // Only the first of pipelined requests is answered.
    assert_eq!(status_of(&server, &request.repeat(3), true), 200);
    let mut http = Http::connect(&server);
    for byte in request.as_bytes() {
        http.sends([*byte]);
    }
    assert_eq!(http.receives(true).status, 200);
}

#[test]
fn the_figures_are_those_of_the_stream() {
    let server = start(&["--max-line-bytes", "64"]);
    let mut client = Client::connect(&server, 9);
    server.wait_for_stat("clients_connected", 1);
    let mut source = Source::connect(&server);
    let sent = "1|F|9|7\n2|U|9|7\n3|F|9|8\n4|P|8|9\n5|S|8\n6|B\n7|x\n3|B\nabc\n9|B\n10|B\n";
    source.sends(sent);
    client.receives(&["4|P|8|9", "5|S|8", "6|B"]);
    let mut stranger = Client::connect_unidentified(&server);
    stranger.sends("<img src=x onerror=alert(1)>\n");
    stranger.is_closed();

    let status = Http::connect(&server).gets("/status").json();
    let expected = json!({
        "applied": 6, "follows": 2, "unfollows": 1, "broadcasts": 1, "private_messages": 1, "status_updates": 1,
        "malformed": 2, "void": 1, "duplicate": 0, "late": 1, "lost": 0, "unterminated": 0,
    });
    assert_eq!(status["events"], expected);
    let received = "4|P|8|9\r\n5|S|8\r\n6|B\r\n".len();
    let traffic = json!({
        "lines_queued": 3, "bytes_read": sent.len(), "bytes_written": received, "queued_bytes": 0,
    });
    assert_eq!(status["traffic"], traffic);
    let sequence = &status["sequence"];
    let values =
        |names: &[&str]| names.iter().map(|&name| sequence[name].clone()).collect::<Vec<_>>();
    assert_eq!(values(&["awaited", "committed", "buffered_events"]), [8, 7, 2]);
    assert_eq!(sequence["gap"]["first_missing"], 8);
    assert_eq!(status["graph"], json!({"users": 2, "follows": 1}));
    assert_eq!(status["settings"]["maxLineBytes"], 64);
    let close = &status["recent_closes"][0];
    assert_eq!(close["reason"], "bad_id");
    assert_eq!(close["input"], "\"<img src=x onerror=alert(1)>\"");
    assert_eq!(status["clients"]["closed"]["bad_id"], 1);
    let delays = &status["histograms"]["delivery_delay_seconds"]["count"];
    assert!(delays.as_u64().is_some_and(|count| count > 0), "{delays} samples");

    let metrics = Http::connect(&server).gets("/metrics").body;
    for line in [
        "eventserver_awaited_sequence 8",
        "eventserver_gap_first_sequence 8",
        "eventserver_events_applied_total{type=\"follow\"} 2",
        "eventserver_connections_closed_total{side=\"client\",reason=\"bad_id\"} 1",
        "eventserver_follows 1",
        "eventserver_ready 1",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} in {metrics}");
    }
}

#[test]
fn a_pause_is_seen_with_the_client_that_causes_it() {
    let server = start(&["--client-queue-bytes", "65536"]);
    let mut slow = Client::connect_slow(&server, u64::MAX);
    let stream = messages(1..200_001, u64::MAX);
    let sending = Source::connect(&server).sends_in_background(stream.clone());
    let is_paused = || (server.status("/server/state") == "paused").then_some(());
    server.wait_until("the server is paused", is_paused);
    let status = Http::connect(&server).gets("/status").json();
    assert_eq!(status["clients"]["full_queues"], 1);
    assert_eq!(status["slow_clients"][0]["user"], u64::MAX.to_string());
    assert_eq!(status["slow_clients"][0]["peer"], slow.address().to_string());
    let queued = status["slow_clients"][0]["queued_bytes"].as_u64();
    assert!(queued.is_some_and(|bytes| (32_768..=65_536).contains(&bytes)), "{queued:?}");
    assert_eq!(Http::connect(&server).gets("/readyz").status, 200, "a pause is ready");
    assert!(status["pause"]["current_pause_seconds"].is_f64() && status["pause"]["pauses"] != 0);
    slow.receives_bytes(&delivered(&stream));
    sending.join().unwrap();
    let is_running = || (server.status("/server/state") == "running").then_some(());
    server.wait_until("the server is running", is_running);
    assert!(server.status("/pause/paused_seconds").as_f64().is_some_and(|seconds| seconds > 0.0));
    assert_eq!(server.status("/slow_clients"), json!([]));
}

#[test]
fn a_stop_turns_readiness_off_first_and_goes_on_answering() {
    let mut server = start(&["--drain-timeout-ms", "3600000"]);
    let mut slow = Client::connect_slow(&server, 7);
    let stream = messages(1..60_001, 7);
    Source::connect(&server).sends(&stream);
    let is_applied = || (server.status("/events/applied") == 60_000).then_some(());
    server.wait_until("everything is applied", is_applied);
    let mut probe = Http::connect(&server);
    assert_eq!(probe.gets("/readyz").status, 200);
    server.signal(Signal::TERM);
    let unready = server.wait_until("the server is not ready", || {
        Some(probe.gets("/readyz")).filter(|response| response.status == 503)
    });
    assert_eq!(unready.body, "draining\n");
    assert_eq!(probe.gets("/healthz").status, 200);
    assert_eq!(Http::connect(&server).gets("/status").json()["server"]["state"], "draining");
    slow.receives_bytes(&delivered(&stream));
    slow.is_closed();
    drop(slow);
    assert_eq!(server.exit_status(), Some(0));
}

#[test]
fn the_connection_that_is_idle_for_the_longest_time_makes_space() {
    let server = start(&[]);
    let mut idle: Vec<Http> = (0..MAX_CONNECTIONS).map(|_| Http::connect(&server)).collect();
    for http in &mut idle {
        assert_eq!(http.gets("/healthz").status, 200);
    }
    assert_eq!(Http::connect(&server).gets("/healthz").status, 200);
    idle[0].is_closed();
    assert_eq!(idle[MAX_CONNECTIONS - 1].gets("/healthz").status, 200);
}

/// Takes ten seconds, the timeout of a request.
#[test]
fn connections_without_a_request_keep_others_waiting_until_they_time_out() {
    let server = start(&[]);
    let silent: Vec<Http> = (0..MAX_CONNECTIONS).map(|_| Http::connect(&server)).collect();
    assert_eq!(Http::connect(&server).gets("/healthz").status, 200);
    for mut http in silent {
        http.is_closed();
    }
}

#[test]
fn a_verified_stream_goes_on_among_garbage_and_scrapes() {
    let server = start(&[]);
    let mut client = Client::connect(&server, 7);
    server.wait_for_stat("clients_connected", 1);
    let stream = [messages(1..200_001, 7), broadcasts(200_001..200_002)].concat();
    let sending = Source::connect(&server).sends_in_background(stream.clone());
    let receiving = thread::spawn(move || {
        client.receives_bytes(&delivered(&stream));
        client
    });
    let mut random = Prng::announced(13);
    let mut scraper = Http::connect(&server);
    let mut last = 0;
    for _ in 0..100 {
        let mut garbage = vec![0; random.below(20_000) as usize];
        random.fill(&mut garbage);
        if random.below(2) == 0 {
            garbage.splice(0..0, *b"GET / HTTP/1.1\r\nHost: localhost\r\n");
        }
        Http::connect(&server).sends_unless_closed(&garbage);
        let applied = scraper.gets("/status").json()["events"]["applied"].as_u64().unwrap();
        assert!(applied >= last, "counters only rise");
        last = applied;
        assert!(scraper.gets("/metrics").body.contains("eventserver_events_applied_total"));
    }
    sending.join().unwrap();
    receiving.join().unwrap();
    let is_applied = || (server.status("/events/applied") == 200_001).then_some(());
    server.wait_until("everything is applied", is_applied);
    assert_eq!(server.status("/events/late"), 0);
    assert_eq!(server.status("/events/malformed"), 0);
}

#[test]
fn descriptors_are_set_aside_for_operators() {
    let server = Server::start_with_descriptors(200, &ADMIN);
    let max = server.status("/clients/max");
    let without = Server::start_with_descriptors(200, &[]);
    let line = without.logs(&["more clients that await identification"]);
    let clients = line.split(" sources, ").nth(1).and_then(|rest| rest.split(' ').next());
    let clients: Value = clients.unwrap().parse().unwrap();
    // Its listener takes one, too.
    let difference = clients.as_u64().unwrap() - max.as_u64().unwrap();
    assert!((MAX_CONNECTIONS as u64 / 2..=MAX_CONNECTIONS as u64 + 1).contains(&difference));
    assert_eq!(server.status("/process/max_descriptors"), 200);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let flags = ["--event-listen", "0", "--client-listen", "0", "--admin-listen", &address];
    let (status, told) = run_to_exit(command(&flags));
    assert_eq!(status, Some(1), "{told}");
    assert!(told.contains(&format!("cannot listen on {address} for operators")), "{told}");
}
