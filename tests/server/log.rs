//! The log: its form, its rate limits, and that a blocked reader blocks nothing.

use std::os::unix::fs::MetadataExt;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Client, Log, Server, Source, full_pipe, terminal};

/// Makes the server log some 600 bytes per round while it serves.
fn logs_much(server: &Server, rounds: u64) {
    let (mut source, mut client) = (Source::connect(server), Client::connect(server, 1));
    for sequence in 1..=rounds {
        let line = format!("{sequence}|B");
        server.signal(Signal::USR1);
        source.sends_lines(&[&line]);
        client.receives(&[&line]);
    }
}

#[test]
fn a_log_reader_that_stands_still_holds_nothing_up() {
    let (_reader, log) = full_pipe();
    let mut server = Server::start_logging_to(log, &[]);
    logs_much(&server, 2000);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn what_a_log_reader_does_not_take_is_counted() {
    // Enough to fill the queue even if most signals arrive together with others, and count once.
    const ROUNDS: u64 = 10_000;
    let (reader, log) = full_pipe();
    let mut server = Server::start_logging_to(log, &[]);
    logs_much(&server, ROUNDS);
    let log = Log::of(reader);
    let suppressed = log.wait_for("a count of suppressed lines", |lines| {
        let line = lines.iter().find(|line| line.contains("the log's reader is too slow"))?;
        assert!(line.contains("[WARN]"), "{line}");
        line.split_once("suppressed ")?.1.split_once(" log lines")?.0.parse::<usize>().ok()
    });
    assert_eq!(server.stop(), Some(0));
    let whole = log.whole();
    let totals = whole.matches("totals: ").count();
    assert!(
        (100..=ROUNDS as usize + 1).contains(&totals) && suppressed > 0,
        "{totals} shown, {suppressed} suppressed"
    );
    assert!(totals + suppressed <= ROUNDS as usize + 10, "{totals} shown, {suppressed} suppressed");
    assert!(whole.lines().last().unwrap().contains("totals: "), "the end is not logged");
}

#[test]
fn times_are_shown_in_milliseconds() {
    let server = Server::start(&[]);
    let line = server.totals();
    let time = line.split(' ').next().unwrap();
    let is_digit_or = |(shown, expected): (char, char)| match expected {
        '0' => shown.is_ascii_digit(),
        _ => shown == expected,
    };
    let form = "0000-00-00T00:00:00.000Z";
    assert!(time.len() == form.len() && time.chars().zip(form.chars()).all(is_digit_or), "{line}");
}

#[test]
fn a_line_of_json_is_an_object_with_time_level_and_message() {
    let mut server = Server::start(&["--log-format", "json"]);
    let client = Client::connect(&server, 1);
    let mut source = Source::connect(&server);
    source.sends("mal\"formed\n");
    server.logs(&["malformed"]);
    source.sends("1|B\n1|B\n");
    server.logs(&["late"]);
    assert_eq!(server.stop(), Some(0));
    server.final_totals();
    for line in server.log_lines() {
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["time"].as_str().map(str::len), Some(24), "{line}");
        assert!(["info", "warn"].contains(&object["level"].as_str().unwrap()), "{line}");
        assert!(object["message"].as_str().is_some_and(|text| !text.is_empty()), "{line}");
    }
    let object_of = |part: &str| -> Value { serde_json::from_str(&server.logs(&[part])).unwrap() };
    let late = object_of("late event");
    assert_eq!(late["sequence"], 1);
    assert!(late["message"].as_str().unwrap().contains(late["peer"].as_str().unwrap()), "{late}");
    let closed = object_of("user 1 at ");
    assert_eq!((&closed["user"], &closed["bytes"]), (&Value::from(1), &Value::from(0)));
    assert_eq!(closed["reason"], "stopped");
    assert_eq!(closed["peer"], client.address().to_string());
}

