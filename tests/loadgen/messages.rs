//! Every error tells what to do, with its exit status; a run that cannot succeed fails at once.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::running_server::RunningServer;
use super::{loadgen, outcome, some_at_a_time};

/// Runs `loadgen`; returns its status and its output.
fn run(arguments: &str) -> (i32, String) {
    finished(&loadgen(arguments).output().unwrap())
}

fn finished(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), outcome(output).1)
}

/// A port of the loopback interface on which nothing listens.
fn unused_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn typing_errors() {
    for (arguments, message) in [
        ("verfy", "`verfy` is not a command; did you mean verify?"),
        ("verify --spwan", "unknown flag --spwan; did you mean --spawn?"),
        ("verify --clients=5", "did you mean --concurrency-level?"),
        ("verify spawn", "unexpected argument `spawn`; did you mean --spawn?"),
        ("--spawn", "--spawn comes after a command, as in `loadgen verify --spawn`"),
        ("verify --mix", "--mix needs a value, MIX"),
        ("verify --spawn=yes", "--spawn takes no value"),
        ("verify --mix even --mix feed", "--mix is given twice"),
        ("replay", "missing FILE"),
        ("pubsub", "missing --dialect NAME and --port PORT"),
        ("verify --log-level loud", "--log-level loud: expected off, error, warn"),
        ("verify --json x --report x", "--json and --report name the same file, x"),
        ("verify --server-pid 4194304", "--server-pid 4194304: there is no such process"),
        ("pubsub --dialect nats --port 1 --mix even", "--mix even: expected private or broadcast"),
    ] {
        let (status, text) = run(arguments);
        assert_eq!(status, 2, "{arguments}");
        assert!(
            text.starts_with(&format!("loadgen: {message}")) || text.contains(message),
            "{text}"
        );
        assert!(text.contains("--help`"), "{arguments}: no pointer to help: {text}");
    }
}

#[test]
fn flags_without_effect_are_refused() {
    for (arguments, flag, other) in [
        ("verify --spawn --client-port 9", "--client-port", "with --spawn"),
        ("verify --spawn --host ::1", "--host", "with --spawn"),
        ("verify --spawn --event-listener-port 9", "--event-listener-port", "with --spawn"),
        ("soak --spawn --server-pid 9", "--server-pid", "with --spawn"),
        ("verify --server-cpu 0", "--server-cpu", "without --spawn"),
        ("idle --server-cpu 0", "--server-cpu", "without --spawn or --relay"),
        ("replay x --server-arg x", "--server-arg", "without --spawn"),
        ("verify --event-port 1 --event-listener-port 2", "--event-port", "--event-listener-port"),
        ("verify --client-port 1 --client-listener-port 2", "--client-port", "--client-listener"),
        ("latency --spawn --find-knee --relay", "--relay", "with --find-knee"),
        ("latency --spawn --find-knee --runs 2", "--runs", "with --find-knee"),
        ("latency --spawn --find-knee --hgrm x", "--hgrm", "with --find-knee"),
        ("latency --spawn --p99-us 5", "--p99-us", "without --find-knee"),
        ("limit --rate 5", "--rate", "without --relay"),
        ("limit --busy", "--busy", "without --relay"),
        ("limit --relay --mix even", "--mix", "with --relay"),
        ("limit --relay --total-events 5", "--total-events", "with --relay"),
        ("replay x --rate 5 --speed 5", "--speed", "with --rate"),
        ("verify --spawn --log-level warn --log-interval 5", "--log-interval", "--log-level warn"),
        (
            "fairness --spawn --identify-timeout-ms 200 --server-arg --identify-timeout-ms=100",
            "--identify-timeout-ms",
            "with --server-arg",
        ),
        (
            "replay x --spawn --first-sequence 2 --server-arg=--first-sequence --server-arg 3",
            "--first-sequence",
            "with --server-arg",
        ),
    ] {
        let (status, text) = run(arguments);
        assert_eq!(status, 2, "{arguments}: {text}");
        let message = text.lines().next().unwrap();
        let has = |words: &str| message.contains(words);
        assert!(has(flag) && has("has no effect") && has(other), "{arguments}: {text}");
    }
}