/// Returns the log of a server whose standard error is the stream that `JOURNAL_STREAM` names, or whose
/// stream has another inode.
fn log_under_systemd(flags: &[&str], is_stderr: bool) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let stderr = file.reopen().unwrap();
    let metadata = stderr.metadata().unwrap();
    let inode = metadata.ino() + u64::from(!is_stderr);
    let mut server = Server::start_with(flags, |command| {
        command.env("JOURNAL_STREAM", format!("{}:{inode}", metadata.dev())).stderr(stderr);
    });
    assert_eq!(server.stop(), Some(0));
    let text = std::fs::read_to_string(file.path()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_journal_gets_priorities_instead_of_times_and_levels() {
    let lines = log_under_systemd(&["--max-clients", "16777216"], true);
    assert!(lines.iter().any(|line| line.starts_with("<6>totals: ")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("<4>--max-clients 16777216 exceeds")));
    assert!(lines.iter().all(|line| line.starts_with("<6>") || line.starts_with("<4>")));

    let lines = log_under_systemd(&["--log-format", "json"], true);
    for line in &lines {
        serde_json::from_str::<Value>(line.strip_prefix("<6>").unwrap()).unwrap();
    }
    let lines = log_under_systemd(&[], false);
    assert!(lines.iter().all(|line| line.contains("Z [INFO] ")), "{lines:?}");
}

/// Returns the log of a server whose standard error is a terminal.
fn log_on_terminal(variables: &[(&str, &str)]) -> String {
    let (screen, written) = terminal();
    let log = Log::of(screen);
    let mut server = Server::start_with(&[], |command| {
        let is_set = |name: &str| variables.iter().any(|(set, _)| *set == name);
        for name in ["NO_COLOR", "JOURNAL_STREAM"].into_iter().filter(|name| !is_set(name)) {
            command.env_remove(name);
        }
        command.env("TERM", "xterm").envs(variables.iter().copied()).stderr(written);
    });
    assert_eq!(server.stop(), Some(0));
    log.whole()
}

#[test]
fn levels_are_coloured_on_a_terminal_unless_it_is_told_not_to() {
    for variables in [&[][..], &[("NO_COLOR", "")]] {
        let lines = log_on_terminal(variables);
        assert!(lines.contains("Z [\x1b[32mINFO\x1b[0m] totals: "), "{lines:?}");
    }
    for variables in [[("NO_COLOR", "1")], [("TERM", "dumb")]] {
        let lines = log_on_terminal(&variables);
        assert!(lines.contains("Z [INFO] totals: ") && !lines.contains('\x1b'), "{lines:?}");
    }
}

/// Returns the numbers in lines such as `suppressed N similar messages (KIND)`.
fn suppressed(lines: &[String], kind: &str) -> Vec<usize> {
    let number = |line: &String| {
        let (_, rest) = line.split_once("suppressed ")?;
        let (number, rest) = rest.split_once(" similar message")?;
        rest.contains(&format!("({kind})")).then(|| number.parse().unwrap())
    };
    lines.iter().filter_map(number).collect()
}

fn shown(lines: &[String], part: &str) -> usize {
    lines.iter().filter(|line| line.contains(part)).count()
}

#[test]
fn a_kind_of_log_line_appears_ten_times_a_second_and_then_as_a_count() {
    let server = Server::start(&[]);
    let mut source = Source::connect(&server);
    source.sends("x\n".repeat(5000));
    let (mut shown_lines, mut reports) = (0, Vec::new());
    server.wait_until("every malformed line is logged or counted", || {
        let lines = server.log_lines();
        shown_lines = shown(&lines, "malformed line from source");
        reports = suppressed(&lines, "malformed line");
        (shown_lines + reports.iter().sum::<usize>() == 5000).then_some(())
    });
    assert!(shown_lines <= 10 * (reports.len() + 1), "{shown_lines} lines, reports {reports:?}");
    assert!(reports.iter().all(|&count| count > 0), "{reports:?}");
}

#[test]
fn suppressed_lines_are_told_at_a_stop_too() {
    let mut server = Server::start(&["--on-source-disconnect", "keep"]);
    let mut source = Source::connect(&server);
    source.sends("1|B\n".repeat(501));
    server.assert_stat_reaches("late", 500);
    assert_eq!(server.stop_with(source), Some(0));
    let last = server.final_totals();
    let lines = server.log_lines();
    let told = shown(&lines, "late event from source")
        + suppressed(&lines, "late event").iter().sum::<usize>();
    // The first one is not late, the second is logged with a hint.
    assert!(
        (499..=500).contains(&told),
        "{told} late events are accounted for:\n{}",
        lines.join("\n")
    );
    assert_eq!(lines.last(), Some(&last), "the totals come last");
}

#[test]
fn suppressed_lines_are_told_at_their_own_level() {
    let mut server = Server::start(&["--log-level", "debug"]);
    let clients: Vec<Client> = (0..200).map(|user| Client::connect(&server, user)).collect();
    server.assert_stat_reaches("clients_connected", 200);
    server.logs(&["[DEBUG]", "suppressed", "similar messages (client registered)"]);
    for client in clients {
        drop(client);
    }
    server.logs(&["[INFO]", "suppressed", "similar messages (client closed: closed_by_peer)"]);
    assert_eq!(server.stop(), Some(0));
    let lines = server.log_lines();
    assert_eq!(shown(&lines, "[WARN]"), 0, "{}", lines.join("\n"));
}

#[test]
fn at_level_trace_nothing_but_the_program_itself_is_logged() {
    let mut server = Server::start(&["--log-level", "trace"]);
    for user in 0..100 {
        drop(Client::connect(&server, user));
    }
    server.wait_for_stat("clients_connected", 0);
    assert_eq!(server.stop(), Some(0));
    let lines = server.log_lines();
    assert_eq!(shown(&lines, "registering event source"), 0, "{}", lines.join("\n"));
    assert!(lines.len() < 200, "{} lines", lines.len());
}