#[test]
fn a_server_that_is_not_there() {
    let port = unused_port();
    for command in ["verify --total-events 100", "latency", "fairness", "soak", "idle --clients 5"]
    {
        let (status, text) = run(&format!("{command} --event-port {port}"));
        assert_eq!(status, 1, "{command}");
        let message = format!("no server at 127.0.0.1:{port}");
        assert!(text.contains(&message) && text.contains("use --spawn"), "{command}: {text}");
    }
    for (dialect, package) in [("redis", "package redis-server"), ("nats", "package nats-server")] {
        let (status, text) = run(&format!("pubsub --dialect {dialect} --port localhost:{port}"));
        assert_eq!(status, 1, "{dialect}");
        assert!(text.contains(package) && text.contains("start it (`"), "{text}");
    }
}

#[test]
fn addresses_name_their_host() {
    let (status, text) = run("verify --event-port host.invalid:1 --total-events 100");
    assert_eq!(status, 1);
    assert!(text.contains("host `host.invalid` not found"), "{text}");
    let (status, text) = run("verify --host a --event-port b:1");
    assert_eq!(status, 2);
    assert!(text.contains("--host a contradicts --event-port b:1"), "{text}");
    let (status, text) = run("verify --host a:1");
    assert!(status == 2 && text.contains("the port belongs to --event-port"), "{text}");

    let server = RunningServer::start("--on-source-disconnect reset");
    let (events, clients) = server.addresses();
    let (status, text) = run(&format!(
        "verify --event-port={} --client-port=:{} --total-events 1_000 --timeout=9s",
        events.replace("127.0.0.1", "localhost"),
        clients.rsplit_once(':').unwrap().1
    ));
    assert!(status == 0 && text.contains("1000 events of the mix"), "{text}");
}

#[test]
fn a_cpu_that_is_not_there() {
    for flag in ["--cpu", "--server-cpu"] {
        let (status, text) = run(&format!("verify --spawn {flag} 1023"));
        assert_eq!(status, 2);
        assert!(text.contains(&format!("{flag} 1023: there is no such CPU")), "{text}");
        assert!(text.contains("valid: "), "{text}");
    }
}

#[test]
fn a_server_that_does_not_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for command in ["verify", "soak"] {
        let (status, text) =
            run(&format!("{command} --spawn --server-arg --event-listen --server-arg {address}"));
        assert_eq!(status, 1, "{command}");
        assert!(text.contains("did not start"), "{text}");
        assert!(text.contains(&address.to_string()), "the server's own message is missing: {text}");
    }
}

#[test]
fn output_files_are_opened_first() {
    let before = Instant::now();
    let (status, text) =
        run("latency --spawn --duration 1h --json /nonexistent/result.json --timeout 5s");
    assert!(before.elapsed() < Duration::from_secs(30), "a run began");
    assert_eq!(status, 1);
    assert!(text.contains("/nonexistent/result.json: No such file"), "{text}");
}

#[test]
fn captures_that_cannot_be_replayed() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let capture = file("a.events", "1|B\n");
    let replay = |path: &Path, arguments: &str| {
        run(&format!("replay {} --spawn {arguments}", path.display()))
    };
    let (_, text) = replay(&capture, "--speed 2");
    assert!(text.contains("--speed needs the times of the capture: "), "{text}");
    file("a.events.times", "0 4\n5 x\n");
    let (_, text) = replay(&capture, "--speed 2");
    assert!(text.contains("a.events.times: line 2 is `5 x`, and should be two numbers"), "{text}");
    let users = file("users", "7\nbob\n");
    let (status, text) = replay(&capture, &format!("--users {}", users.display()));
    assert!(status == 2 && text.contains("line 2 begins with `bob`, not with a user ID"), "{text}");
    let (status, text) = replay(&capture, "--users nobody");
    assert!(
        status == 2 && text.contains("--users is neither `all` nor a number nor a file"),
        "{text}"
    );
    let (status, text) = replay(&capture, "--first-sequence 7");
    assert!(status == 2 && text.contains("is an event of sequence 7 or later"), "{text}");
}

/// A server keeps its sequence when a source disconnects: all events of a second run are late.
#[test]
fn a_server_that_has_received_events_before_is_reported_at_once() {
    let capture =
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/verification-20k.events.gz").to_owned();
    let replay = format!("replay {capture} --users 5");
    // Without detection, these would wait for an hour.
    let unanswered = [
        "verify --total-events 1000",
        "latency --clients 5",
        "idle --clients 5",
        "soak --clients 5",
        &replay,
    ]
    .map(|command| (command, "1h", "it awaits another sequence"));
    // These pass the awaited sequence before long, and what they get begins in the middle.
    let in_the_middle = ["fairness --clients 5", "verify --total-events 400000"]
        .map(|command| (command, "20s", "received events before"));
    some_at_a_time(&[&unanswered[..], &in_the_middle[..]].concat(), |(command, timeout, words)| {
        let server = RunningServer::start("--log-level error");
        let (status, text) = run(&format!("verify --total-events 200000 {}", server.ports));
        assert_eq!(status, 0, "{text}");
        let before = Instant::now();
        let (status, text) = run(&format!("{command} {} --timeout {timeout}", server.ports));
        assert_eq!(status, 1, "{command}");
        assert!(before.elapsed() < Duration::from_secs(60), "{command}");
        assert!(text.contains(words), "{command}: {text}");
        assert!(text.contains("--on-source-disconnect reset"), "{command}: {text}");
    });
}

#[test]
fn the_default_command_says_what_it_does() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    let (events, clients) = (unused_port(), unused_port());
    command.env_clear().env("eventListenerPort", events.to_string());
    command.env("clientListenerPort", format!(":{clients}")).env("totalEvents", "100");
    let (status, text) = finished(&command.output().unwrap());
    assert_eq!(status, 1);
    let first = text.lines().next().unwrap();
    assert!(first.contains("without a command: `verify`"), "{first}");
    assert!(first.contains(&format!("127.0.0.1:{events} (events)")), "{first}");
    assert!(first.contains(&format!("127.0.0.1:{clients} (clients)")), "{first}");
    assert!(first.contains("`loadgen --help` lists more"), "{first}");
}

#[test]
fn help_and_version_are_everywhere_and_fit_a_terminal() {
    for arguments in ["--help", "-h", "help", "verify -h", "soak --spawn --help", "help idle"] {
        let (status, text) = run(arguments);
        assert_eq!(status, 0, "{arguments}");
        assert!(text.starts_with("Usage: loadgen") && text.contains("Exit status:"), "{arguments}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{arguments}");
    }
    for arguments in ["--version", "-V", "verify -V", "idle --spawn --version"] {
        assert_eq!(run(arguments), (0, format!("loadgen {}\n", env!("CARGO_PKG_VERSION"))));
    }
}

#[test]
fn the_server_that_is_started_is_named() {
    let (status, text) = run("verify --spawn --total-events 1000");
    assert_eq!(status, 0);
    let server = concat!("server: eventserver ", env!("CARGO_PKG_VERSION"), ", ");
    assert!(text.contains(server), "{text}");
    let path = Path::new(env!("CARGO_BIN_EXE_eventserver")).file_name().unwrap();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
}

/// A copy of this program stands alone.
#[test]
fn a_server_that_is_not_built() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("loadgen");
    std::fs::copy(env!("CARGO_BIN_EXE_loadgen"), &program).unwrap();
    let output = Command::new(&program).args(["verify", "--spawn"]).env_clear().output().unwrap();
    let (status, text) = finished(&output);
    assert_eq!(status, 1);
    assert!(text.contains("there is no ") && text.contains("`cargo build --release`"), "{text}");
}

#[test]
fn figures_that_do_not_judge_have_a_status_of_their_own() {
    let (status, text) = run(
        "latency --spawn --find-knee --p99-us 0.001 --clients 5 --duration 100ms --timeout 5000",
    );
    assert_eq!(status, 3);
    assert!(text.contains("INCONCLUSIVE: ") && text.contains("lower --rate"), "{text}");
}
